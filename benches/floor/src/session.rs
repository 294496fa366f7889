//! A connection's side of the talk, whoever moves its bytes.

use crate::canned::{Asked, Canned};
use anyhow::Context;
use floor::frames::Frames;
use floor::link::lines;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};
use stratum::v2::keys::{AuthorityKey, AuthoritySecret, Certificate, StaticKey};
use stratum::v2::noise::{ACT1_BYTES, Sealer, Transport, respond};

const CERTIFICATE_S: u32 = 86_400;

/// Who speaks, and what is said.
pub struct Host {
    /// What is said.
    pub canned: Canned,
    key: StaticKey,
    certificate: Certificate,
}

/// What a connection has been told.
pub struct Session {
    state: State,
    /// Whether it is told of new jobs.
    works: bool,
}

enum State {
    V1,
    /// V2, before the handshake.
    Silent,
    V2(Box<(Frames, Sealer)>),
}

/// A new job, as a session is to be told of it.
pub enum NewJob {
    /// It does not work.
    None,
    /// By the line that is the same for all.
    Line,
    /// By frames of its own.
    Frames,
}

impl Host {
    /// One with an authority of its own.
    ///
    /// # Errors
    /// The clock is wrong.
    pub fn new(coinbase_bytes: usize) -> anyhow::Result<(Self, AuthorityKey)> {
        let authority = AuthoritySecret::from_bytes(rand::random()).context("no key")?;
        let key = StaticKey::new(rand::random(), rand::random());
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let now = u32::try_from(now).context("the clock is wrong")?;
        let certificate = Certificate::sign(&authority, &key.public_x_only(), now, now + CERTIFICATE_S);
        Ok((Self { canned: Canned::new(coinbase_bytes), key, certificate }, authority.public()))
    }
}

impl Session {
    /// Of lines.
    pub fn v1() -> Self {
        Self { state: State::V1, works: false }
    }

    /// Of sealed frames.
    pub fn v2() -> Self {
        Self { state: State::Silent, works: false }
    }

    /// Appends the answers to what has come, and says how much of that is used up.
    ///
    /// # Errors
    /// Nobody who speaks the protocol says that.
    pub fn answer(&mut self, bytes: &mut [u8], host: &Host, out: &mut Vec<u8>) -> io::Result<usize> {
        let Self { state, works } = self;
        let mut used = 0;
        if matches!(state, State::Silent) {
            let Some(act1) = bytes.first_chunk::<ACT1_BYTES>() else { return Ok(0) };
            let (act2, Transport { seal, open }) =
                respond(&host.key, &host.certificate, rand::random(), act1).map_err(io::Error::other)?;
            out.extend_from_slice(&act2);
            *state = State::V2(Box::new((Frames::new(open), seal)));
            used = ACT1_BYTES;
        }
        let State::V2(session) = state else {
            return lines(bytes, |line| {
                *works |= host.canned.answer_line(line, out)?;
                Ok(())
            });
        };
        let (frames, sealer) = &mut **session;
        let mut asked = Asked::default();
        used += frames.take(&mut bytes[used..], |msg_type, payload| {
            *works |= host.canned.answer_frame((msg_type, payload), sealer, &mut asked, out)?;
            Ok(())
        })?;
        asked.answer(sealer, out)?;
        Ok(used)
    }

    /// Says how it is told of a new job; appends the frames if that is how.
    ///
    /// # Errors
    /// Its key may seal nothing more.
    pub fn new_job(&mut self, host: &Host, out: &mut Vec<u8>) -> io::Result<NewJob> {
        match &mut self.state {
            _ if !self.works => Ok(NewJob::None),
            State::V1 => Ok(NewJob::Line),
            State::Silent => Ok(NewJob::None),
            State::V2(session) => host.canned.job(&mut session.1, out).map(|()| NewJob::Frames),
        }
    }
}

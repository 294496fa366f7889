//! One connection of the load: a link, a session, and the shares that wait for their answers.

use super::{v1, v2};
use floor::link::Link;
use std::collections::VecDeque;
use std::io;
use std::time::Instant;
use stratum::v2::noise::Authority;

/// How to speak to the server.
#[derive(Debug, Clone, Copy)]
pub struct Speech {
    /// With V2, whom to take for the right server.
    pub authority: Option<Authority>,
    /// Its port.
    pub port: u16,
}

/// What came of one look at a connection.
#[derive(Debug, Default)]
pub struct Heard {
    /// There is new work.
    pub job: bool,
    /// It voids what was before; a number that stands for its parent block.
    pub tip: Option<u64>,
    /// Shares acknowledged.
    pub accepted: u32,
    /// Why shares were refused.
    pub refused: Vec<String>,
}

/// A connection.
#[derive(Debug)]
pub struct Player {
    /// The socket.
    pub link: Link,
    session: Session,
    /// When it was begun.
    pub started: Instant,
    /// The parent block it was told last.
    pub tip: Option<u64>,
    /// When the shares were sent that wait for an answer, oldest first.
    sent: VecDeque<Instant>,
    shares: u32,
}

#[derive(Debug)]
enum Session {
    Connecting,
    V1(v1::Session),
    V2(v2::Session),
}

impl Player {
    /// A connection that is being made.
    pub fn new(link: Link, started: Instant) -> Self {
        Self { link, session: Session::Connecting, started, tip: None, sent: VecDeque::new(), shares: 0 }
    }

    /// Does what the poller's word calls for. What is to be said goes to `out`.
    ///
    /// # Errors
    /// The connection is of no use any more.
    pub fn turn(
        &mut self,
        (speech, user): (&Speech, &str),
        writable: bool,
        scratch: &mut [u8],
        out: &mut Vec<u8>,
    ) -> io::Result<Heard> {
        let mut heard = Heard::default();
        if matches!(self.session, Session::Connecting) {
            if !writable {
                return Ok(heard);
            }
            if let Some(error) = self.link.stream().take_error()? {
                return Err(error);
            }
            self.link.stream().set_nodelay(true)?;
            self.session = match speech.authority {
                None => Session::V1(v1::Session::begin(user, out)),
                Some(authority) => Session::V2(v2::Session::begin(user, authority, speech.port, out)?),
            };
            return Ok(heard);
        }
        if writable {
            self.link.writable()?;
        }
        let session = &mut self.session;
        self.link.receive(scratch, |bytes| match session {
            Session::Connecting => Ok(0),
            Session::V1(session) => session.take(bytes, out, &mut heard),
            Session::V2(session) => session.take(bytes, out, &mut heard),
        })?;
        Ok(heard)
    }

    /// Whether it can send shares.
    pub fn has_work(&self) -> bool {
        match &self.session {
            Session::Connecting => false,
            Session::V1(session) => session.has_work(),
            Session::V2(session) => session.has_work(),
        }
    }

    /// Shares that wait for an answer.
    pub fn waiting(&self) -> usize {
        self.sent.len()
    }

    /// Appends another share.
    ///
    /// # Errors
    /// The connection is of no use any more.
    pub fn submit(&mut self, now: Instant, out: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.session {
            Session::Connecting => return Err(io::ErrorKind::NotConnected.into()),
            Session::V1(session) => session.submit(self.shares, out),
            Session::V2(session) => session.submit(self.shares, out)?,
        }
        self.shares = self.shares.wrapping_add(1);
        self.sent.push_back(now);
        Ok(())
    }

    /// Appends a share that is worth nothing.
    ///
    /// # Errors
    /// The connection is of no use any more.
    pub fn submit_bad(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.session {
            Session::Connecting => return Err(io::ErrorKind::NotConnected.into()),
            Session::V1(session) => session.submit_bad(self.shares, out),
            Session::V2(session) => session.submit_bad(self.shares, out)?,
        }
        self.shares = self.shares.wrapping_add(1);
        self.sent.push_back(self.started);
        Ok(())
    }

    /// The oldest share is answered: when it was sent.
    pub fn answered(&mut self) -> Option<Instant> {
        self.sent.pop_front()
    }
}

//! A V2 machine with one extended channel: handshake, setup, and shares patched into one frame.

use super::player::Heard;
use floor::frames::{Frames, decode, seal, seal_plain};
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};
use stratum::v2::codec::{Bytes32, Str255, U256};
use stratum::v2::flag;
use stratum::v2::frame::{HEADER_BYTES, write_frame};
use stratum::v2::message::{
    NewExtendedMiningJob, OpenExtendedMiningChannel, OpenExtendedMiningChannelSuccess,
    OpenMiningChannelError, SetNewPrevHash, SetupConnection, SetupConnectionError, SetupConnectionSuccess,
    SubmitSharesError, SubmitSharesExtended, SubmitSharesSuccess, Wire,
};
use stratum::v2::noise::{ACT2_BYTES, Authority, Initiator, Sealer, Transport};

/// Where fields of a share stand in its frame.
const SEQUENCE: usize = HEADER_BYTES + 4;
const JOB: usize = HEADER_BYTES + 8;
const NONCE: usize = HEADER_BYTES + 12;
/// Behind the length of the extranonce.
const EXTRANONCE: usize = HEADER_BYTES + 25;
/// Enough to count shares in.
const EXTRANONCE_BYTES_MIN: u16 = 4;

/// A session.
#[derive(Debug)]
pub struct Session {
    state: State,
    user: Str255,
    port: u16,
}

#[derive(Debug)]
enum State {
    /// Until act 2 has come.
    Shaking(Option<Box<Initiator>>),
    Talking(Box<Talk>),
}

#[derive(Debug)]
struct Talk {
    frames: Frames,
    channel: Channel,
}

#[derive(Debug)]
struct Channel {
    sealer: Sealer,
    id: u32,
    extranonce_bytes: usize,
    /// A job that waits for its parent: its id and version.
    future: (u32, u32),
    /// The next share's frame; empty without work.
    frame: Vec<u8>,
}

impl Session {
    /// Begins with act 1.
    ///
    /// # Errors
    /// A user name that is too long.
    pub fn begin(user: &str, authority: Authority, port: u16, out: &mut Vec<u8>) -> io::Result<Self> {
        let (initiator, act1) = Initiator::new(rand::random(), authority);
        out.extend_from_slice(&act1);
        let user = Str255::new(user.as_bytes().to_vec()).map_err(io::Error::other)?;
        Ok(Self { state: State::Shaking(Some(Box::new(initiator))), user, port })
    }

    /// Takes what the server says; answers go to `out`.
    pub fn take(&mut self, bytes: &mut [u8], out: &mut Vec<u8>, heard: &mut Heard) -> io::Result<usize> {
        let mut used = 0;
        if let State::Shaking(initiator) = &mut self.state {
            let Some(act2) = bytes.first_chunk::<ACT2_BYTES>() else { return Ok(0) };
            let initiator = initiator.take().ok_or(io::ErrorKind::NotConnected)?;
            let transport = initiator.finish(act2, unix_s()).map_err(io::Error::other)?;
            self.state = State::Talking(Box::new(Talk::begin(transport, self.port, out)?));
            used = ACT2_BYTES;
        }
        let State::Talking(talk) = &mut self.state else { return Ok(used) };
        let Talk { frames, channel } = &mut **talk;
        let user = &self.user;
        used += frames.take(&mut bytes[used..], |msg_type, payload| {
            channel.hear(msg_type, payload, user, out, heard)
        })?;
        Ok(used)
    }

    /// Whether a share can be sent.
    pub fn has_work(&self) -> bool {
        matches!(&self.state, State::Talking(talk) if !talk.channel.frame.is_empty())
    }

    /// Appends a share that was never sent before on this connection.
    ///
    /// # Errors
    /// The key may seal nothing more.
    pub fn submit(&mut self, number: u32, out: &mut Vec<u8>) -> io::Result<()> {
        let State::Talking(talk) = &mut self.state else { return Err(io::ErrorKind::NotConnected.into()) };
        let Channel { sealer, frame, .. } = &mut talk.channel;
        let mut patch = |at: usize, value: [u8; 4]| frame[at..at + 4].copy_from_slice(&value);
        patch(SEQUENCE, number.to_le_bytes());
        // Neighbours in one field are far apart in the other.
        patch(NONCE, number.wrapping_mul(0x9e37_79b1).to_le_bytes());
        patch(EXTRANONCE, number.to_le_bytes());
        seal_plain(sealer, frame, out)
    }
}

impl Session {
    /// Appends a share that is worth nothing: the first one again, or one of a job that never was.
    ///
    /// # Errors
    /// The key may seal nothing more.
    pub fn submit_bad(&mut self, number: u32, out: &mut Vec<u8>) -> io::Result<()> {
        if number.is_multiple_of(2) {
            return self.submit(0, out);
        }
        let State::Talking(talk) = &mut self.state else { return Err(io::ErrorKind::NotConnected.into()) };
        let mut baseless = talk.channel.frame.clone();
        baseless[JOB..JOB + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        seal_plain(&mut talk.channel.sealer, &baseless, out)
    }
}

impl Talk {
    fn begin(transport: Transport, port: u16, out: &mut Vec<u8>) -> io::Result<Self> {
        let Transport { mut seal, open } = transport;
        let word = Str255::from_static;
        let setup = SetupConnection {
            protocol: flag::PROTOCOL_MINING,
            min_version: flag::PROTOCOL_VERSION,
            max_version: flag::PROTOCOL_VERSION,
            flags: 0,
            endpoint_host: word("127.0.0.1"),
            endpoint_port: port,
            vendor: word("sluice-fleet"),
            hardware_version: word("load"),
            firmware: word("load"),
            device_id: word(""),
        };
        self::seal(&mut seal, &setup, out)?;
        let channel = Channel { sealer: seal, id: 0, extranonce_bytes: 0, future: (0, 0), frame: Vec::new() };
        Ok(Self { frames: Frames::new(open), channel })
    }
}

impl Channel {
    fn hear(
        &mut self,
        msg_type: u8,
        payload: &[u8],
        user: &Str255,
        out: &mut Vec<u8>,
        heard: &mut Heard,
    ) -> io::Result<()> {
        match msg_type {
            SubmitSharesSuccess::TYPE => {
                heard.accepted += decode::<SubmitSharesSuccess>(payload)?.new_submits_accepted_count;
            }
            SubmitSharesError::TYPE => {
                heard.refused.push(text(&decode::<SubmitSharesError>(payload)?.error_code))
            }
            NewExtendedMiningJob::TYPE => {
                let job = decode::<NewExtendedMiningJob>(payload)?;
                match job.min_ntime {
                    None => self.future = (job.job_id, job.version),
                    Some(ntime) => self.work(job.job_id, job.version, ntime, heard)?,
                }
            }
            SetNewPrevHash::TYPE => {
                let parent = decode::<SetNewPrevHash>(payload)?;
                let (job, version) = self.future;
                if parent.job_id != job {
                    return Err(io::Error::other("a parent for a job that was not sent last"));
                }
                let hash = parent.prev_hash.0;
                heard.tip =
                    Some(hash.iter().fold(0, |sum: u64, byte| sum.wrapping_mul(31) + u64::from(*byte) % 31));
                self.work(job, version, parent.min_ntime, heard)?;
            }
            SetupConnectionSuccess::TYPE => {
                let open = OpenExtendedMiningChannel {
                    request_id: 1,
                    user_identity: user.clone(),
                    nominal_hash_rate: 0.0,
                    max_target: U256([0xff; 32]),
                    min_extranonce_size: EXTRANONCE_BYTES_MIN,
                };
                seal(&mut self.sealer, &open, out)?;
            }
            OpenExtendedMiningChannelSuccess::TYPE => {
                let opened = decode::<OpenExtendedMiningChannelSuccess>(payload)?;
                (self.id, self.extranonce_bytes) = (opened.channel_id, usize::from(opened.extranonce_size));
            }
            SetupConnectionError::TYPE => {
                let code = decode::<SetupConnectionError>(payload)?.error_code;
                return Err(io::Error::other(format!("refused: {}", text(&code))));
            }
            OpenMiningChannelError::TYPE => {
                let code = decode::<OpenMiningChannelError>(payload)?.error_code;
                return Err(io::Error::other(format!("refused: {}", text(&code))));
            }
            _ => {}
        }
        Ok(())
    }

    fn work(&mut self, job_id: u32, version: u32, ntime: u32, heard: &mut Heard) -> io::Result<()> {
        heard.job = true;
        let share = SubmitSharesExtended {
            channel_id: self.id,
            sequence_number: 0,
            job_id,
            nonce: 0,
            ntime,
            version,
            extranonce: Bytes32::new(&vec![0; self.extranonce_bytes]).map_err(io::Error::other)?,
        };
        self.frame.clear();
        write_frame(&share, &mut self.frame);
        Ok(())
    }
}

fn text(code: &Str255) -> String {
    String::from_utf8_lossy(code.as_bytes()).into_owned()
}

fn unix_s() -> u32 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since_epoch.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stratum::v2::frame::Header;

    #[test]
    fn the_fields_of_a_share_are_patched_where_they_stand() {
        let share = SubmitSharesExtended {
            channel_id: 1,
            sequence_number: 0xaaaa_aaaa,
            job_id: 0xdddd_dddd,
            nonce: 0xbbbb_bbbb,
            ntime: 3,
            version: 4,
            extranonce: Bytes32::new(&[0xcc; 8]).unwrap(),
        };
        let mut frame = Vec::new();
        write_frame(&share, &mut frame);
        for (at, value) in [(SEQUENCE, 0xaa), (JOB, 0xdd), (NONCE, 0xbb), (EXTRANONCE, 0xcc)] {
            assert_eq!(frame[at..at + 4], [value; 4]);
            assert_ne!(frame[at - 1], value);
        }
        let header = Header::from_bytes(*frame.first_chunk().unwrap());
        assert_eq!(header.payload_bytes, frame.len() - HEADER_BYTES);
    }
}

//! What the server says, whatever it is asked.

use floor::frames::{decode, seal};
use std::io;
use std::rc::Rc;
use stratum::v2::codec::{Bytes32, Bytes64K, Seq255, U256};
use stratum::v2::message::{
    NewExtendedMiningJob, OpenExtendedMiningChannel, OpenExtendedMiningChannelSuccess, SetNewPrevHash,
    SetupConnection, SetupConnectionSuccess, SubmitSharesExtended, SubmitSharesSuccess, Wire,
};
use stratum::v2::noise::Sealer;

const CHANNEL: u32 = 1;
const VERSION: u32 = 0x2000_0000;
const NTIME: u32 = 0x6ab1_3b80;
const NBITS: u32 = 0x1e03_77ae;
/// Bytes of the coinbase before the extranonce.
const FRONT_BYTES: usize = 80;
/// Rolled by the client, and before it what the server gives each connection.
const EXTRANONCE_SIZE: u16 = 8;
const PREFIX: [u8; 4] = [0, 0, 0, 1];

/// The current job in both languages.
#[derive(Debug)]
pub struct Canned {
    tip: u32,
    coinbase_bytes: usize,
    /// `mining.notify`, with its line end.
    notify: Rc<[u8]>,
    job: NewExtendedMiningJob,
    parent: SetNewPrevHash,
}

/// What a V2 connection asked for in one read; shares are answered together.
#[derive(Debug, Default)]
pub struct Asked {
    shares: u32,
    last: u32,
}

impl Canned {
    /// The first job.
    pub fn new(coinbase_bytes: usize) -> Self {
        let job = NewExtendedMiningJob {
            channel_id: CHANNEL,
            job_id: 0,
            min_ntime: None,
            version: VERSION,
            version_rolling_allowed: true,
            merkle_path: Seq255::new(Vec::new()).expect("nothing fits"),
            coinbase_tx_prefix: Bytes64K::new(vec![1; FRONT_BYTES]).expect("80 bytes fit"),
            coinbase_tx_suffix: Bytes64K::new(vec![2; back_bytes(coinbase_bytes)])
                .expect("a coinbase has 30,000 bytes at most"),
        };
        let parent = SetNewPrevHash {
            channel_id: CHANNEL,
            job_id: 0,
            prev_hash: U256([0; 32]),
            min_ntime: NTIME,
            nbits: NBITS,
        };
        let mut canned = Self { tip: 0, coinbase_bytes, notify: Rc::default(), job, parent };
        canned.next_tip();
        canned
    }

    /// Another parent block, and a job on it.
    pub fn next_tip(&mut self) {
        self.tip += 1;
        let (front, back) = ("01".repeat(FRONT_BYTES), "02".repeat(back_bytes(self.coinbase_bytes)));
        let notify = format!(
            "{{\"id\":null,\"method\":\"mining.notify\",\"params\":[\"{0:x}\",\"{0:064x}\",\"{front}\",\"{back}\",[],\
             \"{VERSION:08x}\",\"{NBITS:08x}\",\"{NTIME:08x}\",true]}}\n",
            self.tip
        );
        self.notify = notify.into_bytes().into();
        self.job.job_id = self.tip;
        self.parent.job_id = self.tip;
        self.parent.prev_hash.0[..4].copy_from_slice(&self.tip.to_le_bytes());
    }

    /// The job as a line.
    pub fn notify(&self) -> &Rc<[u8]> {
        &self.notify
    }

    /// The job as frames.
    pub fn job(&self, sealer: &mut Sealer, out: &mut Vec<u8>) -> io::Result<()> {
        seal(sealer, &self.job, out)?;
        seal(sealer, &self.parent, out)
    }

    /// Answers a line; `true` if its sender works from here on.
    pub fn answer_line(&self, line: &[u8], out: &mut Vec<u8>) -> io::Result<bool> {
        const METHOD: &[u8] = b"\"mining.";
        const ID: &[u8] = b"\"id\":";
        let id = memchr::memmem::find(line, ID).ok_or(io::ErrorKind::InvalidData)? + ID.len();
        let id_bytes = line[id..].iter().position(|byte| b",}".contains(byte)).unwrap_or(0);
        let method = memchr::memmem::find(line, METHOD).ok_or(io::ErrorKind::InvalidData)? + METHOD.len();
        let method = &line[method..];
        let result: &[u8] = if method.starts_with(b"configure") {
            b"{\"version-rolling\":true,\"version-rolling.mask\":\"1fffe000\"}"
        } else if method.starts_with(b"subscribe") {
            b"[[[\"mining.notify\",\"1\"]],\"00000001\",8]"
        } else {
            b"true"
        };
        out.extend_from_slice(b"{\"id\":");
        out.extend_from_slice(&line[id..id + id_bytes]);
        out.extend_from_slice(b",\"result\":");
        out.extend_from_slice(result);
        out.extend_from_slice(b",\"error\":null}\n");
        let works = method.starts_with(b"authorize");
        if works {
            // The decimal digits of 2^-32.
            out.extend_from_slice(
                b"{\"id\":null,\"method\":\"mining.set_difficulty\",\"params\":[0.00000000023283064365386962890625]}\n",
            );
            out.extend_from_slice(&self.notify);
        }
        Ok(works)
    }

    /// Answers a frame; `true` if its sender works from here on.
    pub fn answer_frame(
        &self,
        (msg_type, payload): (u8, &[u8]),
        sealer: &mut Sealer,
        asked: &mut Asked,
        out: &mut Vec<u8>,
    ) -> io::Result<bool> {
        match msg_type {
            SubmitSharesExtended::TYPE => {
                asked.shares += 1;
                asked.last = decode::<SubmitSharesExtended>(payload)?.sequence_number;
                Ok(false)
            }
            SetupConnection::TYPE => {
                seal(sealer, &SetupConnectionSuccess { used_version: 2, flags: 0 }, out)?;
                Ok(false)
            }
            OpenExtendedMiningChannel::TYPE => {
                let opened = OpenExtendedMiningChannelSuccess {
                    request_id: decode::<OpenExtendedMiningChannel>(payload)?.request_id,
                    channel_id: CHANNEL,
                    target: U256([0xff; 32]),
                    extranonce_size: EXTRANONCE_SIZE,
                    extranonce_prefix: Bytes32::new(&PREFIX).map_err(io::Error::other)?,
                    group_channel_id: 0,
                };
                seal(sealer, &opened, out)?;
                self.job(sealer, out)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

impl Asked {
    /// The answer to all shares.
    pub fn answer(&self, sealer: &mut Sealer, out: &mut Vec<u8>) -> io::Result<()> {
        if self.shares == 0 {
            return Ok(());
        }
        let success = SubmitSharesSuccess {
            channel_id: CHANNEL,
            last_sequence_number: self.last,
            new_submits_accepted_count: self.shares,
            new_shares_sum: u64::from(self.shares),
        };
        seal(sealer, &success, out)
    }
}

fn back_bytes(coinbase_bytes: usize) -> usize {
    coinbase_bytes.saturating_sub(FRONT_BYTES + PREFIX.len() + usize::from(EXTRANONCE_SIZE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_id_of_its_question_whatever_that_is() {
        let canned = Canned::new(400);
        for (line, answer, works) in [
            (
                &b"{\"id\":17,\"method\":\"mining.submit\",\"params\":[]}"[..],
                "{\"id\":17,\"result\":true,\"error\":null}\n",
                false,
            ),
            (
                b"{\"method\":\"mining.submit\",\"id\":\"a\"}",
                "{\"id\":\"a\",\"result\":true,\"error\":null}\n",
                false,
            ),
            (
                b"{\"id\":1,\"method\":\"mining.authorize\"}",
                "{\"id\":1,\"result\":true,\"error\":null}\n",
                true,
            ),
        ] {
            let mut out = Vec::new();
            assert_eq!(canned.answer_line(line, &mut out).unwrap(), works);
            let text = String::from_utf8(out).unwrap();
            assert!(text.starts_with(answer), "{text}");
            assert_eq!(text.lines().count(), if works { 3 } else { 1 });
        }
        assert!(canned.answer_line(b"nonsense", &mut Vec::new()).is_err());
    }

    #[test]
    fn each_tip_has_a_job_and_a_parent_of_its_own_in_both_languages() {
        let mut canned = Canned::new(400);
        let (line, parent) = (Rc::clone(canned.notify()), canned.parent.clone());
        canned.next_tip();
        assert_ne!(canned.notify(), &line);
        assert_ne!(canned.parent.prev_hash, parent.prev_hash);
        assert_eq!(canned.job.job_id, canned.parent.job_id);
    }
}

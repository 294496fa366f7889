//! Jobs as frames for one channel.

use crate::extranonce::{Extranonce1, Extranonce2};
use crate::job::{Job, JobId};
use crate::pot::Pot;
use crate::v2::codec::{Bytes64K, Seq255, U256};
use crate::v2::frame::write_frame;
use crate::v2::message::{NewExtendedMiningJob, NewMiningJob, SetNewPrevHash, SetTarget};
use bitcoin::hashes::Hash;
use bytes::Bytes;

/// What a channel's client rolls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing of the coinbase: it gets the merkle root.
    Standard,
    /// The extranonce behind its prefix.
    Extended,
}

/// A job on its way to one channel: `SetTarget` if the target has changed, then the job. If it voids all older
/// ones it goes as a future job, and `SetNewPrevHash` follows.
#[derive(Debug, Clone)]
pub struct JobMessage {
    pub(super) channel: u32,
    pub(super) kind: Kind,
    pub(super) prefix: Extranonce1,
    /// Set if the client has not been told this job's target.
    pub(super) target: Option<Pot>,
    pub(super) id: JobId,
    pub(super) job: Job,
    pub(super) version_rolling: bool,
    pub(super) clean: bool,
}

impl JobMessage {
    /// Takes the place of an older message to the same channel that was not sent: what that one had to say about
    /// target and older jobs is still said. `false` if that one was to another channel.
    pub fn absorb(&mut self, older: &Self) -> bool {
        let same = self.channel == older.channel;
        if same {
            self.target = self.target.or(older.target);
            self.clean |= older.clean;
        }
        same
    }

    /// The prefix of its channel, which no other open channel has.
    pub fn prefix(&self) -> Extranonce1 {
        self.prefix
    }

    /// Hands over its frames, one after the other, still plain.
    pub fn frames(&self, mut send: impl FnMut(&[u8])) {
        let mut frame = Vec::new();
        if let Some(pot) = self.target {
            write_frame(
                &SetTarget { channel_id: self.channel, maximum_target: pot.target().into() },
                &mut frame,
            );
            send(&frame);
            frame.clear();
        }
        match self.kind {
            Kind::Standard => write_frame(&self.standard(), &mut frame),
            Kind::Extended => write_frame(&self.extended(), &mut frame),
        }
        send(&frame);
        if self.clean {
            frame.clear();
            write_frame(&self.prev_hash(), &mut frame);
            send(&frame);
        }
    }

    /// Where header times start; absent in a job that waits for its parent.
    fn min_ntime(&self) -> Option<u32> {
        (!self.clean).then_some(self.job.body.ntime)
    }

    fn standard(&self) -> NewMiningJob {
        NewMiningJob {
            channel_id: self.channel,
            job_id: self.id.0,
            min_ntime: self.min_ntime(),
            version: self.job.body.version,
            merkle_root: U256(self.job.merkle_root(self.prefix, Extranonce2::ZERO)),
        }
    }

    fn extended(&self) -> NewExtendedMiningJob {
        let body = &self.job.body;
        let path = body.merkle_branch.iter().copied().map(U256).collect();
        let mark = body.coinbase.mark(self.job.tag, self.job.pot).unwrap_or_default();
        let prefix = Bytes::from([&body.coinbase.head()[..], &mark].concat());
        let fits = "a coinbase of 16,000 bytes at most";
        NewExtendedMiningJob {
            channel_id: self.channel,
            job_id: self.id.0,
            min_ntime: self.min_ntime(),
            version: body.version,
            version_rolling_allowed: self.version_rolling,
            merkle_path: Seq255::new(path).expect("a block has at most 2^32 transactions"),
            coinbase_tx_prefix: Bytes64K::new(prefix).expect(fits),
            coinbase_tx_suffix: Bytes64K::new(body.coinbase.tail()).expect(fits),
        }
    }

    fn prev_hash(&self) -> SetNewPrevHash {
        let body = &self.job.body;
        SetNewPrevHash {
            channel_id: self.channel,
            job_id: self.id.0,
            prev_hash: U256(*body.prev_hash.as_byte_array()),
            min_ntime: body.ntime,
            nbits: body.nbits,
        }
    }
}

//! Jobs as frames for one channel.

use crate::encoded::EncodedJob;
use crate::extranonce::{Extranonce1, Extranonce2};
use crate::job::{Job, JobId};
use crate::payee::PayeeTag;
use crate::pot::Pot;
use crate::v2::codec::U256;
use crate::v2::encode::{Variant, min_ntime};
use crate::v2::frame::write_frame;
use crate::v2::message::{NewMiningJob, SetTarget};
use std::sync::Arc;

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
    /// What all channels share.
    pub(super) encoded: Arc<EncodedJob>,
    pub(super) tag: PayeeTag,
    pub(super) pot: Pot,
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

    /// Hands over its frames, one after the other, still plain. They are made in `space`, whatever is in there.
    pub fn frames(&self, space: &mut Vec<u8>, mut send: impl FnMut(&[u8])) {
        if let Some(pot) = self.target {
            space.clear();
            let target = SetTarget { channel_id: self.channel, maximum_target: pot.target().into() };
            write_frame(&target, space);
            send(space);
        }
        space.clear();
        match self.kind {
            Kind::Standard => write_frame(&self.standard(), space),
            Kind::Extended => self.write_extended(space),
        }
        send(space);
        if self.clean {
            space.clear();
            self.encoded.frames().prev_hash(self.channel, self.id, space);
            send(space);
        }
    }

    fn standard(&self) -> NewMiningJob {
        let body = self.encoded.body();
        let job = Job { body: body.clone(), tag: self.tag, pot: self.pot, superseded_at: None };
        NewMiningJob {
            channel_id: self.channel,
            job_id: self.id.0,
            min_ntime: min_ntime(body, self.clean),
            version: body.version,
            merkle_root: U256(job.merkle_root(self.prefix, Extranonce2::ZERO)),
        }
    }

    fn write_extended(&self, frame: &mut Vec<u8>) {
        let mark = self.encoded.body().coinbase.mark(self.tag, self.pot);
        let variant = Variant { future: self.clean, version_rolling: self.version_rolling };
        self.encoded.frames().extended(self.channel, self.id, mark, variant, frame);
    }
}

#[cfg(test)]
mod tests;

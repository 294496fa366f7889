//! Jobs as frames: encoded once per body and shared by all channels, which fill in what is their own.

use super::codec::{Bytes64K, Field, Seq255, U256};
use super::frame::{HEADER_BYTES, write_frame};
use super::message::{NewExtendedMiningJob, SetNewPrevHash, Wire};
use crate::job::{JobBody, JobId, MARK_BYTES};
use bitcoin::hashes::Hash;
use std::sync::{Arc, OnceLock};

/// Where the channel's id and the job's stand in the frame of each message about a job.
const CHANNEL_OFFSET: usize = HEADER_BYTES;
const JOB_OFFSET: usize = CHANNEL_OFFSET + 4;

/// The frames of a body, encoded when the first channel asks for them: many bodies leave only as lines.
#[derive(Debug)]
pub(crate) struct JobFrames {
    body: Arc<JobBody>,
    /// By [`Variant`].
    extended: [OnceLock<ExtendedJob>; 4],
    prev_hash: OnceLock<Box<[u8]>>,
}

/// What a job says beside its body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variant {
    /// Whether it waits for the `SetNewPrevHash` that names it.
    pub(super) future: bool,
    /// Whether the bits of BIP 323 may be rolled.
    pub(super) version_rolling: bool,
}

/// A frame with `NewExtendedMiningJob`.
#[derive(Debug)]
struct ExtendedJob {
    /// All before the suffix. Channel and job are 0; the last bytes are the mark, if there is one, without tag and pot.
    head: Box<[u8]>,
    /// The body's own bytes.
    suffix: Bytes64K,
}

impl JobFrames {
    pub(crate) fn new(body: Arc<JobBody>) -> Self {
        Self { body, extended: Default::default(), prev_hash: OnceLock::new() }
    }

    /// Appends the job for an extended channel.
    pub(super) fn extended(
        &self,
        channel: u32,
        id: JobId,
        mark: Option<[u8; MARK_BYTES]>,
        variant: Variant,
        out: &mut Vec<u8>,
    ) {
        let at = usize::from(variant.future) + 2 * usize::from(variant.version_rolling);
        let job = self.extended[at].get_or_init(|| ExtendedJob::new(&self.body, variant));
        out.reserve(job.head.len() + Bytes64K::BYTES_MIN + job.suffix.as_bytes().len());
        fill_in(&job.head, channel, id, out);
        if let Some(mark) = mark {
            let mark_offset = out.len() - MARK_BYTES;
            out[mark_offset..].copy_from_slice(&mark);
        }
        job.suffix.write(out);
    }

    /// Appends the message that makes a future job the only one.
    pub(super) fn prev_hash(&self, channel: u32, id: JobId, out: &mut Vec<u8>) {
        let encoded = self.prev_hash.get_or_init(|| encode(&prev_hash(&self.body)).into());
        fill_in(encoded, channel, id, out);
    }
}

impl ExtendedJob {
    fn new(body: &JobBody, variant: Variant) -> Self {
        let job = extended(body, variant);
        let (mut head, mut suffix) = (encode(&job), Vec::new());
        job.coinbase_tx_suffix.write(&mut suffix);
        head.truncate(head.len() - suffix.len());
        Self { head: head.into(), suffix: job.coinbase_tx_suffix }
    }
}

/// Where header times start; absent in a job that waits for its parent.
pub(super) fn min_ntime(body: &JobBody, future: bool) -> Option<u32> {
    (!future).then_some(body.ntime)
}

fn extended(body: &JobBody, Variant { future, version_rolling }: Variant) -> NewExtendedMiningJob {
    let coinbase = &body.coinbase;
    let path = body.merkle_branch.iter().copied().map(U256).collect();
    let prefix = coinbase.bytes().slice(..coinbase.extranonce_offset());
    let fits = "a coinbase is far shorter than 64 KiB";
    NewExtendedMiningJob {
        channel_id: 0,
        job_id: 0,
        min_ntime: min_ntime(body, future),
        version: body.version,
        version_rolling_allowed: version_rolling,
        merkle_path: Seq255::new(path).expect("a block has at most 2^32 transactions"),
        coinbase_tx_prefix: Bytes64K::new(prefix).expect(fits),
        coinbase_tx_suffix: Bytes64K::new(coinbase.tail()).expect(fits),
    }
}

fn prev_hash(body: &JobBody) -> SetNewPrevHash {
    SetNewPrevHash {
        channel_id: 0,
        job_id: 0,
        prev_hash: U256(*body.prev_hash.as_byte_array()),
        min_ntime: body.ntime,
        nbits: body.nbits,
    }
}

fn encode(message: &impl Wire) -> Vec<u8> {
    let mut frame = Vec::new();
    write_frame(message, &mut frame);
    frame
}

/// Appends an encoded frame with its channel and job.
fn fill_in(encoded: &[u8], channel: u32, id: JobId, out: &mut Vec<u8>) {
    let frame = out.len();
    out.extend_from_slice(encoded);
    out[frame + CHANNEL_OFFSET..][..4].copy_from_slice(&channel.to_le_bytes());
    out[frame + JOB_OFFSET..][..4].copy_from_slice(&id.0.to_le_bytes());
}

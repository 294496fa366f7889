//! From upstream's jobs to ours, and from our machines' shares to upstream's: pure.
//!
//! A machine rolls `extranonce1 ‖ extranonce2` behind upstream's prefix. What upstream leaves beyond that is filled with
//! zeros before extranonce1. So extranonce1 is a machine's local number only, and a new prefix from upstream changes
//! nothing for a machine but the bytes before it (design §5).

use crate::forward::{ChannelName, Share, Waiting};
use bitcoin::BlockHash;
use std::sync::Arc;
use stratum::class::SizeClass;
use stratum::encoded::EncodedJob;
use stratum::extranonce::{EXTRANONCE1_BYTES, EXTRANONCE2_BYTES};
use stratum::job::{Basis, Coinbase, JobBody, Payout, Roll, TemplateId, Transactions, Upstream};
use stratum::v2::client;
use stratum::v2::codec::Bytes32;

/// Fewest bytes of extranonce2 that machines are given: some firmware takes no fewer.
pub const EXTRANONCE2_BYTES_MIN: usize = 4;
/// What upstream has to leave to be rolled for machines with the usual extranonce2, and at the least.
pub const WANTED_BYTES: u16 = (EXTRANONCE1_BYTES + EXTRANONCE2_BYTES) as u16; // 12
/// See [`WANTED_BYTES`].
pub const NEEDED_BYTES: u16 = (EXTRANONCE1_BYTES + EXTRANONCE2_BYTES_MIN) as u16; // 8

/// Why a job from upstream is not given to machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// Upstream leaves too little of the extranonce.
    #[error("upstream leaves {0} bytes of extranonce to be rolled, {NEEDED_BYTES} are needed")]
    Extranonce(usize),
    /// The job is for a single machine.
    #[error("upstream sends jobs for standard channels on an extended one")]
    Standard,
    /// Version bits may not be rolled, which machines were told they may.
    #[error("upstream does not allow version rolling")]
    FixedVersion,
}

/// The bytes of extranonce2 that machines can have, if upstream leaves so many to be rolled.
///
/// # Errors
/// [`Unusable::Extranonce`].
pub fn extranonce2_bytes(extranonce_size: usize) -> Result<usize, Unusable> {
    let left = extranonce_size.checked_sub(EXTRANONCE1_BYTES).filter(|left| *left >= EXTRANONCE2_BYTES_MIN);
    left.map(|left| left.min(EXTRANONCE2_BYTES)).ok_or(Unusable::Extranonce(extranonce_size))
}

/// The job that machines get for one from upstream, on this connection.
///
/// # Errors
/// What keeps our machines from working on it.
pub fn local_job(
    link: u32,
    job: &client::Job,
    extranonce2_bytes: usize,
) -> Result<Arc<EncodedJob>, Unusable> {
    let client::Work::Coinbase(coinbase) = &job.work else { return Err(Unusable::Standard) };
    if job.version_mask == 0 {
        return Err(Unusable::FixedVersion);
    }
    let rolled = EXTRANONCE1_BYTES + extranonce2_bytes;
    let padding = job.extranonce_size.checked_sub(rolled).ok_or(Unusable::Extranonce(job.extranonce_size))?;
    let before = [&coinbase.prefix[..], job.extranonce_prefix.as_bytes(), &vec![0; padding]].concat();
    let upstream = Upstream {
        channel: ChannelName { link, channel_id: job.channel }.into(),
        job_id: job.id,
        target: job.target,
        padding_bytes: padding as u8, // upstream leaves 32 bytes at most
    };
    let payout = Payout { outputs: Vec::new(), basis: Basis::Upstream(upstream) };
    Ok(Arc::new(EncodedJob::new(Arc::new(JobBody {
        template: TemplateId(0),
        height: 0,
        version: job.version,
        prev_hash: job.prev_hash,
        nbits: job.nbits,
        network_target: job.network_target,
        hardest_share: job.target.max(job.network_target),
        ntime_min: job.min_ntime,
        ntime: job.min_ntime,
        coinbase: Coinbase::from_upstream(&before, rolled, &coinbase.suffix),
        merkle_branch: coinbase.branch.clone(),
        class: SizeClass::default(),
        out_bytes: 0,
        payout: Arc::new(payout),
        transactions: Transactions::default(),
    }))))
}

/// Where a job of [`local_job`] came from.
///
/// # Panics
/// For any other job: a proxy has none.
pub fn upstream(body: &JobBody) -> Upstream {
    match body.payout.basis {
        Basis::Upstream(upstream) => upstream,
        Basis::Solo { .. } | Basis::Window { .. } => unreachable!("a proxy gives out upstream's work only"),
    }
}

/// A machine's share as it goes upstream.
pub fn share(upstream: Upstream, roll: &Roll, hash: BlockHash, waiting: Option<Waiting>) -> Share {
    let padding = [0; Bytes32::MAX];
    let extranonce =
        [&padding[..upstream.padding_bytes.into()], &roll.extranonce1.0, roll.extranonce2.as_bytes()]
            .concat();
    Share {
        channel_id: ChannelName::from(upstream.channel).channel_id,
        job_id: upstream.job_id,
        extranonce: Bytes32::new(&extranonce).expect("upstream left no more than 32 bytes"),
        ntime: roll.ntime,
        nonce: roll.nonce,
        version: roll.version,
        hash,
        waiting,
    }
}

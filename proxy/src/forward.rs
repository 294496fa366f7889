//! What goes between the shards and the connection upstream: shares up, verdicts down.

use std::sync::Arc;
use stratum::pot::Pot;
use stratum::session::Ticket;
use stratum::share::Reject;
use stratum::v1::encode::EncodedJob;
use stratum::v2::codec::{Bytes32, Str255};
use stratum_net::connections::PeerKey;
use tokio::sync::mpsc;

/// Shares of one shard that may wait for upstream's verdict; at the bound the shard reads no more.
pub const WAITING_MAX: usize = 4_096;

/// A share on its way upstream.
#[derive(Debug, Clone)]
pub struct Forward {
    /// The job's name upstream.
    pub job_id: u32,
    /// All that was rolled behind upstream's prefix.
    pub extranonce: Bytes32,
    /// Header time in Unix seconds.
    pub ntime: u32,
    /// Header nonce.
    pub nonce: u32,
    /// The whole header version.
    pub version: u32,
    /// Who waits for the verdict. Nobody, if the machine was answered already: the share may be a block all the same.
    pub waiting: Option<Waiting>,
}

/// Who waits for a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// The shard's number.
    pub shard: usize,
    /// The machine's connection.
    pub key: PeerKey,
    /// Its share.
    pub ticket: Ticket,
    /// The share's local difficulty.
    pub pot: Pot,
}

/// What comes back to a shard: upstream's verdict on a share of its own.
#[derive(Debug, Clone, Copy)]
pub struct Judged {
    /// Who has waited.
    pub waiting: Waiting,
    /// The verdict.
    pub verdict: Result<(), Reject>,
}

/// The way to one channel upstream, from any shard.
#[derive(Debug, Clone)]
pub struct Route {
    /// The channel, as jobs from it say.
    pub channel: u64,
    /// Takes shares until the channel's connection has ended.
    pub shares: mpsc::Sender<Forward>,
}

/// Current work for all machines.
#[derive(Debug)]
pub struct Work {
    /// Never the same again.
    pub id: u64,
    /// The job.
    pub job: Arc<EncodedJob>,
    /// Where its shares go.
    pub route: Route,
    /// What machines roll, in bytes. Only ever falls.
    pub extranonce2_bytes: usize,
}

/// What all shards go by.
#[derive(Debug, Clone, Default)]
pub struct Current(pub Option<Arc<Work>>);

/// Upstream's word for why it refuses a share, in ours.
pub fn reject(code: &Str255) -> Reject {
    match code.as_bytes() {
        b"stale-share" => Reject::Stale,
        b"invalid-job-id" => Reject::UnknownJob,
        b"duplicate-share" => Reject::Duplicate,
        b"difficulty-too-low" => Reject::LowDifficulty,
        b"invalid-non-rollable-version-bit" | b"version-rolling-not-allowed" => Reject::BadVersionBits,
        _ => Reject::RefusedUpstream,
    }
}

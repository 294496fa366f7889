//! What goes between the shards and the connections upstream: work and verdicts down, shares and wishes up.

use bitcoin::{BlockHash, ScriptBuf};
use std::collections::HashMap;
use std::sync::Arc;
use stratum::encoded::EncodedJob;
use stratum::pot::Pot;
use stratum::session::Ticket;
use stratum::share::Reject;
use stratum::v2::codec::{Bytes32, Str255};
use stratum_net::connections::PeerKey;
use tokio::sync::mpsc;

/// Shares of one shard that may wait for upstream's verdict; at the bound the shard reads no more.
pub const WAITING_MAX: usize = 4_096;
/// Accounts that are mined for at once: each is a channel upstream.
pub const ACCOUNTS_MAX: usize = 1_024;

/// Whose work it is: what stands for a script in a proxied machine's payee
/// ([`Users`](stratum::v1::server::Users)). Empty for the one account of the settings.
pub type Account = ScriptBuf;

/// Names a channel upstream; no other ever has the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChannelName {
    /// The connection, counted from the start of the process.
    pub link: u32,
    /// Upstream's own name for it.
    pub channel_id: u32,
}

impl From<ChannelName> for u64 {
    fn from(name: ChannelName) -> Self {
        Self::from(name.link) << 32 | Self::from(name.channel_id)
    }
}

impl From<u64> for ChannelName {
    fn from(number: u64) -> Self {
        Self { link: (number >> 32) as u32, channel_id: number as u32 } // its two halves
    }
}

/// What a shard wants of a connection upstream.
#[derive(Debug)]
pub enum Wish {
    /// Send this share.
    Share(Share),
    /// Open a channel for an account, unless there is one.
    Open(Account),
    /// The machines of an account do so many hashes per second on this shard.
    Rate {
        /// The shard's number.
        shard: usize,
        /// The account.
        account: Account,
        /// The rate.
        hashes_per_s: f64,
    },
}

/// A share on its way upstream.
#[derive(Debug, Clone)]
pub struct Share {
    /// The channel's name upstream.
    pub channel_id: u32,
    /// The job's name there.
    pub job_id: u32,
    /// All that was rolled behind upstream's prefix.
    pub extranonce: Bytes32,
    /// Header time in Unix seconds.
    pub ntime: u32,
    /// Header nonce.
    pub nonce: u32,
    /// The whole header version.
    pub version: u32,
    /// Of its header.
    pub hash: BlockHash,
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

/// The way to one connection upstream, from any shard.
#[derive(Debug, Clone)]
pub struct Route {
    /// The connection's number; see [`ChannelName::link`].
    pub link: u32,
    /// Takes wishes until the connection has ended.
    pub wishes: mpsc::Sender<Wish>,
}

/// Current work for all machines.
#[derive(Debug, Clone)]
pub struct WorkSet {
    /// Never the same again.
    pub id: u64,
    /// Where shares go, and wishes.
    pub route: Route,
    /// The parent of the newest work.
    pub tip: Option<BlockHash>,
    /// What machines roll, in bytes. Only ever falls.
    pub extranonce2_bytes: usize,
    /// The job of each account that has a channel; `Err` is why upstream opens none.
    pub accounts: HashMap<Account, Result<Arc<EncodedJob>, Arc<str>>>,
}

/// What all shards go by.
#[derive(Debug, Clone, Default)]
pub struct Current(pub Option<Arc<WorkSet>>);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channels_name_is_a_number_and_comes_back_from_it() {
        let name = ChannelName { link: 7, channel_id: u32::MAX };
        assert_eq!(ChannelName::from(u64::from(name)), name);
        assert_ne!(u64::from(name), u64::from(ChannelName { link: 8, ..name }));
    }

    #[test]
    fn er_01_an_unknown_word_of_upstream_is_no_more_than_a_refusal() {
        assert_eq!(reject(&Str255::from_static("stale-share")), Reject::Stale);
        assert_eq!(reject(&Str255::from_static("\u{1b}[31m")), Reject::RefusedUpstream);
    }
}

//! What an operator can choose about V1 sessions.

use super::workers::WORKERS_MAX;
use crate::pot::Pot;
use crate::v1::line::MINER_LINE_BYTES_MAX;
use bitcoin::Network;
use std::time::Duration;

/// BIP 320: the 16 version bits that devices know.
pub const VERSION_MASK: u32 = 0x1fff_e000;

/// Who may be named as user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Users {
    /// Payment addresses of this network, each perhaps with the name of a worker.
    Payees(Network),
    /// Whoever: all work is for one account upstream, and names only tell machines apart.
    Anyone,
    /// Accounts of a pool upstream, each perhaps with the name of a worker behind `.`, `_` or `/`. The account's name
    /// stands where the script of a payee would: nobody is paid here.
    Accounts,
}

/// Settings of all sessions of a listener.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who may be named as user.
    pub users: Users,
    /// Difficulty of a connection's first job, unless it gave a hint.
    pub pot_start: Pot,
    /// Lowest share difficulty; only the network target may force a lower one.
    pub pot_min: Pot,
    /// Highest share difficulty.
    pub pot_max: Pot,
    /// Wanted shares per minute and connection.
    pub shares_per_minute: f64,
    /// Version bits offered for rolling; 0 offers none.
    pub version_mask: u32,
    /// Take a submit without version bits as one with no bit set, although rolling was agreed: some
    /// old firmware leaves zeros out (VR-06).
    pub zero_bits_when_missing: bool,
    /// From the connection to its first byte.
    pub first_bytes: Duration,
    /// From the connection to `mining.subscribe`.
    pub subscribe: Duration,
    /// From the connection to the first successful `mining.authorize`.
    pub authorize: Duration,
    /// Longest time without a share.
    pub idle: Duration,
    /// Workers per connection.
    pub workers_max: usize,
    /// Longest line in bytes.
    pub line_bytes_max: usize,
}

impl Settings {
    /// The defaults for a network.
    pub fn new(network: Network) -> Self {
        let pot = |pot: i8| Pot::try_from(pot).expect("a constant between -32 and 95");
        Self {
            users: Users::Payees(network),
            pot_start: pot(13),
            pot_min: pot(-16),
            pot_max: Pot::MAX,
            shares_per_minute: 12.0,
            version_mask: VERSION_MASK,
            zero_bits_when_missing: false,
            first_bytes: Duration::from_secs(5),
            subscribe: Duration::from_secs(15),
            authorize: Duration::from_secs(30),
            idle: Duration::from_secs(15 * 60),
            workers_max: WORKERS_MAX,
            line_bytes_max: MINER_LINE_BYTES_MAX,
        }
    }
}

//! What an operator can choose about V2 sessions.

use crate::pot::Pot;
use bitcoin::Network;
use std::time::Duration;

/// BIP 323: the 24 version bits that may be rolled.
pub const VERSION_MASK: u32 = 0x1fff_ffe0;
/// Channels that one connection may have open.
pub const CHANNELS_MAX: usize = 1_024;

/// Settings of all sessions of a listener.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Network that payment addresses must be of.
    pub network: Network,
    /// Difficulty of a channel's first job, if its client names no hash rate.
    pub pot_start: Pot,
    /// Lowest share difficulty; only the network target may force a lower one.
    pub pot_min: Pot,
    /// Highest share difficulty.
    pub pot_max: Pot,
    /// Wanted shares per minute and channel.
    pub shares_per_minute: f64,
    /// Version bits that may be rolled; 0 allows none.
    pub version_mask: u32,
    /// From the handshake to `SetupConnection`.
    pub setup: Duration,
    /// From the handshake to the first open channel.
    pub channel: Duration,
    /// Longest time without a share, while any channel says that it has machines.
    pub idle: Duration,
    /// Channels per connection.
    pub channels_max: usize,
    /// Whether clients may ask for [`RECEIPTS`](crate::v2::extension::RECEIPTS), and for extensions at all. If not, their
    /// question is passed over as everything unknown is.
    pub receipts: bool,
}

impl Settings {
    /// The defaults for a network.
    pub fn new(network: Network) -> Self {
        let pot = |pot: i8| Pot::try_from(pot).expect("a constant between -32 and 95");
        Self {
            network,
            pot_start: pot(13),
            pot_min: pot(-16),
            pot_max: Pot::MAX,
            shares_per_minute: 12.0,
            version_mask: VERSION_MASK,
            setup: Duration::from_secs(5),
            channel: Duration::from_secs(15),
            idle: Duration::from_secs(15 * 60),
            channels_max: CHANNELS_MAX,
            receipts: false,
        }
    }
}

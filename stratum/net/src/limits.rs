//! Who may connect: a bound for the process, and per address a bound on connections and on their rate.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::warn;

/// File descriptors kept for logs, blocks, the node and the HTTP server.
const RESERVED_FILES: u64 = 64;
/// Addresses remembered for their connection rate; beyond that the idle ones are forgotten.
const ADDRESSES_MAX: usize = 16_384;

/// Bounds on connections.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections of the process.
    pub connections_max: usize,
    /// Connections of one address.
    pub per_address_max: usize,
    /// Sustained new connections per second of one address.
    pub per_address_per_s: u32,
    /// New connections one address may open at once.
    pub per_address_burst: u32,
    /// Networks that the per-address bounds do not concern, besides loopback: a farm behind one address.
    pub exempt: Vec<Network>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            per_address_max: 64,
            per_address_per_s: 10,
            per_address_burst: 20,
            exempt: Vec::new(),
        }
    }
}

impl Limits {
    /// Raises the process's limit of open files, and takes no more connections than that allows beside logs, disks,
    /// nodes and HTTP.
    pub fn within_open_files(mut self) -> Self {
        let files = raise_file_limit().saturating_sub(RESERVED_FILES);
        let files = usize::try_from(files).unwrap_or(usize::MAX);
        if files < self.connections_max {
            let wanted = self.connections_max;
            warn!(files, wanted, "fewer connections than wanted: raise the limit of open files");
            self.connections_max = files;
        }
        self
    }
}

/// A block of addresses, written `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

/// Text that names no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a network: write an address and a prefix length, for example 10.0.0.0/8")]
pub struct NotANetwork(String);

impl std::str::FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let wrong = || NotANetwork(text.to_owned());
        let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let prefix_bits: u8 = bits.parse().map_err(|_| wrong())?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        if prefix_bits > bits_max { Err(wrong()) } else { Ok(Self { address, prefix_bits }) }
    }
}

impl Network {
    /// Whether the address lies in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        let differ = match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => u128::from(a.to_bits() ^ b.to_bits()) << 96,
            (IpAddr::V6(a), IpAddr::V6(b)) => a.to_bits() ^ b.to_bits(),
            _ => return false,
        };
        differ.leading_zeros() >= u32::from(self.prefix_bits) || differ == 0
    }
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The process has as many as it may.
    #[error("too many connections")]
    Full,
    /// This address has as many as it may.
    #[error("too many connections from this address")]
    AddressFull,
    /// This address connects too often.
    #[error("this address connects too often")]
    TooOften,
    /// Its shard has no extranonce prefix left (M13): the others go on.
    #[error("no extranonce prefix is free")]
    NoPrefix,
    /// V2: it did not complete the handshake, or not in time.
    #[error("no handshake")]
    NoHandshake,
    /// V2: too many others came to shake hands after it.
    #[error("too many handshakes wait")]
    Crowded,
}

impl Refusal {
    /// One of each kind.
    pub const ALL: [Refusal; 6] =
        [Self::Full, Self::AddressFull, Self::TooOften, Self::NoPrefix, Self::NoHandshake, Self::Crowded];

    /// The reason as it stands in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::AddressFull => "address_full",
            Self::TooOften => "too_often",
            Self::NoPrefix => "no_prefix",
            Self::NoHandshake => "no_handshake",
            Self::Crowded => "crowded",
        }
    }
}

/// Counts connections and says who may have another.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    // Locked when a connection opens or closes, never on the share path.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connections: usize,
    addresses: HashMap<IpAddr, Address>,
}

#[derive(Debug)]
struct Address {
    connections: usize,
    /// New connections it may open now, in thousandths.
    tokens_milli: u64,
    refilled: Instant,
}

/// The right to one connection; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    gate: Gate,
    /// None if it does not count for any address.
    address: Option<IpAddr>,
}

impl Gate {
    /// A gate that nobody has passed yet.
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Shared { limits, state: Mutex::default() }))
    }

    fn exempt(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.0.limits.exempt.iter().any(|network| network.contains(address))
    }

    /// Asks for a connection.
    ///
    /// # Errors
    /// The bound that refuses it.
    pub fn enter(&self, address: IpAddr, now: Instant) -> Result<Permit, Refusal> {
        let address = address.to_canonical();
        let limits = &self.0.limits;
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.connections >= limits.connections_max {
            return Err(Refusal::Full);
        }
        let exempt = self.exempt(address);
        let address = one_site(address);
        if !exempt {
            if state.addresses.len() >= ADDRESSES_MAX {
                state.forget_idle(limits, now);
            }
            let known = state.addresses.entry(address).or_insert_with(|| Address::new(limits, now));
            known.refill(limits, now);
            if known.connections >= limits.per_address_max {
                return Err(Refusal::AddressFull);
            }
            known.tokens_milli = known.tokens_milli.checked_sub(1_000).ok_or(Refusal::TooOften)?;
            known.connections += 1;
        }
        state.connections += 1;
        Ok(Permit { gate: self.clone(), address: (!exempt).then_some(address) })
    }
}

/// What counts as one address: an IPv6 host has 2^64 of its own.
fn one_site(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.gate.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.connections -= 1;
        if let Some(known) = self.address.and_then(|address| state.addresses.get_mut(&address)) {
            known.connections = known.connections.saturating_sub(1);
        }
    }
}

impl State {
    /// Addresses without connections whose tokens are full again say nothing.
    fn forget_idle(&mut self, limits: &Limits, now: Instant) {
        self.addresses.retain(|_, address| {
            address.refill(limits, now);
            address.connections > 0 || address.tokens_milli < burst_milli(limits)
        });
    }
}

fn burst_milli(limits: &Limits) -> u64 {
    u64::from(limits.per_address_burst) * 1_000
}

impl Address {
    fn new(limits: &Limits, now: Instant) -> Self {
        Self { connections: 0, tokens_milli: burst_milli(limits), refilled: now }
    }

    fn refill(&mut self, limits: &Limits, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled).min(Duration::from_secs(3_600));
        let elapsed_ms = u64::try_from(elapsed.as_millis()).expect("an hour fits");
        self.tokens_milli =
            (self.tokens_milli + elapsed_ms * u64::from(limits.per_address_per_s)).min(burst_milli(limits));
        self.refilled = now;
    }
}

/// Raises the soft limit of open files to the hard one and returns it.
pub fn raise_file_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(_) => limit.current.unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn n05_one_address_is_bounded_in_number_and_rate_and_others_are_not() {
        let limits = Limits { per_address_max: 3, per_address_burst: 4, ..Limits::default() };
        let gate = Gate::new(limits);
        let now = Instant::now();
        let held: Vec<_> = (0..3).map(|_| gate.enter(ip("192.0.2.1"), now).unwrap()).collect();
        assert_eq!(gate.enter(ip("192.0.2.1"), now).unwrap_err(), Refusal::AddressFull);
        assert!(gate.enter(ip("192.0.2.2"), now).is_ok());
        drop(held);
        assert!(gate.enter(ip("192.0.2.1"), now).is_ok());
        assert_eq!(gate.enter(ip("192.0.2.1"), now).unwrap_err(), Refusal::TooOften);
        // Ten per second: one is back after 100 ms.
        assert!(gate.enter(ip("192.0.2.1"), now + Duration::from_millis(100)).is_ok());
    }

    #[test]
    fn n05_a_host_with_many_ipv6_addresses_is_one_and_a_mapped_ipv4_address_is_itself() {
        let limits =
            Limits { per_address_max: 1, exempt: vec!["10.0.0.0/8".parse().unwrap()], ..Limits::default() };
        let gate = Gate::new(limits);
        let now = Instant::now();
        let _held = gate.enter(ip("2001:db8::1"), now).unwrap();
        assert_eq!(gate.enter(ip("2001:db8::ffff:2"), now).unwrap_err(), Refusal::AddressFull);
        assert!(gate.enter(ip("2001:db8:0:1::1"), now).is_ok());
        let _first = gate.enter(ip("::ffff:192.0.2.1"), now).unwrap();
        assert_eq!(gate.enter(ip("192.0.2.1"), now).unwrap_err(), Refusal::AddressFull);
        let _second = gate.enter(ip("::ffff:192.0.2.2"), now).unwrap();
        for exempt in ["::ffff:10.0.0.1", "::ffff:127.0.0.1", "::1"] {
            let held: Vec<_> = (0..3).map(|_| gate.enter(ip(exempt), now).unwrap()).collect();
            assert_eq!(held.len(), 3);
        }
    }

    #[test]
    fn loopback_and_exempt_networks_count_only_for_the_process() {
        let limits = Limits {
            connections_max: 100,
            per_address_max: 1,
            exempt: vec!["10.0.0.0/8".parse().unwrap()],
            ..Limits::default()
        };
        let gate = Gate::new(limits);
        let now = Instant::now();
        let held: Vec<_> = (0..100)
            .map(|i| gate.enter(ip(if i % 2 == 0 { "127.0.0.1" } else { "10.1.2.3" }), now).unwrap())
            .collect();
        assert_eq!(gate.enter(ip("127.0.0.1"), now).unwrap_err(), Refusal::Full);
        drop(held);
        assert!(gate.enter(ip("127.0.0.1"), now).is_ok());
    }

    #[test]
    fn networks_parse_and_match() {
        let in_network = |network: &str, address| network.parse::<Network>().unwrap().contains(ip(address));
        assert!(in_network("10.0.0.0/8", "10.255.0.1") && !in_network("10.0.0.0/8", "11.0.0.1"));
        assert!(in_network("0.0.0.0/0", "203.0.113.9") && !in_network("0.0.0.0/0", "::1"));
        assert!(in_network("2001:db8::/32", "2001:db8::1") && !in_network("2001:db8::/32", "2001:db9::1"));
        assert!(in_network("192.0.2.7/32", "192.0.2.7") && !in_network("192.0.2.7/32", "192.0.2.6"));
        for bad in ["10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0.0/-1", ""] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}

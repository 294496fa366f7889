//! Who may connect: a bound on connections and on their rate, for the process and per address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use stratum::allowance::{Allowance, Used};
use tracing::warn;

/// File descriptors kept for logs, blocks, the node and the HTTP server.
const RESERVED_FILES: u64 = 64;
/// Addresses remembered for their connection rate; beyond that those are looked for that can be forgotten.
const ADDRESSES_MAX: usize = 16_384;
/// For each connection that broke the rules its address is kept out so much longer.
const KEPT_OUT: Duration = Duration::from_secs(10);
/// The longest that an address is kept out.
const KEPT_OUT_MAX: Duration = Duration::from_secs(600);

/// Bounds on connections.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections of the process.
    pub connections_max: usize,
    /// Sustained new connections per second of the process, from everywhere together, exempt or not; as many may
    /// come at once, and the others wait in the kernel. 10,000 machines that come back within ten seconds do not wait.
    /// Without it ten thousand connections a second of garbage, or handshakes as fast as they can be answered, delayed
    /// honest shares three- to fivefold on two cores.
    pub connections_per_s: u32,
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
            connections_per_s: 2_000,
            per_address_max: 64,
            per_address_per_s: 10,
            per_address_burst: 20,
            exempt: Vec::new(),
        }
    }
}

impl Limits {
    /// New connections of one address.
    fn rate(&self) -> Allowance {
        Allowance { at_once: self.per_address_burst, each: each(self.per_address_per_s) }
    }

    /// New connections of the process.
    fn pace(&self) -> Allowance {
        Allowance { at_once: self.connections_per_s, each: each(self.connections_per_s) }
    }

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

/// Between two of so many in a second.
fn each(per_s: u32) -> Duration {
    Duration::from_secs(1) / per_s.max(1) // from 1 on in the settings
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
    /// A connection of this address broke the rules a short time ago.
    #[error("connections of this address broke the rules")]
    KeptOut,
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
    pub const ALL: [Refusal; 7] = [
        Self::Full,
        Self::AddressFull,
        Self::TooOften,
        Self::KeptOut,
        Self::NoPrefix,
        Self::NoHandshake,
        Self::Crowded,
    ];

    /// The reason as it stands in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::AddressFull => "address_full",
            Self::TooOften => "too_often",
            Self::KeptOut => "kept_out",
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

#[derive(Debug)]
struct State {
    connections: usize,
    /// Of [`Limits::pace`], from the first one on.
    begun: Option<Used>,
    addresses: HashMap<IpAddr, Address>,
    /// With this many addresses some are forgotten: so many more than last time that it costs little for each.
    forget_at: usize,
}

#[derive(Debug)]
struct Address {
    connections: usize,
    /// Of [`Limits::rate`].
    used: Used,
    /// Gets no new connection before.
    kept_out_until: Instant,
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
        let state =
            State { connections: 0, begun: None, addresses: HashMap::new(), forget_at: ADDRESSES_MAX };
        Self(Arc::new(Shared { limits, state: Mutex::new(state) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut state = self.state();
        if state.connections >= limits.connections_max {
            return Err(Refusal::Full);
        }
        let exempt = self.exempt(address);
        let address = one_site(address);
        if !exempt {
            state.forget_idle(now);
            let known = state.address(address, now);
            if known.connections >= limits.per_address_max {
                return Err(Refusal::AddressFull);
            }
            if known.kept_out_until > now {
                return Err(Refusal::KeptOut);
            }
            if !known.used.take(1, &limits.rate(), now) {
                return Err(Refusal::TooOften);
            }
            known.connections += 1;
        }
        state.connections += 1;
        Ok(Permit { gate: self.clone(), address: (!exempt).then_some(address) })
    }

    /// From when on one more connection may begin. To be waited for before the next is taken, so that a flood from
    /// everywhere, which no bound per address holds, costs no more than so many connections do (N05, N06).
    pub fn turn(&self, now: Instant) -> Instant {
        let pace = self.0.limits.pace();
        let mut state = self.state();
        let begun = state.begun.get_or_insert(Used::nothing(now));
        begun.charge(1, &pace, now);
        begun.free_at(&pace)
    }
}

/// What counts as one address: an IPv6 host has 2^64 of its own.
fn one_site(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
    }
}

impl Permit {
    /// The connection broke the rules: its address has to wait before it gets another, ten seconds for each and ten
    /// minutes at most (N08).
    pub fn broke_rules(&self, now: Instant) {
        let Some(address) = self.address else { return };
        let mut state = self.gate.state();
        let until = &mut state.address(address, now).kept_out_until;
        *until = ((*until).max(now) + KEPT_OUT).min(now + KEPT_OUT_MAX);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.connections -= 1;
        if let Some(known) = self.address.and_then(|address| state.addresses.get_mut(&address)) {
            known.connections = known.connections.saturating_sub(1);
        }
    }
}

impl State {
    fn address(&mut self, address: IpAddr, now: Instant) -> &mut Address {
        let new = || Address { connections: 0, used: Used::nothing(now), kept_out_until: now };
        self.addresses.entry(address).or_insert_with(new)
    }

    /// Addresses without connections that have used nothing of late say nothing.
    fn forget_idle(&mut self, now: Instant) {
        if self.addresses.len() >= self.forget_at {
            self.addresses.retain(|_, address| {
                address.connections > 0 || !address.used.is_nothing(now) || address.kept_out_until > now
            });
            self.forget_at = ADDRESSES_MAX.max(2 * self.addresses.len());
        }
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
    fn n05_connections_of_all_together_have_a_pace_beyond_which_they_wait() {
        let gate = Gate::new(Limits { connections_per_s: 100, ..Limits::default() });
        let now = Instant::now() + Duration::from_secs(60);
        assert!((0..100).all(|_| gate.turn(now) <= now));
        assert_eq!(gate.turn(now), now + Duration::from_millis(10));
        assert_eq!(gate.turn(now), now + Duration::from_millis(20));
        let later = now + Duration::from_millis(500);
        assert!((0..48).all(|_| gate.turn(later) <= later));
        assert!(gate.turn(later) > later);
    }

    #[test]
    fn n08_an_address_that_broke_rules_is_kept_out_for_a_while_and_no_other_is() {
        // However many may connect at once.
        let gate = Gate::new(Limits { per_address_burst: 10_000, ..Limits::default() });
        let now = Instant::now();
        let after = |seconds: u64| now + Duration::from_secs(seconds);
        let hostile = gate.enter(ip("192.0.2.1"), now).unwrap();
        hostile.broke_rules(now);
        assert_eq!(gate.enter(ip("192.0.2.1"), after(9)).unwrap_err(), Refusal::KeptOut);
        assert!(gate.enter(ip("192.0.2.2"), now).is_ok());
        let back = gate.enter(ip("192.0.2.1"), after(10)).unwrap();
        // However often it was, ten minutes are the most.
        (0..1_000).for_each(|_| back.broke_rules(after(10)));
        drop((hostile, back));
        assert_eq!(gate.enter(ip("192.0.2.1"), after(609)).unwrap_err(), Refusal::KeptOut);
        assert!(gate.enter(ip("192.0.2.1"), after(610)).is_ok());
        // Machines behind one exempt address do not answer for each other.
        let exempt = gate.enter(ip("127.0.0.1"), now).unwrap();
        exempt.broke_rules(now);
        assert!(gate.enter(ip("127.0.0.1"), now).is_ok());
    }

    #[test]
    fn n05_addresses_are_forgotten_once_they_say_nothing() {
        let gate = Gate::new(Limits::default());
        let now = Instant::now();
        let address = |n: u32| IpAddr::from((0x0a00_0000 + n).to_be_bytes());
        let held = gate.enter(address(0), now).unwrap();
        let count = u32::try_from(ADDRESSES_MAX).unwrap();
        (1..=count).for_each(|n| drop(gate.enter(address(n), now).unwrap()));
        assert!(gate.state().addresses.len() > ADDRESSES_MAX, "none of them is idle yet");
        let later = now + Duration::from_secs(60);
        (0..count).for_each(|n| drop(gate.enter(address(2 * count + n), later).unwrap()));
        assert!(gate.state().addresses.len() <= ADDRESSES_MAX + 1, "{}", gate.state().addresses.len());
        assert!(gate.state().addresses.contains_key(&address(0)));
        drop(held);
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

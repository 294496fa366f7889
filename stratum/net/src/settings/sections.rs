//! Settings that both servers have.

use super::Reader;
use crate::limits::Limits;
use crate::logging;
use std::net::{IpAddr, SocketAddr};
use stratum::pot::Pot;

/// Share difficulty.
#[derive(Debug, Clone)]
pub struct Difficulty {
    /// Of a new connection.
    pub start: Pot,
    /// Easiest.
    pub min: Pot,
    /// Hardest.
    pub max: Pot,
    /// Shares per minute that each miner is steered to.
    pub shares_per_minute: u32,
}

/// `shards`: threads that serve miners, one per core unless set.
pub fn shards(r: &mut Reader) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(64) as u64; // at most 64
    usize::try_from(r.in_range("shards", cores, 1..=64)).expect("at most 64")
}

/// Addresses to listen on.
pub fn addresses(r: &mut Reader, key: &str, default: &[&str]) -> Vec<SocketAddr> {
    let texts: Vec<String> = r.or(key, default.iter().map(|text| (*text).to_owned()).collect());
    let mut addresses = Vec::new();
    for text in texts {
        match text.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => r.mistake(key, format!("\"{text}\" is not an address like 127.0.0.1:3333")),
        }
    }
    addresses
}

/// `v1.listen`: plain V1, on private addresses unless `v1.allow_plain_public` is set.
pub fn v1_listen(r: &mut Reader) -> Vec<SocketAddr> {
    let public_allowed = r.or("v1.allow_plain_public", false);
    let addresses = addresses(r, "v1.listen", &["127.0.0.1:3333"]);
    for address in &addresses {
        if !public_allowed && !is_private(address.ip()) {
            let text = format!(
                "{address} may be reached from outside, and plain V1 can be read and altered on the way: \
                 listen on a private address or set v1.allow_plain_public = true"
            );
            r.mistake("v1.listen", text);
        }
    }
    addresses
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// `http.listen`: /health and /metrics, on loopback only.
pub fn http_listen(r: &mut Reader, port: u16) -> SocketAddr {
    let fallback = SocketAddr::from(([127, 0, 0, 1], port));
    let address = r.parsed("http.listen").unwrap_or(fallback);
    if !address.ip().is_loopback() {
        r.mistake("http.listen", format!("{address} is not loopback: metrics are not for the public"));
    }
    address
}

/// `difficulty`: of shares.
pub fn difficulty(r: &mut Reader) -> Difficulty {
    let default = |pot: i8| Pot::try_from(pot).expect("a pot within range");
    let start = r.or("difficulty.pot_start", default(10));
    let min = r.or("difficulty.pot_min", default(-13));
    let max = r.or("difficulty.pot_max", default(50));
    if !(min..=max).contains(&start) {
        r.mistake("difficulty.pot_start", format!("{start} is outside pot_min {min} to pot_max {max}"));
    }
    let shares_per_minute = r.in_range("difficulty.shares_per_minute", 12, 1..=6_000) as u32; // at most 6,000
    Difficulty { start, min, max, shares_per_minute }
}

/// Version bits that miners may roll.
pub fn version_mask(r: &mut Reader, key: &str, default: &str) -> u32 {
    let text: String = r.or(key, default.to_owned());
    match u32::from_str_radix(&text, 16) {
        // Bits outside BIP 320 and BIP 323 carry meaning for the network.
        Ok(mask) if mask & !0x1fff_ffe0 == 0 => mask,
        _ => {
            r.mistake(key, format!("\"{text}\" is no mask within 1fffffe0 (eight hex digits)"));
            0
        }
    }
}

/// `limits`: who may connect.
pub fn limits(r: &mut Reader) -> Limits {
    let mut exempt = Vec::new();
    for text in r.or::<Vec<String>>("limits.exempt", Vec::new()) {
        match text.parse() {
            Ok(network) => exempt.push(network),
            Err(error) => r.mistake("limits.exempt", format!("{error}")),
        }
    }
    let mut number = |key, default: usize| {
        let value = r.in_range(key, default as u64, 1..=10_000_000); // usize has at most 64 bits
        usize::try_from(value).expect("at most ten million")
    };
    let Limits { connections_max, per_address_max, .. } = Limits::default();
    let connections_max = number("limits.connections_max", connections_max);
    let per_address_max = number("limits.per_address_max", per_address_max);
    let mut rate = |key, default: u32| {
        let value = r.in_range(key, default.into(), 1..=1_000_000);
        u32::try_from(value).expect("at most a million")
    };
    let Limits { connections_per_s, per_address_per_s, per_address_burst, .. } = Limits::default();
    Limits {
        connections_max,
        connections_per_s: rate("limits.connections_per_s", connections_per_s),
        per_address_max,
        per_address_per_s: rate("limits.per_address_per_s", per_address_per_s),
        per_address_burst: rate("limits.per_address_burst", per_address_burst),
        exempt,
    }
}

/// `log`: how much is said, and how.
pub fn log(r: &mut Reader) -> logging::Settings {
    let filter: String = r.or("log.filter", "info".to_owned());
    if !logging::filter_is_valid(&filter) {
        r.mistake(
            "log.filter",
            format!("\"{filter}\" is no level or filter: use error, warn, info, debug or trace, then perhaps ,PART=LEVEL"),
        );
    }
    logging::Settings { filter, format: r.or("log.format", logging::Format::Human) }
}

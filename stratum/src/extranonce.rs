//! Extranonces: the part of the coinbase that keeps every connection's work apart.
//!
//! A pool's extranonce1 is `shard (1 byte) ‖ counter (3 bytes)`; the machine rolls extranonce2
//! (8 bytes) behind it. The shard that owns a prefix owns the duplicate set of its shares, so
//! prefixes never cross shards.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

/// Bytes of extranonce1.
pub const EXTRANONCE1_BYTES: usize = 4;
/// Bytes of extranonce2 that a V1 machine rolls. Some devices fail above 8, rental proxies below 6.
pub const EXTRANONCE2_BYTES: usize = 8;
/// Both together, as they stand in the coinbase of our own work.
pub const EXTRANONCE_BYTES: usize = EXTRANONCE1_BYTES + EXTRANONCE2_BYTES;

/// A connection's own prefix of the extranonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extranonce1(pub [u8; EXTRANONCE1_BYTES]);

/// Most bytes that a machine or a V2 client may roll, so that all of it fits the share log.
pub const EXTRANONCE2_BYTES_MAX: usize = 12;
/// What the machine rolls: at most [`EXTRANONCE2_BYTES_MAX`] bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extranonce2 {
    // Behind `len` all bytes are 0, so that derived comparison is right.
    bytes: [u8; EXTRANONCE2_BYTES_MAX],
    len: u8,
}

impl Extranonce2 {
    /// What stands in the coinbase of a machine that rolls nothing (V2 standard channels).
    pub const ZERO: Self = Self { bytes: [0; EXTRANONCE2_BYTES_MAX], len: EXTRANONCE2_BYTES as u8 }; // 8

    /// Takes the bytes; `None` if they are too many.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut all = [0; EXTRANONCE2_BYTES_MAX];
        all.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self { bytes: all, len: bytes.len() as u8 }) // at most 12
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len.into()]
    }
}

impl From<[u8; EXTRANONCE2_BYTES]> for Extranonce2 {
    fn from(bytes: [u8; EXTRANONCE2_BYTES]) -> Self {
        Self::new(&bytes).expect("8 bytes fit 12")
    }
}

impl fmt::Debug for Extranonce2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Values of the three counter bytes.
const COUNTERS: u32 = 1 << 24;

/// Hands out the prefixes of one shard, each to one connection at a time.
///
/// A freed prefix rests until no job that was sent with it can earn credit any more, so that its
/// shares cannot be replayed through a new connection (faults M02).
#[derive(Debug)]
pub struct PrefixAllocator {
    shard: u8,
    next: u32,
    in_use: HashSet<u32>,
    resting: VecDeque<(Instant, u32)>,
    rest: Duration,
    limit: u32,
}

/// All prefixes of the shard are in use or resting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no free extranonce prefix on this shard")]
pub struct PrefixesExhausted;

impl PrefixAllocator {
    /// An allocator for a shard; a freed prefix is handed out again after `rest` at the earliest.
    pub fn new(shard: u8, rest: Duration) -> Self {
        Self::with_limit(shard, rest, COUNTERS)
    }

    pub(crate) fn with_limit(shard: u8, rest: Duration, limit: u32) -> Self {
        Self { shard, next: 0, in_use: HashSet::new(), resting: VecDeque::new(), rest, limit }
    }

    /// Takes the next prefix.
    ///
    /// # Errors
    /// [`PrefixesExhausted`] concerns this one request; others keep theirs.
    pub fn allocate(&mut self, now: Instant) -> Result<Extranonce1, PrefixesExhausted> {
        while let Some(&(since, counter)) = self.resting.front() {
            if now.saturating_duration_since(since) < self.rest {
                break;
            }
            self.resting.pop_front();
            self.in_use.remove(&counter);
        }
        // `in_use` also holds the resting ones, so the walk below ends at a free counter.
        if self.in_use.len() >= self.limit as usize {
            return Err(PrefixesExhausted);
        }
        loop {
            let counter = self.next;
            self.next = (self.next + 1) % self.limit;
            if self.in_use.insert(counter) {
                let [_, a, b, c] = counter.to_be_bytes();
                return Ok(Extranonce1([self.shard, a, b, c]));
            }
        }
    }

    /// Gives a prefix back when its connection has ended.
    pub fn free(&mut self, prefix: Extranonce1, now: Instant) {
        let [shard, a, b, c] = prefix.0;
        let counter = u32::from_be_bytes([0, a, b, c]);
        assert!(
            shard == self.shard && self.in_use.contains(&counter),
            "a prefix is freed once, by its shard"
        );
        self.resting.push_back((now, counter));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REST: Duration = Duration::from_secs(120);

    #[test]
    fn v1_22_m13_exhaustion_refuses_one_request_and_recovers_after_the_rest() {
        let start = Instant::now();
        let mut allocator = PrefixAllocator::with_limit(7, REST, 3);
        let taken: Vec<_> = (0..3).map(|_| allocator.allocate(start).unwrap()).collect();
        assert_eq!(taken[2].0, [7, 0, 0, 2]);
        assert_eq!(allocator.allocate(start), Err(PrefixesExhausted));
        allocator.free(taken[1], start);
        assert_eq!(allocator.allocate(start + REST / 2), Err(PrefixesExhausted));
        assert_eq!(allocator.allocate(start + REST), Ok(taken[1]));
    }

    proptest! {
        #[test]
        fn v1_22_m13_no_prefix_is_held_twice_or_reused_before_its_rest(
            steps in proptest::collection::vec((any::<bool>(), 0_usize..8, 0_u64..100), 1..300)
        ) {
            let mut now = Instant::now();
            let mut allocator = PrefixAllocator::with_limit(0, REST, 8);
            let mut held: Vec<Extranonce1> = Vec::new();
            let mut freed: Vec<(Instant, Extranonce1)> = Vec::new();
            for (take, which, seconds) in steps {
                now += Duration::from_secs(seconds);
                if take {
                    match allocator.allocate(now) {
                        Ok(prefix) => {
                            prop_assert!(!held.contains(&prefix));
                            prop_assert!(freed.iter().all(|(at, p)| *p != prefix || now.duration_since(*at) >= REST));
                            held.push(prefix);
                        }
                        Err(PrefixesExhausted) => {
                            let resting = freed.iter().filter(|(at, _)| now.duration_since(*at) < REST).count();
                            prop_assert_eq!(held.len() + resting, 8);
                        }
                    }
                } else if !held.is_empty() {
                    let prefix = held.swap_remove(which % held.len());
                    allocator.free(prefix, now);
                    freed.push((now, prefix));
                }
            }
        }
    }
}

//! The places that a shard has for miners: each takes an extranonce prefix and a part of the pool's share rate.

use crate::rate::ShareRate;
use std::time::{Duration, Instant};
use stratum::extranonce::{Extranonce1, PrefixAllocator, PrefixesExhausted};
use stratum::share::SUPERSEDED_MAX;

/// A freed prefix rests longer than any job sent with it can earn credit.
const PREFIX_REST: Duration = SUPERSEDED_MAX.saturating_mul(2);

#[derive(Debug)]
pub(super) struct Places {
    prefixes: PrefixAllocator,
    rate: ShareRate,
}

impl Places {
    pub(super) fn new(shard: u8, rate: ShareRate) -> Self {
        Self { prefixes: PrefixAllocator::new(shard, PREFIX_REST), rate }
    }

    /// A place for one more miner.
    pub(super) fn take(&mut self, now: Instant) -> Result<Extranonce1, PrefixesExhausted> {
        let prefix = self.prefixes.allocate(now)?;
        self.rate.opened();
        Ok(prefix)
    }

    /// A miner is gone.
    pub(super) fn free(&mut self, prefix: Extranonce1, now: Instant) {
        self.rate.closed();
        self.prefixes.free(prefix, now);
    }

    /// What to steer each miner to, in shares per minute.
    pub(super) fn shares_per_minute(&self) -> f64 {
        self.rate.per_minute()
    }
}

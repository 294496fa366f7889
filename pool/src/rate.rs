//! How many shares a minute each connection is steered to, so that the pool as a whole stays within its bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The aim of every connection of the pool; a handle, one for each shard.
///
/// Each connection counts the same: exact pay needs no more shares of a large machine than of a small one, and
/// so the sum of all aims is within the bound.
#[derive(Debug, Clone)]
pub struct ShareRate {
    /// What a connection gets while the pool is small.
    per_minute: f64,
    /// Bound for all connections together.
    pool_per_s_max: f64,
    connections: Arc<AtomicUsize>,
}

impl ShareRate {
    /// `per_minute` shares of each connection, unless all together send more than `pool_per_s_max` a second.
    pub fn new(per_minute: u32, pool_per_s_max: u32) -> Self {
        Self {
            per_minute: per_minute.into(),
            pool_per_s_max: pool_per_s_max.into(),
            connections: Arc::default(),
        }
    }

    /// A connection begins.
    pub fn opened(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection has ended.
    pub fn closed(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// What to steer each connection to, in shares per minute.
    pub fn per_minute(&self) -> f64 {
        let connections = self.connections.load(Ordering::Relaxed).max(1) as f64; // exact below 2^53
        self.per_minute.min(60.0 * self.pool_per_s_max / connections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn all_connections_together_stay_within_the_bound_and_each_within_its_own(
            per_minute in 1_u32..6_000, max in 1_u32..100_000, connections in 1_usize..1_000_000,
        ) {
            let rate = ShareRate::new(per_minute, max);
            rate.connections.store(connections, Ordering::Relaxed);
            let (each, all) = (rate.per_minute(), rate.per_minute() / 60.0 * connections as f64);
            prop_assert!(each <= f64::from(per_minute));
            prop_assert!(all <= f64::from(max) * (1.0 + 1e-9));
            // No lower than either bound demands.
            prop_assert!(each >= f64::from(per_minute) * (1.0 - 1e-9) || all >= f64::from(max) * (1.0 - 1e-9));
        }
    }

    #[test]
    fn connections_that_end_give_their_part_back() {
        let rate = ShareRate::new(12, 1);
        (0..10).for_each(|_| rate.opened());
        assert_eq!(rate.per_minute(), 6.0);
        (0..5).for_each(|_| rate.closed());
        assert_eq!(rate.per_minute(), 12.0);
        (0..5).for_each(|_| rate.closed());
        assert_eq!(rate.per_minute(), 12.0, "nobody is there");
    }
}

//! What is known of values that others hold, found by their address: nothing of the value is hashed or compared.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use stratum::hasher::SecretState;

/// Values below which nobody looks for dead ones.
const PRUNE_MIN: usize = 64;

/// Numbers of values that somebody still holds. Those that nobody holds any more are forgotten, when the map has twice
/// as many as were left the last time.
#[derive(Debug)]
pub(crate) struct ByAddress<T> {
    /// The weak reference keeps the address from being used again.
    numbers: HashMap<u64, (Weak<T>, u64), SecretState>,
    prune_at: usize,
}

/// Compared, never followed.
fn address<T>(value: &Arc<T>) -> u64 {
    Arc::as_ptr(value).addr() as u64 // usize fits u64
}

impl<T> Default for ByAddress<T> {
    fn default() -> Self {
        Self { numbers: HashMap::default(), prune_at: PRUNE_MIN }
    }
}

impl<T> ByAddress<T> {
    /// The number of this very value; an equal one elsewhere has its own.
    pub fn find(&self, value: &Arc<T>) -> Option<u64> {
        self.numbers.get(&address(value)).map(|(_, number)| *number)
    }

    /// Gives a value its number.
    pub fn insert(&mut self, value: &Arc<T>, number: u64) {
        if self.numbers.len() >= self.prune_at {
            self.numbers.retain(|_, (value, _)| value.strong_count() > 0);
            self.prune_at = PRUNE_MIN.max(2 * self.numbers.len());
        }
        self.numbers.insert(address(value), (Arc::downgrade(value), number));
    }

    /// Forgets a value.
    pub fn remove(&mut self, value: &Arc<T>) {
        self.numbers.remove(&address(value));
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.numbers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_its_own_number_until_it_is_forgotten() {
        let mut numbers = ByAddress::default();
        let (one, twin) = (Arc::new("x"), Arc::new("x"));
        numbers.insert(&one, 1);
        assert_eq!(
            (numbers.find(&one), numbers.find(&one.clone()), numbers.find(&twin)),
            (Some(1), Some(1), None)
        );
        numbers.insert(&twin, 2);
        numbers.remove(&one);
        assert_eq!((numbers.find(&one), numbers.find(&twin)), (None, Some(2)));
        numbers.clear();
        assert_eq!(numbers.find(&twin), None);
    }

    #[test]
    fn values_that_nobody_holds_are_forgotten_and_others_are_not() {
        let mut numbers = ByAddress::default();
        let held: Vec<_> = (0..100).map(Arc::new).collect();
        for (number, value) in (0..).zip(&held) {
            numbers.insert(value, number);
        }
        for number in 0..100_000 {
            numbers.insert(&Arc::new(0), number);
            // An address is never that of another value while it is in the map.
            assert!(numbers.numbers.len() <= 4 * held.len());
        }
        assert!((0..).zip(&held).all(|(number, value)| numbers.find(value) == Some(number)));
    }
}

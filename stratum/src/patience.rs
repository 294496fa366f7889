//! How much nonsense a connection may send.

use crate::allowance::{Allowance, Used};
use crate::fault::Fault;
use std::time::{Duration, Instant};

/// Bad messages that are forgiven at once.
pub const BAD_MESSAGES: u32 = 16;
/// One more is forgiven after each of these.
pub const BAD_MESSAGE_REFILL: Duration = Duration::from_secs(60);
/// Unknown methods weigh less: honest firmware repeats one forever, and the answer is cheap.
const UNKNOWN_PER_BAD: u32 = 6;
/// Counted in unknown methods.
const NONSENSE: Allowance = Allowance {
    at_once: BAD_MESSAGES * UNKNOWN_PER_BAD,
    each: Duration::from_secs(BAD_MESSAGE_REFILL.as_secs() / UNKNOWN_PER_BAD as u64),
};

#[derive(Debug)]
pub(crate) struct Patience {
    used: Used,
}

impl Patience {
    pub(crate) fn new(now: Instant) -> Self {
        Self { used: Used::nothing(now) }
    }

    /// A line that is no message, or a message that is no sense.
    pub(crate) fn bad(&mut self, now: Instant) -> Result<(), Fault> {
        self.take(UNKNOWN_PER_BAD, now, "too many bad messages")
    }

    /// A method that we do not know.
    pub(crate) fn unknown(&mut self, now: Instant) -> Result<(), Fault> {
        self.take(1, now, "too many unknown methods")
    }

    fn take(&mut self, cost: u32, now: Instant, fault: &'static str) -> Result<(), Fault> {
        if self.used.take(cost, &NONSENSE, now) { Ok(()) } else { Err(Fault::Misbehaved(fault)) }
    }
}

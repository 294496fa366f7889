//! How much nonsense a connection may send: a token bucket.

use crate::fault::Fault;
use std::time::{Duration, Instant};

/// Bad messages that are forgiven at once.
pub const BAD_MESSAGES: u32 = 16;
/// One more is forgiven after each of these.
pub const BAD_MESSAGE_REFILL: Duration = Duration::from_secs(60);
/// Unknown methods weigh less: honest firmware repeats one forever, and the answer is cheap.
const UNKNOWN_PER_BAD: u32 = 6;

const FULL: u32 = BAD_MESSAGES * UNKNOWN_PER_BAD;

/// Starts full.
#[derive(Debug)]
pub(crate) struct Patience {
    left: u32,
    since: Instant,
}

impl Patience {
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: FULL, since: now }
    }

    /// A line that is no message, or a message that is no sense.
    pub(crate) fn bad(&mut self, now: Instant) -> Result<(), Fault> {
        self.take(UNKNOWN_PER_BAD, now).ok_or(Fault::Misbehaved("too many bad messages"))
    }

    /// A method that we do not know.
    pub(crate) fn unknown(&mut self, now: Instant) -> Result<(), Fault> {
        self.take(1, now).ok_or(Fault::Misbehaved("too many unknown methods"))
    }

    fn take(&mut self, cost: u32, now: Instant) -> Option<()> {
        let each = BAD_MESSAGE_REFILL / UNKNOWN_PER_BAD;
        let passed = now.saturating_duration_since(self.since);
        let refill = u32::try_from(passed.as_millis() / each.as_millis()).unwrap_or(u32::MAX);
        self.since += each.saturating_mul(refill).min(passed);
        self.left = self.left.saturating_add(refill).min(FULL).checked_sub(cost)?;
        Some(())
    }
}

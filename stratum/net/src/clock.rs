//! The wall clock: for header times, certificates and reports. Whatever must not jump is measured by `Instant`.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970; 0 if the clock stands before that.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Seconds since 1970, as certificates count them: until 2106.
pub fn unix_s() -> u32 {
    u32::try_from(unix_ms() / 1_000).unwrap_or(u32::MAX)
}

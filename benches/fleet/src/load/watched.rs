//! What a process has used, as the kernel counts it.

use serde_json::{Value, json};
use std::fs;
use std::io;

/// Taken at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    processor_ns: u64,
    /// How often its threads went to sleep.
    sleeps: u64,
    resident_kib: u64,
}

impl Sample {
    /// Looks at a process.
    ///
    /// # Errors
    /// There is none of this id, or this is no Linux.
    pub fn of(process: u32) -> io::Result<Self> {
        let mut sample = Self::default();
        for task in fs::read_dir(format!("/proc/{process}/task"))? {
            let task = task?.path();
            // A thread may end while we look.
            let read = |file: &str| fs::read_to_string(task.join(file)).unwrap_or_default();
            // To the nanosecond, where /proc/PID/stat has hundredths of a second.
            sample.processor_ns += first_number(&read("schedstat"));
            let status = read("status");
            sample.sleeps += field(&status, "voluntary_ctxt_switches:");
            // The same for all threads.
            sample.resident_kib = sample.resident_kib.max(field(&status, "VmRSS:"));
        }
        Ok(sample)
    }

    /// What was used between two moments.
    pub fn until(self, later: Self) -> Value {
        json!({
            "cpu_us": (later.processor_ns - self.processor_ns) as f64 / 1e3,
            "sleeps": later.sleeps - self.sleeps,
            "grown_bytes": (later.resident_kib as i64 - self.resident_kib as i64) * 1_024, // far below 2^53
        })
    }
}

fn field(text: &str, name: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(name)).map_or(0, first_number)
}

fn first_number(text: &str) -> u64 {
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_work_is_seen() {
        let before = Sample::of(std::process::id()).unwrap();
        let started = std::time::Instant::now();
        while started.elapsed().as_millis() < 30 {}
        let used = before.until(Sample::of(std::process::id()).unwrap());
        assert!(used["cpu_us"].as_f64().unwrap() > 10_000.0, "{used}");
        assert!(before.resident_kib > 100);
        assert!(Sample::of(u32::MAX).is_err());
    }
}

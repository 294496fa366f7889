//! Where something was measured.

use serde::{Deserialize, Serialize};
use std::fs;

/// A machine, as far as it matters for a figure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Release of the kernel.
    pub kernel: String,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            cpu: cpu(&read("/proc/cpuinfo")).unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

fn cpu(cpuinfo: &str) -> Option<&str> {
    let (_, name) = cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == "model name")?;
    Some(name.trim())
}

/// Resident memory of this process in bytes.
pub fn resident_bytes() -> Option<u64> {
    status_bytes("self", "VmRSS:")
}

/// The most that a process has had resident so far, in bytes; `None` once it has ended.
pub fn peak_bytes(process: u32) -> Option<u64> {
    status_bytes(&process.to_string(), "VmHWM:")
}

fn status_bytes(process: &str, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named_by_the_first_line_that_does() {
        let text = "processor\t: 0\nmodel name\t: Some CPU: 9\nprocessor\t: 1\nmodel name\t: Other\n";
        assert_eq!(cpu(text), Some("Some CPU: 9"));
        assert_eq!(cpu("processor\t: 0\n"), None);
    }

    #[test]
    fn resident_memory_grows_by_what_is_written() {
        let before = resident_bytes().unwrap();
        let bytes = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = resident_bytes().unwrap();
        assert!(peak_bytes(std::process::id()).unwrap() >= after);
        assert!(after - before > 60 << 20, "{} bytes more, {} written", after - before, bytes.len());
    }
}

//! Parts of the end-to-end tests.

pub mod herd;
pub mod log;
pub mod miner;
pub mod node;
pub mod paid;
pub mod pool;
pub mod proxy;
pub mod relay;
pub mod served;
pub mod small_disk;
pub mod stand_in;
pub mod v2_miner;

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longest wait for anything that a healthy machine does within a second or two.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Ports that were free a moment ago.
pub fn free_ports<const N: usize>() -> [u16; N] {
    // All are held until all are known, so they differ.
    let held: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// Waits until `ready` gives a value; panics with `what` when patience ends.
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A program of this workspace, built by `./tests/run` or `cargo build --workspace`.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().find(|dir| dir.join("deps").is_dir()).expect("tests run below target/");
    let path = profile.join(name);
    assert!(path.is_file(), "{} is missing: run cargo build --workspace first", path.display());
    path
}

/// How many rounds a repeated test makes: `short`, or `long` under `./tests/run --long`.
pub fn rounds(short: usize, long: usize) -> usize {
    if std::env::var_os("SLUICE_LONG").is_some() { long } else { short }
}

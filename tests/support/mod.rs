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
pub mod v2_frames;
pub mod v2_link;
pub mod v2_miner;
pub mod witness;

use socket2::{Domain, Socket, Type};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest wait for anything that a healthy machine does within a second or two.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Ports that nothing listens on.
///
/// They are none of those that the system gives to outgoing connections: tests make thousands of these, and one of
/// them would keep a server from its port. Tests that run beside each other, a process each, hardly ever ask for the same.
pub fn free_ports<const N: usize>() -> [u16; N] {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    const PER_PROCESS: u32 = 50;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let next = || {
        let number =
            std::process::id().wrapping_mul(PER_PROCESS).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        u16::try_from(FIRST + number % COUNT).expect("32,000 is a port")
    };
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::array::from_fn(|_| std::iter::repeat_with(next).find(free).expect("some port is free"))
}

/// A connection to a server on IPv4 whose kernels hold next to nothing for us that we have not read.
pub fn narrow(server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    // The sender's side grows with the length of a segment, which on loopback is 64 KiB.
    socket.set_tcp_mss(536).unwrap();
    socket.connect(&server.into()).unwrap();
    socket.into()
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

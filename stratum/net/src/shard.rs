//! A shard: one thread with one single-threaded runtime that owns its sessions.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;
use tokio::task::LocalSet;

/// Starts a shard's thread; `run` builds its future there, so nothing of it needs to be `Send`.
///
/// # Errors
/// The operating system refuses a thread or a poller.
pub fn spawn<F, Fut>(index: usize, run: F) -> io::Result<JoinHandle<()>>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
        let local = LocalSet::new();
        local.block_on(&runtime, async { run().await });
    })
}

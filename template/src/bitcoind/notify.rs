//! The node's `zmqpubhashblock` announcements: the fastest word of a new tip, and never the only one.

use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::watch;
use zeromq::{Socket, SocketRecv, SubSocket};

/// Wait before a failed connection is tried again.
const RECONNECT: Duration = Duration::from_secs(1);

/// Listens on its own thread until dropped.
#[derive(Debug)]
pub struct Notify {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Notify {
    /// Connects to an endpoint such as `tcp://127.0.0.1:28332` and calls `on_block` for each block.
    ///
    /// `on_block` must not block.
    pub fn start(endpoint: String, on_block: impl Fn() + Send + 'static) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("the system can start a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = listen(&endpoint, on_block) => {}
                    _ = stopped.changed() => {}
                }
            });
        };
        let thread = thread::Builder::new().name("zmq".into()).spawn(run);
        Self { stop, thread: Some(thread.expect("the system can start a thread")) }
    }
}

impl Drop for Notify {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the announcement thread has panicked");
        }
    }
}

async fn listen(endpoint: &str, on_block: impl Fn()) {
    loop {
        let mut socket = SubSocket::new();
        if socket.connect(endpoint).await.is_ok() && socket.subscribe("hashblock").await.is_ok() {
            // Blocks found while we were not connected were not announced to us.
            on_block();
            while socket.recv().await.is_ok() {
                on_block();
            }
        }
        tracing::debug!(endpoint, "block announcements are not connected");
        tokio::time::sleep(RECONNECT).await;
    }
}

//! Listeners: the one place where connections are taken, limited and handed to a shard.

use crate::limits::{Gate, Permit};
use crate::metrics::ConnectionMetrics;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use stratum::v2::noise::Transport;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Connections on their way to one shard.
pub const HANDOFF_QUEUE_LEN: usize = 256;
/// Connections that the kernel holds for us while we take others. With the usual 128 a storm of thousands has its
/// packets dropped, and each that was waits a second before it is sent again. The system may allow fewer
/// (`net.core.somaxconn`).
const BACKLOG: u32 = 4_096;
/// Pause after a failed accept, so that a process out of files does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection that has passed the limits.
#[derive(Debug)]
pub struct Incoming {
    /// Not yet registered with a runtime: the shard does that.
    pub stream: std::net::TcpStream,
    /// The other side.
    pub address: SocketAddr,
    /// Its place in the limits, to be held for the connection's life.
    pub permit: Permit,
    /// What is spoken on it.
    pub wire: Wire,
}

/// What is spoken on a connection.
#[derive(Debug)]
pub enum Wire {
    /// Stratum V1: lines.
    Lines,
    /// Stratum V2: sealed frames; the handshake is done.
    Sealed(Box<Transport>),
}

impl Wire {
    /// Its protocol, as it stands in metrics.
    pub fn protocol(&self) -> &'static str {
        match self {
            Self::Lines => "v1",
            Self::Sealed(_) => "v2",
        }
    }
}

/// The way into one shard.
#[derive(Debug, Clone)]
pub struct ShardEntrance {
    queue: mpsc::Sender<Incoming>,
    load: Arc<AtomicUsize>,
}

impl ShardEntrance {
    /// An entrance, the queue behind it, and the counter of the shard's connections that the shard keeps.
    pub fn new() -> (Self, mpsc::Receiver<Incoming>, Arc<AtomicUsize>) {
        let (queue, receiver) = mpsc::channel(HANDOFF_QUEUE_LEN);
        let load = Arc::new(AtomicUsize::new(0));
        (Self { queue, load: load.clone() }, receiver, load)
    }

    fn load(&self) -> usize {
        // What waits in the queue is load too.
        self.load.load(Ordering::Relaxed) + self.queue.max_capacity() - self.queue.capacity()
    }
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: end what uses it, or set {key} to another address")]
pub struct CannotListen {
    address: SocketAddr,
    key: String,
    source: std::io::Error,
}

/// Binds the addresses of the setting `key`. To be called on a runtime.
///
/// # Errors
/// The address that cannot be had, with the remedy.
///
/// # Panics
/// Off a runtime.
pub fn listen(addresses: &[SocketAddr], key: &str) -> Result<Vec<TcpListener>, CannotListen> {
    let refused = |address, source| CannotListen { address, key: key.to_owned(), source };
    addresses.iter().map(|&address| bind(address).map_err(|source| refused(address, source))).collect()
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A server that is started again need not wait for the connections of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Takes connections until `stop`, each to the least loaded shard.
pub async fn accept(
    listener: TcpListener,
    gate: Gate,
    shards: Vec<ShardEntrance>,
    metrics: ConnectionMetrics,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => hand_over(stream, address, &gate, &shards, &metrics).await,
            Err(error) => {
                // A peer that is gone already is no trouble of ours; no free file is.
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn hand_over(
    stream: TcpStream,
    address: SocketAddr,
    gate: &Gate,
    shards: &[ShardEntrance],
    metrics: &ConnectionMetrics,
) {
    let Some(permit) = admit(address, gate, metrics).await else { return };
    let prepared = prepare(&stream).and_then(|()| stream.into_std());
    match prepared {
        Ok(stream) => enter(Incoming { stream, address, permit, wire: Wire::Lines }, shards).await,
        Err(error) => debug!(%address, %error, "connection lost before it began"),
    }
}

/// Asks for a place for a connection, and waits until it may begin; one that gets none is closed at once.
pub(crate) async fn admit(address: SocketAddr, gate: &Gate, metrics: &ConnectionMetrics) -> Option<Permit> {
    let now = Instant::now();
    match gate.enter(address.ip(), now) {
        Ok(permit) => {
            let turn = gate.turn(now);
            if turn > now {
                tokio::time::sleep_until(turn.into()).await;
            }
            Some(permit)
        }
        Err(refusal) => {
            metrics.refused(refusal);
            debug!(%address, %refusal, "connection refused");
            None
        }
    }
}

/// Gives a connection to the least loaded shard. Waits while that is behind: the kernel's backlog takes the pressure.
pub(crate) async fn enter(incoming: Incoming, shards: &[ShardEntrance]) {
    let Some(shard) = shards.iter().min_by_key(|shard| shard.load()) else { return };
    let address = incoming.address;
    if shard.queue.send(incoming).await.is_err() {
        debug!(%address, "connection refused: the shard has stopped");
    }
}

/// Small messages leave at once, and dead peers are noticed.
pub(crate) fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    // A dead peer is noticed after 90 s: first probe after 60 s, then three, ten seconds apart (V1-10).
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
#[path = "acceptor_tests.rs"]
mod tests;

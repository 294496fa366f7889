//! Runs a shard: its connections, its commits, its new work, and its end.

use crate::metrics::Metrics;
use crate::shard::{Return, Shard};
use crate::work::Current;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use stratum_net::acceptor::Incoming;
use stratum_net::connections::PeerKey;
use stratum_net::driver::{Ending, drive};
use stratum_net::limits::Refusal;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinSet, yield_now};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

/// Connections that get new work before others of the shard have their turn.
const FAN_OUT_PORTION: usize = 256;
/// Time for a stopping shard's miners to take their last replies.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a shard is fed with.
pub struct Feeds {
    /// New connections.
    pub incoming: mpsc::Receiver<Incoming>,
    /// Results of commits and written blocks.
    pub returns: mpsc::Receiver<Return>,
    /// What to go by.
    pub current: watch::Receiver<Current>,
    /// Number of connections, for the acceptor.
    pub load: Arc<AtomicUsize>,
    /// The end.
    pub stop: CancellationToken,
}

/// Runs until told to stop and everything acknowledged has been answered.
pub async fn run(shard: Shard, feeds: Feeds, metrics: Metrics) {
    let Feeds { mut incoming, mut returns, current, load, stop } = feeds;
    let shard = Rc::new(RefCell::new(shard));
    let scratch = Rc::new(RefCell::new(Vec::new()));
    let mut connections = JoinSet::new();
    let mut fan_out = tokio::task::spawn_local(fan_out(shard.clone(), current, metrics.clone()));
    loop {
        let retry_at = shard.borrow().retry_at();
        tokio::select! {
            Some(returned) = returns.recv() => shard.borrow_mut().returned(returned, Instant::now()),
            Some(incoming) = incoming.recv() => {
                let connection = Connection { shard: shard.clone(), load: load.clone(), metrics: metrics.clone() };
                connections.spawn_local(connection.run(incoming, scratch.clone()));
            }
            Some(ended) = connections.join_next() => {
                if let Err(panicked) = ended {
                    metrics.session_panicked();
                    error!(%panicked, "a session failed and was closed: please report this");
                }
            }
            () = wait_until(retry_at) => shard.borrow_mut().flush(Instant::now()),
            ended = &mut fan_out => {
                // Without it miners would stay on old work for ever: better to end, and to be started again.
                assert!(stop.is_cancelled(), "nobody gives out new work any more: {ended:?}");
                break;
            }
            () = stop.cancelled() => break,
        }
    }
    shard.borrow_mut().stop_reading();
    while !shard.borrow().is_drained() {
        let retry_at = shard.borrow().retry_at();
        tokio::select! {
            Some(returned) = returns.recv() => shard.borrow_mut().returned(returned, Instant::now()),
            () = wait_until(retry_at) => shard.borrow_mut().flush(Instant::now()),
        }
    }
    fan_out.abort();
    shard.borrow_mut().release_all();
    let _ =
        tokio::time::timeout(LAST_WORDS, async { while connections.join_next().await.is_some() {} }).await;
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Tells every miner of new work, a portion at a time.
async fn fan_out(shard: Rc<RefCell<Shard>>, mut current: watch::Receiver<Current>, metrics: Metrics) {
    while current.changed().await.is_ok() {
        let started = Instant::now();
        // Old jobs are stale from here on, whoever has been told already.
        let newest = current.borrow_and_update().clone();
        if !shard.borrow_mut().follow(newest, started) {
            continue;
        }
        let keys = shard.borrow().keys();
        for portion in keys.chunks(FAN_OUT_PORTION) {
            let now = Instant::now();
            portion.iter().for_each(|key| shard.borrow_mut().offer_work(*key, now));
            yield_now().await;
        }
        metrics.fanned_out(started.elapsed());
    }
}

/// One connection's task.
struct Connection {
    shard: Rc<RefCell<Shard>>,
    load: Arc<AtomicUsize>,
    metrics: Metrics,
}

/// Takes the connection out of its shard, also when its session panics.
struct Registration<'a> {
    connection: &'a Connection,
    key: PeerKey,
    protocol: &'static str,
    ending: Ending,
}

impl Connection {
    async fn run(self, incoming: Incoming, scratch: Rc<RefCell<Vec<u8>>>) {
        let Incoming { stream, address, permit, wire } = incoming;
        let stream = match TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => return debug!(%address, %error, "connection lost before it began"),
        };
        let wake = Rc::new(Notify::new());
        let protocol = wire.protocol();
        let opened = self.shard.borrow_mut().open(wire, wake.clone(), Instant::now());
        let key = match opened {
            Ok(key) => key,
            Err(error) => {
                self.metrics.connections.refused(Refusal::NoPrefix);
                return warn!(%address, %error, "connection refused");
            }
        };
        self.load.fetch_add(1, Ordering::Relaxed);
        self.metrics.connections.opened(protocol);
        debug!(?key, %address, protocol, "connection opened");
        let mut registration = Registration { connection: &self, key, protocol, ending: Ending::Panicked };
        registration.ending = drive(self.shard.clone(), key, stream, wake, scratch).await;
        drop(registration);
        drop(permit);
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.connection.shard.borrow_mut().close(self.key, self.ending, Instant::now());
        self.connection.load.fetch_sub(1, Ordering::Relaxed);
        self.connection.metrics.connections.closed(self.protocol, self.ending);
    }
}

//! Runs a shard: its connections, its commits, its new work, and its end.

use crate::acceptor::{Incoming, Wire};
use crate::clock::unix_ms;
use crate::connections::{Connections, PeerKey};
use crate::driver::{Ending, Peers, drive};
use crate::fan_out::fan_out;
use crate::limits::Refusal;
use crate::metrics::ShardMetrics;
use crate::outbox::Outbox;
use crate::pending::Asked;
use crate::wake::Wake;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use stratum::extranonce::{Extranonce1, PrefixesExhausted};
use stratum::fault::Fault;
use stratum::session::Action;
use stratum::share::{Judge, Verdict};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

/// Time for a stopping shard's miners to take their last replies.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a server's shard does beside driving its connections: it takes them in, judges what they send, follows new
/// work and hands it out, and answers shares when others have done their part.
pub trait Serve: Sized + 'static {
    /// What is kept of a connection beside its session.
    type Own;
    /// What comes back from those others.
    type Return: 'static;
    /// What to go by.
    type Current: Clone + 'static;

    /// The connections of the shard.
    fn connections(&mut self) -> &mut Connections<Self::Own>;

    /// Counters.
    fn metrics(&self) -> &ShardMetrics;

    /// Takes in a connection.
    ///
    /// # Errors
    /// No extranonce prefix is free; the connection is to be closed.
    fn open(&mut self, wire: Wire, wake: Rc<Wake>, now: Instant) -> Result<PeerKey, PrefixesExhausted>;

    /// A prefix whose miner is gone.
    fn free(&mut self, prefix: Extranonce1, now: Instant);

    /// What judges shares.
    fn judge(&mut self) -> &mut Judge;

    /// A share was judged. Its miner, if there is one to be told, is answered now or when others have done their part.
    fn judged(&mut self, asked: Asked, verdict: Verdict, now: Instant);

    /// All shares that waited were judged, in this time.
    fn judged_all(&mut self, shares: usize, took: Duration, now: Instant);

    /// Does what a session asks for, unless that is the business of [`Serve::act`] alone. What follows from it goes to
    /// `next`.
    fn perform(&mut self, key: PeerKey, action: Action, now: Instant, next: &mut Vec<Action>);

    /// Gives current work to the miners of a connection that want it.
    fn prepare_work(&mut self, key: PeerKey, now: Instant, out: &mut Vec<Action>);

    /// Whether more shares can be taken.
    fn has_room(&self) -> bool;

    /// Something came back.
    fn returned(&mut self, returned: Self::Return, now: Instant);

    /// From here on shares are judged by this. `true` if there is other work, for [`Serve::offer_work`].
    fn follow(&mut self, current: Self::Current, now: Instant) -> bool;

    /// When to call [`Serve::wake`].
    fn wake_at(&self) -> Option<Instant>;

    /// The time of [`Serve::wake_at`] has come.
    fn wake(&mut self, now: Instant);

    /// Judges what waits for it.
    fn judge_pending(&mut self, now: Instant) {
        let shares = self.connections().pending.len();
        if shares == 0 {
            return;
        }
        let started = Instant::now();
        let mut pending = std::mem::take(&mut self.connections().pending);
        pending.judge(self.judge(), now, unix_ms());
        let took = started.elapsed();
        pending.verdicts().for_each(|(asked, verdict)| self.judged(asked, verdict, now));
        let meanwhile = std::mem::replace(&mut self.connections().pending, pending);
        assert!(meanwhile.is_empty(), "a verdict brings no shares");
        self.judged_all(shares, took, now);
        if self.has_room() {
            self.connections().read_on();
        }
    }

    /// Whether every judged share has been answered.
    fn is_drained(&self) -> bool;

    /// Forgets a connection that has ended.
    fn close(&mut self, key: PeerKey, ending: Ending, now: Instant) {
        if let Some(peer) = self.connections().remove(key) {
            peer.session.prefixes().for_each(|prefix| self.free(prefix, now));
            debug!(conn = key.number(), reason = ending.label(), "connection closed");
        }
    }

    /// Runs a session's code outside its connection's own task: if it panics, that connection alone ends.
    ///
    /// What a session leaves half-changed is its own; the shard's state changes only between its calls.
    fn guarded(&mut self, key: PeerKey, run: impl FnOnce(&mut Self, &mut Vec<Action>), now: Instant) {
        if self.connections().ending(key) == Some(Ending::Panicked) {
            return;
        }
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let mut actions = Vec::new();
            run(self, &mut actions);
            self.act(key, actions, now);
        }));
        if ran.is_err() {
            self.metrics().session_panicked();
            error!(conn = key.number(), "a session failed and is closed: please report this");
            self.connections().end(key, Ending::Panicked);
        }
    }

    /// Does what a session asks for, in its order: what follows from one action comes before the next.
    fn act(&mut self, key: PeerKey, actions: Vec<Action>, now: Instant) {
        let mut next = Vec::new();
        for action in actions {
            match self.connections().deliver(key, action) {
                None => {}
                Some(Action::NeedWork) => self.prepare_work(key, now, &mut next),
                Some(Action::Closed(prefix)) => {
                    self.connections().forget(key, prefix);
                    self.free(prefix, now);
                }
                Some(Action::Share { ticket, share }) => {
                    self.connections().is_to_be_judged(Some((key, ticket)), share);
                }
                Some(Action::Unanswered(share)) => self.connections().is_to_be_judged(None, share),
                Some(action) => {
                    if let Action::Refused(reject) = action {
                        self.connections().refused(key, reject, now);
                    }
                    self.perform(key, action, now, &mut next);
                }
            }
            if !next.is_empty() {
                self.act(key, std::mem::take(&mut next), now);
            }
        }
    }

    /// Sends current work to the miners of one connection that are ready for it.
    fn offer_work(&mut self, key: PeerKey, now: Instant) {
        self.guarded(key, |shard, actions| shard.prepare_work(key, now, actions), now);
    }
}

impl<S: Serve> Peers for S {
    type Key = PeerKey;

    fn receive(&mut self, key: PeerKey, mut bytes: &[u8], now: Instant) -> Result<(), Fault> {
        let mut received = Ok(());
        while received.is_ok() && !bytes.is_empty() {
            let mut actions = Vec::new();
            received = self.connections().driven(key).session.receive(&mut bytes, now, &mut actions);
            self.act(key, actions, now);
        }
        received
    }

    fn tick(&mut self, key: PeerKey, now: Instant) -> Result<(), Fault> {
        let mut actions = Vec::new();
        let ticked = self.connections().driven(key).session.tick(now, &mut actions);
        self.act(key, actions, now);
        ticked
    }

    fn deadline(&mut self, key: PeerKey) -> Instant {
        self.connections().deadline(key)
    }

    fn outbox(&mut self, key: PeerKey) -> &mut Outbox {
        self.connections().outbox(key)
    }

    fn ended(&mut self, key: PeerKey) -> Option<Ending> {
        self.connections().ending(key)
    }

    fn may_read(&mut self, key: PeerKey) -> bool {
        let room = self.has_room();
        self.connections().may_read(key, room)
    }
}

/// What a shard is fed with.
pub struct Feeds<S: Serve> {
    /// New connections.
    pub incoming: mpsc::Receiver<Incoming>,
    /// What comes back.
    pub returns: mpsc::Receiver<S::Return>,
    /// What to go by.
    pub current: watch::Receiver<S::Current>,
    /// Number of connections, for the acceptor.
    pub load: Arc<AtomicUsize>,
    /// The end.
    pub stop: CancellationToken,
}

/// Runs until told to stop and everything acknowledged has been answered.
pub async fn run<S: Serve>(shard: S, feeds: Feeds<S>) {
    let Feeds { mut incoming, mut returns, current, load, stop } = feeds;
    let metrics = shard.metrics().clone();
    let shard = Rc::new(RefCell::new(shard));
    let scratch = Rc::new(RefCell::new(Vec::new()));
    let mut connections = JoinSet::new();
    let mut fan_out = tokio::task::spawn_local(fan_out(shard.clone(), current, metrics.clone()));
    let shares_wait = shard.borrow_mut().connections().shares_wait();
    loop {
        let wake_at = shard.borrow().wake_at();
        tokio::select! {
            Some(returned) = returns.recv() => shard.borrow_mut().returned(returned, Instant::now()),
            // This future has its turn when the tasks of connections that were ready have had theirs.
            () = shares_wait.called() => shard.borrow_mut().judge_pending(Instant::now()),
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
            () = wait_until(wake_at) => shard.borrow_mut().wake(Instant::now()),
            ended = &mut fan_out => {
                // Without it miners would stay on old work for ever: better to end, and to be started again.
                assert!(stop.is_cancelled(), "nobody gives out new work any more: {ended:?}");
                break;
            }
            () = stop.cancelled() => break,
        }
    }
    shard.borrow_mut().connections().stop_reading();
    shard.borrow_mut().judge_pending(Instant::now());
    while !shard.borrow().is_drained() {
        let wake_at = shard.borrow().wake_at();
        tokio::select! {
            Some(returned) = returns.recv() => shard.borrow_mut().returned(returned, Instant::now()),
            () = wait_until(wake_at) => shard.borrow_mut().wake(Instant::now()),
        }
    }
    fan_out.abort();
    shard.borrow_mut().connections().end_all(Ending::Released);
    let _ =
        tokio::time::timeout(LAST_WORDS, async { while connections.join_next().await.is_some() {} }).await;
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// One connection's task.
struct Connection<S: Serve> {
    shard: Rc<RefCell<S>>,
    load: Arc<AtomicUsize>,
    metrics: ShardMetrics,
}

/// Takes the connection out of its shard, also when its session panics.
struct Registration<'a, S: Serve> {
    connection: &'a Connection<S>,
    key: PeerKey,
    protocol: &'static str,
    ending: Ending,
}

impl<S: Serve> Connection<S> {
    async fn run(self, incoming: Incoming, scratch: Rc<RefCell<Vec<u8>>>) {
        let Incoming { stream, address, permit, wire } = incoming;
        let stream = match TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => return debug!(%address, %error, "connection lost before it began"),
        };
        let wake = Rc::<Wake>::default();
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
        if registration.ending.is_hostile() {
            permit.broke_rules(Instant::now());
        }
        drop(registration);
        drop(permit);
    }
}

impl<S: Serve> Drop for Registration<'_, S> {
    fn drop(&mut self) {
        self.connection.shard.borrow_mut().close(self.key, self.ending, Instant::now());
        self.connection.load.fetch_sub(1, Ordering::Relaxed);
        self.connection.metrics.connections.closed(self.protocol, self.ending);
    }
}

//! One shard of the pool: it owns its miners' sessions, judges their shares and answers when they are durable.

mod offer;
mod returns;

pub use returns::{RETURNS_QUEUE_LEN, Return};

use crate::blocks::BlockSink;
use crate::commits::{Commits, Settled};
use crate::director::News;
use crate::metrics::Metrics;
use crate::rate::ShareRate;
use crate::work::Current;
use bitcoin::BlockHash;
use offer::Offer;
use returns::tell;
use share_accounting::{Accounting, Batch, CommitError, CommitResult};
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};
use stratum::extranonce::{PrefixAllocator, PrefixesExhausted};
use stratum::fault::Fault;
use stratum::payee::Payee;
use stratum::share::{Judge, JudgedShare, Outcome, PendingShare, Reject, SUPERSEDED_MAX, Verdict};
use stratum::v1::server::{Action, Session, Settings, Ticket};
use stratum_net::driver::{Ending, Peers};
use stratum_net::outbox::{Outbox, OutboxFull};
use tokio::sync::{Notify, mpsc};
use tracing::{debug, error};

/// A freed extranonce prefix rests longer than any job sent with it can earn credit.
const PREFIX_REST: Duration = SUPERSEDED_MAX.saturating_mul(2);

/// Why a connection's own calls find its peer.
const REGISTERED: &str = "a connection is driven only between open and close";

/// Names a connection of a shard for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerKey(u64);

/// Shares that wait for their block's file; beyond that the shard stops reading.
const HELD_SHARES_MAX: usize = 256;
/// Where a shard sends what it finds, and what it needs for it.
#[derive(Debug, Clone)]
pub struct Exits {
    /// The share log.
    pub accounting: Accounting,
    /// Solved blocks.
    pub blocks: BlockSink,
    /// Told when the first shares of an empty window are durable.
    pub director: SyncSender<News>,
    /// Counters.
    pub metrics: Metrics,
}

/// The state of a shard. Only its own thread touches it.
#[derive(Debug)]
pub struct Shard {
    settings: Arc<Settings>,
    rate: ShareRate,
    exits: Exits,
    peers: HashMap<PeerKey, Peer>,
    next_key: u64,
    prefixes: PrefixAllocator,
    judge: Judge,
    offer: Offer,
    commits: Commits<JudgedShare, Waiting>,
    /// Accepted shares that solve a block: committed, and so acknowledged, once the block's file is on disk.
    held: HashMap<BlockHash, (JudgedShare, PeerKey, Ticket)>,
    returns: mpsc::Sender<Return>,
    paused: Vec<Rc<Notify>>,
    reading: Reading,
}

/// Who waits for a share to be durable.
#[derive(Debug)]
struct Waiting {
    key: PeerKey,
    ticket: Ticket,
    payee: Arc<Payee>,
}

/// Whether the shard takes input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Yes, while its open batch has room.
    Open,
    /// Not until there is work again: miners go to their backup meanwhile.
    NoWork,
    /// Never again: the server stops.
    Stopped,
}

#[derive(Debug)]
struct Peer {
    session: Session,
    outbox: Outbox,
    wake: Rc<Notify>,
    /// Payees that the director was told of: at most as many as the session has workers.
    noted: HashSet<Arc<Payee>>,
    /// Set when the connection is to be closed for a reason that its own task does not see.
    ending: Option<Ending>,
}

impl Shard {
    /// A shard without connections. What others do for it comes back through `returns`, which has
    /// [`RETURNS_QUEUE_LEN`] places.
    pub fn new(
        index: u8,
        settings: Arc<Settings>,
        rate: ShareRate,
        stale_credit: Duration,
        exits: Exits,
        returns: mpsc::Sender<Return>,
    ) -> Self {
        Self {
            settings,
            rate,
            exits,
            peers: HashMap::new(),
            next_key: 0,
            prefixes: PrefixAllocator::new(index, PREFIX_REST),
            judge: Judge::new(stale_credit),
            offer: Offer::default(),
            commits: Commits::default(),
            held: HashMap::new(),
            returns,
            paused: Vec::new(),
            reading: Reading::Open,
        }
    }

    /// Takes in a connection.
    ///
    /// # Errors
    /// No extranonce prefix is free; the connection is to be closed.
    pub fn open(&mut self, wake: Rc<Notify>, now: Instant) -> Result<PeerKey, PrefixesExhausted> {
        let prefix = self.prefixes.allocate(now)?;
        let key = PeerKey(self.next_key);
        self.next_key += 1;
        // Job ids of different connections differ, so that nobody's share fits another's job by chance.
        let first_job = (key.0 as u32).wrapping_mul(0x9e37_79b1) >> 8; // the low bits are enough
        let session = Session::new(self.settings.clone(), prefix, first_job, now);
        let ending = (self.reading != Reading::Open).then_some(Ending::Released);
        self.peers
            .insert(key, Peer { session, outbox: Outbox::default(), wake, noted: HashSet::new(), ending });
        self.rate.opened();
        Ok(key)
    }

    /// Forgets a connection that has ended. Its shares on their way to the log stay there.
    pub fn close(&mut self, key: PeerKey, ending: Ending, now: Instant) {
        if let Some(peer) = self.peers.remove(&key) {
            self.rate.closed();
            self.prefixes.free(peer.session.prefix(), now);
            debug!(conn = key.0, reason = ending.label(), "connection closed");
        }
    }

    fn peer(&self, key: PeerKey) -> &Peer {
        self.peers.get(&key).expect(REGISTERED)
    }

    /// Keys of all connections, for walking over them in portions.
    pub fn keys(&self) -> Vec<PeerKey> {
        self.peers.keys().copied().collect()
    }

    /// From here on shares are judged by this. `true` if there is other work, for [`Shard::offer_work`] to give
    /// to the miners; without any they are let go.
    pub fn follow(&mut self, current: Current, now: Instant) -> bool {
        if let Some(tip) = current.tip {
            self.judge.new_tip(tip, now);
        }
        let Some(work) = &current.work else {
            self.drop_work();
            return false;
        };
        if !work.is_solo() {
            self.judge.end_solo(now);
        }
        if self.reading == Reading::NoWork {
            self.reading = Reading::Open;
        }
        self.offer.replace(current.work)
    }

    /// Sends current work to one miner, if it is ready for it.
    pub fn offer_work(&mut self, key: PeerKey, now: Instant) {
        self.guarded(key, |shard| {
            let mut actions = Vec::new();
            shard.prepare_work(key, now, &mut actions);
            shard.act(key, actions, now);
        });
    }

    fn prepare_work(&mut self, key: PeerKey, now: Instant, actions: &mut Vec<Action>) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let Some(payee) = peer.session.payee() else { return };
        let per_minute = self.rate.per_minute();
        let hashes_per_s = peer.session.hashes_per_s(per_minute);
        let Some(job) = self.offer.job(&payee.script, peer.session.class(), hashes_per_s) else { return };
        peer.session.aim(per_minute);
        peer.session.work(&job, now, actions);
    }

    /// Runs a session's code outside its connection's own task: if it panics, that connection alone ends.
    ///
    /// What a session leaves half-changed is its own; the shard's state changes only between its calls.
    fn guarded(&mut self, key: PeerKey, run: impl FnOnce(&mut Self)) {
        let failed_before = |peer: &Peer| peer.ending == Some(Ending::Panicked);
        if self.peers.get(&key).is_some_and(failed_before) {
            return;
        }
        if catch_unwind(AssertUnwindSafe(|| run(self))).is_err() {
            self.exits.metrics.session_panicked();
            error!(conn = key.0, "a session failed and is closed: please report this");
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.ending = Some(Ending::Panicked);
                peer.wake.notify_one();
            }
        }
    }

    /// Does what a session asks for, and what follows from that, until nothing is left.
    fn act(&mut self, key: PeerKey, mut actions: Vec<Action>, now: Instant) {
        let mut next = Vec::new();
        while !actions.is_empty() {
            for action in actions.drain(..) {
                match action {
                    Action::Send(bytes) => self.send(key, |outbox| outbox.send(bytes)),
                    Action::Job(job) => self.send(key, |outbox| {
                        outbox.send_job(job);
                        Ok(())
                    }),
                    Action::Share { ticket, share } => self.judge_share(key, ticket, share, now, &mut next),
                    Action::Unanswered(share) => self.judge_unanswered(share, now),
                    Action::Refused(reject) => self.exits.metrics.share_answered(Err(reject)),
                    Action::NeedWork => self.prepare_work(key, now, &mut next),
                }
            }
            std::mem::swap(&mut actions, &mut next);
        }
    }

    fn send(&mut self, key: PeerKey, put: impl FnOnce(&mut Outbox) -> Result<(), OutboxFull>) {
        if let Some(peer) = self.peers.get_mut(&key) {
            if put(&mut peer.outbox).is_err() {
                peer.ending = Some(Ending::Fault(Fault::TooSlow));
            }
            peer.wake.notify_one();
        }
    }

    fn judge_share(
        &mut self,
        key: PeerKey,
        ticket: Ticket,
        share: PendingShare,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let verdict = self.judge(share, now);
        let solves = verdict.block.is_some();
        if let Outcome::Accepted(share) = &verdict.outcome
            && solves
        {
            self.held.insert(share.hash(), (share.clone(), key, ticket));
        }
        let held = matches!(verdict.outcome, Outcome::Accepted(_));
        if let Some(solution) = verdict.block {
            let (hash, returns) = (solution.hash, self.returns.clone());
            let stored = move || {
                // Nobody waits for a share that was refused: a replay must neither fill the queue nor answer for
                // the first one.
                if held {
                    tell(&returns, Return::BlockStored(hash));
                }
            };
            self.exits.blocks.submit(solution, unix_ms(), Box::new(stored));
        }
        match verdict.outcome {
            Outcome::Accepted(_) if solves => {}
            Outcome::Accepted(share) => {
                let payee = share.payee().clone();
                self.commits.push(share, Some(Waiting { key, ticket, payee }), now);
            }
            Outcome::Stale(share) => {
                self.commits.push(share, None, now);
                self.answer(key, ticket, Err(Reject::Stale), out);
            }
            Outcome::Rejected(reject) => self.answer(key, ticket, Err(reject), out),
        }
    }

    /// The same for a share whose miner cannot be told any more.
    fn judge_unanswered(&mut self, share: PendingShare, now: Instant) {
        let verdict = self.judge(share, now);
        if let Some(solution) = verdict.block {
            self.exits.blocks.submit(solution, unix_ms(), Box::new(|| ()));
        }
        if let Outcome::Accepted(share) | Outcome::Stale(share) = verdict.outcome {
            self.commits.push(share, None, now);
        }
    }

    fn judge(&mut self, share: PendingShare, now: Instant) -> Verdict {
        let started = Instant::now();
        let verdict = self.judge.check(share, now, unix_ms());
        self.exits.metrics.share_checked(started.elapsed());
        verdict
    }

    fn answer(&mut self, key: PeerKey, ticket: Ticket, answer: Result<(), Reject>, out: &mut Vec<Action>) {
        self.exits.metrics.share_answered(answer);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.session.answer(ticket, answer, out);
        }
    }

    /// Sends the open batch on its way, if none is under way.
    pub fn flush(&mut self, now: Instant) {
        let Some(shares) = self.commits.next(now) else { return };
        let returns = self.returns.clone();
        let done = move |result: CommitResult, shares| {
            let returned = match result {
                Ok(()) => Return::Committed,
                Err(_) => Return::Failed(shares),
            };
            tell(&returns, returned);
        };
        let batch = Batch { shares, done: Box::new(done) };
        if let Err(batch) = self.exits.accounting.commit(batch) {
            (batch.done)(Err(CommitError::LogUnavailable), batch.shares);
        }
    }

    /// Something came back.
    pub fn returned(&mut self, returned: Return, now: Instant) {
        match returned {
            Return::Committed => self.settled(None, now),
            Return::Failed(shares) => self.settled(Some(shares), now),
            Return::BlockStored(hash) => {
                if let Some((share, key, ticket)) = self.held.remove(&hash) {
                    let payee = share.payee().clone();
                    self.commits.push(share, Some(Waiting { key, ticket, payee }), now);
                }
            }
        }
        if self.has_room() {
            self.paused.drain(..).for_each(|wake| wake.notify_one());
        }
        self.flush(now);
    }

    fn settled(&mut self, failed: Option<Vec<JudgedShare>>, now: Instant) {
        let (waiting, answer) = match self.commits.settled(failed, now) {
            Settled::Durable(waiting) => (waiting, Ok(())),
            Settled::Failed(waiting, shares) => {
                shares.iter().for_each(|share| self.judge.forget(share));
                (waiting, Err(Reject::AccountingUnavailable))
            }
            Settled::Retrying => (Vec::new(), Ok(())),
        };
        if answer.is_ok() && !waiting.is_empty() && self.offer.is_solo() {
            // If the director is busy, the next commit tells it again.
            let _ = self.exits.director.try_send(News::FirstShare);
        }
        for Waiting { key, ticket, payee } in waiting {
            if answer.is_ok() {
                self.note_payee(key, payee);
            }
            self.guarded(key, |shard| {
                let mut actions = Vec::new();
                shard.answer(key, ticket, answer, &mut actions);
                shard.act(key, actions, now);
            });
        }
    }

    fn has_room(&self) -> bool {
        self.commits.has_room() && self.held.len() < HELD_SHARES_MAX
    }

    /// Has a payee noted at its first durable share of a connection.
    fn note_payee(&mut self, key: PeerKey, payee: Arc<Payee>) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if !peer.noted.contains(&payee) && self.exits.director.try_send(News::Payee(payee.clone())).is_ok() {
            // If the director is busy, the next share tells it again.
            peer.noted.insert(payee);
        }
    }

    /// When to call [`Shard::flush`] again after a failed commit.
    pub fn retry_at(&self) -> Option<Instant> {
        self.commits.retry_at()
    }

    /// Whether every judged share has been answered.
    pub fn is_drained(&self) -> bool {
        self.commits.is_idle() && self.held.is_empty()
    }

    /// Takes no input any more: what was judged can be answered, and nothing is added to it.
    pub fn stop_reading(&mut self) {
        self.reading = Reading::Stopped;
        self.peers.values().for_each(|peer| peer.wake.notify_one());
    }

    /// There is nothing to work on: all connections go, and new ones are closed until there is work again.
    fn drop_work(&mut self) {
        self.offer.replace(None);
        if self.reading == Reading::Open {
            self.reading = Reading::NoWork;
        }
        self.release_all();
    }

    /// Lets all connections go, once what waits for them has been offered to them.
    pub fn release_all(&mut self) {
        for peer in self.peers.values_mut() {
            peer.ending = Some(Ending::Released);
            peer.wake.notify_one();
        }
    }
}

impl Peers for Shard {
    type Key = PeerKey;

    fn receive(&mut self, key: PeerKey, bytes: &[u8], now: Instant) -> Result<(), Fault> {
        let peer = self.peers.get_mut(&key).expect(REGISTERED);
        let mut actions = Vec::new();
        let received = peer.session.receive(bytes, now, &mut actions);
        self.act(key, actions, now);
        self.flush(now);
        received
    }

    fn tick(&mut self, key: PeerKey, now: Instant) -> Result<(), Fault> {
        let peer = self.peers.get_mut(&key).expect(REGISTERED);
        let mut actions = Vec::new();
        let ticked = peer.session.tick(now, &mut actions);
        self.act(key, actions, now);
        ticked
    }

    fn deadline(&self, key: PeerKey) -> Instant {
        self.peer(key).session.deadline()
    }

    fn outbox(&mut self, key: PeerKey) -> &mut Outbox {
        &mut self.peers.get_mut(&key).expect(REGISTERED).outbox
    }

    fn ended(&self, key: PeerKey) -> Option<Ending> {
        self.peer(key).ending
    }

    fn may_read(&mut self, key: PeerKey) -> bool {
        if self.reading != Reading::Open {
            return false;
        }
        let room = self.has_room();
        if !room {
            self.paused.push(self.peer(key).wake.clone());
        }
        room
    }
}

/// The wall clock, for header times and the log only.
pub(crate) fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

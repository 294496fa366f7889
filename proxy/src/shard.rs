//! One shard of the proxy: it owns its machines' sessions, checks their shares, answers what upstream need not see, and
//! forwards the rest.

use crate::bridge;
use crate::forward::{Account, ChannelName, Current, Judged, Route, WAITING_MAX, Waiting, Wish, WorkSet};
use crate::metrics::Metrics;
use crate::rates::Rate;
use bitcoin::hashes::Hash;
use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use stratum::extranonce::{PrefixAllocator, PrefixesExhausted};
use stratum::fault::Fault;
use stratum::job::{Roll, Upstream};
use stratum::pot::Pot;
use stratum::session::{Action, Miner, Session, Ticket};
use stratum::share::{Judge, Outcome, PendingShare, Reject, SUPERSEDED_MAX};
use stratum::v1;
use stratum::v1::encode::EncodedJob;
use stratum_net::acceptor::Wire;
use stratum_net::connections::{Connections, PeerKey};
use stratum_net::driver::{Ending, Peers};
use stratum_net::outbox::Outbox;
use stratum_net::serve::Serve;
use tokio::sync::Notify;
use tracing::{debug, error};

/// A freed prefix rests longer than any job sent with it can earn credit.
const PREFIX_REST: Duration = SUPERSEDED_MAX.saturating_mul(2);
/// Connections upstream whose shares can still be sent: the current one and those before it, if they last.
const ROUTES_MAX: usize = 4;
/// How often a shard says how fast its machines are.
const RATE_EVERY: Duration = Duration::from_secs(2);

/// What is kept of a machine beside its session.
#[derive(Debug)]
struct Own {
    /// What it was told to roll, in bytes.
    extranonce2_bytes: usize,
    /// The job it was given last.
    job: Option<Arc<EncodedJob>>,
}

/// The state of a shard. Only its own thread touches it.
#[derive(Debug)]
pub struct Shard {
    number: usize,
    settings: Arc<v1::server::Settings>,
    metrics: Metrics,
    connections: Connections<Own>,
    prefixes: PrefixAllocator,
    judge: Judge,
    work: Option<Arc<WorkSet>>,
    /// Accounts that the current connection upstream was asked for.
    asked: HashSet<Account>,
    /// Newest last.
    routes: VecDeque<Route>,
    /// Shares that wait for upstream's verdict.
    waiting: usize,
    paused: Vec<Rc<Notify>>,
    reading: Reading,
    rate: Rate,
    rate_at: Instant,
}

/// Whether the shard takes input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Yes, while not too many shares wait for their verdict.
    Open,
    /// Not until there is work again: machines go to their backup meanwhile.
    NoWork,
    /// Never again: the server stops.
    Stopped,
}

impl Shard {
    /// A shard without connections and without work.
    pub fn new(number: u8, settings: Arc<v1::server::Settings>, metrics: Metrics, rate: Rate) -> Self {
        Self {
            number: number.into(),
            settings,
            metrics,
            connections: Connections::default(),
            prefixes: PrefixAllocator::new(number, PREFIX_REST),
            judge: Judge::new(Duration::ZERO),
            work: None,
            asked: HashSet::new(),
            routes: VecDeque::new(),
            waiting: 0,
            paused: Vec::new(),
            reading: Reading::NoWork,
            rate,
            rate_at: Instant::now(),
        }
    }

    /// Runs a session's code outside its connection's own task: if it panics, that connection alone ends.
    fn guarded(&mut self, key: PeerKey, run: impl FnOnce(&mut Self)) {
        if self.connections.ending(key) == Some(Ending::Panicked) {
            return;
        }
        if catch_unwind(AssertUnwindSafe(|| run(self))).is_err() {
            self.metrics.shard.session_panicked();
            error!(conn = key.number(), "a session failed and is closed: please report this");
            self.connections.end(key, Ending::Panicked);
        }
    }

    /// Does what a session asks for, in its order: what follows from one action comes before the next.
    fn act(&mut self, key: PeerKey, actions: Vec<Action>, now: Instant) {
        let mut next = Vec::new();
        for action in actions {
            match action {
                Action::Send(_) | Action::Job(_) => {
                    self.connections.deliver(key, action);
                }
                Action::Share { ticket, share } => self.judge_share(key, ticket, share, now, &mut next),
                Action::Unanswered(share) => self.judge_unanswered(share, now),
                Action::Refused(reject) => self.metrics.answered(Err(reject)),
                Action::NeedWork => self.prepare_work(key, now, &mut next),
                Action::Open(_) | Action::Closed(_) => unreachable!("machines speak V1 here"),
            }
            if !next.is_empty() {
                self.act(key, std::mem::take(&mut next), now);
            }
        }
    }

    /// Gives a machine the newest job of its account, unless it has that already.
    fn prepare_work(&mut self, key: PeerKey, now: Instant, out: &mut Vec<Action>) {
        let (Some(work), Some(peer)) = (self.work.clone(), self.connections.find(key)) else { return };
        let Some(Miner { payee, .. }) = peer.session.miner(0) else { return };
        match work.accounts.get(&payee.script) {
            Some(Ok(job)) => {
                if peer.own.job.as_ref().is_none_or(|before| !Arc::ptr_eq(before, job)) {
                    peer.own.job = Some(job.clone());
                    peer.session.work(0, job, now, out);
                }
            }
            // It was told that it is welcome; only its own backup can help it now.
            Some(Err(_)) => self.connections.end(key, Ending::Released),
            None => {
                let account = payee.script.clone();
                self.ask(account, &work.route);
            }
        }
    }

    /// Asks upstream for a channel, once.
    fn ask(&mut self, account: Account, route: &Route) {
        if !self.asked.contains(&account) && route.wishes.try_send(Wish::Open(account.clone())).is_ok() {
            self.asked.insert(account);
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
        let (roll, pot) = (share.roll, share.job.pot);
        let upstream = bridge::upstream(&share.job.body);
        let verdict = self.judge.check(share, now, unix_ms());
        let solves = verdict.block.is_some();
        let answer = match verdict.outcome {
            Outcome::Accepted(share) => {
                if solves || upstream.target.is_met_by(share.hash().as_byte_array()) {
                    let waiting = Waiting { shard: self.number, key, ticket, pot };
                    if self.forward(upstream, &roll, Some(waiting)) {
                        return;
                    }
                    Err(Reject::LostUpstream)
                } else {
                    Ok(pot)
                }
            }
            Outcome::Stale(share) => {
                if upstream.target.is_met_by(share.hash().as_byte_array()) {
                    self.metrics.late();
                }
                self.forward_block(solves, upstream, &roll);
                Err(Reject::Stale)
            }
            Outcome::Rejected(reject) => {
                self.forward_block(solves, upstream, &roll);
                Err(reject)
            }
        };
        self.answer(key, ticket, answer, out);
    }

    /// Whatever policy says of a block, upstream may make one of it.
    fn forward_block(&mut self, solves: bool, upstream: Upstream, roll: &Roll) {
        if solves {
            self.forward(upstream, roll, None);
        }
    }

    /// The same for a share whose machine cannot be told any more.
    fn judge_unanswered(&mut self, share: PendingShare, now: Instant) {
        let (roll, upstream) = (share.roll, bridge::upstream(&share.job.body));
        let verdict = self.judge.check(share, now, unix_ms());
        let worth = match &verdict.outcome {
            Outcome::Accepted(share) => upstream.target.is_met_by(share.hash().as_byte_array()),
            Outcome::Stale(_) | Outcome::Rejected(_) => false,
        };
        if worth || verdict.block.is_some() {
            self.forward(upstream, &roll, None);
        }
    }

    /// Sends a share upstream, if its connection is still there.
    fn forward(&mut self, upstream: Upstream, roll: &Roll, waiting: Option<Waiting>) -> bool {
        let share = bridge::share(upstream, roll, waiting);
        let link = ChannelName::from(upstream.channel).link;
        let route = self.routes.iter().rev().find(|route| route.link == link);
        // The queue has room for all that may wait for verdicts; what nobody waits for may find it full.
        let sent = route.is_some_and(|route| route.wishes.try_send(Wish::Share(share)).is_ok());
        if sent && waiting.is_some() {
            self.waiting += 1;
        }
        self.metrics.forwarded(sent);
        sent
    }

    fn answer(&mut self, key: PeerKey, ticket: Ticket, answer: Result<Pot, Reject>, out: &mut Vec<Action>) {
        self.metrics.answered(answer.map(|_| ()));
        if let Some(peer) = self.connections.find(key) {
            peer.session.answer(ticket, answer, out);
            peer.session.flush(out);
        }
    }

    /// Says how fast the machines of each account are, to those who count them and to upstream.
    fn say_rate(&mut self) {
        let (mut machines, mut total) = (0, 0.0);
        // Accounts whose machines have left do nothing.
        let mut rates: HashMap<Account, f64> =
            self.asked.iter().map(|account| (account.clone(), 0.0)).collect();
        for key in self.connections.keys() {
            let Some(peer) = self.connections.find(key) else { continue };
            if let Some(Miner { payee, hashes_per_s, .. }) = peer.session.miner(0) {
                machines += 1;
                total += hashes_per_s;
                *rates.entry(payee.script.clone()).or_default() += hashes_per_s;
            }
        }
        self.rate.set(machines, total);
        if let Some(work) = &self.work {
            for (account, hashes_per_s) in rates {
                // The next time will do.
                let _ = work.route.wishes.try_send(Wish::Rate { shard: self.number, account, hashes_per_s });
            }
        }
    }
}

impl Serve for Shard {
    type Return = Judged;
    type Current = Current;

    fn open(&mut self, _: Wire, wake: Rc<Notify>, now: Instant) -> Result<PeerKey, PrefixesExhausted> {
        let prefix = self.prefixes.allocate(now)?;
        let first_job = (self.connections.next_key().number() as u32).wrapping_mul(0x9e37_79b1) >> 8; // low bits are enough
        let extranonce2_bytes =
            self.work.as_ref().map_or(bridge::EXTRANONCE2_BYTES_MIN, |work| work.extranonce2_bytes);
        let session = v1::server::Session::new(self.settings.clone(), prefix, first_job, now);
        let session = Session::V1(session.with_extranonce2(extranonce2_bytes));
        let key =
            self.connections.insert(session, Outbox::default(), wake, Own { extranonce2_bytes, job: None });
        if self.reading != Reading::Open {
            self.connections.end(key, Ending::Released);
        }
        Ok(key)
    }

    fn close(&mut self, key: PeerKey, ending: Ending, now: Instant) {
        if let Some(peer) = self.connections.remove(key) {
            peer.session.prefixes().for_each(|prefix| self.prefixes.free(prefix, now));
            debug!(conn = key.number(), reason = ending.label(), "connection closed");
        }
    }

    fn returned(&mut self, Judged { waiting, verdict }: Judged, now: Instant) {
        self.waiting -= 1;
        let Waiting { key, ticket, pot, .. } = waiting;
        self.guarded(key, |shard| {
            let mut actions = Vec::new();
            shard.answer(key, ticket, verdict.map(|()| pot), &mut actions);
            shard.act(key, actions, now);
        });
        if self.waiting < WAITING_MAX {
            self.paused.drain(..).for_each(|wake| wake.notify_one());
        }
    }

    fn follow(&mut self, Current(work): Current, now: Instant) -> bool {
        let Some(work) = work else {
            self.work = None;
            if self.reading == Reading::Open {
                self.reading = Reading::NoWork;
            }
            self.connections.end_all(Ending::Released);
            return false;
        };
        if let Some(tip) = work.tip {
            self.judge.new_tip(tip, now);
        }
        if self.routes.back().is_none_or(|route| route.link != work.route.link) {
            self.asked.clear();
            self.routes.push_back(work.route.clone());
            if self.routes.len() > ROUTES_MAX {
                self.routes.pop_front();
            }
        }
        if self.reading == Reading::NoWork {
            self.reading = Reading::Open;
        }
        // Whoever names one of these again may ask again: upstream may know it by then.
        self.asked.retain(|account| !matches!(work.accounts.get(account), Some(Err(_))));
        let other = self.work.as_ref().is_none_or(|before| before.id != work.id);
        self.work = Some(work);
        other
    }

    fn keys(&self) -> Vec<PeerKey> {
        self.connections.keys()
    }

    fn offer_work(&mut self, key: PeerKey, now: Instant) {
        let (Some(work), Some(peer)) = (&self.work, self.connections.find(key)) else { return };
        if peer.own.extranonce2_bytes > work.extranonce2_bytes {
            // It rolls more than upstream leaves: only a new subscription tells it so.
            return self.connections.end(key, Ending::Released);
        }
        self.guarded(key, |shard| {
            let mut actions = Vec::new();
            shard.prepare_work(key, now, &mut actions);
            shard.act(key, actions, now);
        });
    }

    fn wake_at(&self) -> Option<Instant> {
        Some(self.rate_at)
    }

    fn wake(&mut self, now: Instant) {
        if now >= self.rate_at {
            self.rate_at = now + RATE_EVERY;
            self.say_rate();
        }
    }

    fn stop_reading(&mut self) {
        self.reading = Reading::Stopped;
        self.connections.wake_all();
    }

    fn is_drained(&self) -> bool {
        self.waiting == 0
    }

    fn release_all(&mut self) {
        self.connections.end_all(Ending::Released);
    }
}

impl Peers for Shard {
    type Key = PeerKey;

    fn receive(&mut self, key: PeerKey, mut bytes: &[u8], now: Instant) -> Result<(), Fault> {
        let mut actions = Vec::new();
        // Machines speak V1: all bytes are taken at once.
        let received = self.connections.driven(key).session.receive(&mut bytes, now, &mut actions);
        self.act(key, actions, now);
        received
    }

    fn tick(&mut self, key: PeerKey, now: Instant) -> Result<(), Fault> {
        let mut actions = Vec::new();
        let ticked = self.connections.driven(key).session.tick(now, &mut actions);
        self.act(key, actions, now);
        ticked
    }

    fn deadline(&self, key: PeerKey) -> Instant {
        self.connections.deadline(key)
    }

    fn outbox(&mut self, key: PeerKey) -> &mut Outbox {
        self.connections.outbox(key)
    }

    fn ended(&self, key: PeerKey) -> Option<Ending> {
        self.connections.ending(key)
    }

    fn may_read(&mut self, key: PeerKey) -> bool {
        if self.reading != Reading::Open {
            return false;
        }
        let room = self.waiting < WAITING_MAX;
        if !room {
            self.paused.push(self.connections.waker(key));
        }
        room
    }
}

/// The wall clock, for header times only.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

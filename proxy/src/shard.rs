//! One shard of the proxy: it owns its machines' sessions, checks their shares, answers what upstream need not see, and
//! forwards the rest.

use crate::bridge;
use crate::forward::{Account, ChannelName, Current, Judged, Route, WAITING_MAX, Waiting, Wish, WorkSet};
use crate::metrics::Metrics;
use crate::rates::Rate;
use bitcoin::hashes::Hash;
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stratum::extranonce::{Extranonce1, PrefixAllocator, PrefixesExhausted};
use stratum::job::{Roll, Upstream};
use stratum::pot::Pot;
use stratum::session::{Action, Miner, Session, Ticket};
use stratum::share::{Judge, Outcome, PendingShare, Reject, SUPERSEDED_MAX};
use stratum::v1;
use stratum::v1::encode::EncodedJob;
use stratum_net::acceptor::Wire;
use stratum_net::clock::unix_ms;
use stratum_net::connections::{Connections, PeerKey};
use stratum_net::driver::Ending;
use stratum_net::metrics::ShardMetrics;
use stratum_net::outbox::Outbox;
use stratum_net::serve::Serve;
use tokio::sync::Notify;

/// A freed prefix rests longer than any job sent with it can earn credit.
const PREFIX_REST: Duration = SUPERSEDED_MAX.saturating_mul(2);
/// Connections upstream whose shares can still be sent: the current one and those before it, if they last.
const ROUTES_MAX: usize = 4;
/// How often a shard says how fast its machines are.
const RATE_EVERY: Duration = Duration::from_secs(2);

/// What is kept of a machine beside its session.
#[derive(Debug)]
pub struct Machine {
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
    connections: Connections<Machine>,
    prefixes: PrefixAllocator,
    judge: Judge,
    work: Option<Arc<WorkSet>>,
    /// Accounts that the current connection upstream was asked for.
    asked: HashSet<Account>,
    /// Newest last.
    routes: VecDeque<Route>,
    /// Shares that wait for upstream's verdict.
    waiting: usize,
    rate: Rate,
    rate_at: Instant,
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
            rate,
            rate_at: Instant::now(),
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
                self.connections.refused(key, reject, now);
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
    type Own = Machine;
    type Return = Judged;
    type Current = Current;

    fn connections(&mut self) -> &mut Connections<Machine> {
        &mut self.connections
    }

    fn metrics(&self) -> &ShardMetrics {
        &self.metrics.shard
    }

    fn open(&mut self, _: Wire, wake: Rc<Notify>, now: Instant) -> Result<PeerKey, PrefixesExhausted> {
        let prefix = self.prefixes.allocate(now)?;
        let first_job = (self.connections.next_key().number() as u32).wrapping_mul(0x9e37_79b1) >> 8; // low bits are enough
        let extranonce2_bytes =
            self.work.as_ref().map_or(bridge::EXTRANONCE2_BYTES_MIN, |work| work.extranonce2_bytes);
        let session = v1::server::Session::new(self.settings.clone(), prefix, first_job, now);
        let session = Session::V1(session.with_extranonce2(extranonce2_bytes));
        let machine = Machine { extranonce2_bytes, job: None };
        Ok(self.connections.insert(session, Outbox::default(), wake, machine, now))
    }

    fn free(&mut self, prefix: Extranonce1, now: Instant) {
        self.prefixes.free(prefix, now);
    }

    fn perform(&mut self, key: PeerKey, action: Action, now: Instant, next: &mut Vec<Action>) {
        match action {
            Action::Share { ticket, share } => self.judge_share(key, ticket, share, now, next),
            Action::Unanswered(share) => self.judge_unanswered(share, now),
            Action::Refused(reject) => self.metrics.answered(Err(reject)),
            Action::Open(_) => unreachable!("machines speak V1 here"),
            Action::Send(_) | Action::Job(_) | Action::NeedWork | Action::Closed(_) => {
                unreachable!("done by Serve::act")
            }
        }
    }

    fn prepare_work(&mut self, key: PeerKey, now: Instant, out: &mut Vec<Action>) {
        let (Some(work), Some(peer)) = (self.work.clone(), self.connections.find(key)) else { return };
        if peer.own.extranonce2_bytes > work.extranonce2_bytes {
            // It rolls more than upstream leaves: only a new subscription tells it so.
            return self.connections.end(key, Ending::Released);
        }
        let Some(Miner { payee, .. }) = peer.session.miner(0) else { return };
        match work.accounts.get(&payee.script) {
            Some(Ok(job)) => {
                // It may have this one already.
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

    fn has_room(&self) -> bool {
        self.waiting < WAITING_MAX
    }

    fn returned(&mut self, Judged { waiting, verdict }: Judged, now: Instant) {
        self.waiting -= 1;
        let Waiting { key, ticket, pot, .. } = waiting;
        self.guarded(key, |shard, out| shard.answer(key, ticket, verdict.map(|()| pot), out), now);
        if self.has_room() {
            self.connections.read_on();
        }
    }

    fn follow(&mut self, Current(work): Current, now: Instant) -> bool {
        let Some(work) = work else {
            self.work = None;
            self.connections.no_work();
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
        self.connections.work();
        // Whoever names one of these again may ask again: upstream may know it by then.
        self.asked.retain(|account| !matches!(work.accounts.get(account), Some(Err(_))));
        let other = self.work.as_ref().is_none_or(|before| before.id != work.id);
        self.work = Some(work);
        other
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

    fn is_drained(&self) -> bool {
        self.waiting == 0
    }
}

#[cfg(test)]
mod tests;

//! One shard of the proxy: it owns its machines' sessions, checks their shares, answers what upstream need not see, and
//! forwards the rest.

use crate::bridge;
use crate::forward::{Account, ChannelName, Current, Judged, Route, WAITING_MAX, Waiting, Wish, WorkSet};
use crate::metrics::Metrics;
use crate::rates::Rate;
use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stratum::encoded::EncodedJob;
use stratum::extranonce::{Extranonce1, PrefixAllocator, PrefixesExhausted};
use stratum::job::{Roll, Upstream};
use stratum::pot::Pot;
use stratum::session::{Action, Booked, Miner, Session, Ticket};
use stratum::share::{Judge, JudgedShare, Outcome, Reject, SUPERSEDED_MAX, Verdict};
use stratum::v1;
use stratum_net::acceptor::Wire;
use stratum_net::connections::{Connections, PeerKey};
use stratum_net::driver::Ending;
use stratum_net::metrics::ShardMetrics;
use stratum_net::outbox::Outbox;
use stratum_net::pending::Asked;
use stratum_net::serve::Serve;
use stratum_net::wake::Wake;

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
    /// Connections with answers that were not sent yet.
    answered: Vec<PeerKey>,
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
            answered: Vec::new(),
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

    /// What its machine is to be told of a share, unless upstream says it.
    fn answer_to(&mut self, asked: Asked, verdict: Verdict, now: Instant) -> Option<Result<Pot, Reject>> {
        let Verdict { block, outcome } = verdict;
        let worth = |share: &JudgedShare| {
            bridge::upstream(share.body()).target.is_met_by(share.hash().as_byte_array())
        };
        let reject = match outcome {
            Outcome::Accepted(share) if block.is_some() || worth(&share) => {
                let (upstream, pot) = (bridge::upstream(share.body()), share.pot());
                let waiting = asked.map(|(key, ticket)| Waiting { shard: self.number, key, ticket, pot });
                let forwarded = self.forward(upstream, share.roll(), share.hash(), waiting);
                return (!forwarded).then_some(Err(Reject::LostUpstream));
            }
            Outcome::Accepted(share) => return Some(Ok(share.pot())),
            Outcome::Stale(share) => {
                if worth(&share) {
                    self.metrics.late();
                }
                Reject::Stale
            }
            Outcome::RefusedBlock(_, reject) | Outcome::Rejected(reject) => {
                if let Some((key, _)) = asked {
                    self.connections.refused(key, reject, now);
                }
                reject
            }
        };
        // Whatever policy says of a block, upstream may make one of it.
        if let Some(solution) = block {
            self.forward(bridge::upstream(&solution.body), &solution.roll, solution.hash, None);
        }
        Some(Err(reject))
    }

    /// Sends a share upstream, if its connection is still there.
    fn forward(
        &mut self,
        upstream: Upstream,
        roll: &Roll,
        hash: BlockHash,
        waiting: Option<Waiting>,
    ) -> bool {
        let share = bridge::share(upstream, roll, hash, waiting);
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
            peer.session.answer(ticket, answer.map(|pot| Booked { pot, entry: None }), out);
        }
    }

    /// Sends the answers of a connection, together.
    fn flush_answers(&mut self, key: PeerKey, now: Instant) {
        let flush = |shard: &mut Self, out: &mut Vec<Action>| {
            if let Some(peer) = shard.connections.find(key) {
                peer.session.flush(out);
            }
        };
        self.guarded(key, flush, now);
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

    fn open(&mut self, _: Wire, wake: Rc<Wake>, now: Instant) -> Result<PeerKey, PrefixesExhausted> {
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
        self.judge.forget_miner(prefix);
        self.prefixes.free(prefix, now);
    }

    fn judge(&mut self) -> &mut Judge {
        &mut self.judge
    }

    fn judged(&mut self, asked: Asked, verdict: Verdict, now: Instant) {
        let answer = self.answer_to(asked, verdict, now);
        if let (Some((key, ticket)), Some(answer)) = (asked, answer) {
            self.guarded(key, |shard, out| shard.answer(key, ticket, answer, out), now);
            if self.answered.last() != Some(&key) {
                self.answered.push(key);
            }
        }
    }

    fn judged_all(&mut self, _: usize, _: Duration, now: Instant) {
        let mut answered = std::mem::take(&mut self.answered);
        answered.drain(..).for_each(|key| self.flush_answers(key, now));
        self.answered = answered;
    }

    fn perform(&mut self, _: PeerKey, action: Action, _: Instant, _: &mut Vec<Action>) {
        match action {
            Action::Refused(reject) => self.metrics.answered(Err(reject)),
            Action::Open(_) => unreachable!("machines speak V1 here"),
            Action::Send(_)
            | Action::Job(_)
            | Action::Share { .. }
            | Action::Unanswered(_)
            | Action::NeedWork
            | Action::Closed(_) => unreachable!("done by Serve::act"),
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
        self.flush_answers(key, now);
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
        self.connections.pending.is_empty() && self.waiting == 0
    }
}

#[cfg(test)]
mod tests;

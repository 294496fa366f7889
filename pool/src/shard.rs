//! One shard of the pool: it owns its miners' sessions, judges their shares and answers when they are durable.

mod offer;
mod places;
mod returns;
mod sessions;

pub use returns::{RETURNS_QUEUE_LEN, Return};
pub use sessions::SessionSettings;

use crate::blocks::BlockSink;
use crate::commits::Commits;
use crate::director::News;
use crate::metrics::Metrics;
use crate::rate::ShareRate;
use crate::work::Current;
use bitcoin::BlockHash;
use offer::Offer;
use places::Places;
use returns::tell;
use share_accounting::publish::Logged;
use share_accounting::{Accounting, Batch, CommitError};
use std::collections::{HashMap, HashSet};
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};
use stratum::extranonce::{Extranonce1, PrefixesExhausted};
use stratum::hasher::SecretState;
use stratum::job::Solution;
use stratum::payee::Payee;
use stratum::pot::Pot;
use stratum::session::{Action, Booked, Miner, Session, Ticket};
use stratum::share::{Judge, JudgedShare, Outcome, Reject, Verdict};
use stratum::v2;
use stratum_net::acceptor::Wire;
use stratum_net::clock::unix_ms;
use stratum_net::connections::{Connections, PeerKey};
use stratum_net::metrics::ShardMetrics;
use stratum_net::pending::Asked;
use stratum_net::serve::Serve;
use stratum_net::wake::Wake;
use tokio::sync::mpsc;

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
    settings: SessionSettings,
    exits: Exits,
    connections: Connections<<Self as Serve>::Own>,
    places: Places,
    judge: Judge,
    offer: Offer,
    commits: Commits<JudgedShare, Waiting>,
    /// Empty; its room is for where the shares of the next batch will be in the log.
    entries: Vec<u64>,
    /// Accepted shares that solve a block: committed, and so acknowledged, once the block's file is on disk.
    held: HashMap<BlockHash, (JudgedShare, Option<Waiting>)>,
    returns: mpsc::Sender<Return>,
}

/// Who waits for a share to be durable.
#[derive(Debug)]
struct Waiting {
    key: PeerKey,
    ticket: Ticket,
    payee: Arc<Payee>,
    pot: Pot,
}

impl Waiting {
    fn new(key: PeerKey, ticket: Ticket, share: &JudgedShare) -> Self {
        Self { key, ticket, payee: share.payee().clone(), pot: share.pot() }
    }
}

impl Shard {
    /// A shard without connections. What others do for it comes back through `returns`, which has
    /// [`RETURNS_QUEUE_LEN`] places.
    pub fn new(
        index: u8,
        settings: SessionSettings,
        rate: ShareRate,
        stale_credit: Duration,
        exits: Exits,
        returns: mpsc::Sender<Return>,
    ) -> Self {
        Self {
            settings,
            exits,
            connections: Connections::default(),
            places: Places::new(index, rate),
            judge: Judge::new(stale_credit),
            offer: Offer::default(),
            commits: Commits::default(),
            entries: Vec::new(),
            held: HashMap::new(),
            returns,
        }
    }

    /// Opens a channel on a V2 connection, or tells its client why not.
    fn open_channel(
        &mut self,
        key: PeerKey,
        opening: v2::server::Opening,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let job = self.offer.job(
            &opening.payee.script,
            opening.class,
            opening.hashes_per_s(),
            opening.extranonce_bytes(),
        );
        let prefix = self.places.take(now).ok();
        match self.connections.find(key).map(|peer| &mut peer.session) {
            Some(Session::V2(session)) => session.open(opening, prefix, job.as_ref(), now, out),
            _ => unreachable!("a V2 session has asked, and it is there while its actions are done"),
        }
    }

    /// Hands a block on; whoever waits for its share waits for its file.
    fn submit_block(&mut self, solution: Solution, outcome: &Outcome) {
        let (hash, returns) = (solution.hash, self.returns.clone());
        let held = matches!(outcome, Outcome::Accepted(_));
        let stored = move || {
            // Nobody waits for a share that was refused: a replay must neither fill the queue nor answer for the
            // first one.
            if held {
                tell(&returns, Return::BlockStored(hash));
            }
        };
        self.exits.blocks.submit(solution, outcome.logged(), unix_ms(), Box::new(stored));
    }

    /// Refuses what a peer is to blame for.
    fn reject(&mut self, asked: Asked, reject: Reject, now: Instant) {
        if let Some((key, _)) = asked {
            self.connections.refused(key, reject, now);
        }
        self.refuse(asked, reject, now);
    }

    fn refuse(&mut self, asked: Asked, reject: Reject, now: Instant) {
        let Some((key, ticket)) = asked else { return };
        self.guarded(
            key,
            |shard, out| {
                shard.answer(key, ticket, Err(reject), out);
                shard.flush_answers(key, out);
            },
            now,
        );
    }

    fn answer(
        &mut self,
        key: PeerKey,
        ticket: Ticket,
        answer: Result<Booked, Reject>,
        out: &mut Vec<Action>,
    ) {
        self.count(key, answer.map(|_| ()));
        if let Some(peer) = self.connections.find(key) {
            peer.session.answer(ticket, answer, out);
        }
    }

    fn flush_answers(&mut self, key: PeerKey, out: &mut Vec<Action>) {
        if let Some(peer) = self.connections.find(key) {
            peer.session.flush(out);
        }
    }

    fn count(&self, key: PeerKey, answer: Result<(), Reject>) {
        // A connection that is gone is not told, and nobody knows its protocol any more.
        self.exits.metrics.share_answered(self.connections.protocol(key), answer);
    }

    /// Sends the open batch on its way, if none is under way.
    fn flush(&mut self, now: Instant) {
        let Some(shares) = self.commits.next(now) else { return };
        let (returns, director) = (self.returns.clone(), self.exits.director.clone());
        let mut entries = mem::take(&mut self.entries);
        let done = move |result: Result<&[Logged], CommitError>, shares: Vec<JudgedShare>| {
            let returned = match result {
                Ok(logged) => {
                    for block in shares.iter().filter(|share| share.block_candidate()) {
                        // If the director is busy, the next start looks for it.
                        let _ = director.try_send(News::Logged(block.hash()));
                    }
                    entries.extend(logged.iter().map(|(_, entry)| *entry));
                    Return::Committed(entries)
                }
                Err(_) => Return::Failed(shares),
            };
            tell(&returns, returned);
        };
        let batch = Batch { shares, done: Box::new(done) };
        if let Err(batch) = self.exits.accounting.commit(batch) {
            (batch.done)(Err(CommitError::LogUnavailable), batch.shares);
        }
    }

    /// The batch in flight is durable, its shares in these entries.
    fn durable(&mut self, mut entries: Vec<u64>, now: Instant) {
        let waiting = self.commits.durable();
        assert_eq!(waiting.len(), entries.len(), "each share has its entry");
        if waiting.iter().any(Option::is_some) && self.offer.is_solo() {
            // If the director is busy, the next commit tells it again.
            let _ = self.exits.director.try_send(News::FirstShare);
        }
        let mut answered = Vec::new();
        for (waiting, entry) in waiting.into_iter().zip(entries.drain(..)) {
            let Some(Waiting { key, ticket, payee, pot }) = waiting else { continue };
            self.note_payee(key, payee);
            answered.push(key);
            let booked = Booked { pot, entry: Some(entry) };
            self.guarded(key, |shard, out| shard.answer(key, ticket, Ok(booked), out), now);
        }
        self.entries = entries;
        self.flush_all(answered, now);
    }

    /// The batch in flight could not be committed.
    fn failed(&mut self, shares: Vec<JudgedShare>, now: Instant) {
        let Some((waiting, shares)) = self.commits.failed(shares, now) else { return };
        self.give_up(shares);
        let mut answered = Vec::new();
        for Waiting { key, ticket, .. } in waiting {
            answered.push(key);
            let refused = Err(Reject::AccountingUnavailable);
            self.guarded(key, |shard, out| shard.answer(key, ticket, refused, out), now);
        }
        self.flush_all(answered, now);
    }

    /// What a commit has brought to a connection leaves together.
    fn flush_all(&mut self, mut answered: Vec<PeerKey>, now: Instant) {
        answered.sort_unstable();
        answered.dedup();
        for key in answered {
            self.guarded(key, |shard, out| shard.flush_answers(key, out), now);
        }
    }

    /// Has a payee noted at its first durable share of a connection.
    fn note_payee(&mut self, key: PeerKey, payee: Arc<Payee>) {
        let Some(peer) = self.connections.find(key) else { return };
        if !peer.own.contains(&payee) && self.exits.director.try_send(News::Payee(payee.clone())).is_ok() {
            // If the director is busy, the next share tells it again.
            peer.own.insert(payee);
        }
    }

    /// What becomes of shares whose miners are told that they do not count: they may come again, but for those that solve
    /// a block. What that has paid must be known from the log, so they stay on their way there, without credit.
    fn give_up(&mut self, shares: Vec<JudgedShare>) {
        let (blocks, others): (Vec<_>, Vec<_>) = shares.into_iter().partition(JudgedShare::block_candidate);
        others.iter().for_each(|share| self.judge.forget(share));
        self.commits.keep(blocks.into_iter().map(JudgedShare::without_credit).collect());
    }
}

impl Serve for Shard {
    /// The payees that the director was told of: at most as many as the session has workers.
    type Own = HashSet<Arc<Payee>, SecretState>;
    type Return = Return;
    type Current = Current;

    fn connections(&mut self) -> &mut Connections<Self::Own> {
        &mut self.connections
    }

    fn metrics(&self) -> &ShardMetrics {
        &self.exits.metrics.shard
    }

    fn open(&mut self, wire: Wire, wake: Rc<Wake>, now: Instant) -> Result<PeerKey, PrefixesExhausted> {
        let number = self.connections.next_key().number();
        let (session, outbox) = self.settings.session(wire, number, &mut self.places, now)?;
        Ok(self.connections.insert(session, outbox, wake, HashSet::default(), now))
    }

    fn free(&mut self, prefix: Extranonce1, now: Instant) {
        self.judge.forget_miner(prefix);
        self.places.free(prefix, now);
    }

    fn judge(&mut self) -> &mut Judge {
        &mut self.judge
    }

    fn judged(&mut self, asked: Asked, verdict: Verdict, now: Instant) {
        let Verdict { block, outcome } = verdict;
        let solves = block.is_some();
        if let Some(solution) = block {
            self.submit_block(*solution, &outcome);
        }
        match outcome {
            Outcome::Accepted(share) => {
                let waiting = asked.map(|(key, ticket)| Waiting::new(key, ticket, &share));
                if solves {
                    self.held.insert(share.hash(), (share, waiting));
                } else {
                    self.commits.push(share, waiting, now);
                }
            }
            Outcome::Stale(share) => {
                self.commits.push(share, None, now);
                self.refuse(asked, Reject::Stale, now);
            }
            Outcome::RefusedBlock(share, reject) => {
                self.commits.push(share, None, now);
                self.reject(asked, reject, now);
            }
            Outcome::Rejected(reject) => self.reject(asked, reject, now),
        }
    }

    fn judged_all(&mut self, shares: usize, took: Duration, now: Instant) {
        self.exits.metrics.shares_checked(shares, took);
        self.flush(now);
    }

    fn perform(&mut self, key: PeerKey, action: Action, now: Instant, next: &mut Vec<Action>) {
        match action {
            Action::Refused(reject) => self.count(key, Err(reject)),
            Action::Open(opening) => self.open_channel(key, *opening, now, next),
            Action::Send(_)
            | Action::Job(_)
            | Action::Share { .. }
            | Action::Unanswered(_)
            | Action::NeedWork
            | Action::Closed(_) => unreachable!("done by Serve::act"),
        }
    }

    fn prepare_work(&mut self, key: PeerKey, now: Instant, actions: &mut Vec<Action>) {
        let Some(peer) = self.connections.find(key) else { return };
        peer.session.aim(self.places.shares_per_minute());
        let mut number = 0;
        while let Some(miner) = peer.session.miner(number) {
            let Miner { payee, class, hashes_per_s, extranonce_bytes } = miner;
            let job = self.offer.job(&payee.script, class, hashes_per_s, extranonce_bytes);
            let Some(job) = job else { return };
            peer.session.work(number, &job, now, actions);
            number += 1;
        }
    }

    fn has_room(&self) -> bool {
        self.commits.has_room() && self.held.len() < HELD_SHARES_MAX
    }

    fn returned(&mut self, returned: Return, now: Instant) {
        match returned {
            Return::Committed(entries) => self.durable(entries, now),
            Return::Failed(shares) => self.failed(shares, now),
            Return::BlockStored(hash) => {
                if let Some((share, waiting)) = self.held.remove(&hash) {
                    self.commits.push(share, waiting, now);
                }
            }
        }
        self.flush(now);
        if self.has_room() {
            self.connections.read_on();
        }
    }

    fn follow(&mut self, current: Current, now: Instant) -> bool {
        if let Some(tip) = current.tip {
            self.judge.new_tip(tip, now);
        }
        let Some(work) = &current.work else {
            self.offer.replace(None);
            self.connections.no_work();
            return false;
        };
        if !work.is_solo() {
            self.judge.end_solo(now);
        }
        self.connections.work();
        self.offer.replace(current.work)
    }

    fn wake_at(&self) -> Option<Instant> {
        self.commits.next_at()
    }

    fn wake(&mut self, now: Instant) {
        self.flush(now);
    }

    fn is_drained(&self) -> bool {
        self.connections.pending.is_empty() && self.commits.is_idle() && self.held.is_empty()
    }
}

#[cfg(test)]
mod tests;

//! A shard's connections: their sessions, what waits for their peers, and why they are to be closed.

use crate::driver::Ending;
use crate::outbox::{Outbox, OutboxFull};
use crate::pending::{Asked, PENDING_MAX, PendingShares};
use crate::wake::Wake;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};
use stratum::allowance::{Allowance, Used};
use stratum::extranonce::Extranonce1;
use stratum::fault::Fault;
use stratum::hasher::SecretState;
use stratum::session::{Action, Session};
use stratum::share::{PendingShare, Reject};

/// Refused shares that cost their miner no work. All that a thousand machines send on one connection are fewer, should
/// each of them be refused: twelve a minute each, and a flood of ten each at the start.
const WORTHLESS: Allowance = Allowance { at_once: 10_000, each: Duration::from_millis(1) };
/// Why a connection's own calls find its peer.
const REGISTERED: &str = "a connection is driven only between open and close";

/// Names a connection of a shard for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(u64);

impl PeerKey {
    #[cfg(test)]
    pub(crate) fn of(number: u64) -> Self {
        Self(number)
    }

    /// The number that it is.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// Connections by their keys; `Own` is what the shard keeps of each beside its session.
#[derive(Debug)]
pub struct Connections<Own> {
    peers: HashMap<PeerKey, Peer<Own>, SecretState>,
    next_key: u64,
    intake: Intake,
    /// Those that would have read, had the shard had room.
    paused: Vec<Rc<Wake>>,
    /// What they have sent that is to be judged.
    pub pending: PendingShares,
    /// Told when there is something to judge.
    shares_wait: Rc<Wake>,
}

/// Whether the connections are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intake {
    /// Yes, while the shard has room.
    Open,
    /// Not until there is work again: miners go to their backup meanwhile.
    NoWork,
    /// Never again: the server stops.
    Stopped,
}

/// One connection.
#[derive(Debug)]
pub struct Peer<Own> {
    /// Its protocol.
    pub session: Session,
    /// What the shard keeps of it.
    pub own: Own,
    outbox: Outbox,
    wake: Rc<Wake>,
    /// Of [`WORTHLESS`].
    worthless: Used,
    /// Set when the connection is to be closed for a reason that its own task does not see.
    ending: Option<Ending>,
}

impl<Own> Default for Connections<Own> {
    fn default() -> Self {
        Self {
            peers: HashMap::default(),
            next_key: 0,
            intake: Intake::NoWork,
            paused: Vec::new(),
            pending: PendingShares::default(),
            shares_wait: Rc::default(),
        }
    }
}

impl<Own> Connections<Own> {
    /// The key of the next connection.
    pub fn next_key(&self) -> PeerKey {
        PeerKey(self.next_key)
    }

    /// Takes in a connection, whose task is woken by `wake`; without work for it, to be closed at once.
    pub fn insert(
        &mut self,
        session: Session,
        outbox: Outbox,
        wake: Rc<Wake>,
        own: Own,
        now: Instant,
    ) -> PeerKey {
        let key = self.next_key();
        self.next_key += 1;
        let ending = (self.intake != Intake::Open).then_some(Ending::Released);
        self.peers.insert(key, Peer { session, own, outbox, wake, worthless: Used::nothing(now), ending });
        key
    }

    /// There is work: connections are taken in and read.
    pub fn work(&mut self) {
        if self.intake == Intake::NoWork {
            self.intake = Intake::Open;
        }
    }

    /// There is nothing to work on: all connections go, and new ones are closed until there is work again.
    pub fn no_work(&mut self) {
        if self.intake == Intake::Open {
            self.intake = Intake::NoWork;
        }
        self.end_all(Ending::Released);
    }

    /// The server stops: nothing is read any more.
    pub fn stop_reading(&mut self) {
        self.intake = Intake::Stopped;
        self.peers.values().for_each(|peer| peer.wake.call());
    }

    /// Whether a driven connection may be read. While that is for want of room alone, [`Self::read_on`] wakes it.
    pub fn may_read(&mut self, key: PeerKey, room: bool) -> bool {
        let open = self.intake == Intake::Open;
        let room = room && self.pending.len() < PENDING_MAX;
        if open && !room {
            self.paused.push(self.peers.get(&key).expect(REGISTERED).wake.clone());
        }
        open && room
    }

    /// There is room again.
    pub fn read_on(&mut self) {
        self.paused.drain(..).for_each(|wake| wake.call());
    }

    /// Forgets a connection that has ended.
    pub fn remove(&mut self, key: PeerKey) -> Option<Peer<Own>> {
        self.peers.remove(&key)
    }

    /// A connection that may have ended.
    pub fn find(&mut self, key: PeerKey) -> Option<&mut Peer<Own>> {
        self.peers.get_mut(&key)
    }

    /// A connection that is being driven.
    ///
    /// # Panics
    /// If it has ended.
    pub fn driven(&mut self, key: PeerKey) -> &mut Peer<Own> {
        self.peers.get_mut(&key).expect(REGISTERED)
    }

    /// Keys of all connections, for walking over them in portions.
    pub fn keys(&self) -> Vec<PeerKey> {
        self.peers.keys().copied().collect()
    }

    /// The protocol that is spoken on a connection, while it lasts.
    pub fn protocol(&self, key: PeerKey) -> Option<&'static str> {
        self.peers.get(&key).map(|peer| peer.session.protocol())
    }

    /// Queues a message of `put` for a peer; one that does not read what it is sent is closed.
    fn send(&mut self, key: PeerKey, put: impl FnOnce(&mut Outbox) -> Result<(), OutboxFull>) {
        if let Some(peer) = self.peers.get_mut(&key) {
            if put(&mut peer.outbox).is_err() {
                peer.ending = Some(Ending::Fault(Fault::TooSlow));
            }
            peer.wake.call();
        }
    }

    /// Sends what an action of a session wants sent; gives back any other.
    pub fn deliver(&mut self, key: PeerKey, action: Action) -> Option<Action> {
        match action {
            Action::Send(bytes) => self.send(key, |outbox| outbox.send(bytes)),
            Action::Job(job) => self.send(key, |outbox| {
                outbox.send_job(job);
                Ok(())
            }),
            other => return Some(other),
        }
        None
    }

    /// Leaves out the job that waits for a channel of this prefix, which was closed.
    pub fn forget(&mut self, key: PeerKey, closed: Extranonce1) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.outbox.forget(closed);
        }
    }

    /// A share is to be judged.
    pub fn is_to_be_judged(&mut self, asked: Asked, share: PendingShare) {
        if self.pending.is_empty() {
            self.shares_wait.call();
        }
        self.pending.push(asked, share);
    }

    /// Is told when there is something to judge.
    pub fn shares_wait(&self) -> Rc<Wake> {
        self.shares_wait.clone()
    }

    /// A share of a connection is refused. One that sends too many of those that cost no work is closed (N08, N10).
    pub fn refused(&mut self, key: PeerKey, reject: Reject, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&key)
            && reject.is_worthless()
            && !peer.worthless.take(1, &WORTHLESS, now)
        {
            self.end(key, Ending::Fault(Fault::Misbehaved("too many worthless shares")));
        }
    }

    /// Has a connection closed.
    pub fn end(&mut self, key: PeerKey, ending: Ending) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.ending = Some(ending);
            peer.wake.call();
        }
    }

    /// Has all connections closed, once what waits for them has been offered to them.
    pub fn end_all(&mut self, ending: Ending) {
        for peer in self.peers.values_mut() {
            peer.ending = Some(ending);
            peer.wake.call();
        }
    }

    /// Why a connection is to be closed, once it is.
    pub fn ending(&self, key: PeerKey) -> Option<Ending> {
        self.peers.get(&key).and_then(|peer| peer.ending)
    }

    /// When a driven connection is to be ticked next.
    pub fn deadline(&self, key: PeerKey) -> Instant {
        self.peers.get(&key).expect(REGISTERED).session.deadline()
    }

    /// What waits for the peer of a driven connection.
    pub fn outbox(&mut self, key: PeerKey) -> &mut Outbox {
        &mut self.driven(key).outbox
    }
}

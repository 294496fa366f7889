//! A miner's connection as a server drives it, whichever protocol it speaks.
//!
//! A V1 connection is one miner; a V2 connection has one for each channel. Miners of a connection are numbered
//! from 0 without gaps; a number is good until the session is next given bytes.

use crate::class::SizeClass;
use crate::encoded::EncodedJob;
use crate::extranonce::Extranonce1;
use crate::fault::Fault;
use crate::payee::Payee;
use crate::pot::Pot;
use crate::share::{PendingShare, Reject};
use crate::{v1, v2};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Instant;

/// Names a share to the session that handed it out, which alone can read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(crate) u64);

/// A share that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Booked {
    /// The difficulty that it is booked at.
    pub pot: Pot,
    /// Index of its entry in the share log, if there is one.
    pub entry: Option<u64>,
}

/// What a session wants done, in this order.
///
/// Whatever follows from one of them is to be done before the next: replies leave in the order of their requests.
#[derive(Debug)]
pub enum Action {
    /// Send these complete lines, or this complete frame, still plain.
    Send(Bytes),
    /// Send this job; it may take the place of one that is not sent yet.
    Job(JobMessage),
    /// Judge this share, then call [`Session::answer`].
    Share {
        /// Names the share in the answer.
        ticket: Ticket,
        /// What to judge.
        share: PendingShare,
    },
    /// Judge this share too, though nobody can be told: the connection ends for want of room for the reply. It may
    /// be a block, and the one to blame may be our disk.
    Unanswered(PendingShare),
    /// A share was refused and answered before it could be judged: to be counted.
    Refused(Reject),
    /// V1: the machine is ready: call [`Session::work`], now and for every new job.
    NeedWork,
    /// V2: somebody asks for a channel: call [`v2::server::Session::open`].
    Open(Box<v2::server::Opening>),
    /// V2: the channel of this prefix was closed: a job that waits for it is not sent. The prefix may be given to
    /// another, in time.
    Closed(Extranonce1),
}

/// A job on its way to one miner.
#[derive(Debug, Clone)]
pub enum JobMessage {
    /// Lines.
    V1(v1::encode::JobMessage),
    /// Frames of one channel.
    V2(v2::server::JobMessage),
}

impl JobMessage {
    /// Takes the place of an older message to the same miner that was not sent; `false` if that was to another.
    pub fn absorb(&mut self, older: &JobMessage) -> bool {
        match (self, older) {
            (Self::V1(job), Self::V1(older)) => {
                job.absorb(older);
                true
            }
            (Self::V2(job), Self::V2(older)) => job.absorb(older),
            _ => false,
        }
    }
}

/// One who mines for one payee, on a connection.
#[derive(Debug, Clone, Copy)]
pub struct Miner<'a> {
    /// Whom the work is for.
    pub payee: &'a Arc<Payee>,
    /// How large a coinbase it can take.
    pub class: SizeClass,
    /// Roughly what it does; 0 before its first share.
    pub hashes_per_s: f64,
    /// Bytes of extranonce in its coinbases, its own prefix and what it rolls together.
    pub extranonce_bytes: usize,
}

/// A connection.
#[derive(Debug)]
pub enum Session {
    /// Stratum V1.
    V1(v1::server::Session),
    /// Stratum V2.
    V2(v2::server::Session),
}

impl Session {
    /// Its protocol, as it stands in metrics.
    pub fn protocol(&self) -> &'static str {
        match self {
            Self::V1(_) => "v1",
            Self::V2(_) => "v2",
        }
    }

    /// Takes bytes off the front as they come, cut anywhere. What it leaves is to be given again once the actions are
    /// done.
    ///
    /// # Errors
    /// The connection is to be closed once the actions are done.
    pub fn receive(&mut self, bytes: &mut &[u8], now: Instant, out: &mut Vec<Action>) -> Result<(), Fault> {
        match self {
            Self::V1(session) => session.receive(std::mem::take(bytes), now, out),
            Self::V2(session) => session.receive(bytes, now, out),
        }
    }

    /// To be called when [`Session::deadline`] has come; earlier calls do nothing.
    ///
    /// # Errors
    /// The peer did not do in time what it has to do.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Action>) -> Result<(), Fault> {
        match self {
            Self::V1(session) => session.tick(now, out),
            Self::V2(session) => session.tick(now, out),
        }
    }

    /// When to call [`Session::tick`] next.
    pub fn deadline(&self) -> Instant {
        match self {
            Self::V1(session) => session.deadline(),
            Self::V2(session) => session.deadline(),
        }
    }

    /// The miner of this number, while it wants work.
    pub fn miner(&self, number: usize) -> Option<Miner<'_>> {
        match self {
            Self::V1(session) if number == 0 => session.miner(),
            Self::V1(_) => None,
            Self::V2(session) => session.miner(number),
        }
    }

    /// Gives the miner of this number work.
    pub fn work(&mut self, number: usize, job: &Arc<EncodedJob>, now: Instant, out: &mut Vec<Action>) {
        match self {
            Self::V1(session) => session.work(job, now, out),
            Self::V2(session) => session.work(number, job, now, out),
        }
    }

    /// Steers each miner to another number of shares per minute from here on; what was measured stays.
    pub fn aim(&mut self, shares_per_minute: f64) {
        match self {
            Self::V1(session) => session.aim(shares_per_minute),
            Self::V2(session) => session.aim(shares_per_minute),
        }
    }

    /// The answer to a share: its rejection, or that it is durable and as what it is booked. What is not sent here at
    /// once, [`Session::flush`] sends.
    pub fn answer(&mut self, ticket: Ticket, answer: Result<Booked, Reject>, out: &mut Vec<Action>) {
        match self {
            Self::V1(session) => session.answer(ticket, answer.map(|_| ())),
            Self::V2(session) => session.answer(ticket, answer, out),
        }
    }

    /// Sends the answers that are complete, together.
    pub fn flush(&mut self, out: &mut Vec<Action>) {
        match self {
            Self::V1(session) => session.flush(out),
            Self::V2(session) => session.flush(out),
        }
    }

    /// The extranonce prefixes of its miners.
    pub fn prefixes(&self) -> impl Iterator<Item = Extranonce1> {
        let (one, many) = match self {
            Self::V1(session) => (Some(session.prefix()), None),
            Self::V2(session) => (None, Some(session.prefixes())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

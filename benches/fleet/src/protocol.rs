//! The session with the server, whichever protocol it speaks: what a connection sees of it.
//!
//! A session has slots, each with work of its own: one with V1, one for each channel with V2.

mod v1;
mod v2;

use crate::cli::{Machine, Server};
use crate::connection::Shared;
use crate::work::{Assignment, Job, Share};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// A session that has begun.
#[derive(Debug)]
pub enum Protocol {
    /// Lines.
    V1(Box<v1::Session>),
    /// Sealed frames.
    V2(Box<v2::Session>),
}

/// What a session has learnt.
#[derive(Debug)]
pub enum Learnt {
    /// Shares of every slot are welcome from here on.
    Ready,
    /// New work for a slot.
    Work {
        /// The slot.
        slot: usize,
        /// What to hash there.
        assignment: Assignment,
    },
    /// V1: version bits that may be rolled from now on; also for the work already here.
    VersionMask(u32),
    /// The server judged a share.
    Answer {
        /// As given to [`Protocol::submit`].
        tag: u64,
        /// Acknowledged, or why not.
        result: Result<(), String>,
    },
    /// The server asks to come again on the same host.
    Reconnect {
        /// Another port of it, if it named one.
        port: Option<u16>,
        /// How long to wait first.
        wait: Duration,
    },
    /// For the operator.
    Say(String),
    /// This is no server to stay with.
    Lost(String),
}

impl Protocol {
    /// Begins a session on a fresh connection; with V2 after a handshake.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn begin(stream: &mut TcpStream, machine: &Machine, shared: &Shared) -> Result<Self, String> {
        match &shared.server {
            Server::V1 => Ok(Self::V1(Box::new(v1::Session::new(machine, shared)))),
            Server::V2 { authority, channels } => {
                let session = v2::Session::begin(stream, *authority, *channels, machine, shared).await?;
                Ok(Self::V2(Box::new(session)))
            }
        }
    }

    /// Takes bytes of the server, cut anywhere.
    ///
    /// # Errors
    /// Why the connection is to be closed; what was learnt before still counts.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) -> Result<(), String> {
        match self {
            Self::V1(session) => session.receive(bytes, now),
            Self::V2(session) => session.receive(bytes, now),
        }
    }

    /// When [`Protocol::tick`] is due at the latest.
    pub fn deadline(&self) -> Instant {
        match self {
            Self::V1(session) => session.deadline(),
            Self::V2(session) => session.deadline(),
        }
    }

    /// Looks at the clock.
    ///
    /// # Errors
    /// What the server did not do in time.
    pub fn tick(&mut self, now: Instant) -> Result<(), String> {
        match self {
            Self::V1(session) => session.tick(now),
            Self::V2(session) => session.tick(now),
        }
    }

    /// Sends a share; [`Learnt::Answer`] will have its tag.
    ///
    /// # Errors
    /// Why it was not sent.
    pub fn submit(&mut self, share: &Share, tag: u64, now: Instant) -> Result<(), String> {
        match (self, &share.job) {
            (Self::V1(session), Job::V1(job)) => session.submit(job, share, tag, now),
            (Self::V2(session), Job::V2(job)) => session.submit(job, share, tag),
            _ => unreachable!("a server's protocol never changes"),
        }
    }

    /// Whether a share for the job may still earn credit.
    pub fn is_live(&self, job: &Job) -> bool {
        match (self, job) {
            (Self::V1(session), Job::V1(job)) => session.is_live(job),
            (Self::V2(session), Job::V2(job)) => session.is_live(job),
            _ => unreachable!("a server's protocol never changes"),
        }
    }

    /// What the session has learnt since it was last asked; what it has to send is appended to `out`.
    pub fn learn(&mut self, now: Instant, out: &mut Vec<u8>) -> Vec<Learnt> {
        match self {
            Self::V1(session) => session.learn(out),
            Self::V2(session) => session.learn(now, out),
        }
    }
}

//! Why a connection is closed. A fault ends one peer's session and reaches no further.

use std::fmt;

/// Ends the session that met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Bytes that cannot be cut into messages.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// Well-formed, but nothing a peer may do, or too often.
    #[error("misbehaved: {0}")]
    Misbehaved(&'static str),
    /// V2: it and we cannot work together; it was told why.
    #[error("incompatible: it needs what is not offered here")]
    Incompatible,
    /// Does not read what we send.
    #[error("too slow: its outbox is full")]
    TooSlow,
    /// Sends more than can be answered.
    #[error("too fast: too many requests wait for their answer")]
    TooFast,
    /// Did not do in time what it has to do.
    #[error("no {0} in time")]
    TimedOut(Awaited),
}

/// What a peer was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Awaited {
    /// Anything at all.
    FirstBytes,
    /// V2: `SetupConnection`; from a server, its answer to it.
    Setup,
    /// V2: the first channel; from a server, its answer to a request for one.
    Channel,
    /// V1: `mining.subscribe`.
    Subscribe,
    /// V1: a successful `mining.authorize`.
    Authorize,
    /// A share.
    Share,
}

impl Fault {
    /// One of each kind.
    pub const ALL: [Fault; 11] = [
        Self::Malformed(""),
        Self::Misbehaved(""),
        Self::Incompatible,
        Self::TooSlow,
        Self::TooFast,
        Self::TimedOut(Awaited::FirstBytes),
        Self::TimedOut(Awaited::Setup),
        Self::TimedOut(Awaited::Channel),
        Self::TimedOut(Awaited::Subscribe),
        Self::TimedOut(Awaited::Authorize),
        Self::TimedOut(Awaited::Share),
    ];

    /// The reason as it stands in metrics: one of a closed set.
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Misbehaved(_) => "misbehaved",
            Self::Incompatible => "incompatible",
            Self::TooSlow => "too_slow",
            Self::TooFast => "too_fast",
            Self::TimedOut(Awaited::FirstBytes) => "no_first_bytes",
            Self::TimedOut(Awaited::Setup) => "no_setup",
            Self::TimedOut(Awaited::Channel) => "no_channel",
            Self::TimedOut(Awaited::Subscribe) => "no_subscribe",
            Self::TimedOut(Awaited::Authorize) => "no_authorize",
            Self::TimedOut(Awaited::Share) => "no_share",
        }
    }
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FirstBytes => "bytes",
            Self::Setup => "setup",
            Self::Channel => "channel",
            Self::Subscribe => "subscribe",
            Self::Authorize => "authorize",
            Self::Share => "share",
        })
    }
}

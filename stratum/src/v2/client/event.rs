//! What a client wants done or has learnt, what it can be asked for, and why it refuses.

#[cfg(doc)]
use super::Client;
use super::job::Job;
use super::{OPENS_MAX, SUBMITS_MAX};
use crate::target::Target;
use crate::v2::codec::{Bytes32, Str255, U256};
use bytes::Bytes;
use std::sync::Arc;

/// Links a request for a channel to its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u32);

/// What the client wants done, or has learnt. Texts are the server's: for logs only (ER-01), through
/// [`Str255`]'s `Display`.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Send this frame, still plain.
    Send(Bytes),
    /// Channels may be opened from here on.
    Ready {
        /// What the server needs, see [`flag`](crate::v2::flag); the client obeys them.
        flags: u32,
    },
    /// The server will not have us; [`Fault::Incompatible`](crate::fault::Fault::Incompatible) follows.
    SetupRefused {
        /// Those of our flags that it does not support; 0 if that is not why.
        flags: u32,
        /// Why.
        code: Str255,
    },
    /// A channel is open.
    Opened {
        /// As [`Client::open`] answered.
        request: RequestId,
        /// The channel from here on.
        channel: u32,
        /// What shares of its first job have to meet.
        target: Target,
        /// The channel's own part of the coinbase.
        extranonce_prefix: Bytes32,
        /// Bytes that are ours to roll; 0 on a standard channel.
        extranonce_size: usize,
    },
    /// No channel was opened.
    OpenRefused {
        /// As [`Client::open`] answered.
        request: RequestId,
        /// Why.
        code: Str255,
    },
    /// To be worked on now, on the job's channel. If it is clean, all earlier work of the channel is void.
    Work {
        /// The job.
        job: Arc<Job>,
        /// Whether all earlier jobs of the channel are void.
        clean: bool,
    },
    /// The target of the channel's jobs to come; jobs already here keep theirs (MN-35).
    Target {
        /// The channel.
        channel: u32,
        /// What shares of its next job have to meet.
        target: Target,
    },
    /// The extranonce prefix of the channel's jobs to come; jobs already here keep theirs (MN-18).
    Prefix {
        /// The channel.
        channel: u32,
        /// The prefix of its next job.
        extranonce_prefix: Bytes32,
    },
    /// Shares were accepted: those up to this sequence number that neither were nor will be rejected.
    Accepted {
        /// The channel.
        channel: u32,
        /// The newest of them.
        last_sequence_number: u32,
        /// How many, as the server says, but never more than waited.
        count: u32,
        /// The sum of their difficulties, as the server says; 0 if each is below 1.
        difficulty_sum: u64,
    },
    /// A share was refused.
    Rejected {
        /// The channel.
        channel: u32,
        /// As [`Client::submit`] answered, or whatever the server says.
        sequence_number: u32,
        /// Why.
        code: Str255,
    },
    /// The channel stays as it was before [`Client::update`].
    UpdateRefused {
        /// The channel.
        channel: u32,
        /// Why.
        code: Str255,
    },
    /// The server has closed a channel.
    Closed {
        /// The channel.
        channel: u32,
        /// Why.
        reason: Str255,
    },
    /// The server asks to come again: to be obeyed only with the same authority key (CM-10, NS-15), and not too often.
    Reconnect {
        /// Another host, if it named one.
        host: Option<Str255>,
        /// Another port, if it named one.
        port: Option<u16>,
    },
}

/// Which kind of channel to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The server says the merkle root, or the client rolls nothing of the coinbase.
    Standard,
    /// The client rolls an extranonce.
    Extended {
        /// Bytes that it has to have.
        min_extranonce_size: u16,
    },
}

/// A channel to open.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Its kind.
    pub kind: Kind,
    /// Who is paid, as the pool writes it.
    pub user_identity: Str255,
    /// Expected hashes per second; 0 if no machine is there yet (MN-08).
    pub hashes_per_s: f32,
    /// The easiest target that we accept.
    pub max_target: U256,
}

/// A share to submit: what was rolled.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// The job.
    pub job: Arc<Job>,
    /// [`Job::extranonce_size`] bytes.
    pub extranonce: Bytes32,
    /// Header time in Unix seconds.
    pub ntime: u32,
    /// Header nonce.
    pub nonce: u32,
    /// The whole header version, rolled bits included.
    pub version: u32,
}

impl Share {
    /// The header that was hashed.
    pub fn header(&self) -> [u8; 80] {
        self.job.header(self.extranonce.as_bytes(), self.ntime, self.nonce, self.version)
    }
}

/// Why a channel was not asked for. Nothing was sent, and the session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// [`Event::Ready`] has not come.
    #[error("the server has not answered the setup yet")]
    NotReady,
    /// [`OPENS_MAX`] requests wait for their answers.
    #[error("{OPENS_MAX} requests for channels wait for the server's answer")]
    TooManyPending,
    /// The server's flags say so (CM-07).
    #[error("the server opens extended channels only")]
    ExtendedOnly,
    /// Our own settings say so.
    #[error("this connection is for standard jobs only")]
    StandardOnly,
}

/// There is no such channel, or no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("channel {0} is not open")]
pub struct NotOpen(pub u32);

/// Why a share was not sent. The session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The job's channel is gone.
    #[error(transparent)]
    NotOpen(#[from] NotOpen),
    /// [`SUBMITS_MAX`] shares of the channel wait for their answers.
    #[error("{SUBMITS_MAX} shares of the channel wait for the server's answer")]
    TooManyPending,
    /// Neither padded nor cut: the header would be another one (MN-19).
    #[error("the extranonce has {len} bytes and not the channel's {wanted}")]
    ExtranonceSize {
        /// Bytes that were rolled.
        len: usize,
        /// [`Job::extranonce_size`].
        wanted: usize,
    },
    /// Before the job's time (MN-20).
    #[error("header time {ntime} is before the job's {min_ntime}")]
    Ntime {
        /// The header's time.
        ntime: u32,
        /// [`Job::min_ntime`].
        min_ntime: u32,
    },
    /// Bits were rolled that must not be (MN-22).
    #[error("version {version:#010x} differs from the job's outside the mask {mask:#010x}")]
    VersionOutsideMask {
        /// The header version.
        version: u32,
        /// [`Job::version_mask`].
        mask: u32,
    },
}

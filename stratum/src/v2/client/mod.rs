//! A V2 connection as the client sees it: sealed bytes, wishes and time in; plain frames out, to be sealed in the order
//! in which they are sent.
//!
//! - [`Client`] decides; `opening`: how a connection and its channels begin; `channels` are the open ones and their groups, `channel` is one of them
//! - `job`: a job and the header that is hashed for it; `settings`, `event`: what goes in, and what comes out
//!
//! One channel of a proxy or thousands of a load generator. A server is no friend: whatever it sends is bounded, and
//! what makes no sense is a [`Fault`], upon which the caller closes and goes elsewhere. Events that are out by then
//! hold all the same. What the client does not do: it asks for no extension and no work of its own choice, and it
//! does not connect again.
mod channel;
mod channels;
mod event;
mod job;
mod opening;
mod settings;

pub use event::{Event, Kind, NotOpen, OpenError, Request, RequestId, Share, SubmitError};
pub use job::{BRANCH_MAX, COINBASE_BYTES_MAX, Coinbase, Job, Work};
pub use settings::Settings;

use super::codec::{Str255, U256};
use super::flag;
use super::frame::{Allowed, write_frame};
use super::frames::{Frame, Frames};
use super::message::{
    ChannelEndpointChanged, CloseChannel, Message, NewExtendedMiningJob, NewMiningJob,
    OpenExtendedMiningChannel, OpenExtendedMiningChannelSuccess, OpenMiningChannelError,
    OpenStandardMiningChannel, OpenStandardMiningChannelSuccess, Reconnect, SetExtranoncePrefix,
    SetGroupChannel, SetNewPrevHash, SetTarget, SetupConnectionError, SetupConnectionSuccess,
    SubmitSharesError, SubmitSharesExtended, SubmitSharesStandard, SubmitSharesSuccess, UpdateChannel,
    UpdateChannelError, Wire,
};
use super::noise::Opener;
use crate::fault::{Awaited, Fault};
use channel::Channel;
use channels::Channels;
use job::{Draft, Tip, share_target};
use opening::{Granted, Opening};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// Most requests for channels that may wait for their answers; [`Client::open`] refuses more.
pub const OPENS_MAX: usize = 64;
/// Most shares of a channel that may wait for their answers; [`Client::submit`] refuses more.
pub const SUBMITS_MAX: u32 = 4_096;
/// Most jobs of a channel that wait for their parent; the oldest falls out. A group keeps as many.
pub const FUTURE_JOBS_MAX: usize = 8;
/// Most jobs of a channel that [`Client::is_live`] knows; the oldest falls out.
pub const JOBS_MAX: usize = 32;

/// What may come first, and what after that.
const SETUP: [Allowed; 3] = [
    Allowed::of::<SetupConnectionSuccess>(),
    Allowed::of::<SetupConnectionError>(),
    Allowed::of::<Reconnect>(),
];
const WORK: [Allowed; 15] = [
    Allowed::of::<SubmitSharesSuccess>(),
    Allowed::of::<SubmitSharesError>(),
    Allowed::of::<SetNewPrevHash>(),
    Allowed::of::<NewMiningJob>(),
    Allowed::of::<SetTarget>(),
    Allowed::of::<OpenStandardMiningChannelSuccess>(),
    Allowed::of::<OpenExtendedMiningChannelSuccess>(),
    Allowed::of::<OpenMiningChannelError>(),
    Allowed::of::<UpdateChannelError>(),
    Allowed::of::<CloseChannel>(),
    Allowed::of::<SetExtranoncePrefix>(),
    Allowed::of::<Reconnect>(),
    Allowed::of::<ChannelEndpointChanged>(),
    // From here on: not where only standard jobs are taken.
    Allowed::of::<SetGroupChannel>(),
    EXTENDED_JOB,
];
const STANDARD_ONLY: usize = WORK.len() - 2;
/// Shorter than its field types allow.
const EXTENDED_JOB: Allowed = Allowed {
    payload_bytes_max: NewExtendedMiningJob::PAYLOAD_BYTES_MIN + 4 + 32 * BRANCH_MAX + COINBASE_BYTES_MAX,
    ..Allowed::of::<NewExtendedMiningJob>()
};

/// A connection to a server, from its handshake on.
#[derive(Debug)]
pub struct Client {
    settings: Arc<Settings>,
    frames: Frames,
    state: State,
    next_request: u32,
    /// Oldest first.
    opening: VecDeque<Opening>,
    channels: Channels,
    heard: Instant,
}

#[derive(Debug)]
enum State {
    /// `SetupConnection` is not answered.
    Setup { until: Instant },
    /// The server's flags.
    Ready { flags: u32 },
}

impl Client {
    /// A connection whose handshake is done; `opener` opens what the server sends. Says the first word.
    pub fn new(settings: Arc<Settings>, opener: Opener, now: Instant, out: &mut Vec<Event>) -> Self {
        send(&opening::setup(&settings), out);
        Self {
            frames: Frames::new(opener),
            state: State::Setup { until: now + settings.answer_within },
            next_request: 0,
            opening: VecDeque::new(),
            channels: Channels::default(),
            heard: now,
            settings,
        }
    }

    /// What it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes sealed bytes as they come, cut anywhere.
    ///
    /// # Errors
    /// The connection is to be closed; events already in `out` hold all the same.
    pub fn receive(&mut self, mut bytes: &[u8], now: Instant, out: &mut Vec<Event>) -> Result<(), Fault> {
        self.heard = now;
        loop {
            let allowed: &[Allowed] = match self.state {
                State::Setup { .. } => &SETUP,
                State::Ready { .. } if self.settings.standard_jobs_only => &WORK[..STANDARD_ONLY],
                State::Ready { .. } => &WORK,
            };
            let frame = self.frames.next(&mut bytes, |header| header.admit(allowed))?;
            let Some(Frame { msg_type, payload, .. }) = frame else { return Ok(()) };
            self.message(Message::decode(msg_type, &payload)?, now, out)?;
        }
    }

    /// When [`Client::tick`] is due at the latest.
    pub fn deadline(&self) -> Instant {
        self.awaited().0
    }

    /// Looks at the clock.
    ///
    /// # Errors
    /// The server did not do in time what it has to do.
    pub fn tick(&self, now: Instant) -> Result<(), Fault> {
        let (until, awaited) = self.awaited();
        if now >= until { Err(Fault::TimedOut(awaited)) } else { Ok(()) }
    }

    /// What the server has to do next, and until when.
    fn awaited(&self) -> (Instant, Awaited) {
        let silence = (self.heard + self.settings.silence_max, Awaited::FirstBytes);
        let answer = match self.state {
            State::Setup { until } => Some((until, Awaited::Setup)),
            State::Ready { .. } => self.opening.front().map(|oldest| (oldest.until, Awaited::Channel)),
        };
        answer.into_iter().fold(silence, |first, other| if other.0 < first.0 { other } else { first })
    }

    /// Asks for a channel; [`Event::Opened`] or [`Event::OpenRefused`] is the answer.
    ///
    /// # Errors
    /// [`OpenError`]: nothing was sent.
    pub fn open(
        &mut self,
        request: Request,
        now: Instant,
        out: &mut Vec<Event>,
    ) -> Result<RequestId, OpenError> {
        let State::Ready { flags } = self.state else { return Err(OpenError::NotReady) };
        if self.opening.len() >= OPENS_MAX {
            return Err(OpenError::TooManyPending);
        }
        let request_id = self.next_request;
        let Request { kind, user_identity, hashes_per_s: nominal_hash_rate, max_target } = request;
        match kind {
            Kind::Standard if flags & flag::REQUIRES_EXTENDED_CHANNELS != 0 => {
                return Err(OpenError::ExtendedOnly);
            }
            Kind::Extended { .. } if self.settings.standard_jobs_only => return Err(OpenError::StandardOnly),
            Kind::Standard => send(
                &OpenStandardMiningChannel { request_id, user_identity, nominal_hash_rate, max_target },
                out,
            ),
            Kind::Extended { min_extranonce_size } => send(
                &OpenExtendedMiningChannel {
                    request_id,
                    user_identity,
                    nominal_hash_rate,
                    max_target,
                    min_extranonce_size,
                },
                out,
            ),
        }
        self.next_request = request_id.wrapping_add(1);
        let (request, until) = (RequestId(request_id), now + self.settings.answer_within);
        self.opening.push_back(Opening { request, kind, until });
        Ok(request)
    }

    /// Says that the machines behind a channel have changed (MN-12); the server answers only if it refuses.
    ///
    /// # Errors
    /// [`NotOpen`]: nothing was sent.
    pub fn update(
        &mut self,
        channel: u32,
        hashes_per_s: f32,
        max_target: U256,
        out: &mut Vec<Event>,
    ) -> Result<(), NotOpen> {
        let channel = self.channels.get(channel).ok_or(NotOpen(channel))?;
        let (channel_id, nominal_hash_rate) = (channel.id, hashes_per_s);
        send(&UpdateChannel { channel_id, nominal_hash_rate, maximum_target: max_target }, out);
        Ok(())
    }

    /// Closes a channel; nothing more will be heard of it.
    ///
    /// # Errors
    /// [`NotOpen`]: nothing was sent.
    pub fn close(&mut self, channel: u32, reason: Str255, out: &mut Vec<Event>) -> Result<(), NotOpen> {
        let closed = self.channels.remove(channel).ok_or(NotOpen(channel))?;
        send(&CloseChannel { channel_id: closed.id, reason_code: reason }, out);
        Ok(())
    }

    /// Sends a share on its job's channel. The answer is its sequence number, from 0 on each channel: an
    /// [`Event::Accepted`] or [`Event::Rejected`] will cover it.
    ///
    /// Shares of jobs that are no longer live are sent too: one that is a block is worth it.
    ///
    /// # Errors
    /// [`SubmitError`]: nothing was sent.
    pub fn submit(&mut self, share: &Share, out: &mut Vec<Event>) -> Result<u32, SubmitError> {
        let Share { job, extranonce, ntime, nonce, version } = share;
        let (ntime, nonce, version) = (*ntime, *nonce, *version);
        let channel = self.channels.get_mut(job.channel).ok_or(NotOpen(job.channel))?;
        let (len, wanted) = (extranonce.as_bytes().len(), job.extranonce_size);
        if len != wanted {
            return Err(SubmitError::ExtranonceSize { len, wanted });
        }
        if ntime < job.min_ntime {
            return Err(SubmitError::Ntime { ntime, min_ntime: job.min_ntime });
        }
        if (version ^ job.version) & !job.version_mask != 0 {
            return Err(SubmitError::VersionOutsideMask { version, mask: job.version_mask });
        }
        let (channel_id, job_id, sequence_number) = (channel.id, job.id, channel.sequence()?);
        match channel.kind {
            Kind::Standard => send(
                &SubmitSharesStandard { channel_id, sequence_number, job_id, nonce, ntime, version },
                out,
            ),
            Kind::Extended { .. } => send(
                &SubmitSharesExtended {
                    channel_id,
                    sequence_number,
                    job_id,
                    nonce,
                    ntime,
                    version,
                    extranonce: *extranonce,
                },
                out,
            ),
        }
        Ok(sequence_number)
    }

    /// Whether a share for the job may still earn credit, as far as the server has told.
    pub fn is_live(&self, job: &Job) -> bool {
        self.channels.get(job.channel).is_some_and(|channel| channel.is_live(job.id))
    }

    /// Shares of a channel that wait for their answers; 0 if it is not open.
    pub fn pending(&self, channel: u32) -> u32 {
        self.channels.get(channel).map_or(0, Channel::pending)
    }

    /// Messages to channels that are not open, so far: they may have been closed by us meanwhile.
    pub fn ignored(&self) -> u64 {
        self.channels.ignored
    }

    fn message(&mut self, message: Message, now: Instant, out: &mut Vec<Event>) -> Result<(), Fault> {
        match message {
            Message::SetupConnectionSuccess(success) => self.set_up(&success, out)?,
            Message::SetupConnectionError(error) => {
                out.push(Event::SetupRefused { flags: error.flags, code: error.error_code });
                return Err(Fault::Incompatible);
            }
            Message::OpenStandardMiningChannelSuccess(success) => self.opened(success.into(), out)?,
            Message::OpenExtendedMiningChannelSuccess(success) => self.opened(success.into(), out)?,
            Message::OpenMiningChannelError(OpenMiningChannelError { request_id, error_code }) => {
                let Opening { request, .. } = self.answered(request_id)?;
                out.push(Event::OpenRefused { request, code: error_code });
            }
            Message::NewMiningJob(job) => {
                let draft = Draft::standard(&job, self.fixed_version());
                self.channels.standard_job(job.channel_id, draft, job.min_ntime, now, out)?;
            }
            Message::NewExtendedMiningJob(job) => self.extended_job(job, now, out)?,
            Message::SetNewPrevHash(new) => {
                self.channels.new_tip(new.channel_id, new.job_id, Tip::read(&new)?, now, out)?;
            }
            Message::SetTarget(SetTarget { channel_id, maximum_target }) => {
                self.channels.set_target(channel_id, share_target(maximum_target)?, out);
            }
            Message::SetExtranoncePrefix(SetExtranoncePrefix { channel_id, extranonce_prefix }) => {
                out.extend(self.channels.set_prefix(channel_id, extranonce_prefix)?);
            }
            Message::SetGroupChannel(SetGroupChannel { group_channel_id, channel_ids }) => {
                self.channels.regroup(group_channel_id, channel_ids.as_slice())?;
            }
            Message::CloseChannel(CloseChannel { channel_id, reason_code }) => {
                self.channels.closed(channel_id, &reason_code, out);
            }
            Message::Reconnect(Reconnect { new_host, new_port }) => {
                let host = (!new_host.as_bytes().is_empty()).then_some(new_host);
                out.push(Event::Reconnect { host, port: (new_port != 0).then_some(new_port) });
            }
            // It concerns extensions that were agreed on, and there are none.
            Message::ChannelEndpointChanged(_) => {}
            other => return self.answer(other, out),
        }
        Ok(())
    }

    /// What the server says to something on a channel.
    fn answer(&mut self, message: Message, out: &mut Vec<Event>) -> Result<(), Fault> {
        match message {
            Message::SubmitSharesSuccess(success) => {
                let SubmitSharesSuccess { channel_id: channel, last_sequence_number, .. } = success;
                if let Some(open) = self.channels.answered(channel) {
                    let count = open.accepted(last_sequence_number, success.new_submits_accepted_count);
                    let difficulty_sum = success.new_shares_sum;
                    out.push(Event::Accepted { channel, last_sequence_number, count, difficulty_sum });
                }
            }
            Message::SubmitSharesError(error) => {
                let SubmitSharesError { channel_id: channel, sequence_number, error_code: code } = error;
                if let Some(open) = self.channels.answered(channel) {
                    open.rejected();
                    out.push(Event::Rejected { channel, sequence_number, code });
                }
            }
            Message::UpdateChannelError(UpdateChannelError { channel_id: channel, error_code: code }) => {
                if self.channels.answered(channel).is_some() {
                    out.push(Event::UpdateRefused { channel, code });
                }
            }
            // Headers of others are not admitted.
            other => return Err(Fault::Misbehaved(other.name())),
        }
        Ok(())
    }

    fn set_up(&mut self, success: &SetupConnectionSuccess, out: &mut Vec<Event>) -> Result<(), Fault> {
        if !opening::suits(success, &self.settings) {
            return Err(Fault::Incompatible);
        }
        let flags = success.flags;
        self.state = State::Ready { flags };
        out.push(Event::Ready { flags });
        Ok(())
    }

    fn fixed_version(&self) -> bool {
        matches!(self.state, State::Ready { flags } if flags & flag::REQUIRES_FIXED_VERSION != 0)
    }

    fn answered(&mut self, request_id: u32) -> Result<Opening, Fault> {
        let at = self.opening.iter().position(|opening| opening.request.0 == request_id);
        at.and_then(|at| self.opening.remove(at)).ok_or(Fault::Misbehaved("an answer to no request"))
    }

    fn opened(&mut self, granted: Granted, out: &mut Vec<Event>) -> Result<(), Fault> {
        let opening = self.answered(granted.request_id)?;
        let channel = granted.channel(opening.kind)?;
        let opened = channel.opened(opening.request);
        self.channels.insert(channel)?;
        out.push(opened);
        Ok(())
    }

    fn extended_job(
        &mut self,
        job: NewExtendedMiningJob,
        now: Instant,
        out: &mut Vec<Event>,
    ) -> Result<(), Fault> {
        if self.settings.version_rolling && !job.version_rolling_allowed {
            return Err(Fault::Misbehaved("a job that forbids the version rolling that was agreed on"));
        }
        let (id, min_ntime) = (job.channel_id, job.min_ntime);
        let draft = Draft::extended(job, self.fixed_version())?;
        self.channels.extended_job(id, draft, min_ntime, now, out)
    }
}

fn send<M: Wire>(message: &M, out: &mut Vec<Event>) {
    let mut frame = Vec::with_capacity(64);
    write_frame(message, &mut frame);
    out.push(Event::Send(frame.into()));
}

#[cfg(test)]
mod tests;

//! A V2 connection as the server sees it: sealed bytes, jobs, verdicts and time in; plain frames out, to be sealed in
//! the order in which they are sent.
//!
//! - [`Session`] decides; `setup` and `extensions` agree on how to work together; `opening` reads requests for
//!   channels; `channel` is one channel, `job` its jobs as frames, `submit` its shares as they come
//!
//! Answers come in the order of the requests, and nothing of ours between: some firmware reads exactly one frame after
//! `SetupConnection` and one after a request for a channel (ESP-Miner). Channels are members of a group for their
//! whole life, which is never addressed: each gets its own jobs, with its own tag and difficulty in the coinbase.
mod channel;
mod extensions;
mod job;
mod opening;
mod settings;
mod setup;
mod submit;

pub use extensions::EXTENSIONS_MAX;
pub use job::{JobMessage, Kind};
pub use opening::Opening;
pub use settings::{CHANNELS_MAX, Settings, VERSION_MASK};

use super::codec::U256;
use super::error_code::{self, ErrorCode};
use super::extension::{NEGOTIATION, RECEIPTS};
use super::frame::{Admission, Allowed, write_frame_with};
use super::frames::{Frame, Frames};
use super::message::negotiation::RequestExtensions;
use super::message::{
    CloseChannel, Message, OpenExtendedMiningChannel, OpenExtendedMiningChannelSuccess,
    OpenMiningChannelError, OpenStandardMiningChannel, OpenStandardMiningChannelSuccess, SetupConnection,
    SubmitSharesError, SubmitSharesExtended, SubmitSharesStandard, UpdateChannel, UpdateChannelError, Wire,
};
use super::noise::Opener;
use crate::encoded::EncodedJob;
use crate::extranonce::{EXTRANONCE2_BYTES, EXTRANONCE2_BYTES_MAX, Extranonce1};
use crate::fault::{Awaited, Fault};
use crate::patience::Patience;
use crate::session::{self, Action, Booked, Miner, Ticket};
use crate::share::Reject;
use channel::Channel;
use opening::Wishes;
use setup::{Agreed, negotiate};
use std::sync::Arc;
use std::time::{Duration, Instant};
use submit::{Share, Submit};

/// Groups of a connection, from 1 on; the ids of its channels follow them. Members of a group have extranonces of the
/// same size (MN-05).
const GROUPS: u32 = (EXTRANONCE2_BYTES_MAX - EXTRANONCE2_BYTES) as u32 + 1; // 5
/// Longer than any connection lasts.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
/// Room for fields of extensions behind a share: a worker's name of 32 bytes (spec x2).
const TLV_BYTES_MAX: usize = 37;

/// What may come first, and what after that.
const SETUP: [Allowed; 1] = [Allowed::of::<SetupConnection>()];
const WORK: [Allowed; 6] = [
    with_tlv(Allowed::of::<SubmitSharesExtended>()),
    with_tlv(Allowed::of::<SubmitSharesStandard>()),
    Allowed::of::<UpdateChannel>(),
    Allowed::of::<OpenStandardMiningChannel>(),
    Allowed::of::<OpenExtendedMiningChannel>(),
    Allowed::of::<CloseChannel>(),
];

const fn with_tlv(allowed: Allowed) -> Allowed {
    Allowed { payload_bytes_max: allowed.payload_bytes_max + TLV_BYTES_MAX, ..allowed }
}

/// One V2 connection, from its handshake on.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    frames: Frames,
    patience: Patience,
    opened: Instant,
    /// Set by `SetupConnection`.
    agreed: Option<Agreed>,
    /// In the order of their ids.
    channels: Vec<Channel>,
    next_channel: u32,
    /// When the last share came, or a message while none was expected; `None` before the first channel.
    active: Option<Instant>,
    /// Not later than any channel's difficulty has to be looked at.
    retarget_at: Option<Instant>,
    /// Channels with durable shares that are not acknowledged.
    unacknowledged: Vec<u32>,
    /// What new channels are steered to.
    shares_per_minute: f64,
}

impl Session {
    /// A connection whose handshake is done; `opener` opens what its peer sends.
    pub fn new(settings: Arc<Settings>, opener: Opener, now: Instant) -> Self {
        Self {
            frames: Frames::new(opener),
            patience: Patience::new(now),
            opened: now,
            agreed: None,
            channels: Vec::new(),
            next_channel: GROUPS + 1,
            active: None,
            retarget_at: None,
            unacknowledged: Vec::new(),
            shares_per_minute: settings.shares_per_minute,
            settings,
        }
    }

    /// Takes sealed bytes off the front as they come, cut anywhere. It leaves those behind a request for a channel,
    /// which they may be about: they come again once the actions are done.
    ///
    /// # Errors
    /// The connection is to be closed once the actions are done.
    pub fn receive(&mut self, bytes: &mut &[u8], now: Instant, out: &mut Vec<Action>) -> Result<(), Fault> {
        loop {
            let first = self.agreed.is_none();
            let allowed: &[Allowed] = if first { &SETUP } else { &WORK };
            let negotiates = self.settings.receipts && !first;
            let frame = self.frames.next(bytes, |header| match header.extension_type {
                NEGOTIATION if negotiates => extensions::admit(header),
                _ => match header.admit(allowed)? {
                    Admission::Skip if first => Err(Fault::Misbehaved("an extension before SetupConnection")),
                    admission => Ok(admission),
                },
            })?;
            match frame {
                None => return Ok(()),
                Some(Frame { extension_type: NEGOTIATION, payload, .. }) => {
                    self.extensions(&RequestExtensions::decode(&payload)?, now, out)?;
                }
                Some(Frame { msg_type, payload, .. }) => {
                    self.message(Message::decode(msg_type, &payload)?, now, out)?;
                }
            }
            if let Some(Action::Open(_)) = out.last() {
                return Ok(());
            }
        }
    }

    /// To be called when [`Session::deadline`] has come; earlier calls do nothing.
    ///
    /// # Errors
    /// The peer did not do in time what it has to do.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Action>) -> Result<(), Fault> {
        match self.awaited() {
            Some((until, awaited)) if now >= until => return Err(Fault::TimedOut(awaited)),
            _ => {}
        }
        if self.retarget_at.is_some_and(|at| now >= at) {
            let jobs = self.channels.iter_mut().filter_map(|channel| channel.retarget(&self.settings, now));
            out.extend(jobs.map(job_action));
            self.look_at_all();
        }
        Ok(())
    }

    /// When to call [`Session::tick`] next.
    pub fn deadline(&self) -> Instant {
        let until = self.awaited().map(|(until, _)| until);
        until.into_iter().chain(self.retarget_at).min().unwrap_or(self.opened + NEVER)
    }

    /// The channel of this number, counted from 0 as they were opened.
    pub fn miner(&self, number: usize) -> Option<Miner<'_>> {
        self.channels.get(number).map(Channel::miner)
    }

    /// Gives the channel of this number work.
    pub fn work(&mut self, number: usize, encoded: &Arc<EncodedJob>, now: Instant, out: &mut Vec<Action>) {
        let Some(channel) = self.channels.get_mut(number) else { return };
        out.push(job_action(channel.work(encoded, &self.settings, now)));
        let deadline = channel.deadline();
        self.look_again(deadline);
    }

    /// Steers each channel to another number of shares per minute from here on; what was measured stays.
    pub fn aim(&mut self, shares_per_minute: f64) {
        self.shares_per_minute = shares_per_minute;
        self.channels.iter_mut().for_each(|channel| channel.aim(shares_per_minute));
        self.look_at_all();
    }

    /// The extranonce prefixes of all channels.
    pub fn prefixes(&self) -> impl Iterator<Item = Extranonce1> {
        self.channels.iter().map(|channel| channel.prefix)
    }

    /// Opens a channel, if there are a prefix and a job for it, and sends that job.
    pub fn open(
        &mut self,
        opening: Opening,
        prefix: Option<Extranonce1>,
        job: Option<&Arc<EncodedJob>>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let request_id = opening.request_id;
        let refused = match (prefix, job) {
            (_, None) => error_code::NO_JOB_AVAILABLE,
            (None, _) => error_code::CHANNEL_CAPACITY_EXHAUSTED,
            // No block may hide below a share target.
            (_, Some(job)) if opening.wishes.pot_min > job.pot_max() => error_code::MAX_TARGET_OUT_OF_RANGE,
            (Some(prefix), Some(job)) => return self.opened(opening, prefix, job, now, out),
        };
        out.extend(prefix.map(Action::Closed));
        refuse_opening(request_id, refused, out);
    }

    fn opened(
        &mut self,
        opening: Opening,
        prefix: Extranonce1,
        job: &Arc<EncodedJob>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let request_id = opening.request_id;
        let id = self.next_channel;
        self.next_channel += 1;
        let channel = Channel::new(id, opening, prefix, job, &self.settings, self.shares_per_minute, now);
        let target = U256::from(channel.pot().target());
        let extranonce_prefix = channel.extranonce_prefix();
        let extranonce_size = channel.extranonce2_bytes as u16; // at most 12
        let group_channel_id = group(&channel);
        match channel.kind {
            Kind::Standard => send(
                &OpenStandardMiningChannelSuccess {
                    request_id,
                    channel_id: id,
                    target,
                    extranonce_prefix,
                    group_channel_id,
                },
                out,
            ),
            Kind::Extended => send(
                &OpenExtendedMiningChannelSuccess {
                    request_id,
                    channel_id: id,
                    target,
                    extranonce_size,
                    extranonce_prefix,
                    group_channel_id,
                },
                out,
            ),
        }
        self.channels.push(channel);
        self.active.get_or_insert(now);
        self.work(self.channels.len() - 1, job, now, out);
    }

    /// The answer to a share: its rejection, which leaves at once, or that it is durable and as what it is booked.
    pub fn answer(&mut self, ticket: Ticket, answer: Result<Booked, Reject>, out: &mut Vec<Action>) {
        let Share { channel_id, sequence_number } = Share::of(ticket);
        // A channel that was closed meanwhile hears nothing more (MN-15).
        let Some(at) = self.position(channel_id) else { return };
        match answer {
            Ok(booked) => {
                if self.channels[at].durable(sequence_number, booked) {
                    self.unacknowledged.push(channel_id);
                }
            }
            Err(reject) => self.refuse_share(channel_id, sequence_number, reject, out),
        }
    }

    /// Acknowledges what has become durable: one message for each channel.
    pub fn flush(&mut self, out: &mut Vec<Action>) {
        let told = self.agreed.is_some_and(|agreed| agreed.receipts);
        for id in std::mem::take(&mut self.unacknowledged) {
            let acknowledged = self.position(id).and_then(|at| self.channels[at].acknowledge());
            if let Some((success, receipts)) = acknowledged {
                let receipts = receipts.filter(|_| told);
                send_with(&success, |frame| receipts.iter().for_each(|field| field.write(frame)), out);
            }
        }
    }

    fn position(&self, channel_id: u32) -> Option<usize> {
        self.channels.binary_search_by_key(&channel_id, |channel| channel.id).ok()
    }

    /// What the peer has to do, and until when.
    fn awaited(&self) -> Option<(Instant, Awaited)> {
        let settings = &self.settings;
        match self.active {
            Some(since) => self.expects_shares().then(|| (since + settings.idle, Awaited::Share)),
            None if self.agreed.is_none() => Some((self.opened + settings.setup, Awaited::Setup)),
            None => Some((self.opened + settings.channel, Awaited::Channel)),
        }
    }

    /// A proxy without machines says that they do 0 hashes per second (MN-08): it has nothing to send.
    fn expects_shares(&self) -> bool {
        self.channels.is_empty() || self.channels.iter().any(Channel::has_machines)
    }

    fn look_at_all(&mut self) {
        self.retarget_at = self.channels.iter().filter_map(Channel::deadline).min();
    }

    fn look_again(&mut self, deadline: Option<Instant>) {
        self.retarget_at = self.retarget_at.into_iter().chain(deadline).min();
    }

    fn message(&mut self, message: Message, now: Instant, out: &mut Vec<Action>) -> Result<(), Fault> {
        // Should this one bring machines, they are waited for from now on, not from long ago.
        if !self.expects_shares() {
            self.active = Some(now);
        }
        match message {
            Message::SetupConnection(setup) => return self.setup(&setup, out),
            Message::OpenStandardMiningChannel(request) => {
                let opening = Opening::standard(&request, &self.settings);
                self.request(request.request_id, opening, out);
            }
            Message::OpenExtendedMiningChannel(request) => {
                let opening = match self.agreed {
                    Some(Agreed { standard_only: false, class, .. }) => {
                        Opening::extended(&request, class, &self.settings)
                    }
                    _ => Err(error_code::EXTENDED_CHANNELS_NOT_SUPPORTED_FOR_STANDARD_JOBS),
                };
                self.request(request.request_id, opening, out);
            }
            Message::UpdateChannel(update) => return self.update(&update, now, out),
            Message::CloseChannel(CloseChannel { channel_id, .. }) => self.close(channel_id, out),
            Message::SubmitSharesStandard(submit) => return self.submit(submit.into(), now, out),
            Message::SubmitSharesExtended(submit) => return self.submit(submit.into(), now, out),
            // Headers of others are not admitted.
            other => return Err(Fault::Misbehaved(other.name())),
        }
        Ok(())
    }

    fn setup(&mut self, setup: &SetupConnection, out: &mut Vec<Action>) -> Result<(), Fault> {
        match negotiate(setup, &self.settings) {
            Ok((success, agreed)) => {
                self.agreed = Some(agreed);
                send(&success, out);
                Ok(())
            }
            Err(error) => {
                send(&error, out);
                Err(Fault::Incompatible)
            }
        }
    }

    /// What is answered last holds. A client has one reason to ask, perhaps two: each request counts as nonsense, of which
    /// some is forgiven.
    fn extensions(
        &mut self,
        request: &RequestExtensions,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        let answer = extensions::agree(request);
        if let Some(agreed) = &mut self.agreed {
            let supported =
                answer.as_ref().map_or(&[][..], |success| success.supported_extensions.as_slice());
            agreed.receipts = supported.contains(&RECEIPTS);
        }
        match answer {
            Ok(success) => send(&success, out),
            Err(error) => send(&error, out),
        }
        self.patience.bad(now)
    }

    fn request(&mut self, request_id: u32, opening: Result<Opening, ErrorCode>, out: &mut Vec<Action>) {
        let room = self.channels.len() < self.settings.channels_max;
        match opening.and_then(|opening| if room { Ok(opening) } else { Err(error_code::TOO_MANY_CHANNELS) })
        {
            Ok(opening) => out.push(Action::Open(Box::new(opening))),
            Err(code) => refuse_opening(request_id, code, out),
        }
    }

    fn update(&mut self, update: &UpdateChannel, now: Instant, out: &mut Vec<Action>) -> Result<(), Fault> {
        let channel_id = update.channel_id;
        let wishes = Wishes::read(update.nominal_hash_rate, update.maximum_target);
        let at = self.position(channel_id);
        let refused = match (at, wishes) {
            (None, _) => error_code::INVALID_CHANNEL_ID,
            (_, Err(code)) => code,
            (Some(at), Ok(wishes)) if wishes.pot_min > self.channels[at].pot_max() => {
                error_code::MAX_TARGET_OUT_OF_RANGE
            }
            (Some(at), Ok(wishes)) => {
                let job = self.channels[at].update(wishes, &self.settings, now);
                let deadline = self.channels[at].deadline();
                out.extend(job.map(job_action));
                self.look_again(deadline);
                return Ok(());
            }
        };
        send(&UpdateChannelError { channel_id, error_code: refused.into() }, out);
        self.patience.bad(now)
    }

    fn close(&mut self, channel_id: u32, out: &mut Vec<Action>) {
        if channel_id <= GROUPS {
            let members = self.channels.extract_if(.., |channel| group(channel) == channel_id);
            out.extend(members.map(|channel| Action::Closed(channel.prefix)));
        } else if let Some(at) = self.position(channel_id) {
            out.push(Action::Closed(self.channels.remove(at).prefix));
        }
    }

    fn submit(&mut self, submit: Submit, now: Instant, out: &mut Vec<Action>) -> Result<(), Fault> {
        let Submit { share: Share { channel_id, sequence_number }, rolled } = submit;
        let at = self.position(channel_id);
        let Some(at) = at.filter(|at| self.channels[*at].takes(&rolled)) else {
            send(&share_error(channel_id, sequence_number, error_code::INVALID_CHANNEL_ID), out);
            return self.patience.bad(now);
        };
        let channel = &mut self.channels[at];
        match channel.share(rolled, now) {
            Ok(share) => {
                self.active = Some(now);
                out.push(Action::Share { ticket: submit.share.ticket(), share });
            }
            Err(reject) => {
                out.push(Action::Refused(reject));
                self.refuse_share(channel_id, sequence_number, reject, out);
            }
        }
        let channel = &mut self.channels[at];
        let job = channel.retarget(&self.settings, now);
        let deadline = channel.deadline();
        out.extend(job.map(job_action));
        self.look_again(deadline);
        Ok(())
    }

    fn refuse_share(&self, channel_id: u32, sequence_number: u32, reject: Reject, out: &mut Vec<Action>) {
        send(&share_error(channel_id, sequence_number, self.code(reject)), out);
    }

    fn code(&self, reject: Reject) -> ErrorCode {
        match reject {
            Reject::UnknownJob => error_code::INVALID_JOB_ID,
            Reject::Stale => error_code::STALE_SHARE,
            Reject::Duplicate => error_code::DUPLICATE_SHARE,
            Reject::LowDifficulty => error_code::DIFFICULTY_TOO_LOW,
            Reject::BadVersionBits if self.settings.version_mask == 0 => {
                error_code::VERSION_ROLLING_NOT_ALLOWED
            }
            Reject::BadVersionBits => error_code::INVALID_NON_ROLLABLE_VERSION_BIT,
            Reject::BadExtranonceSize => error_code::BAD_EXTRANONCE_SIZE,
            Reject::AccountingUnavailable => error_code::ACCOUNTING_UNAVAILABLE,
            Reject::DuplicateSetFull => error_code::TOO_MANY_SHARES,
            Reject::RefusedUpstream
            | Reject::LostUpstream
            | Reject::Malformed(_)
            | Reject::BadNtime
            | Reject::Unauthorized
            | Reject::NotSubscribed => error_code::INVALID_SHARE,
        }
    }
}

/// The group that a channel is in for its whole life.
fn group(channel: &Channel) -> u32 {
    1 + (channel.extranonce2_bytes - EXTRANONCE2_BYTES) as u32 // at most 5
}

fn job_action(job: JobMessage) -> Action {
    Action::Job(session::JobMessage::V2(job))
}

fn share_error(channel_id: u32, sequence_number: u32, code: ErrorCode) -> SubmitSharesError {
    SubmitSharesError { channel_id, sequence_number, error_code: code.into() }
}

fn refuse_opening(request_id: u32, code: ErrorCode, out: &mut Vec<Action>) {
    send(&OpenMiningChannelError { request_id, error_code: code.into() }, out);
}

fn send<M: Wire>(message: &M, out: &mut Vec<Action>) {
    send_with(message, |_| {}, out);
}

/// With fields of extensions behind the message's own.
fn send_with<M: Wire>(message: &M, behind: impl FnOnce(&mut Vec<u8>), out: &mut Vec<Action>) {
    let mut frame = Vec::with_capacity(64);
    write_frame_with(message, behind, &mut frame);
    out.push(Action::Send(frame.into()));
}

#[cfg(test)]
mod tests;

//! One channel: its jobs, its difficulty, and its shares that wait to be acknowledged.

use super::job::{JobMessage, Kind};
use super::opening::{Opening, Wishes};
use super::settings::Settings;
use crate::class::SizeClass;
use crate::encoded::EncodedJob;
use crate::extranonce::{EXTRANONCE_BYTES, EXTRANONCE1_BYTES, Extranonce1, Extranonce2};
use crate::job::{JobId, Roll};
use crate::payee::Payee;
use crate::pot::Pot;
use crate::ring::{Announcement, JobRing, Sent};
use crate::session::{Booked, Miner};
use crate::share::{PendingShare, Reject};
use crate::v2::codec::Bytes32;
use crate::v2::extension::Receipts;
use crate::v2::message::SubmitSharesSuccess;
use crate::vardiff::Vardiff;
use std::sync::Arc;
use std::time::Instant;

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) id: u32,
    pub(super) kind: Kind,
    pub(super) prefix: Extranonce1,
    pub(super) wishes: Wishes,
    payee: Arc<Payee>,
    class: SizeClass,
    /// Bytes that its client rolls, or that stand there as zeros.
    pub(super) extranonce2_bytes: usize,
    pot: Pot,
    jobs: JobRing,
    /// What the newest job was made from.
    newest: Arc<EncodedJob>,
    vardiff: Vardiff,
    durable: Durable,
}

/// Shares that became durable since the last acknowledgement.
#[derive(Debug, Default)]
struct Durable {
    last_sequence_number: u32,
    count: u32,
    /// Sum of their difficulties, in units of [`Pot::MIN`]'s.
    sum: u128,
    /// Where the first and the last of their entries are, if they are in a log.
    entries: Option<(u64, u64)>,
}

/// The values of a share, whatever the kind of its channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rolled {
    pub(super) job_id: u32,
    pub(super) nonce: u32,
    pub(super) ntime: u32,
    pub(super) version: u32,
    /// `None` on a standard channel.
    pub(super) extranonce: Option<Bytes32>,
}

impl Channel {
    /// A channel whose first job will be made from `newest`.
    pub(super) fn new(
        id: u32,
        opening: Opening,
        prefix: Extranonce1,
        newest: &Arc<EncodedJob>,
        settings: &Settings,
        shares_per_minute: f64,
        now: Instant,
    ) -> Self {
        let Opening { kind, wishes, payee, class, extranonce2_bytes, .. } = opening;
        let first_job = u32::from_le_bytes(prefix.0).wrapping_mul(0x9e37_79b1) >> 8;
        let mut channel = Self {
            id,
            kind,
            prefix,
            wishes,
            payee,
            class,
            extranonce2_bytes,
            pot: settings.pot_start,
            // Job ids of different channels differ, so that nobody's share fits another's job by chance.
            jobs: JobRing::new(first_job),
            newest: newest.clone(),
            vardiff: Vardiff::new(shares_per_minute, now),
            durable: Durable::default(),
        };
        let wished = channel.wishes.pot(shares_per_minute).unwrap_or(settings.pot_start);
        channel.pot = channel.within(wished, settings);
        channel
    }

    /// The hardest pot that its newest job can have.
    pub(super) fn pot_max(&self) -> Pot {
        self.newest.pot_max()
    }

    pub(super) fn has_machines(&self) -> bool {
        self.wishes.hashes_per_s > 0.0
    }

    /// Whether the share is of the channel's kind.
    pub(super) fn takes(&self, rolled: &Rolled) -> bool {
        rolled.extranonce.is_some() == (self.kind == Kind::Extended)
    }

    pub(super) fn pot(&self) -> Pot {
        self.pot
    }

    /// The fixed part of the channel's extranonce. A standard channel rolls nothing behind it.
    pub(super) fn extranonce_prefix(&self) -> Bytes32 {
        match self.kind {
            Kind::Extended => self.prefix.0.into(),
            Kind::Standard => {
                let mut whole = [0; EXTRANONCE_BYTES];
                whole[..self.prefix.0.len()].copy_from_slice(&self.prefix.0);
                whole.into()
            }
        }
    }

    pub(super) fn miner(&self) -> Miner<'_> {
        let hashes_per_s =
            if self.vardiff.has_seen_shares() { self.vardiff.hashes_per_s(self.pot) } else { 0.0 };
        let extranonce_bytes = EXTRANONCE1_BYTES + self.extranonce2_bytes;
        Miner { payee: &self.payee, class: self.class, hashes_per_s, extranonce_bytes }
    }

    pub(super) fn aim(&mut self, shares_per_minute: f64) {
        self.vardiff.aim(shares_per_minute);
    }

    /// Makes the newest job from `encoded`.
    pub(super) fn work(
        &mut self,
        encoded: &Arc<EncodedJob>,
        settings: &Settings,
        now: Instant,
    ) -> JobMessage {
        self.newest = encoded.clone();
        self.pot = self.within(self.pot, settings);
        let first = self.jobs.newest().is_none();
        let (body, tag) = (encoded.body(), self.payee.tag);
        let Announcement { id, clean, pot_changed } =
            self.jobs.send(body, tag, self.pot, settings.version_mask, now);
        if pot_changed {
            self.vardiff.restart(now);
        }
        JobMessage {
            channel: self.id,
            kind: self.kind,
            prefix: self.prefix,
            // The answer to the request named the first target.
            target: (pot_changed && !first).then_some(self.pot),
            id,
            encoded: encoded.clone(),
            tag,
            pot: self.pot,
            version_rolling: settings.version_mask != 0,
            clean,
        }
    }

    /// Steps 3, 4 and 8 of the judgement; a share that is refused here cannot even be hashed.
    pub(super) fn share(&mut self, rolled: Rolled, now: Instant) -> Result<PendingShare, Reject> {
        let share = self.pending(rolled);
        let pot = share.as_ref().map_or(self.pot, |share| share.job.pot);
        self.vardiff.observe(pot, self.pot, now);
        share
    }

    fn pending(&self, rolled: Rolled) -> Result<PendingShare, Reject> {
        let id = JobId(rolled.job_id);
        let sent = self.jobs.find(id).ok_or(match self.jobs.was_sent(id) {
            true => Reject::Stale,
            false => Reject::UnknownJob,
        })?;
        let extranonce2 = match rolled.extranonce {
            None => Extranonce2::ZERO,
            Some(bytes) if bytes.as_bytes().len() == self.extranonce2_bytes => {
                Extranonce2::new(bytes.as_bytes()).expect("no more are granted than fit")
            }
            Some(_) => return Err(Reject::BadExtranonceSize),
        };
        let Rolled { nonce, ntime, version, .. } = rolled;
        let roll = Roll { extranonce1: self.prefix, extranonce2, ntime, nonce, version };
        let allowed = version_allowed(sent, version);
        Ok(PendingShare::new(id, sent.job.clone(), roll, self.payee.clone()).under(allowed))
    }

    /// When to ask [`Channel::retarget`] if no share comes before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.vardiff.deadline()
    }

    /// A job of another difficulty, if the rate of the shares asks for one.
    pub(super) fn retarget(&mut self, settings: &Settings, now: Instant) -> Option<JobMessage> {
        let bounds = self.within(Pot::MIN, settings)..=self.within(Pot::MAX, settings);
        let pot = self.vardiff.retarget(now, self.pot, bounds)?;
        self.go_to(pot, settings, now)
    }

    /// The client's machines have changed. Once shares have come, measuring knows better than the client when
    /// they are fewer; that they are more is believed at once.
    pub(super) fn update(&mut self, wishes: Wishes, settings: &Settings, now: Instant) -> Option<JobMessage> {
        self.wishes = wishes;
        let wished = wishes.pot(self.vardiff.shares_per_minute()).unwrap_or(self.pot);
        let pot = if self.vardiff.has_seen_shares() { wished.max(self.pot) } else { wished };
        self.go_to(pot, settings, now)
    }

    fn go_to(&mut self, pot: Pot, settings: &Settings, now: Instant) -> Option<JobMessage> {
        let pot = self.within(pot, settings);
        (pot != self.pot).then(|| {
            self.pot = pot;
            let newest = self.newest.clone();
            self.work(&newest, settings, now)
        })
    }

    /// Clamps a pot: the network target outranks the client, and the client the operator.
    fn within(&self, pot: Pot, settings: &Settings) -> Pot {
        let pot = pot.max(settings.pot_min).min(settings.pot_max);
        pot.max(self.wishes.pot_min).min(self.newest.pot_max())
    }

    /// Notes a durable share; whether it is the first since the last acknowledgement.
    pub(super) fn durable(&mut self, sequence_number: u32, Booked { pot, entry }: Booked) -> bool {
        let durable = &mut self.durable;
        if let Some(entry) = entry {
            let (first, last) = durable.entries.unwrap_or((entry, entry));
            durable.entries = Some((first.min(entry), last.max(entry)));
        }
        durable.last_sequence_number = sequence_number;
        durable.count += 1;
        let steps = u32::from((pot.get() - Pot::MIN.get()).unsigned_abs());
        durable.sum = durable.sum.saturating_add(1_u128.checked_shl(steps).unwrap_or(u128::MAX));
        durable.count == 1
    }

    /// The acknowledgement of all shares that became durable since the last one, and where they are.
    pub(super) fn acknowledge(&mut self) -> Option<(SubmitSharesSuccess, Option<Receipts>)> {
        let Durable { last_sequence_number, count, sum, entries } = std::mem::take(&mut self.durable);
        let success = SubmitSharesSuccess {
            channel_id: self.id,
            last_sequence_number,
            new_submits_accepted_count: count,
            // Whole units of difficulty 1, as everybody counts them: 0 for less than one.
            new_shares_sum: u64::try_from(sum >> Pot::MIN.get().unsigned_abs()).unwrap_or(u64::MAX),
        };
        let receipts = entries.map(|(first, last)| Receipts::covering(first, last));
        (count > 0).then_some((success, receipts))
    }
}

/// Bits outside the mask must be the job's (MN-22). The header is hashed as it came, whatever they are.
fn version_allowed(sent: &Sent, version: u32) -> Result<(), Reject> {
    if (version ^ sent.job.body.version) & !sent.mask == 0 { Ok(()) } else { Err(Reject::BadVersionBits) }
}

//! Requests for a channel, read and checked as far as a session can.

use super::job::Kind;
use super::settings::Settings;
use crate::class::SizeClass;
use crate::extranonce::{EXTRANONCE1_BYTES, EXTRANONCE2_BYTES, EXTRANONCE2_BYTES_MAX};
use crate::payee::Payee;
use crate::pot::Pot;
use crate::target::Target;
use crate::v2::codec::{Str255, U256};
use crate::v2::error_code::{self, ErrorCode};
use crate::v2::message::{OpenExtendedMiningChannel, OpenStandardMiningChannel};
use std::sync::Arc;

/// A request for a channel that nothing speaks against so far. It wants a prefix and a job.
#[derive(Debug)]
pub struct Opening {
    pub(super) request_id: u32,
    pub(super) kind: Kind,
    pub(super) wishes: Wishes,
    /// Whom the channel is for.
    pub payee: Arc<Payee>,
    /// How large a coinbase its client can take.
    pub class: SizeClass,
    /// Bytes of extranonce that the client rolls.
    pub(super) extranonce2_bytes: usize,
}

/// What a client says of its machines, and what it wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wishes {
    /// Hashes per second; 0 while there are no machines.
    pub(super) hashes_per_s: f64,
    /// Easiest pot whose target is not above the client's.
    pub(super) pot_min: Pot,
}

impl Wishes {
    pub(super) fn read(nominal_hash_rate: f32, max_target: U256) -> Result<Self, ErrorCode> {
        if !nominal_hash_rate.is_finite() || nominal_hash_rate < 0.0 {
            return Err(error_code::INVALID_NOMINAL_HASHRATE);
        }
        let pot_min = Target::try_from(max_target).ok().and_then(Pot::easiest_within);
        Ok(Self {
            hashes_per_s: nominal_hash_rate.into(),
            pot_min: pot_min.ok_or(error_code::MAX_TARGET_OUT_OF_RANGE)?,
        })
    }

    /// The pot that gives machines of this rate the wanted number of shares; `None` without machines.
    pub(super) fn pot(&self, shares_per_minute: f64) -> Option<Pot> {
        // A share of difficulty 1 takes 2^32 hashes.
        Pot::at_most(self.hashes_per_s * 60.0 / shares_per_minute / 32_f64.exp2())
    }
}

impl Opening {
    pub(super) fn standard(
        request: &OpenStandardMiningChannel,
        settings: &Settings,
    ) -> Result<Self, ErrorCode> {
        Ok(Self {
            request_id: request.request_id,
            kind: Kind::Standard,
            wishes: Wishes::read(request.nominal_hash_rate, request.max_target)?,
            payee: payee(&request.user_identity, settings)?,
            // The client never sees the coinbase.
            class: SizeClass::B16000,
            extranonce2_bytes: EXTRANONCE2_BYTES,
        })
    }

    pub(super) fn extended(
        request: &OpenExtendedMiningChannel,
        class: SizeClass,
        settings: &Settings,
    ) -> Result<Self, ErrorCode> {
        let wanted = usize::from(request.min_extranonce_size);
        if wanted > EXTRANONCE2_BYTES_MAX {
            return Err(error_code::MIN_EXTRANONCE_SIZE_TOO_LARGE);
        }
        Ok(Self {
            request_id: request.request_id,
            kind: Kind::Extended,
            wishes: Wishes::read(request.nominal_hash_rate, request.max_target)?,
            payee: payee(&request.user_identity, settings)?,
            class,
            // No more than is asked for: some firmware takes no more than 8 (trap 13).
            extranonce2_bytes: wanted.max(EXTRANONCE2_BYTES),
        })
    }

    /// Bytes of extranonce in its coinbases, prefix and rolled part together.
    pub fn extranonce_bytes(&self) -> usize {
        EXTRANONCE1_BYTES + self.extranonce2_bytes
    }

    /// What its machines do, as their owner says.
    pub fn hashes_per_s(&self) -> f64 {
        self.wishes.hashes_per_s
    }
}

/// Whoever cannot be paid gets no channel: work is never booked to somebody else.
fn payee(identity: &Str255, settings: &Settings) -> Result<Arc<Payee>, ErrorCode> {
    let user = std::str::from_utf8(identity.as_bytes()).map_err(|_| error_code::INVALID_USER_IDENTITY)?;
    Payee::parse(user, settings.network).map(Arc::new).map_err(|_| error_code::INVALID_USER_IDENTITY)
}

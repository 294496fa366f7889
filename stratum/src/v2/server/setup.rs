//! `SetupConnection`: whether the two sides can work together.

use super::settings::Settings;
use crate::class::SizeClass;
use crate::v2::error_code::{self, ErrorCode};
use crate::v2::flag;
use crate::v2::message::{SetupConnection, SetupConnectionError, SetupConnectionSuccess};

/// What was agreed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Agreed {
    /// The client cannot use extended jobs.
    pub(super) standard_only: bool,
    /// Class of its extended channels' coinbases.
    pub(super) class: SizeClass,
    /// It is told where in the share log its shares are.
    pub(super) receipts: bool,
}

/// The answer, and what is agreed with it.
pub(super) fn negotiate(
    setup: &SetupConnection,
    settings: &Settings,
) -> Result<(SetupConnectionSuccess, Agreed), SetupConnectionError> {
    let refuse = |flags, code: ErrorCode| SetupConnectionError { flags, error_code: code.into() };
    if setup.protocol != flag::PROTOCOL_MINING {
        return Err(refuse(0, error_code::UNSUPPORTED_PROTOCOL));
    }
    if !(setup.min_version..=setup.max_version).contains(&flag::PROTOCOL_VERSION) {
        return Err(refuse(0, error_code::PROTOCOL_VERSION_MISMATCH));
    }
    let fixed = settings.version_mask == 0;
    let mut supported = flag::REQUIRES_STANDARD_JOBS;
    if !fixed {
        supported |= flag::REQUIRES_VERSION_ROLLING;
    }
    // All that are not, for the client may be asking just that (CM-04, CM-05).
    let unsupported = setup.flags & !supported;
    if unsupported != 0 {
        return Err(refuse(unsupported, error_code::UNSUPPORTED_FEATURE_FLAGS));
    }
    let flags = if fixed { flag::REQUIRES_FIXED_VERSION } else { 0 };
    let vendor = String::from_utf8_lossy(setup.vendor.as_bytes());
    let agreed = Agreed {
        standard_only: setup.flags & flag::REQUIRES_STANDARD_JOBS != 0,
        class: SizeClass::for_agent(&vendor),
        receipts: false,
    };
    Ok((SetupConnectionSuccess { used_version: flag::PROTOCOL_VERSION, flags }, agreed))
}

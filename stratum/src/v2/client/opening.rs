//! How a connection begins, and how its channels do.

use super::channel::Channel;
use super::event::{Kind, RequestId};
use super::job::share_target;
use super::settings::Settings;
use crate::fault::Fault;
use crate::v2::codec::{Bytes32, U256};
use crate::v2::flag;
use crate::v2::message::{
    OpenExtendedMiningChannelSuccess, OpenStandardMiningChannelSuccess, SetupConnection,
    SetupConnectionSuccess,
};
use std::time::Instant;

/// The first message.
pub(super) fn setup(settings: &Settings) -> SetupConnection {
    let flags = [
        (settings.standard_jobs_only, flag::REQUIRES_STANDARD_JOBS),
        (settings.version_rolling, flag::REQUIRES_VERSION_ROLLING),
    ];
    let vendor =
        if settings.vendor.as_bytes().is_empty() { Settings::VENDOR } else { settings.vendor.clone() };
    SetupConnection {
        protocol: flag::PROTOCOL_MINING,
        min_version: flag::PROTOCOL_VERSION,
        max_version: flag::PROTOCOL_VERSION,
        flags: flags.iter().filter(|(wanted, _)| *wanted).map(|(_, flag)| flag).sum(),
        endpoint_host: settings.endpoint_host.clone(),
        endpoint_port: settings.endpoint_port,
        vendor,
        hardware_version: settings.hardware_version.clone(),
        firmware: settings.firmware.clone(),
        device_id: settings.device_id.clone(),
    }
}

/// Whether what the server needs suits us (CM-07).
pub(super) fn suits(success: &SetupConnectionSuccess, settings: &Settings) -> bool {
    let needs = |flag| success.flags & flag != 0;
    let fixed = settings.version_rolling && needs(flag::REQUIRES_FIXED_VERSION);
    let extended = settings.standard_jobs_only && needs(flag::REQUIRES_EXTENDED_CHANNELS);
    success.used_version == flag::PROTOCOL_VERSION && !fixed && !extended
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) request: RequestId,
    pub(super) kind: Kind,
    pub(super) until: Instant,
}

/// A channel of either kind, as the server grants it.
pub(super) struct Granted {
    pub(super) request_id: u32,
    channel_id: u32,
    target: U256,
    extranonce_prefix: Bytes32,
    /// `None` on a standard channel.
    extranonce_size: Option<u16>,
    group_channel_id: u32,
}

impl Granted {
    /// The channel, if it is what was asked for.
    pub(super) fn channel(self, kind: Kind) -> Result<Channel, Fault> {
        let extranonce_size = match (kind, self.extranonce_size) {
            (Kind::Standard, None) => 0,
            (Kind::Extended { min_extranonce_size }, Some(size)) if size >= min_extranonce_size => {
                size.into()
            }
            (Kind::Extended { .. }, Some(_)) => {
                return Err(Fault::Misbehaved("a smaller extranonce than was asked for"));
            }
            _ => return Err(Fault::Misbehaved("a channel of another kind than was asked for")),
        };
        if self.extranonce_prefix.as_bytes().len() + extranonce_size > Bytes32::MAX {
            return Err(Fault::Misbehaved("an extranonce of more than 32 bytes"));
        }
        let target = share_target(self.target)?;
        let (id, group) = (self.channel_id, self.group_channel_id);
        Ok(Channel::new(id, kind, group, target, self.extranonce_prefix, extranonce_size))
    }
}

impl From<OpenStandardMiningChannelSuccess> for Granted {
    fn from(success: OpenStandardMiningChannelSuccess) -> Self {
        let OpenStandardMiningChannelSuccess {
            request_id,
            channel_id,
            target,
            extranonce_prefix,
            group_channel_id,
        } = success;
        Self { request_id, channel_id, target, extranonce_prefix, extranonce_size: None, group_channel_id }
    }
}

impl From<OpenExtendedMiningChannelSuccess> for Granted {
    fn from(success: OpenExtendedMiningChannelSuccess) -> Self {
        let OpenExtendedMiningChannelSuccess {
            request_id,
            channel_id,
            target,
            extranonce_size,
            extranonce_prefix,
            group_channel_id,
        } = success;
        let extranonce_size = Some(extranonce_size);
        Self { request_id, channel_id, target, extranonce_prefix, extranonce_size, group_channel_id }
    }
}

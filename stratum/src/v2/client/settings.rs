//! What a client says of itself, and how patient it is.

use crate::v2::codec::Str255;
use std::time::Duration;

/// What one connection needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether the client takes jobs with a finished merkle root only (`REQUIRES_STANDARD_JOBS`): then it gets no
    /// extended channels and no groups.
    pub standard_jobs_only: bool,
    /// Whether every job has to allow version rolling (`REQUIRES_VERSION_ROLLING`).
    pub version_rolling: bool,
    /// Host that the connection goes to, as its owner wrote it.
    pub endpoint_host: Str255,
    /// Port that the connection goes to.
    pub endpoint_port: u16,
    /// Who made the device, or which program this is; if empty, [`Settings::VENDOR`] is said (CM-06).
    pub vendor: Str255,
    /// Which device it is.
    pub hardware_version: Str255,
    /// What runs on it.
    pub firmware: Str255,
    /// The device among its likes; empty unless its owner wants otherwise.
    pub device_id: Str255,
    /// From a request, `SetupConnection` or for a channel, to its answer. Shares are not meant: servers acknowledge
    /// them in batches that may never fill.
    pub answer_within: Duration,
    /// Without a single byte from the server.
    pub silence_max: Duration,
}

impl Settings {
    /// What `vendor` is if nothing else is chosen.
    pub const VENDOR: Str255 = Str255::from_static("sluice");

    /// Settings for a server, with version rolling and the usual patience.
    pub fn new(endpoint_host: Str255, endpoint_port: u16) -> Self {
        Self {
            standard_jobs_only: false,
            version_rolling: true,
            endpoint_host,
            endpoint_port,
            vendor: Self::VENDOR,
            hardware_version: Str255::from_static("software"),
            firmware: Str255::from_static(env!("CARGO_PKG_VERSION")),
            device_id: Str255::default(),
            answer_within: Duration::from_secs(10),
            silence_max: Duration::from_secs(600),
        }
    }
}

//! What a session needs to know beforehand.

#[cfg(doc)]
use super::Client;
use super::JOBS_MAX;
use crate::v1::line::UPSTREAM_LINE_BYTES_MAX;
use std::time::Duration;

/// What one connection needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// User name for `mining.authorize` and every share: `address.worker` at an address pool.
    pub user: String,
    /// Password; most pools ignore it, some read options out of it.
    pub password: String,
    /// User agent for `mining.subscribe`.
    pub agent: String,
    /// Host that the connection goes to: the only one that `client.reconnect` may name (V1-11).
    pub host: String,
    /// Version bits to ask for; `None` does not roll the version.
    pub version_mask: Option<u32>,
    /// Whether to offer `mining.set_extranonce` to the upstream.
    pub extranonce_subscribe: bool,
    /// Longest line taken, in bytes.
    pub line_bytes_max: usize,
    /// Jobs kept for [`Client::is_live`], 1…[`JOBS_MAX`].
    pub jobs_max: usize,
    /// From [`Client::new`] to the answer to `mining.authorize`.
    pub handshake_max: Duration,
    /// From a request to its answer.
    pub answer_max: Duration,
    /// Without a single line from the upstream.
    pub silence_max: Duration,
}

impl Settings {
    /// Settings for a user at a host, with the mask of BIP 320 and the usual patience.
    pub fn new(user: impl Into<String>, host: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            password: "x".to_owned(),
            agent: concat!("sluice/", env!("CARGO_PKG_VERSION")).to_owned(),
            host: host.into(),
            version_mask: Some(0x1fff_e000),
            extranonce_subscribe: false,
            line_bytes_max: UPSTREAM_LINE_BYTES_MAX,
            jobs_max: JOBS_MAX,
            handshake_max: Duration::from_secs(30),
            answer_max: Duration::from_secs(60),
            silence_max: Duration::from_secs(600),
        }
    }
}

//! Jobs encoded once: what all connections and channels that get a job share of its lines and frames.

use crate::job::JobBody;
use crate::pot::Pot;
use crate::v1::encode::Notify;
use crate::v2::encode::JobFrames;
use std::sync::Arc;

/// A body, and what of it is the same for all who work on it.
#[derive(Debug)]
pub struct EncodedJob {
    body: Arc<JobBody>,
    pot_max: Pot,
    notify: Notify,
    frames: JobFrames,
}

impl EncodedJob {
    /// Encodes a body.
    pub fn new(body: Arc<JobBody>) -> Self {
        Self {
            pot_max: Pot::hardest_within(body.hardest_share),
            notify: Notify::new(&body),
            frames: JobFrames::new(body.clone()),
            body,
        }
    }

    /// The same job with a longer extranonce; see [`Coinbase::with_extranonce`](crate::job::Coinbase::with_extranonce).
    ///
    /// # Panics
    /// As that.
    pub fn with_extranonce(&self, extranonce_bytes: usize) -> Self {
        let coinbase = self.body.coinbase.with_extranonce(extranonce_bytes);
        Self::new(Arc::new(JobBody { coinbase, ..(*self.body).clone() }))
    }

    /// The body.
    pub fn body(&self) -> &Arc<JobBody> {
        &self.body
    }

    /// The hardest pot a share of this body may have, see [`JobBody::hardest_share`].
    pub fn pot_max(&self) -> Pot {
        self.pot_max
    }

    /// For V1.
    pub(crate) fn notify(&self) -> &Notify {
        &self.notify
    }

    /// For V2.
    pub(crate) fn frames(&self) -> &JobFrames {
        &self.frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{self, HARD_NBITS};

    #[test]
    fn no_share_target_is_harder_than_the_network_target() {
        let encoded = sample::encoded(sample::body(sample::REGTEST_NBITS));
        assert_eq!(encoded.pot_max(), Pot::MIN);
        let encoded = sample::encoded(sample::body(HARD_NBITS));
        let target = encoded.body().network_target;
        assert!(encoded.pot_max().target() >= target);
        assert!(encoded.pot_max().saturating_add(1).target() < target);
    }
}

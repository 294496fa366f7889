//! How the session of a new connection is made.

use super::places::Places;
use std::sync::Arc;
use std::time::Instant;
use stratum::extranonce::PrefixesExhausted;
use stratum::session::Session;
use stratum::{v1, v2};
use stratum_net::acceptor::Wire;
use stratum_net::outbox::Outbox;

/// Settings of the sessions, by protocol.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// Stratum V1.
    pub v1: Arc<v1::server::Settings>,
    /// Stratum V2.
    pub v2: Arc<v2::server::Settings>,
}

impl SessionSettings {
    /// The session of the connection of this number, and its empty outbox. A V1 connection takes a place at once, a V2
    /// connection one for each channel.
    pub(super) fn session(
        &self,
        wire: Wire,
        number: u64,
        places: &mut Places,
        now: Instant,
    ) -> Result<(Session, Outbox), PrefixesExhausted> {
        Ok(match wire {
            Wire::Lines => {
                let prefix = places.take(now)?;
                // Job ids of different connections differ, so that nobody's share fits another's job by chance.
                let first_job = (number as u32).wrapping_mul(0x9e37_79b1) >> 8; // the low bits are enough
                let session = v1::server::Session::new(self.v1.clone(), prefix, first_job, now);
                (Session::V1(session), Outbox::default())
            }
            Wire::Sealed(transport) => {
                let session = v2::server::Session::new(self.v2.clone(), transport.open, now);
                (Session::V2(session), Outbox::sealed(transport.seal))
            }
        })
    }
}

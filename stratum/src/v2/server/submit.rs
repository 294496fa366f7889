//! Shares as a client submits them, whichever kind their channel is of, and how a session names them.

use super::channel::Rolled;
use crate::session::Ticket;
use crate::v2::message::{SubmitSharesExtended, SubmitSharesStandard};

/// Names a share on its connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    pub(super) channel_id: u32,
    pub(super) sequence_number: u32,
}

impl Share {
    pub(super) fn ticket(self) -> Ticket {
        Ticket(u64::from(self.channel_id) << 32 | u64::from(self.sequence_number))
    }

    pub(super) fn of(Ticket(number): Ticket) -> Self {
        Self { channel_id: (number >> 32) as u32, sequence_number: number as u32 } // its two halves
    }
}

/// A share of either kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Submit {
    pub(super) share: Share,
    pub(super) rolled: Rolled,
}

impl From<SubmitSharesStandard> for Submit {
    fn from(submit: SubmitSharesStandard) -> Self {
        let SubmitSharesStandard { channel_id, sequence_number, job_id, nonce, ntime, version } = submit;
        let rolled = Rolled { job_id, nonce, ntime, version, extranonce: None };
        Self { share: Share { channel_id, sequence_number }, rolled }
    }
}

impl From<SubmitSharesExtended> for Submit {
    fn from(submit: SubmitSharesExtended) -> Self {
        let SubmitSharesExtended { channel_id, sequence_number, job_id, nonce, ntime, version, extranonce } =
            submit;
        let rolled = Rolled { job_id, nonce, ntime, version, extranonce: Some(extranonce) };
        Self { share: Share { channel_id, sequence_number }, rolled }
    }
}

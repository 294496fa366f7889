//! Kind 03: who stands behind a payee index.

use super::DecodeError;
use super::fields::{Fields, put_script};
use crate::payout::SCRIPT_BYTES_MAX;
use bitcoin::ScriptBuf;
use stratum::payee::{Payee, tagged_hash};

/// Registration of a payee and worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayeeEntry {
    /// The number that share entries carry.
    pub index: u32,
    /// Which worker, without telling the public its name.
    pub worker: WorkerTag,
    /// Where the money goes.
    pub script: ScriptBuf,
}

/// First 16 bytes of taggedhash("worker", salt ‖ script ‖ worker name).
///
/// The salt is the operator's secret: worker names cannot be guessed from the public log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerTag(pub [u8; 16]);

impl WorkerTag {
    /// The tag of a payee's worker under a salt.
    pub fn of(payee: &Payee, salt: &[u8; 16]) -> Self {
        let parts: [&[u8]; 3] = [salt, payee.script.as_bytes(), payee.worker.as_str().as_bytes()];
        let digest = tagged_hash("worker", &parts);
        Self(digest[..16].try_into().expect("a digest has 32 bytes"))
    }
}

impl PayeeEntry {
    /// That it can be paid: an output gives the length of its script one byte, and the commitment, too.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let is_payable = (1..=SCRIPT_BYTES_MAX).contains(&self.script.len());
        is_payable.then_some(()).ok_or("payee script is empty or too long to be paid")
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.index.to_le_bytes());
        out.extend(self.worker.0);
        put_script(out, &self.script);
    }

    pub(super) fn take(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self { index: fields.u32()?, worker: WorkerTag(fields.array()?), script: fields.script()? })
    }
}

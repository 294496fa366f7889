//! Kind 07: a payee is paid to another address from here on.

use super::DecodeError;
use super::fields::{Fields, put_script};
use bitcoin::ScriptBuf;

/// Longest signature that an entry carries, in bytes; the longest that anybody makes, a whole transaction, has about 250.
pub const SIGNATURE_BYTES_MAX: usize = 1_000;

/// From here on all that the old script has earned, is owed and goes on to earn is the new one's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The log that this was signed for.
    pub log_id: [u8; 16],
    /// Whose.
    pub from: ScriptBuf,
    /// Who is paid instead.
    pub to: ScriptBuf,
    /// Of the old address's owner: see [`crate::moves::message`].
    pub signature: Vec<u8>,
}

impl Move {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        assert!(
            self.signature.len() <= SIGNATURE_BYTES_MAX,
            "a signature of {} bytes does not fit an entry",
            self.signature.len()
        );
        out.extend(self.log_id);
        put_script(out, &self.from);
        put_script(out, &self.to);
        out.extend((self.signature.len() as u16).to_le_bytes()); // asserted: at most 1,000
        out.extend(&self.signature);
    }

    pub(super) fn take(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let (log_id, from, to) = (fields.array()?, fields.script()?, fields.script()?);
        let length = usize::from(fields.u16()?);
        if length > SIGNATURE_BYTES_MAX {
            return Err(DecodeError::Field("signature length"));
        }
        Ok(Self { log_id, from, to, signature: fields.bytes(length)?.to_vec() })
    }
}

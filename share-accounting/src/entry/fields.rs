//! Little-endian fields of an entry: written to a vector, read from a slice that may be hostile.

use super::DecodeError;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, ScriptBuf};

/// Longest script an entry carries, in bytes: consensus refuses to execute more.
pub const SCRIPT_BYTES_MAX: usize = 10_000;

/// Reads fields from the front; every read can fail, none panics or allocates by a declared length.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        Ok(self.bytes(N)?.try_into().expect("exactly N bytes were read"))
    }

    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn u128(&mut self) -> Result<u128, DecodeError> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    pub fn hash(&mut self) -> Result<BlockHash, DecodeError> {
        Ok(BlockHash::from_byte_array(self.array()?))
    }

    pub fn script(&mut self) -> Result<ScriptBuf, DecodeError> {
        let length = usize::from(self.u16()?);
        if length > SCRIPT_BYTES_MAX {
            return Err(DecodeError::Field("script length"));
        }
        Ok(ScriptBuf::from_bytes(self.bytes(length)?.to_vec()))
    }

    pub fn end(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes(self.0.len())) }
    }
}

/// Appends a script behind its u16 length.
///
/// # Panics
/// Beyond [`SCRIPT_BYTES_MAX`]: payees are standard scripts, the operator's are checked at start.
pub(crate) fn put_script(out: &mut Vec<u8>, script: &bitcoin::Script) {
    assert!(script.len() <= SCRIPT_BYTES_MAX, "a script of {} bytes does not fit an entry", script.len());
    out.extend((script.len() as u16).to_le_bytes()); // asserted: at most 10,000
    out.extend(script.as_bytes());
}

//! Kind 06: credits paid from the reserve.

use super::DecodeError;
use super::fields::{Fields, put_script};
use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, ScriptBuf, Txid};

/// A settlement: from here on these credits and outpoints are locked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// Credits it pays, in satoshis, by script.
    pub credits: Vec<(ScriptBuf, u64)>,
    /// Reserve outputs that it spends.
    pub reserve: Vec<OutPoint>,
}

impl Settlement {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let count =
            |length: usize| u32::try_from(length).expect("bounded by the size of an entry").to_le_bytes();
        out.extend(count(self.credits.len()));
        for (script, sats) in &self.credits {
            out.extend(sats.to_le_bytes());
            put_script(out, script);
        }
        out.extend(count(self.reserve.len()));
        for outpoint in &self.reserve {
            out.extend(outpoint.txid.as_byte_array());
            out.extend(outpoint.vout.to_le_bytes());
        }
    }

    pub(super) fn take(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        // Vectors grow as fields are really there: a declared count alone reserves nothing.
        let mut credits = Vec::new();
        for _ in 0..fields.u32()? {
            let sats = fields.u64()?;
            credits.push((fields.script()?, sats));
        }
        let mut reserve = Vec::new();
        for _ in 0..fields.u32()? {
            reserve.push(OutPoint { txid: Txid::from_byte_array(fields.array()?), vout: fields.u32()? });
        }
        Ok(Self { credits, reserve })
    }
}

//! Kind 06: credits paid from the reserve.

use super::DecodeError;
use super::fields::{Fields, put_script};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, OutPoint, ScriptBuf, Txid};

/// An output that holds what is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserve {
    /// Where it is.
    pub outpoint: OutPoint,
    /// What it holds, in satoshis.
    pub sats: u64,
}

/// A settlement: from here on these credits and outputs are locked for it. [`crate::settlement`] says which they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The newest pool block with 100 confirmations: what was owed there is paid from the reserves up to there.
    pub matured: BlockHash,
    /// The newest pool block: what has been paid since is not paid again.
    pub ledger_block: BlockHash,
    /// The network's fee in satoshis; the credits bear it.
    pub fee: u64,
    /// Credits that it takes away, in satoshis, in script order.
    pub credits: Vec<(ScriptBuf, u64)>,
    /// Reserve outputs that it spends.
    pub reserve: Vec<Reserve>,
}

impl Settlement {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let count =
            |length: usize| u32::try_from(length).expect("bounded by the size of an entry").to_le_bytes();
        out.extend(self.matured.as_byte_array());
        out.extend(self.ledger_block.as_byte_array());
        out.extend(self.fee.to_le_bytes());
        out.extend(count(self.credits.len()));
        for (script, sats) in &self.credits {
            out.extend(sats.to_le_bytes());
            put_script(out, script);
        }
        out.extend(count(self.reserve.len()));
        for Reserve { outpoint, sats } in &self.reserve {
            out.extend(outpoint.txid.as_byte_array());
            out.extend(outpoint.vout.to_le_bytes());
            out.extend(sats.to_le_bytes());
        }
    }

    pub(super) fn take(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let (matured, ledger_block, fee) = (fields.hash()?, fields.hash()?, fields.u64()?);
        // Vectors grow as fields are really there: a declared count alone reserves nothing.
        let mut credits = Vec::new();
        for _ in 0..fields.u32()? {
            let sats = fields.u64()?;
            credits.push((fields.script()?, sats));
        }
        let mut reserve = Vec::new();
        for _ in 0..fields.u32()? {
            let outpoint = OutPoint { txid: Txid::from_byte_array(fields.array()?), vout: fields.u32()? };
            reserve.push(Reserve { outpoint, sats: fields.u64()? });
        }
        Ok(Self { matured, ledger_block, fee, credits, reserve })
    }
}

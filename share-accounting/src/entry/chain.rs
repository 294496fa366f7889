//! Kind 05: what happened to the chain, the pool's blocks and the process.

use super::DecodeError;
use super::fields::Fields;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Txid};
use stratum::job::TemplateId;

/// An event and when it was noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainEntry {
    /// Unix milliseconds.
    pub unix_ms: u64,
    /// What happened.
    pub event: ChainEvent,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainEvent {
    /// The server started; everything before belongs to an earlier epoch.
    EpochStart {
        /// Grows by one at each start, modulo 65,536.
        epoch: u16,
    },
    /// A share solved a block.
    BlockFound {
        /// Hash of the block.
        hash: BlockHash,
        /// Its height.
        height: u32,
    },
    /// A pool block is on the best chain (again).
    BlockInChain(BlockHash),
    /// A pool block has left the best chain.
    BlockOrphaned(BlockHash),
    /// A pool block has 100 confirmations.
    BlockMatured(BlockHash),
    /// The node refused a pool block for good.
    BlockRefused(BlockHash),
    /// The network target changed.
    Retarget {
        /// The new compact target.
        nbits: u32,
    },
    /// Newer work replaced a template; its jobs earn nothing 120 s later.
    Superseded(TemplateId),
    /// The node told another newest block: work on others earns no more, but for the stale credit of the rules.
    NewTip(BlockHash),
    /// A settlement's transaction is in a block (again).
    SettlementPaid {
        /// Its entry.
        settlement: u64,
        /// The block.
        block: BlockHash,
        /// The transaction: signatures of old kinds are part of its name.
        txid: Txid,
    },
    /// A settlement that nobody has been given to sign is taken back: a block has paid what it was to pay.
    SettlementWithdrawn {
        /// Its entry.
        settlement: u64,
    },
    /// A settlement cannot be paid any more: something else has spent a reserve output of it, 100 blocks ago.
    SettlementFailed {
        /// Its entry.
        settlement: u64,
        /// Which outputs are spent: bit n for the nth of [`Settlement::reserve`](super::Settlement::reserve).
        spent: u128,
    },
}

impl ChainEntry {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.unix_ms.to_le_bytes());
        let mut hash = |code: u8, hash: &BlockHash| {
            out.push(code);
            out.extend(hash.as_byte_array());
        };
        match &self.event {
            ChainEvent::BlockFound { hash: block, height } => {
                hash(2, block);
                out.extend(height.to_le_bytes());
            }
            ChainEvent::BlockInChain(block) => hash(3, block),
            ChainEvent::BlockOrphaned(block) => hash(4, block),
            ChainEvent::BlockMatured(block) => hash(5, block),
            ChainEvent::BlockRefused(block) => hash(6, block),
            ChainEvent::NewTip(block) => hash(9, block),
            ChainEvent::EpochStart { epoch } => {
                out.push(1);
                out.extend(epoch.to_le_bytes());
            }
            ChainEvent::Retarget { nbits } => {
                out.push(7);
                out.extend(nbits.to_le_bytes());
            }
            ChainEvent::Superseded(template) => {
                out.push(8);
                out.extend(template.0.to_le_bytes());
            }
            ChainEvent::SettlementPaid { settlement, block, txid } => {
                out.push(10);
                out.extend(settlement.to_le_bytes());
                out.extend(block.as_byte_array());
                out.extend(txid.as_byte_array());
            }
            ChainEvent::SettlementWithdrawn { settlement } => {
                out.push(11);
                out.extend(settlement.to_le_bytes());
            }
            ChainEvent::SettlementFailed { settlement, spent } => {
                out.push(12);
                out.extend(settlement.to_le_bytes());
                out.extend(spent.to_le_bytes());
            }
        }
    }

    pub(super) fn take(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let unix_ms = fields.u64()?;
        let event = match fields.u8()? {
            1 => ChainEvent::EpochStart { epoch: fields.u16()? },
            2 => ChainEvent::BlockFound { hash: fields.hash()?, height: fields.u32()? },
            3 => ChainEvent::BlockInChain(fields.hash()?),
            4 => ChainEvent::BlockOrphaned(fields.hash()?),
            5 => ChainEvent::BlockMatured(fields.hash()?),
            6 => ChainEvent::BlockRefused(fields.hash()?),
            7 => ChainEvent::Retarget { nbits: fields.u32()? },
            8 => ChainEvent::Superseded(TemplateId(fields.u64()?)),
            9 => ChainEvent::NewTip(fields.hash()?),
            10 => ChainEvent::SettlementPaid {
                settlement: fields.u64()?,
                block: fields.hash()?,
                txid: Txid::from_byte_array(fields.array()?),
            },
            11 => ChainEvent::SettlementWithdrawn { settlement: fields.u64()? },
            12 => ChainEvent::SettlementFailed { settlement: fields.u64()?, spent: fields.u128()? },
            _ => return Err(DecodeError::Field("chain event")),
        };
        Ok(Self { unix_ms, event })
    }
}

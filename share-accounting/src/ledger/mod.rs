//! The ledger file: the pool's blocks, payees and identity, in SQLite (WAL, `synchronous=FULL`).
//!
//! - [`block`]: states of a block and the fold of credits, pure
//! - this module: the tables
//!
//! Credits are never stored, only each block's change: what is owed at a tip is always the sum over the
//! blocks that are on the chain of that tip.

pub mod block;

pub use block::{BlockState, Credits, Inconsistent, MATURITY, PoolBlock, fold};

use crate::moves::Moves;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, BlockHash, ScriptBuf, TxOut, Txid};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use std::path::Path;
use stratum::payee::Payee;

/// What makes each version of the one before.
const VERSIONS: [&str; 3] =
    [include_str!("schema.sql"), include_str!("coinbase.sql"), include_str!("logged.sql")];

/// The open ledger. One connection; further ones may be opened on the same file.
#[derive(Debug)]
pub struct Ledger {
    db: Connection,
}

/// Why the ledger cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// SQLite's own error.
    #[error("ledger: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file was written by a newer version.
    #[error("the ledger has schema version {0}, newer than this program: upgrade it")]
    NewerSchema(i32),
    /// It belongs to another share log.
    #[error("the ledger belongs to another share log: restore both from the same backup")]
    OtherLog,
    /// The log has a history, the ledger has none.
    #[error("the share log has entries but the ledger is new: restore the ledger, it holds what is owed")]
    Lost,
    /// No such block.
    #[error("block {0} is not in the ledger")]
    UnknownBlock(BlockHash),
    /// A change of state that cannot happen.
    #[error("block {hash} cannot go from {from:?} to {to:?}")]
    Transition {
        /// The block.
        hash: BlockHash,
        /// Its state.
        from: BlockState,
        /// The state it was to get.
        to: BlockState,
    },
    /// The same hash was recorded with other contents.
    #[error("block {0} is in the ledger with other contents")]
    Conflict(BlockHash),
    /// What is owed does not add up.
    #[error(
        "at height {height} {reason}: a block is missing from the ledger or its plan was wrong, and nothing is \
         paid from such books; start again with all files back in the folder of blocks, or restore the ledger \
         from a backup"
    )]
    Inconsistent {
        /// Of the tip.
        height: u32,
        /// What the blocks up to there give.
        reason: Inconsistent,
    },
    /// A stored value that is never written.
    #[error("the ledger holds a bad {0}: restore it from a backup")]
    Corrupt(&'static str),
}

/// Who this ledger and log are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Hides worker names in the public log.
    pub worker_salt: [u8; 16],
    /// Epoch of this start; durable.
    pub epoch: u16,
}

impl Ledger {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// The file cannot be used or is of a newer version.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let mut db = Connection::open(path)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "foreign_keys", true)?;
        let version: i32 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let known = usize::try_from(version).ok().and_then(|version| VERSIONS.get(version..));
        let missing = known.ok_or(LedgerError::NewerSchema(version))?;
        if !missing.is_empty() {
            let schema = db.transaction()?;
            missing.iter().try_for_each(|statements| schema.execute_batch(statements))?;
            schema.pragma_update(None, "user_version", VERSIONS.len() as i32)?;
            schema.commit()?;
        }
        Ok(Self { db })
    }

    /// Binds the ledger to a share log and counts a start of the server.
    ///
    /// The epoch grows past both the log's and the ledger's last one, so that restoring one of the
    /// two from a backup does not repeat an epoch. It wraps modulo 65,536.
    ///
    /// # Errors
    /// The ledger belongs to another log, or is new while the log is not.
    pub fn identify(&mut self, log_id: [u8; 16], log_epoch: Option<u16>) -> Result<Identity, LedgerError> {
        let meta = self.db.transaction()?;
        let known: Option<[u8; 16]> = read_meta(&meta, "log_id")?;
        match known {
            Some(known) if known != log_id => return Err(LedgerError::OtherLog),
            None if log_epoch.is_some() => return Err(LedgerError::Lost),
            _ => write_meta(&meta, "log_id", &log_id)?,
        }
        let worker_salt = read_meta(&meta, "worker_salt")?.unwrap_or_else(rand::random);
        write_meta(&meta, "worker_salt", &worker_salt)?;
        let own_epoch = read_meta(&meta, "epoch")?.map(u16::from_le_bytes);
        let epoch = match (log_epoch, own_epoch) {
            (None, None) => 0,
            (Some(one), None) | (None, Some(one)) => one.wrapping_add(1),
            // The later of two counters that wrap is less than half a turn ahead.
            (Some(log), Some(own)) if own.wrapping_sub(log) < 1 << 15 => own.wrapping_add(1),
            (Some(log), Some(_)) => log.wrapping_add(1),
        };
        write_meta(&meta, "epoch", &epoch.to_le_bytes())?;
        meta.commit()?;
        Ok(Identity { worker_salt, epoch })
    }

    /// Records a block that was found, in state [`BlockState::Solved`]. The same block again changes nothing,
    /// also if it was found again at another time.
    ///
    /// # Errors
    /// The hash is known with other contents, or the database refuses.
    pub fn record(&mut self, block: &PoolBlock) -> Result<(), LedgerError> {
        if let Some((known, _)) = self.block(block.hash)? {
            let PoolBlock { found_unix_ms, coinbase, .. } = known;
            let block = PoolBlock { found_unix_ms, coinbase, ..block.clone() };
            return if known == block { Ok(()) } else { Err(LedgerError::Conflict(block.hash)) };
        }
        let hash = block.hash.as_byte_array();
        let db = self.db.transaction()?;
        db.execute(
            "INSERT INTO blocks (hash, height, prev_hash, found_ms, value, reserve, state, coinbase) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                hash,
                block.height,
                block.prev_hash.as_byte_array(),
                signed(block.found_unix_ms)?,
                signed(block.value().to_sat())?,
                signed(block.reserve.to_sat())?,
                BlockState::Solved.label(),
                block.coinbase.as_ref().map(Txid::as_byte_array),
            ],
        )?;
        for (position, output) in (0_u32..).zip(&block.outputs) {
            let row =
                params![hash, position, output.script_pubkey.as_bytes(), signed(output.value.to_sat())?];
            db.execute("INSERT INTO outputs (block, position, script, value) VALUES (?, ?, ?, ?)", row)?;
        }
        for (script, delta) in &block.credit_delta {
            let row = params![hash, script.as_bytes(), delta];
            db.execute("INSERT INTO credit_deltas (block, script, delta) VALUES (?, ?, ?)", row)?;
        }
        Ok(db.commit()?)
    }

    /// Changes the state of a block.
    ///
    /// # Errors
    /// The block is unknown or [`BlockState::may_become`] forbids it.
    pub fn set_state(&mut self, hash: BlockHash, to: BlockState) -> Result<(), LedgerError> {
        let db = self.db.transaction()?;
        let label: Option<String> = db
            .query_row("SELECT state FROM blocks WHERE hash = ?", [hash.as_byte_array()], |row| row.get(0))
            .optional()?;
        let label = label.ok_or(LedgerError::UnknownBlock(hash))?;
        let from = BlockState::from_label(&label).ok_or(LedgerError::Corrupt("block state"))?;
        if !from.may_become(to) {
            return Err(LedgerError::Transition { hash, from, to });
        }
        db.execute("UPDATE blocks SET state = ? WHERE hash = ?", params![to.label(), hash.as_byte_array()])?;
        Ok(db.commit()?)
    }

    /// Notes that the share of a block is in the share log. Of a block that is not recorded nothing is noted.
    ///
    /// # Errors
    /// The database refuses.
    pub fn set_logged(&mut self, hash: BlockHash) -> Result<(), LedgerError> {
        self.db.execute("UPDATE blocks SET logged = 1 WHERE hash = ?", [hash.as_byte_array()])?;
        Ok(())
    }

    /// Whether the share of a block is known to be in the share log.
    ///
    /// # Errors
    /// The database refuses.
    pub fn is_logged(&self, hash: BlockHash) -> Result<bool, LedgerError> {
        let mut query = self.db.prepare_cached("SELECT logged FROM blocks WHERE hash = ?")?;
        let logged = query.query_row([hash.as_byte_array()], |row| row.get(0)).optional()?;
        Ok(logged.unwrap_or(false))
    }

    /// One block and its state.
    ///
    /// # Errors
    /// The database refuses.
    pub fn block(&self, hash: BlockHash) -> Result<Option<(PoolBlock, BlockState)>, LedgerError> {
        Ok(self.blocks("WHERE hash = ?", params![hash.as_byte_array()])?.pop())
    }

    /// The newest blocks by height, at most `limit`.
    ///
    /// # Errors
    /// The database refuses.
    pub fn recent_blocks(&self, limit: u32) -> Result<Vec<(PoolBlock, BlockState)>, LedgerError> {
        self.blocks("ORDER BY height DESC, found_ms DESC LIMIT ?", params![limit])
    }

    /// Blocks to be judged again when the chain has changed above height `above`, lowest first: all that lie
    /// higher, whatever was said of them before (an orphaned or a matured one may change sides), and those in
    /// the chain that are not mature yet.
    ///
    /// # Errors
    /// The database refuses.
    pub fn open_blocks(&self, above: u32) -> Result<Vec<(PoolBlock, BlockState)>, LedgerError> {
        self.blocks("WHERE state = 'in_chain' OR height > ? ORDER BY height", params![above])
    }

    /// What is owed at a tip of height `top`, when these payees have moved: the fold over the blocks up to there in state in chain or
    /// matured. Higher ones keep their state while a node has not got to them, and do not count.
    ///
    /// # Errors
    /// The database refuses, or what is owed does not add up ([`fold`]).
    pub fn credits(&self, top: u32, moves: &Moves) -> Result<Credits, LedgerError> {
        let blocks = self.blocks("WHERE state IN ('in_chain', 'matured') AND height <= ?", params![top])?;
        let credits = fold(blocks.iter().map(|(block, _)| block), moves);
        credits.map_err(|reason| LedgerError::Inconsistent { height: top, reason })
    }

    /// The newest pool block in the chain of a tip of height `top`; `None` before the first.
    ///
    /// # Errors
    /// The database refuses.
    pub fn newest_block(&self, top: u32) -> Result<Option<BlockHash>, LedgerError> {
        let which =
            "WHERE state IN ('in_chain', 'matured') AND height <= ? ORDER BY height DESC, hash DESC LIMIT 1";
        Ok(self.blocks(which, params![top])?.pop().map(|(block, _)| block.hash))
    }

    /// Blocks in the chain of a tip of height `top` that have put something aside, lowest first.
    ///
    /// # Errors
    /// The database refuses.
    pub fn reserves(&self, top: u32) -> Result<Vec<PoolBlock>, LedgerError> {
        let which = "WHERE state IN ('in_chain', 'matured') AND height <= ? AND reserve > 0 ORDER BY height";
        Ok(self.blocks(which, params![top])?.into_iter().map(|(block, _)| block).collect())
    }

    /// Notes payees with their workers' names, all in one transaction; the same again changes nothing.
    ///
    /// # Errors
    /// The database refuses; then none is noted.
    pub fn note_payees<'a>(
        &mut self,
        payees: impl IntoIterator<Item = &'a Payee>,
        unix_ms: u64,
    ) -> Result<(), LedgerError> {
        let db = self.db.transaction()?;
        for payee in payees {
            let row = params![payee.script.as_bytes(), payee.worker.as_str(), signed(unix_ms)?];
            db.execute("INSERT OR IGNORE INTO payees (script, worker, first_seen) VALUES (?, ?, ?)", row)?;
        }
        Ok(db.commit()?)
    }

    /// Payees and their workers in script order, at most `limit` behind the first `offset`.
    ///
    /// # Errors
    /// The database refuses.
    pub fn payees(&self, offset: u32, limit: u32) -> Result<Vec<(ScriptBuf, String)>, LedgerError> {
        let mut query = self
            .db
            .prepare_cached("SELECT script, worker FROM payees ORDER BY script, worker LIMIT ? OFFSET ?")?;
        let rows = query
            .query_map(params![limit, offset], |row| Ok((ScriptBuf::from_bytes(row.get(0)?), row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn blocks(
        &self,
        which: &str,
        with: impl rusqlite::Params,
    ) -> Result<Vec<(PoolBlock, BlockState)>, LedgerError> {
        let sql =
            format!("SELECT hash, height, prev_hash, found_ms, reserve, state, coinbase FROM blocks {which}");
        let mut query = self.db.prepare_cached(&sql)?;
        let mut rows = query.query(with)?;
        let mut blocks = Vec::new();
        while let Some(row) = rows.next()? {
            blocks.push(self.read_block(row)?);
        }
        Ok(blocks)
    }

    fn read_block(&self, row: &Row<'_>) -> Result<(PoolBlock, BlockState), LedgerError> {
        let hash: [u8; 32] = row.get(0)?;
        let state = BlockState::from_label(row.get_ref(5)?.as_str().map_err(rusqlite::Error::from)?);
        let mut query =
            self.db.prepare_cached("SELECT script, value FROM outputs WHERE block = ? ORDER BY position")?;
        let outputs =
            query.query_map([hash], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?)))?;
        let outputs = outputs.map(|output| {
            let (script, sats) = output?;
            Ok(TxOut { value: amount(sats)?, script_pubkey: ScriptBuf::from_bytes(script) })
        });
        let outputs = outputs.collect::<Result<_, LedgerError>>()?;
        let mut query = self
            .db
            .prepare_cached("SELECT script, delta FROM credit_deltas WHERE block = ? ORDER BY script")?;
        let deltas = query.query_map([hash], |row| Ok((ScriptBuf::from_bytes(row.get(0)?), row.get(1)?)))?;
        let block = PoolBlock {
            hash: BlockHash::from_byte_array(hash),
            height: row.get(1)?,
            prev_hash: BlockHash::from_byte_array(row.get(2)?),
            found_unix_ms: u64::try_from(row.get::<_, i64>(3)?).map_err(|_| LedgerError::Corrupt("time"))?,
            outputs,
            credit_delta: deltas.collect::<Result<_, _>>()?,
            reserve: amount(row.get(4)?)?,
            coinbase: row.get::<_, Option<[u8; 32]>>(6)?.map(Txid::from_byte_array),
        };
        Ok((block, state.ok_or(LedgerError::Corrupt("block state"))?))
    }
}

fn read_meta<const N: usize>(db: &Transaction<'_>, key: &str) -> Result<Option<[u8; N]>, LedgerError> {
    Ok(db.query_row("SELECT value FROM meta WHERE key = ?", [key], |row| row.get(0)).optional()?)
}

fn write_meta(db: &Transaction<'_>, key: &str, value: &[u8]) -> Result<(), LedgerError> {
    db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", params![key, value])?;
    Ok(())
}

/// SQLite's integers are signed.
fn signed(value: u64) -> Result<i64, LedgerError> {
    i64::try_from(value).map_err(|_| LedgerError::Corrupt("number beyond 2^63"))
}

fn amount(sats: i64) -> Result<Amount, LedgerError> {
    u64::try_from(sats).map(Amount::from_sat).map_err(|_| LedgerError::Corrupt("negative amount"))
}

#[cfg(test)]
mod tests;

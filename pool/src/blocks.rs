//! Solved blocks: to the nodes at once, and to the director who keeps the ledger.

use crate::director::News;
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::{Amount, BlockHash, ScriptBuf, TxOut};
use serde::{Deserialize, Serialize};
use share_accounting::ledger::PoolBlock;
use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use stratum::job::{Basis, Solution};
use template::submit::{Stored, Submitter};
use tracing::{debug, error, info};

/// Newest blocks that are known again when a miner sends them again. One that is older is submitted again,
/// which costs its sender a block's work for each.
const REMEMBERED_MAX: usize = 1_024;

/// Where shards put solved blocks.
#[derive(Debug, Clone)]
pub struct BlockSink {
    submitter: Arc<Submitter>,
    found: FoundBlocks,
    director: SyncSender<News>,
}

/// Blocks on their way into the books. Each has cost its finder the network's work: that is what bounds them.
///
/// Locked when a block is found and when the director looks for one, never on the share path.
#[derive(Debug, Clone, Default)]
pub struct FoundBlocks(Arc<Mutex<Found>>);

#[derive(Debug, Default)]
struct Found {
    waiting: Vec<PoolBlock>,
    /// Newest last.
    remembered: VecDeque<BlockHash>,
}

impl FoundBlocks {
    /// Adds a block; `false` if it was found before.
    fn add(&self, block: PoolBlock) -> bool {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if found.remembered.contains(&block.hash) {
            return false;
        }
        if found.remembered.len() >= REMEMBERED_MAX {
            found.remembered.pop_front();
        }
        found.remembered.push_back(block.hash);
        found.waiting.push(block);
        true
    }

    /// Takes out what was found since the last call, oldest first.
    pub fn take(&self) -> Vec<PoolBlock> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).waiting)
    }
}

/// What is kept with a block's file, so that the ledger can be completed from it after a crash.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    version: u32,
    prev_hash: BlockHash,
    found_unix_ms: u64,
    /// Script in hex and satoshis, in coinbase order.
    outputs: Vec<(String, u64)>,
    /// Script in hex and change of credit in satoshis.
    credit_delta: Vec<(String, i64)>,
    reserve_sats: u64,
}

/// Version of [`Note`].
const NOTE_VERSION: u32 = 1;

impl BlockSink {
    /// A sink in front of a submitter; the director is told to look into `found`.
    pub fn new(submitter: Arc<Submitter>, found: FoundBlocks, director: SyncSender<News>) -> Self {
        Self { submitter, found, director }
    }

    /// Sends a block on its way, once, and calls `stored` once a kill cannot lose it any more. It is never
    /// dropped: with a full queue of blocks the caller waits.
    ///
    /// A block that is sent again counts as stored: its share is accepted again only after its commit failed,
    /// and that came after the file.
    pub fn submit(&self, solution: Solution, found_unix_ms: u64, stored: Stored) {
        let block = pool_block(&solution, found_unix_ms);
        let (height, hash) = (block.height, block.hash);
        let note = Note::of(&block).to_bytes();
        // In the books' hands before any node can announce it as the new tip: a plan on top of it must know
        // what it paid.
        if !self.found.add(block) {
            debug!(height, %hash, "block sent again");
            return stored();
        }
        info!(height, %hash, "block found");
        // A full mailbox is no loss: the director looks whenever it hears anything.
        let _ = self.director.try_send(News::Found);
        if let Err(stopped) = self.submitter.submit(solution, note, stored) {
            error!(%stopped, "a block could not be submitted: it is lost unless the node learns of it elsewhere");
        }
    }
}

fn pool_block(solution: &Solution, found_unix_ms: u64) -> PoolBlock {
    let payout = &solution.body.payout;
    let credit_delta = match &payout.basis {
        Basis::Solo(_) => Vec::new(),
        Basis::Window { credit_delta, .. } => credit_delta.clone(),
    };
    PoolBlock {
        hash: solution.hash,
        height: solution.body.height,
        prev_hash: solution.body.prev_hash,
        found_unix_ms,
        outputs: payout.outputs.clone(),
        credit_delta,
        reserve: payout.reserve(),
    }
}

impl Note {
    fn of(block: &PoolBlock) -> Self {
        let hex = |script: &ScriptBuf| script.as_bytes().to_lower_hex_string();
        let output = |output: &TxOut| (hex(&output.script_pubkey), output.value.to_sat());
        Self {
            version: NOTE_VERSION,
            prev_hash: block.prev_hash,
            found_unix_ms: block.found_unix_ms,
            outputs: block.outputs.iter().map(output).collect(),
            credit_delta: block.credit_delta.iter().map(|(script, delta)| (hex(script), *delta)).collect(),
            reserve_sats: block.reserve.to_sat(),
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain numbers and strings are JSON")
    }
}

/// The block that a note in a block file speaks of; `None` if the note is damaged or of another version.
pub fn read_note(hash: BlockHash, height: u32, note: &[u8]) -> Option<PoolBlock> {
    let note: Note = serde_json::from_slice(note).ok().filter(|note: &Note| note.version == NOTE_VERSION)?;
    let script = |hex: &str| Vec::from_hex(hex).ok().map(ScriptBuf::from_bytes);
    let output = |(hex, sats): &(String, u64)| {
        Some(TxOut { script_pubkey: script(hex)?, value: Amount::from_sat(*sats) })
    };
    Some(PoolBlock {
        hash,
        height,
        prev_hash: note.prev_hash,
        found_unix_ms: note.found_unix_ms,
        outputs: note.outputs.iter().map(output).collect::<Option<_>>()?,
        credit_delta: note
            .credit_delta
            .iter()
            .map(|(hex, delta)| Some((script(hex)?, *delta)))
            .collect::<Option<_>>()?,
        reserve: Amount::from_sat(note.reserve_sats),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash;

    fn block(number: u16) -> PoolBlock {
        let mut hash = [0; 32];
        hash[..2].copy_from_slice(&number.to_le_bytes());
        PoolBlock {
            hash: BlockHash::from_byte_array(hash),
            height: 9,
            prev_hash: BlockHash::all_zeros(),
            found_unix_ms: 1,
            outputs: Vec::new(),
            credit_delta: Vec::new(),
            reserve: Amount::ZERO,
        }
    }

    #[test]
    fn m06_a_block_is_found_once_and_a_new_one_is_never_taken_for_an_old_one() {
        let found = FoundBlocks::default();
        assert!(found.add(block(0)));
        assert!(!found.add(PoolBlock { found_unix_ms: 2, ..block(0) }));
        assert_eq!(found.take(), [block(0)]);
        // Taking it out does not forget it.
        assert!(!found.add(block(0)));
        for number in 1..=REMEMBERED_MAX as u16 {
            assert!(found.add(block(number)), "{number}");
        }
        assert_eq!(found.take().len(), REMEMBERED_MAX);
        assert_eq!(found.0.lock().unwrap().remembered.len(), REMEMBERED_MAX);
    }

    #[test]
    fn a_note_gives_back_the_block_and_damage_gives_nothing() {
        let script = ScriptBuf::from_bytes(vec![0, 20, 7]);
        let block = PoolBlock {
            hash: BlockHash::from_byte_array([3; 32]),
            height: 9,
            prev_hash: BlockHash::from_byte_array([2; 32]),
            found_unix_ms: 1_700_000_000_000,
            outputs: vec![TxOut { value: Amount::from_sat(50), script_pubkey: script.clone() }],
            credit_delta: vec![(script, 7)],
            reserve: Amount::from_sat(7),
        };
        let note = Note::of(&block).to_bytes();
        assert_eq!(read_note(block.hash, 9, &note), Some(block.clone()));
        for end in 0..note.len() {
            assert_eq!(read_note(block.hash, 9, &note[..end]), None);
        }
        let other = String::from_utf8(note).unwrap().replace("\"version\":1", "\"version\":2");
        assert_eq!(read_note(block.hash, 9, other.as_bytes()), None);
    }
}

//! Solved blocks: to the nodes at once, and to the director who keeps the ledger.

use crate::director::News;
use bitcoin::hashes::Hash;
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::{Amount, BlockHash, ScriptBuf, TxOut, Txid};
use serde::{Deserialize, Serialize};
use share_accounting::BlockShare;
use share_accounting::ledger::PoolBlock;
use std::collections::VecDeque;
use std::mem;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stratum::job::{Basis, Solution};
use stratum::share::JudgedShare;
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
/// Locked when a block is found or stored and when the director looks for one, never on the share path.
#[derive(Debug, Clone, Default)]
pub struct FoundBlocks(Arc<Mutex<Found>>);

#[derive(Debug, Default)]
struct Found {
    waiting: Vec<PoolBlock>,
    /// Newest last.
    remembered: VecDeque<(BlockHash, File)>,
}

/// The file of a block that was found.
enum File {
    /// Not written yet: these wait for it beside the first finder.
    Coming(Vec<Stored>),
    /// On disk, or it cannot be.
    Stored,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Coming(waiting) => write!(f, "Coming({})", waiting.len()),
            Self::Stored => f.write_str("Stored"),
        }
    }
}

impl FoundBlocks {
    fn lock(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a block; `false` if it was found before.
    fn add(&self, block: PoolBlock) -> bool {
        let mut found = self.lock();
        if found.remembered.iter().any(|(hash, _)| *hash == block.hash) {
            return false;
        }
        // The submitter's queue is much shorter: the file of the oldest was written long ago.
        if found.remembered.len() >= REMEMBERED_MAX {
            found.remembered.pop_front();
        }
        found.remembered.push_back((block.hash, File::Coming(Vec::new())));
        found.waiting.push(block);
        true
    }

    /// Has somebody told when the file of a block that was found before is stored, or at once if it is.
    fn when_stored(&self, hash: BlockHash, tell: Stored) {
        let mut found = self.lock();
        let file = found.remembered.iter_mut().find(|(known, _)| *known == hash).map(|(_, file)| file);
        if let Some(File::Coming(waiting)) = file {
            return waiting.push(tell);
        }
        drop(found);
        tell();
    }

    /// The file of a block is stored: tells those who wait for it.
    fn stored(&self, hash: BlockHash) {
        let mut found = self.lock();
        let file = found.remembered.iter_mut().find(|(known, _)| *known == hash).map(|(_, file)| file);
        let before = file.map(|file| mem::replace(file, File::Stored));
        drop(found);
        if let Some(File::Coming(waiting)) = before {
            waiting.into_iter().for_each(|tell| tell());
        }
    }

    /// Takes out what was found since the last call, oldest first.
    pub fn take(&self) -> Vec<PoolBlock> {
        mem::take(&mut self.lock().waiting)
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
    /// Notes of earlier versions have none.
    #[serde(default)]
    coinbase: Option<Txid>,
    /// The share that solves it, in hex, for a log that does not have it; notes of earlier versions have none.
    #[serde(default)]
    share: Option<String>,
}

/// Version of [`Note`].
const NOTE_VERSION: u32 = 1;

impl BlockSink {
    /// A sink in front of a submitter; the director is told to look into `found`.
    pub fn new(submitter: Arc<Submitter>, found: FoundBlocks, director: SyncSender<News>) -> Self {
        Self { submitter, found, director }
    }

    /// Sends a block on its way, once, with its share if that is logged, and calls `stored` once a kill cannot lose it any more. It is never
    /// dropped: with a full queue of blocks the caller waits.
    pub fn submit(
        &self,
        solution: Solution,
        share: Option<&JudgedShare>,
        found_unix_ms: u64,
        stored: Stored,
    ) {
        let block = pool_block(&solution, found_unix_ms);
        let (height, hash) = (block.height, block.hash);
        let note = Note::of(&block, share.map(BlockShare::of).as_ref()).to_bytes();
        // In the books' hands before any node can announce it as the new tip: a plan on top of it must know
        // what it paid.
        if !self.found.add(block) {
            debug!(height, %hash, "block sent again");
            return self.found.when_stored(hash, stored);
        }
        let found = self.found.clone();
        let told = move || {
            stored();
            found.stored(hash);
        };
        let submitted = self.submitter.submit(solution, note, Box::new(told));
        // A full mailbox is no loss: the director looks whenever it hears anything.
        let _ = self.director.try_send(News::Found);
        // Words come last: whoever reads the log may be slow.
        info!(height, %hash, "block found");
        if let Err(stopped) = submitted {
            error!(%stopped, "a block could not be submitted: it is lost unless the node learns of it elsewhere");
        }
    }
}

fn pool_block(solution: &Solution, found_unix_ms: u64) -> PoolBlock {
    let payout = &solution.body.payout;
    let credit_delta = match &payout.basis {
        Basis::Upstream(_) => unreachable!("a pool solves blocks of its own work"),
        Basis::Solo { .. } => Vec::new(),
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
        coinbase: Some(Txid::hash(&solution.coinbase)),
    }
}

impl Note {
    fn of(block: &PoolBlock, share: Option<&BlockShare>) -> Self {
        let hex = |script: &ScriptBuf| script.as_bytes().to_lower_hex_string();
        let output = |output: &TxOut| (hex(&output.script_pubkey), output.value.to_sat());
        Self {
            version: NOTE_VERSION,
            prev_hash: block.prev_hash,
            found_unix_ms: block.found_unix_ms,
            outputs: block.outputs.iter().map(output).collect(),
            credit_delta: block.credit_delta.iter().map(|(script, delta)| (hex(script), *delta)).collect(),
            reserve_sats: block.reserve.to_sat(),
            coinbase: block.coinbase,
            share: share.map(|share| share.encode().to_lower_hex_string()),
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain numbers and strings are JSON")
    }
}

/// What a note says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// The block.
    pub block: PoolBlock,
    /// The share that solves it, if the note has one that does.
    pub share: Option<BlockShare>,
}

/// What a note in a block file says; `None` if it is damaged or of another version.
pub fn read_note(hash: BlockHash, height: u32, note: &[u8]) -> Option<Noted> {
    let note: Note = serde_json::from_slice(note).ok().filter(|note: &Note| note.version == NOTE_VERSION)?;
    let script = |hex: &str| Vec::from_hex(hex).ok().map(ScriptBuf::from_bytes);
    let output = |(hex, sats): &(String, u64)| {
        Some(TxOut { script_pubkey: script(hex)?, value: Amount::from_sat(*sats) })
    };
    let share = note.share.as_ref().and_then(|hex| BlockShare::decode(hash, &Vec::from_hex(hex).ok()?));
    let block = PoolBlock {
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
        coinbase: note.coinbase,
    };
    Some(Noted { block, share })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

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
            coinbase: None,
        }
    }

    #[test]
    fn m05_a_block_is_found_once_and_a_new_one_is_never_taken_for_an_old_one() {
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
    fn m05_whoever_sends_a_block_again_waits_for_its_file_too() {
        let found = FoundBlocks::default();
        let hash = block(1).hash;
        let told = Arc::new(AtomicUsize::new(0));
        let tell = || -> Stored {
            let told = told.clone();
            Box::new(move || {
                told.fetch_add(1, Ordering::Relaxed);
            })
        };
        assert!(found.add(block(1)));
        found.when_stored(hash, tell());
        found.when_stored(hash, tell());
        assert_eq!(told.load(Ordering::Relaxed), 0);
        found.stored(hash);
        assert_eq!(told.load(Ordering::Relaxed), 2);
        found.when_stored(hash, tell());
        assert_eq!(told.load(Ordering::Relaxed), 3);
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
            coinbase: Some(Txid::from_byte_array([8; 32])),
        };
        let note = Note::of(&block, None).to_bytes();
        assert_eq!(read_note(block.hash, 9, &note), Some(Noted { block: block.clone(), share: None }));
        for end in 0..note.len() {
            assert_eq!(read_note(block.hash, 9, &note[..end]), None);
        }
        let text = String::from_utf8(note).unwrap();
        let earlier = text.replace(",\"share\":null", "");
        assert!(earlier.len() < text.len() && read_note(block.hash, 9, earlier.as_bytes()).is_some());
        let other = text.replace("\"version\":1", "\"version\":2");
        assert_eq!(read_note(block.hash, 9, other.as_bytes()), None);
    }
}

//! Solved blocks: to the nodes at once, and to the director who keeps the ledger.

use crate::director::News;
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::{Amount, BlockHash, ScriptBuf, TxOut};
use serde::{Deserialize, Serialize};
use share_accounting::ledger::PoolBlock;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use stratum::job::{Basis, Solution};
use template::submit::{Stored, Submitter};
use tracing::{error, info};

/// Where shards put solved blocks.
#[derive(Debug, Clone)]
pub struct BlockSink {
    submitter: Arc<Submitter>,
    director: SyncSender<News>,
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
    /// A sink in front of a submitter; the director hears of each block too.
    pub fn new(submitter: Arc<Submitter>, director: SyncSender<News>) -> Self {
        Self { submitter, director }
    }

    /// Sends a block on its way, and calls `stored` once a kill cannot lose it any more. It is never dropped:
    /// with full queues the caller waits.
    pub fn submit(&self, solution: Solution, found_unix_ms: u64, stored: Stored) {
        let block = pool_block(&solution, found_unix_ms);
        info!(height = block.height, hash = %block.hash, "block found");
        let note = Note::of(&block).to_bytes();
        // The director hears of the block before any node can announce it as the new tip: a plan on top of
        // it must know what it paid. Only if the director is far behind does the submission go first.
        let late = match self.director.try_send(News::Found(block)) {
            Err(TrySendError::Full(news)) => Some(news),
            _ => None,
        };
        if let Err(stopped) = self.submitter.submit(solution, note, stored) {
            error!(%stopped, "a block could not be submitted: it is lost unless the node learns of it elsewhere");
        }
        if let Some(news) = late {
            // Fails only when the director has stopped: the block's file completes the ledger at the next start.
            let _ = self.director.send(news);
        }
    }
}

fn pool_block(solution: &Solution, found_unix_ms: u64) -> PoolBlock {
    let payout = &solution.body.payout;
    let credit_delta = match &payout.basis {
        Basis::Solo(_) => Vec::new(),
        Basis::Window { credit_delta, .. } => credit_delta.clone(),
    };
    // Credits grow by what the reserve output holds, and by nothing else.
    let reserve: i64 = credit_delta.iter().map(|(_, delta)| delta).sum();
    PoolBlock {
        hash: solution.hash,
        height: solution.body.height,
        prev_hash: solution.body.prev_hash,
        found_unix_ms,
        outputs: payout.outputs.clone(),
        credit_delta,
        reserve: Amount::from_sat(u64::try_from(reserve).expect("a plan never shrinks the sum of credits")),
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

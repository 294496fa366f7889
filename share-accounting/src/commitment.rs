//! What every job commits to: the log, the weights, the ledger and the rules that its payout follows from.
//!
//! One output without value in the coinbase, `OP_RETURN "PPL1" ‖ c`, where c is
//!
//! ```text
//! taggedhash("share-log/commit/v1",
//!     version 1 = 1 ‖ network 1 ‖ log size 8 ‖ log root 32 ‖ weights root 32 ‖ ledger root 32 ‖ params hash 32)
//! ```
//!
//! with numbers in little-endian, and the network as a segment header has it ([`crate::log::segment`]). Weights and
//! ledger are Merkle trees as [`crate::tree`] has them, a leaf for each script in script order:
//! `script length u8 ‖ script ‖ work 32`, and `script length u8 ‖ script ‖ satoshis u64`.
//! The params hash is taggedhash("share-log/params/v1", the whole entry). So who hashes a job's share pins the head
//! of the log that the pool has shown to it: two heads are two commitments with work on them. What the job pays is
//! not committed: it follows from all this and from the coinbase value.

use crate::entry::{Entry, Params};
use crate::log::segment::network_code;
use crate::tree::{Tree, TreeHash, leaves};
use bitcoin::{Amount, Network, Script, ScriptBuf, TxOut};
use std::collections::BTreeMap;
use stratum::payee::tagged_hash;
use stratum::target::Work;

/// Version of what is hashed.
const VERSION: u8 = 1;
/// OP_RETURN, and the push of what follows: "PPL1" and 32 bytes.
const SCRIPT_HEAD: [u8; 6] = [0x6a, 0x24, b'P', b'P', b'L', b'1'];
/// Bytes of the script of a commitment.
const SCRIPT_BYTES: usize = SCRIPT_HEAD.len() + 32;

/// A commitment: 32 bytes that stand for everything a job's payout was computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commitment(pub [u8; 32]);

/// Stands for the rules in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParamsHash([u8; 32]);

impl ParamsHash {
    /// That of the vectors: of no rules.
    #[cfg(test)]
    pub(crate) const NONE: Self = Self([0; 32]);

    /// Of an entry of the log.
    pub fn of(params: &Params) -> Self {
        let mut bytes = Vec::new();
        Entry::Params(params.clone().into()).encode(&mut bytes);
        Self(tagged_hash("share-log/params/v1", &[&bytes]))
    }
}

/// What a payout is computed from.
#[derive(Debug, Clone, Copy)]
pub struct Committed<'a> {
    /// The chain.
    pub network: Network,
    /// Number of entries that the weights were taken from.
    pub log_size: u64,
    /// Root of the tree over them.
    pub log_root: TreeHash,
    /// Work within the window, by script.
    pub weights: &'a BTreeMap<ScriptBuf, Work>,
    /// Credits in satoshis where the job's block begins, by script, less what settlements have locked.
    pub credits: &'a BTreeMap<ScriptBuf, u64>,
    /// The rules.
    pub params: ParamsHash,
}

impl Committed<'_> {
    /// The commitment to it.
    pub fn commitment(&self) -> Commitment {
        Commitment(tagged_hash(
            "share-log/commit/v1",
            &[
                &[VERSION, network_code(self.network)],
                &self.log_size.to_le_bytes(),
                &self.log_root,
                &weights_root(self.weights),
                &ledger_root(self.credits),
                &self.params.0,
            ],
        ))
    }
}

/// Stands for the work within a window, by script.
pub(crate) fn weights_root(weights: &BTreeMap<ScriptBuf, Work>) -> TreeHash {
    // Room for any work that a number of 256 bits can say.
    let work = |work: &Work| [work.0.to_le_bytes(), [0; 16]].concat();
    root(weights.iter().map(|(script, of_script)| line(script, &work(of_script))))
}

/// Stands for what is owed, by script.
pub(crate) fn ledger_root(credits: &BTreeMap<ScriptBuf, u64>) -> TreeHash {
    root(credits.iter().map(|(script, sats)| line(script, &sats.to_le_bytes())))
}

/// What belongs to a script, as a leaf stands for it.
fn line(script: &Script, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(script.len()).expect("a script that is paid has 252 bytes at most");
    [&[length][..], script.as_bytes(), value].concat()
}

fn root(lines: impl Iterator<Item = Vec<u8>>) -> TreeHash {
    let lines: Vec<_> = lines.collect();
    let lines: Vec<_> = lines.iter().map(Vec::as_slice).collect();
    leaves(&lines).into_iter().collect::<Tree>().root()
}

impl Commitment {
    /// The output that carries it: 47 bytes, no value.
    pub fn output(&self) -> TxOut {
        let script = [&SCRIPT_HEAD[..], &self.0].concat();
        TxOut { value: Amount::ZERO, script_pubkey: script.into() }
    }

    /// What an output carries, if it is one of a commitment.
    pub fn of_output(output: &TxOut) -> Option<Self> {
        let script = output.script_pubkey.as_bytes();
        let carried = script.strip_prefix(&SCRIPT_HEAD)?;
        (output.value == Amount::ZERO && script.len() == SCRIPT_BYTES)
            .then(|| Self(carried.try_into().expect("the head and 32 bytes")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::params;
    use bitcoin::hex::DisplayHex;

    fn script(byte: u8) -> ScriptBuf {
        ScriptBuf::from_bytes(vec![0, 1, byte])
    }

    fn commit(change: impl FnOnce(&mut Books)) -> Commitment {
        let mut books = Books {
            network: Network::Regtest,
            log_size: 7,
            log_root: [1; 32],
            weights: [(script(1), Work(5)), (script(2), Work(6))].into(),
            credits: [(script(3), 9)].into(),
            params: params(),
        };
        change(&mut books);
        Committed {
            network: books.network,
            log_size: books.log_size,
            log_root: books.log_root,
            weights: &books.weights,
            credits: &books.credits,
            params: ParamsHash::of(&books.params),
        }
        .commitment()
    }

    struct Books {
        network: Network,
        log_size: u64,
        log_root: TreeHash,
        weights: BTreeMap<ScriptBuf, Work>,
        credits: BTreeMap<ScriptBuf, u64>,
        params: Params,
    }

    #[test]
    fn the_output_has_47_bytes_and_gives_back_what_it_carries() {
        let commitment = commit(|_| {});
        let output = commitment.output();
        assert_eq!((output.size(), output.weight().to_wu()), (47, 188));
        assert!(output.script_pubkey.as_bytes().to_lower_hex_string().starts_with("6a2450504c31"));
        assert_eq!(Commitment::of_output(&output), Some(commitment));
        let paying = TxOut { value: Amount::from_sat(1), ..output.clone() };
        let longer =
            TxOut { script_pubkey: [output.script_pubkey.as_bytes(), &[0]].concat().into(), ..output };
        assert_eq!(Commitment::of_output(&paying).or(Commitment::of_output(&longer)), None);
    }

    #[test]
    fn any_change_of_what_it_stands_for_is_another_commitment() {
        let all = [
            commit(|_| {}),
            commit(|books| books.network = Network::Signet),
            commit(|books| books.log_size = 8),
            commit(|books| books.log_root[31] ^= 1),
            commit(|books| *books.weights.get_mut(&script(2)).unwrap() = Work(7)),
            commit(|books| books.weights.retain(|script, _| *script != self::script(1))),
            commit(|books| *books.credits.get_mut(&script(3)).unwrap() = 8),
            commit(|books| books.params.split.fee_bp += 1),
            commit(|books| books.params.stale_credit_ms += 1),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|other| other != one), "{at}");
        }
    }
}

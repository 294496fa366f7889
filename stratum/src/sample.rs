//! Jobs, payees and sessions to test with; also read by the tests of the folder `tests/`.
#![allow(dead_code, reason = "each test crate uses a part")]

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, BlockHash, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, transaction,
};
use bytes::Bytes;
use std::sync::Arc;
use stratum::class::SizeClass;
use stratum::encoded::EncodedJob;
use stratum::extranonce::{EXTRANONCE_BYTES, Extranonce1};
use stratum::job::{Basis, Coinbase, JobBody, MARK_BYTES, Payout, TemplateId, Transactions};
use stratum::payee::Payee;
use stratum::target::Target;
use stratum::v1::server::{Session, Settings};

/// Pays on every test network.
pub const ADDRESS: &str = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx";
/// Another one.
pub const OTHER_ADDRESS: &str = "tb1pqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesf3hn0c";
/// Pays on the main network only.
pub const MAINNET_ADDRESS: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
/// Every second hash is a block.
pub const REGTEST_NBITS: u32 = 0x207f_ffff;
/// No test will find a block.
pub const HARD_NBITS: u32 = 0x1702_1369;
/// Unix seconds of the wall clock.
pub const UNIX_S: u32 = 1_790_000_000;
/// Connection prefix of the sample sessions.
pub const PREFIX: Extranonce1 = Extranonce1([1, 2, 3, 4]);

pub fn payee() -> Arc<Payee> {
    Arc::new(Payee::parse(&format!("{ADDRESS}.rig1"), Network::Signet).unwrap())
}

pub fn coinbase(script_pubkey: ScriptBuf) -> Coinbase {
    let height = [0x03, 0xa0, 0xbb, 0x0d];
    let mut script_sig = height.to_vec();
    script_sig.push((MARK_BYTES + EXTRANONCE_BYTES) as u8); // a push of 25
    script_sig.extend([0; 9]);
    script_sig.extend([0x51, 0x17, 0xe9, 0x0c]); // site, epoch
    script_sig.extend([0; EXTRANONCE_BYTES]);
    script_sig.extend(b"/sluice/");
    let transaction = Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::from_consensus(899_999),
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: script_sig.into(),
            sequence: Sequence(0xffff_fffe),
            witness: Witness::new(),
        }],
        output: vec![TxOut { value: Amount::from_sat(312_500_000), script_pubkey }],
    };
    let tag_offset = 4 + 1 + 36 + 1 + height.len() + 1;
    let bytes = Bytes::from(bitcoin::consensus::serialize(&transaction));
    assert!(tag_offset + MARK_BYTES < bytes.len());
    Coinbase::new(bytes, tag_offset)
}

/// A body with two siblings, easy to change before it is shared.
pub fn body(nbits: u32) -> JobBody {
    let script = payee().script.clone();
    let outputs = vec![TxOut { value: Amount::from_sat(312_500_000), script_pubkey: script.clone() }];
    let basis = Basis::Window { log_size: 7, ledger_block: BlockHash::all_zeros(), credit_delta: Vec::new() };
    JobBody {
        template: TemplateId(1),
        height: 900_000,
        version: 0x2000_0000,
        prev_hash: prev_hash(1),
        nbits,
        network_target: Target::from_nbits(nbits).unwrap(),
        hardest_share: Target::from_nbits(nbits).unwrap(),
        ntime_min: UNIX_S - 600,
        ntime: UNIX_S,
        coinbase: coinbase(script),
        merkle_branch: vec![[0x11; 32], std::array::from_fn(|at| at.to_le_bytes()[0])],
        class: SizeClass::B755,
        out_bytes: 500,
        payout: Arc::new(Payout { outputs, basis }),
        transactions: Transactions::default(),
    }
}

/// A parent hash whose bytes all differ from their neighbours'.
pub fn prev_hash(seed: u8) -> BlockHash {
    BlockHash::from_byte_array(std::array::from_fn(|at| seed.wrapping_add(at.to_le_bytes()[0] * 7)))
}

pub fn encoded(body: JobBody) -> Arc<EncodedJob> {
    Arc::new(EncodedJob::new(Arc::new(body)))
}

pub fn settings() -> Settings {
    Settings::new(Network::Signet)
}

pub fn session(settings: Settings, now: std::time::Instant) -> Session {
    Session::new(Arc::new(settings), PREFIX, 0x70, now)
}

//! Builders for tests: real judged shares of made-up jobs.

use crate::accounting::{Accounting, Batch, CommitError, Settings};
use crate::bip322;
use crate::entry::{Move, Params, Witnesses};
use crate::log::append::SEGMENT_BYTES_DEFAULT;
use crate::moves::message;
use crate::publish::Logged;
use crate::{payout, window::Span};
use bitcoin::hashes::Hash;
use bitcoin::{Address, Amount, BlockHash, Network, ScriptBuf, TxOut};
use proptest::test_runner::Config as ProptestConfig;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};
use stratum::class::SizeClass;
use stratum::extranonce::{Extranonce1, Extranonce2};
use stratum::job::{Basis, Coinbase, Job, JobBody, JobId, Payout, Roll, TemplateId, Transactions};
use stratum::payee::{Payee, WorkerName};
use stratum::pot::Pot;
use stratum::share::{Judge, JudgedShare, Outcome, PendingShare};
use stratum::target::Target;

/// How often what touches no disk is tried: 256 times, and 100,000 in the long run.
pub fn cases() -> ProptestConfig {
    ProptestConfig::with_cases(if std::env::var_os("SLUICE_LONG").is_some() { 100_000 } else { 256 })
}

pub const NBITS: u32 = 0x207f_ffff;

/// Payees whose key is known: they can sign that they move.
pub const SIGNERS: std::ops::Range<u8> = 200..225;

pub fn script(n: u8) -> ScriptBuf {
    if SIGNERS.contains(&n) {
        return bip322::signer::address(n).script_pubkey();
    }
    let mut bytes = vec![0, 20];
    bytes.extend([n; 20]);
    ScriptBuf::from_bytes(bytes)
}

pub fn payee(n: u8, worker: &str) -> Arc<Payee> {
    Arc::new(Payee::new(script(n), WorkerName::escaped(worker)))
}

pub fn body(template: u64) -> Arc<JobBody> {
    Arc::new(JobBody {
        template: TemplateId(template),
        height: 7,
        version: 0x2000_0000,
        prev_hash: BlockHash::from_byte_array([1; 32]),
        nbits: NBITS,
        network_target: Target::from_nbits(0x1e03_77ae).unwrap(),
        hardest_share: Target::from_nbits(0x1e03_77ae).unwrap(),
        ntime_min: 1,
        ntime: 2,
        coinbase: Coinbase::new(vec![0; 100].into(), 40),
        merkle_branch: vec![[3; 32]; 2],
        class: SizeClass::B755,
        out_bytes: 400,
        payout: Arc::new(Payout {
            outputs: vec![TxOut { value: Amount::from_sat(50), script_pubkey: script(1) }],
            basis: Basis::Window { log_size: 3, ledger_block: BlockHash::all_zeros(), credit_delta: vec![] },
        }),
        transactions: Transactions::default(),
    })
}

/// Mines shares: the only way to come by one that may enter the log.
pub struct Miner {
    judge: Judge,
    start: Instant,
    nonce: u32,
}

impl Miner {
    pub fn new() -> Self {
        let start = Instant::now();
        let mut judge = Judge::new(Duration::ZERO);
        judge.new_tip(BlockHash::from_byte_array([1; 32]), start);
        Self { judge, start, nonce: 0 }
    }

    /// A share of the lowest pot that is still harder than every hash, credited or stale.
    pub fn share(&mut self, body: &Arc<JobBody>, payee: &Arc<Payee>, pot: i8, credited: bool) -> JudgedShare {
        let superseded = self.start - Duration::from_secs(1_000);
        loop {
            self.nonce += 1;
            let job = Job {
                body: body.clone(),
                tag: payee.tag,
                pot: Pot::try_from(pot).unwrap(),
                superseded_at: (!credited).then_some(superseded),
            };
            let roll = Roll {
                extranonce1: Extranonce1([9, 0, 0, 1]),
                extranonce2: Extranonce2::from([5; 8]),
                ntime: 100,
                nonce: self.nonce,
                version: 0x2000_0000,
            };
            let pending = PendingShare::new(JobId(self.nonce), job, roll, payee.clone());
            match self.judge.check(pending, self.start, 1_700_000_000_000).outcome {
                Outcome::Accepted(share) | Outcome::Stale(share) => return share,
                Outcome::RefusedBlock(..) | Outcome::Rejected(_) => {}
            }
        }
    }
}

/// One of [`SIGNERS`] moves, in the log of that id.
pub fn moved(log_id: [u8; 16], from: u8, to: ScriptBuf) -> Move {
    let (old, new) = (bip322::signer::address(from), Address::from_script(&to, Network::Regtest).unwrap());
    let signature = bip322::signer::sign(from, &message(&log_id, &old, &new));
    Move { log_id, from: old.script_pubkey(), to, signature }
}

pub fn params() -> Params {
    Params {
        site: 3,
        span: Span::new(1 << 40, 1).unwrap(),
        stale_credit_ms: 0,
        split: payout::Params {
            fee_bp: 100,
            fee_script: script(250),
            donations: vec![],
            min_payout: 5_000,
            reserve_script: script(251),
        },
        settlement_fee_bp: 200,
        settlement_at_least: 5_000,
        witnesses: Witnesses::default(),
    }
}

pub fn settings(dir: &Path) -> Settings {
    Settings {
        dir: dir.to_owned(),
        network: Network::Regtest,
        params: params(),
        segment_bytes: SEGMENT_BYTES_DEFAULT,
    }
}

/// Commits shares and waits for the outcome: where they are in the log, and themselves.
pub fn commit(
    accounting: &Accounting,
    shares: Vec<JudgedShare>,
) -> (Result<Vec<Logged>, CommitError>, Vec<JudgedShare>) {
    let (send, outcome) = sync_channel(1);
    let done = Box::new(move |result: Result<&[Logged], CommitError>, shares| {
        send.send((result.map(<[Logged]>::to_vec), shares)).unwrap();
    });
    assert!(accounting.commit(Batch { shares, done }).is_ok());
    outcome.recv().unwrap()
}

//! Jobs and shares of ours to measure with.

use bitcoin::hashes::Hash;
use bitcoin::{Amount, BlockHash, Network, TxOut};
use std::sync::Arc;
use stratum::class::SizeClass;
use stratum::extranonce::{EXTRANONCE_BYTES, Extranonce1, Extranonce2};
use stratum::job::{
    Basis, Coinbase, Job, JobBody, JobId, MARK_BYTES, Payout, Roll, TemplateId, Transactions,
};
use stratum::payee::Payee;
use stratum::pot::Pot;
use stratum::share::PendingShare;
use stratum::target::Target;

/// Pays on every test network.
pub const ADDRESS: &str = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx";
/// A network target that nothing measured here will meet.
pub const HARD_NBITS: u32 = 0x1702_1369;
/// Seconds of the wall clock, as far as shares are concerned.
pub const UNIX_S: u32 = 1_790_000_000;
/// The same in milliseconds.
pub const UNIX_MS: u64 = 1_790_000_000_000;
/// Header version of all jobs.
pub const VERSION: u32 = 0x2000_0000;
/// What stands before the extranonce that is rolled.
pub const PREFIX: Extranonce1 = Extranonce1([7, 0, 0, 0]);
/// Parent of all jobs.
pub const PREV_HASH: [u8; 32] = [0x5a; 32];

/// A payee with a worker.
pub fn payee(worker: &str) -> Arc<Payee> {
    let user = format!("{ADDRESS}.{worker}");
    Arc::new(Payee::parse(&user, Network::Signet).expect("a constant address and a short name"))
}

/// The coinbase with the least in it: 64 bytes and the gap.
pub fn small_coinbase() -> Coinbase {
    Coinbase::new(vec![0; 64 + MARK_BYTES + EXTRANONCE_BYTES].into(), 50)
}

/// What connections share of a job with this coinbase.
pub fn body(coinbase: Coinbase, merkle_branch: Vec<[u8; 32]>) -> Arc<JobBody> {
    let target = Target::from_nbits(HARD_NBITS).expect("a constant target");
    let outputs =
        vec![TxOut { value: Amount::from_sat(312_500_000), script_pubkey: payee("x").script.clone() }];
    let basis = Basis::Window { log_size: 0, ledger_block: BlockHash::all_zeros(), credit_delta: Vec::new() };
    Arc::new(JobBody {
        template: TemplateId(1),
        height: 900_000,
        version: VERSION,
        prev_hash: BlockHash::from_byte_array(PREV_HASH),
        nbits: HARD_NBITS,
        network_target: target,
        hardest_share: target,
        ntime_min: UNIX_S,
        ntime: UNIX_S,
        coinbase,
        merkle_branch,
        class: SizeClass::B755,
        out_bytes: 500,
        payout: Arc::new(Payout { outputs, basis }),
        transactions: Transactions::default(),
    })
}

/// A connection's job.
pub fn job(body: &Arc<JobBody>, payee: &Payee, pot: Pot) -> Job {
    Job { body: body.clone(), tag: payee.tag, pot, superseded_at: None }
}

/// What a machine rolls that counts its extranonce up.
pub fn roll(extranonce2: u64, nonce: u32) -> Roll {
    Roll {
        extranonce1: PREFIX,
        extranonce2: Extranonce2::from(extranonce2.to_be_bytes()),
        ntime: UNIX_S,
        nonce,
        version: VERSION,
    }
}

/// A share as a session hands it on. All jobs have one name: no two of them may be rolled with the same extranonce.
pub fn share(job: &Job, payee: &Arc<Payee>, roll: Roll) -> PendingShare {
    PendingShare::new(JobId(1), job.clone(), roll, payee.clone())
}

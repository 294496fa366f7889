//! What the tests of several modules start from.

pub mod headers;

use crate::work::{Current, PlanError, Planner, Standing, WorkSet};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Network, ScriptBuf};
use serde_json::json;
use share_accounting::accounting::Done;
use share_accounting::log::append::SEGMENT_BYTES_DEFAULT;
use share_accounting::publish::key::LogKey;
use share_accounting::publish::{self, Published};
use share_accounting::{Accounting, AccountingThread, Batch, entry, payout, tree::Tree, window::Span};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use stratum::target::Work;
use template::bitcoind::rpc;
use template::coinbase::CoinbaseStyle;
use template::template::Template;

/// Version bits that miners are offered.
pub const MASK: u32 = 0x1fff_e000;

pub fn script(n: u8) -> ScriptBuf {
    ScriptBuf::from_bytes([&[0, 20][..], &[n; 20]].concat())
}

pub fn split() -> payout::Params {
    payout::Params {
        fee_bp: 0,
        fee_script: ScriptBuf::new(),
        donations: Vec::new(),
        min_payout: 5_000,
        reserve_script: script(200),
    }
}

/// The same with a window of eight network difficulties, as the log has them.
pub fn rules() -> entry::Params {
    entry::Params {
        site: 0,
        span: Span::default(),
        stale_credit_ms: 0,
        split: split(),
        settlement_fee_bp: 0,
        settlement_at_least: 0,
        witnesses: Default::default(),
    }
}

/// A planner with these rules, for miners that roll `mask`.
pub fn planner(mask: u32) -> Planner {
    Planner::new(CoinbaseStyle::new(0, 0, "").unwrap(), Network::Regtest, rules(), 0, mask)
}

/// Keeps the accounting thread busy until what is returned is dropped.
pub fn stall(accounting: &Accounting) -> SyncSender<()> {
    let (release, released) = sync_channel::<()>(0);
    let (begun, began) = sync_channel(0);
    let done: Done = Box::new(move |_, _| {
        begun.send(()).unwrap();
        let _ = released.recv();
    });
    accounting.commit(Batch { shares: Vec::new(), done }).unwrap();
    began.recv().unwrap();
    release
}

/// A real log in a folder of its own, with a window of eight network difficulties.
pub fn accounting() -> (Accounting, AccountingThread, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (accounting, thread) = Accounting::open(share_accounting::Settings {
        dir: dir.path().to_owned(),
        network: Network::Regtest,
        params: rules(),
        segment_bytes: SEGMENT_BYTES_DEFAULT,
    })
    .unwrap();
    (accounting, thread, dir)
}

/// The published log of an accounting.
pub fn published(accounting: &Accounting, dir: &Path) -> Published {
    let (log, files, last_head) = (dir.join("log"), dir.join("published"), dir.join("log.head"));
    let places = publish::Places { log: &log, files: &files, last_head: &last_head };
    publish::start(places, LogKey::generate("test.example/log").0, accounting.heads()).unwrap().0
}

/// A node that is away.
pub fn away(dir: &Path) -> rpc::Node {
    rpc::Node {
        address: "127.0.0.1:1".to_owned(),
        credentials: dir.join("no cookie"),
        timeouts: rpc::Timeouts::default(),
    }
}

/// A template on regtest that requires version bits.
pub fn template(required: u32) -> Arc<Template> {
    let answer = json!({
        "version": 0x2000_0000, "rules": ["csv", "!segwit", "taproot"], "vbrequired": required,
        "previousblockhash": "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",
        "transactions": [], "coinbaseaux": {}, "coinbasevalue": 5_000_000_000_u64, "longpollid": "abc1",
        "target": "7fffff0000000000000000000000000000000000000000000000000000000000",
        "mintime": 1_296_688_603, "curtime": 1_700_000_000,
        "mutable": ["time", "transactions", "prevblock"], "noncerange": "00000000ffffffff",
        "sigoplimit": 80_000, "sizelimit": 4_000_000, "weightlimit": 4_000_000, "bits": "207fffff", "height": 1,
    });
    Arc::new(Template::parse(answer.to_string().as_bytes(), Network::Regtest).unwrap())
}

/// Where a ledger without credits meets these weights.
pub fn standing(weights: BTreeMap<ScriptBuf, Work>) -> Standing {
    let (ledger_block, credits) = (BlockHash::all_zeros(), BTreeMap::new());
    Standing {
        log_size: 0,
        log_root: Tree::default().root(),
        weights,
        ledger_block,
        credits,
        moves: Arc::default(),
    }
}

/// Work from a template that requires version bits, while miners may roll others; a new planner's first.
pub fn plan(required: u32, mask: u32, weights: BTreeMap<ScriptBuf, Work>) -> Result<Arc<WorkSet>, PlanError> {
    planner(mask).plan(&template(required), &standing(weights)).map(Arc::new)
}

/// Solo work.
pub fn work() -> Arc<WorkSet> {
    plan(0, MASK, BTreeMap::new()).unwrap()
}

/// What shards go by when this work is given out.
pub fn given(work: Arc<WorkSet>) -> Current {
    Current { tip: Some(work.prev_hash()), work: Some(work) }
}

//! `sluice-verify` on the log of a real pool, and on one that was altered.

use crate::published::{assert_same_verdict, stop_and_prove};
use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use serde_json::{Value, json};
use share_accounting::entry::{Entry, PlanEntry, Share};
use share_accounting::log::Reader;
use share_accounting::log::append::SEGMENT_BYTES_DEFAULT;
use sluice_tests::support::binary;
use sluice_tests::support::log::append;
use sluice_tests::support::miner::{Miner, Share as MinedShare};
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{Pool, PoolBuilder, address};
use sluice_tests::support::v2_miner::V2Miner;
use sluice_tests::support::wait_for;
use std::path::Path;
use std::process::{Command, Output};
use stratum::v2::client::Kind;

pub fn verify(log: &Path, more: &[&str]) -> Output {
    Command::new(binary("sluice-verify")).arg("log").arg(log).args(more).output().unwrap()
}

/// As the node has it.
pub fn ask(log: &Path, node: &Node) -> (Option<i32>, Value) {
    let (rpc, cookie) = (format!("127.0.0.1:{}", node.rpc_port), node.cookie_file());
    json(&verify(log, &["--json", "--rpc", &rpc, "--cookie-file", cookie.to_str().unwrap()]))
}

/// As the node has it, and as its block files do.
fn verify_json(log: &Path, node: &Node) -> (Option<i32>, Value) {
    let asked = ask(log, node);
    assert_eq!(asked, verify_files(log, node));
    asked
}

pub fn verify_files(log: &Path, node: &Node) -> (Option<i32>, Value) {
    json(&verify(log, &["--json", "--blocks", node.blocks_dir().to_str().unwrap()]))
}

pub fn json(output: &Output) -> (Option<i32>, Value) {
    let answer = serde_json::from_slice(&output.stdout);
    let answer = answer.unwrap_or_else(|_| panic!("no answer: {}", output.stderr.escape_ascii()));
    (output.status.code(), answer)
}

/// A pool with everything in its rules, on a chain where every second hash is a block.
fn pool_with_rules(node: &Node) -> Pool {
    let donations = format!("[{{ bp = 30, address = \"{}\" }}]", address(202, node.network));
    PoolBuilder::new(node)
        .set("payout.window", "\"300\"")
        .set("payout.fee_bp", "150")
        .set("payout.fee_address", &format!("\"{}\"", address(201, node.network)))
        .set("payout.donations", &donations)
        .set("payout.min_payout_sats", "20000000")
        .set("difficulty.pot_start", "-32")
        .with_v2()
        .start()
}

/// Forty payees on three coinbase sizes and on V2, each with some shares and blocks.
fn mine(pool: &Pool, node: &Node) {
    for (round, agent) in ["NerdMinerV2", "cgminer/4.12.1", "xminer-1.0"].into_iter().enumerate() {
        for number in 1..=40 {
            let mut miner = Miner::connect(pool.v1(), &address(number, node.network), agent);
            for _ in 0..1 + usize::from(number) % 4 {
                miner.mine_accepted_share();
            }
        }
        let (v2, authority) = (pool.builder.v2(), pool.builder.authority());
        let kind = Kind::Extended { min_extranonce_size: 8 + 2 * round as u16 };
        let mut miner = V2Miner::connect(v2, authority, &address(50, node.network), kind);
        for _ in 0..10 {
            miner.mine_accepted_share();
        }
    }
}

/// Of a block that the node does not know.
const REPLACED: &str = "unknown to the node, which has another in its place";

/// A node that has the best chain of another one, and none of what is beside it.
fn newcomer(node: &Node) -> Node {
    let newcomer = Node::regtest();
    for height in 1..=node.height() {
        let block = node.call("getblock", &[node.block_at(height)["hash"].clone(), json!(0)]);
        newcomer.call("submitblock", &[block]);
    }
    assert_eq!(newcomer.call("getbestblockhash", &[]), node.call("getbestblockhash", &[]));
    newcomer
}

#[test]
fn blocks_that_the_node_has_never_heard_of_may_have_been_kept_back() {
    let node = Node::regtest();
    let pool = PoolBuilder::new(&node).set("difficulty.pot_start", "-32").start();
    let mut miner = Miner::connect(pool.v1(), &address(1, node.network), "xminer-1.0");
    for _ in 0..10 {
        miner.mine_accepted_share();
    }
    let log = pool.data_dir().join("log");
    let (_, _folder) = pool.stop();
    assert_eq!(ask(&log, &node).0, Some(0));
    let (code, answer) = ask(&log, &Node::regtest());
    assert_eq!(
        (code, &answer["lies"], &answer["proven"]),
        (Some(2), &json!([]), &json!(false)),
        "{answer:#}"
    );
    let states: Vec<_> = answer["blocks"].as_array().unwrap().iter().map(|block| &block["state"]).collect();
    assert!(!states.is_empty() && states.iter().all(|state| *state == "unknown to the node"), "{states:?}");
    let not_proven = answer["not_proven"].to_string();
    assert!(not_proven.contains("was handed in: the node does not know it"), "{not_proven}");
}

#[test]
fn a_real_pools_log_is_proven_and_its_blocks_are_found_in_the_chain_or_beside_it() {
    let node = Node::regtest();
    let pool = pool_with_rules(&node);
    mine(&pool, &node);
    // Another chain takes the place of the newest blocks.
    let height = node.height();
    let gone = node.block_at(height - 2)["hash"].clone();
    node.call("invalidateblock", &[gone]);
    node.generate(5, &address(99, node.network));
    wait_for("work on the other chain", || {
        let mut miner = Miner::connect(pool.v1(), &address(1, node.network), "xminer-1.0");
        let tip = node.call("getbestblockhash", &[]);
        (miner.wait_for_job(|_| true).prev_hash() == tip.as_str().unwrap()).then_some(())
    });
    mine(&pool, &node);

    let log = pool.data_dir().join("log");
    // While it runs, too.
    assert_eq!(ask(&log, &node).0, Some(0));
    let (_folder, published) = stop_and_prove(pool, &node);
    let (code, answer) = verify_json(&log, &node);
    assert_same_verdict(&published, &answer);
    assert_eq!((code, &answer["lies"]), (Some(0), &json!([])), "{answer:#}");
    assert_eq!((&answer["jobs_left_out"], &answer["not_hashed"]), (&json!(0), &json!(0)), "{answer:#}");
    let blocks = answer["blocks"].as_array().unwrap();
    let count = |state: &str| blocks.iter().filter(|block| block["state"] == state).count();
    println!("{} shares, {} blocks, {} orphaned", answer["shares"], blocks.len(), count("orphaned"));
    assert!(count("in chain") > 50 && count("orphaned") >= 1, "{answer:#}");
    assert_eq!(count("in chain") + count("orphaned"), blocks.len(), "{answer:#}");

    // Who came later has never heard of what was orphaned.
    let (code, later) = ask(&log, &newcomer(&node));
    assert_eq!((code, &later["lies"]), (Some(0), &json!([])), "{later:#}");
    let replaced = later["blocks"].as_array().unwrap().iter().filter(|block| block["state"] == REPLACED);
    assert_eq!(replaced.count(), count("orphaned"), "{later:#}");

    // An easier network would make a smaller window.
    let forged = log.with_file_name("forged");
    let mut at = 0;
    forge(&log, &forged, |entries| {
        at = entries.iter().rposition(|entry| matches!(entry, Entry::Job(_))).expect("there are jobs");
        let Entry::Job(job) = &mut entries[at] else { unreachable!() };
        job.nbits = 0x1f7f_ffff;
    });
    let (code, answer) = verify_json(&forged, &node);
    let words = "the job names the network target 1f7fffff, but that of the chain is 207fffff";
    let lies = answer["lies"].as_array().unwrap();
    assert!(lies.iter().any(|lie| lie["entry"] == at && lie["what"] == words), "{answer:#}");
    assert_eq!(code, Some(1));

    // By the ledger of a block that nobody has found anything could be owed. Only a node knows better.
    let invented = log.with_file_name("invented");
    forge(&log, &invented, |entries| {
        let ledger_of = |entry: &mut Entry| {
            let Entry::Job(job) = entry else { return None };
            let PlanEntry::Window { ledger_block, .. } = &mut job.plan else { return None };
            Some(std::mem::replace(ledger_block, BlockHash::from_byte_array([9; 32])))
        };
        at = entries.iter_mut().position(|entry| ledger_of(entry).is_some()).expect("there are jobs");
        // The log goes on for longer than a block's share may take to come.
        last_share(entries).1.received_unix_ms += 600_000;
    });
    assert!(json(&verify(&invented, &["--json"])).1["jobs_left_out"].as_u64() > Some(0));
    let (code, answer) = verify_json(&invented, &node);
    let words = format!(
        "the job's ledger is that of block {}, which no share of the log solves",
        BlockHash::from_byte_array([9; 32])
    );
    let lies = answer["lies"].as_array().unwrap();
    assert!(lies.iter().any(|lie| lie["entry"] == at && lie["what"] == words), "{answer:#}");
    assert_eq!(code, Some(1));
}

#[test]
fn a_block_that_policy_refuses_is_in_the_log_so_that_what_follows_can_be_proven() {
    let of_a_stranger = |miner: &mut Miner, node: &Node| {
        let mut block = miner.find_block();
        block.params[0] = json!(format!("{}.stranger", address(2, node.network)));
        block
    };
    refused_block_is_in_the_log(of_a_stranger, 24);
}

#[test]
fn a_block_whose_time_the_node_takes_a_few_seconds_later_is_in_the_log() {
    let ahead = |miner: &mut Miner, _: &Node| {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as u32;
        miner.job.as_mut().expect("a job").ntime = now + 7_203;
        miner.find_block()
    };
    refused_block_is_in_the_log(ahead, 20);
}

/// Finds a block whose share the pool refuses with that code, and has the log proven that goes on from there.
fn refused_block_is_in_the_log(find: impl Fn(&mut Miner, &Node) -> MinedShare, code: u64) {
    let node = Node::regtest();
    // So many that the time of one does not make that of the next.
    node.generate(15, &address(99, node.network));
    let pool = PoolBuilder::new(&node).set("difficulty.pot_start", "-32").start();
    let mut miner = Miner::connect(pool.v1(), &address(1, node.network), "xminer-1.0");
    miner.mine_accepted_share();
    let refused = loop {
        miner.catch_up();
        let block = find(&mut miner, &node);
        let answer = miner.request("mining.submit", block.params.clone());
        if answer["error"][0] == code {
            // It may have come just behind another one, and be none of the chain.
            let hash = BlockHash::from_byte_array(block.hash).to_string();
            let header = || node.try_call("getblockheader", &[json!(hash)]).ok();
            if wait_for("the node to have the block", header)["confirmations"] == 1 {
                break hash;
            }
            continue;
        }
        assert_eq!(answer["error"][0], 21, "{answer}");
    };
    wait_for("work on the block", || {
        miner.try_catch_up();
        miner.job.as_ref().filter(|job| job.prev_hash() == refused).map(drop)
    });
    for _ in 0..20 {
        miner.mine_accepted_share();
    }
    let log = pool.data_dir().join("log");
    let (status, _folder) = pool.stop();
    assert!(status.success());
    let (code, answer) = verify_json(&log, &node);
    assert_eq!((code, &answer["jobs_left_out"]), (Some(0), &json!(0)), "{answer:#}");
    let blocks = answer["blocks"].as_array().unwrap();
    let found = blocks.iter().find(|block| block["hash"] == refused).expect("the block is in the log");
    assert_eq!(found["state"], "in chain", "{answer:#}");
    let late = answer["statistics"]["payees"][0]["late"].as_u64().unwrap();
    assert!(
        late >= 1 && answer["shares"].as_u64().unwrap() > answer["credited"].as_u64().unwrap(),
        "{answer:#}"
    );
}

/// Writes a log anew with altered entries: intact to the last checksum.
pub fn forge(from: &Path, to: &Path, alter: impl FnOnce(&mut Vec<Entry>)) {
    let mut reader = Reader::open(from).unwrap();
    let network = reader.headers().next().unwrap().network;
    let mut entries: Vec<_> = reader.by_ref().map(|entry| entry.unwrap().1).collect();
    alter(&mut entries);
    append(to, network, SEGMENT_BYTES_DEFAULT, &entries);
}

pub fn last_share(entries: &mut [Entry]) -> (usize, &mut Share) {
    let shares = entries.iter_mut().enumerate().filter_map(|(at, entry)| match entry {
        Entry::Share(share) => Some((at, share)),
        _ => None,
    });
    shares.last().expect("the log has shares")
}

#[test]
fn an_altered_log_is_a_lie_a_damaged_one_cannot_be_checked_and_each_exit_code_says_so() {
    let node = Node::signet();
    let pool = PoolBuilder::new(&node).start();
    for number in 1..=2 {
        Miner::connect(pool.v1(), &address(number, node.network), "xminer-1.0").mine_accepted_share();
    }
    let log = pool.data_dir().join("log");
    let (status, builder) = pool.stop();
    assert!(status.success());
    let text = String::from_utf8(verify(&log, &[]).stdout).unwrap();
    assert!(text.starts_with("proven:\n") && text.contains("\nnot proven:\n"), "{text}");
    // Block files of a signet begin with bytes of its own.
    assert_eq!(verify_json(&log, &node).0, Some(0));
    let mainnet = builder.data_dir().join("mainnet");
    std::fs::create_dir(&mainnet).unwrap();
    std::fs::write(mainnet.join("blk00000.dat"), [0xf9, 0xbe, 0xb4, 0xd9]).unwrap();
    let output = verify(&log, &["--blocks", mainnet.to_str().unwrap()]);
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("blk00000.dat begins with f9beb4d9, as bitcoin does"), "{words}");
    assert_eq!(output.status.code(), Some(2));

    let forged = builder.data_dir().join("forged");
    let mut at = 0;
    forge(&log, &forged, |entries| {
        let (place, share) = last_share(entries);
        (at, share.payee) = (place, 1 - share.payee);
    });
    let output = verify(&forged, &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("- entry {at}: share credited to another payee")), "{text}");

    let segment = log.join("00000000.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let output = verify(&log, &[]);
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(words.contains("share log segment 0 is corrupt at offset 96"), "{words}");
    assert_eq!(verify(&builder.data_dir().join("nowhere"), &[]).status.code(), Some(2));
    assert_eq!(verify(&log, &["--rpc", "127.0.0.1:1"]).status.code(), Some(64));
    let both = ["--blocks", "blocks", "--rpc", "127.0.0.1:1", "--cookie-file", "file"];
    assert_eq!(verify(&log, &both).status.code(), Some(64));
}

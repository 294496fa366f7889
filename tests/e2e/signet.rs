//! All that a pool does with money, on a chain whose blocks take work: proven from what it publishes and a node alone.

use crate::published::stop_and_prove;
use serde_json::Value;
use share_accounting::entry::{Entry, PlanEntry};
use share_accounting::log::Reader;
use sluice_tests::support::miner::Miner;
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{Pool, PoolBuilder, RESERVE, address};
use std::collections::{BTreeMap, BTreeSet};

const PAYEES: u8 = 40;
const FEE: u8 = 201;
const DONATION: u8 = 202;

/// Two blocks' worth of work, and shares of 4,096 hashes at first. Most payees earn less than the smallest payment.
fn start(node: &Node) -> Pool {
    let donations = format!("[{{ bp = 30, address = \"{}\" }}]", address(DONATION, node.network));
    PoolBuilder::new(node)
        .set("payout.window", "\"2\"")
        .set("payout.fee_bp", "150")
        .set("payout.fee_address", &format!("\"{}\"", address(FEE, node.network)))
        .set("payout.donations", &donations)
        .set("payout.min_payout_sats", "100000000")
        .set("difficulty.pot_start", "-20")
        .set("difficulty.pot_max", "-16")
        .start()
}

/// Each payee connects and mines some shares, on machines of three coinbase sizes: fast enough that their difficulty rises.
fn mine(pool: &Pool, node: &Node) {
    for number in 1..=PAYEES {
        let agent = ["NerdMinerV2", "cgminer/4.12.1", "xminer-1.0"][usize::from(number) % 3];
        let mut miner = Miner::connect(pool.v1(), &address(number, node.network), agent);
        (0..6).for_each(|_| drop(miner.mine_accepted_share()));
    }
}

/// Addresses that the coinbases of the chain pay.
fn paid(node: &Node) -> BTreeSet<String> {
    let outputs = |height| node.block_at(height)["tx"][0]["vout"].as_array().unwrap().clone();
    let address = |output: Value| output["scriptPubKey"]["address"].as_str().map(str::to_owned);
    (1..=node.height()).flat_map(outputs).filter_map(address).collect()
}

#[test]
fn forty_payees_on_three_sizes_are_paid_and_owed_on_a_signet_and_all_of_it_is_proven() {
    let node = Node::signet();
    let pool = start(&node);
    // Fee and donations stand in larger coinbases alone; in small ones they are owed.
    let is_paid = |number| paid(&node).contains(&address(number, node.network));
    while node.height() < 5 || ![FEE, DONATION, RESERVE].into_iter().all(is_paid) {
        mine(&pool, &node);
    }
    let owed: Value = serde_json::from_str(&pool.http("/pool/ledger").unwrap()).unwrap();
    let (folder, answer) = stop_and_prove(pool, &node);
    let blocks = answer["blocks"].as_array().unwrap();
    assert!(blocks.iter().filter(|block| block["state"] == "in chain").count() >= 5, "{answer:#}");
    assert!(answer["reserve_sats"].as_u64().is_some_and(|sats| sats > 0), "{answer:#}");
    assert!(owed["owed_sats"].as_u64().is_some_and(|sats| sats > 0), "{owed:#}");

    let entries: Vec<Entry> =
        Reader::open(&folder.data_dir().join("log")).unwrap().map(|entry| entry.unwrap().1).collect();
    let mut pots = BTreeMap::<u32, BTreeSet<i8>>::new();
    for entry in &entries {
        if let Entry::Share(share) = entry {
            pots.entry(share.payee).or_default().insert(share.pot.get());
        }
    }
    assert!(pots.len() >= PAYEES.into() && pots.values().all(|pots| pots.len() >= 2), "{pots:?}");
    let jobs = || {
        entries.iter().filter_map(|entry| match entry {
            Entry::Job(job) => Some(job),
            _ => None,
        })
    };
    let classes: BTreeSet<_> = jobs().map(|job| job.class.coinbase_bytes_max()).collect();
    assert!(classes.len() >= 3, "{classes:?}");
    assert!(
        matches!(jobs().next().unwrap().plan, PlanEntry::Solo { .. }),
        "nobody has worked before the first share"
    );
    let paid = paid(&node);
    let miners = (1..=PAYEES).filter(|number| paid.contains(&address(*number, node.network))).count();
    assert!(miners >= 5, "{miners} of {PAYEES} are paid");
}

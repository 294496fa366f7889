//! Lies about what is paid from the reserve, told by real logs with something changed, or by whoever holds its key.

use crate::settlement::{
    logged, mine, mine_empty, settle_by_hand, settlements, stage, steal, verify_each_way, wait_for_psbt,
    wait_for_state, withdrawn,
};
use crate::verify::{ask, forge, json as answer_of, verify, verify_files};
use bitcoin::hashes::Hash;
use bitcoin::psbt::Psbt;
use bitcoin::{BlockHash, Transaction, Txid};
use serde_json::{Value, json};
use share_accounting::entry::{ChainEntry, ChainEvent, Entry};
use share_accounting::log::append::SEGMENT_BYTES_DEFAULT;
use sluice_tests::support::log::append;
use sluice_tests::support::wait_for;

#[test]
fn lie_the_reserve_is_spent_by_something_else() {
    let (node, pool) = stage();
    mine(&pool, &node, 3);
    mine_empty(&node, 100);
    let (_, psbt) = wait_for_psbt(&pool, &node, 0);
    let log = pool.data_dir().join("log");
    let reserve = logged(&log)[0].reserve[0];
    // The holder of the key has it signed, and spends one output of it first.
    steal(&node, &[reserve.outpoint]);
    drop(psbt);
    let words =
        format!("the {} satoshis put aside in {} for miners are spent", reserve.sats, reserve.outpoint);
    let assert_lie = |answer: &Value| {
        let lies = answer["lies"].as_array().unwrap();
        assert!(lies.len() == 1 && lies[0]["what"].as_str().unwrap().starts_with(&words), "{answer:#}");
    };
    // Long before the pool says so.
    let answer = wait_for("the lie to be found", || {
        let (code, answer) = ask(&log, &node);
        (code == Some(1)).then_some(answer)
    });
    assert_lie(&answer);
    let (code, answer) = verify_files(&log, &node);
    assert_eq!(code, Some(1), "{answer:#}");
    assert_lie(&answer);
    mine_empty(&node, 98);
    assert_eq!(settlements(&pool)[0]["state"], "open");
    mine_empty(&node, 1);
    wait_for_state(&pool, 0, "failed");
    // It is owed again.
    let ledger: Value = serde_json::from_str(&pool.http("/pool/ledger").unwrap()).unwrap();
    assert!(ledger["owed_sats"].as_u64().unwrap() >= logged(&log)[0].total(), "{ledger}");
    let (status, _folder) = pool.stop();
    assert!(status.success());
    let (code, answer) = verify_each_way(&log, node);
    assert_eq!(code, Some(1), "{answer:#}");
    assert_lie(&answer);
}

/// The newest settlement of a log: its entry, and its transaction without signatures.
fn newest_settlement(entries: &[Entry]) -> (u64, Transaction) {
    let script = entries.iter().rev().find_map(|entry| match entry {
        Entry::Params(params) => Some(&params.split.reserve_script),
        _ => None,
    });
    let mut settlements = entries.iter().enumerate().filter_map(|(index, entry)| match entry {
        Entry::Settlement(settlement) => Some((index as u64, settlement.transaction(script.unwrap()))),
        _ => None,
    });
    settlements.next_back().unwrap()
}

fn paid(settlement: u64, block: BlockHash, txid: Txid) -> Entry {
    let event = ChainEvent::SettlementPaid { settlement, block, txid };
    Entry::Chain(ChainEntry { unix_ms: 1, event })
}

#[test]
fn lie_a_credit_is_paid_by_a_block_and_by_a_settlement_too() {
    let (node, pool) = withdrawn();
    let log = pool.data_dir().join("log");
    let (status, folder) = pool.stop();
    assert!(status.success());
    // Another pool would not withdraw it, but give it out. Whether it logs that it is paid does not matter.
    let up_to_there = |entries: &mut Vec<Entry>| {
        let withdrawn = entries.iter().position(|entry| {
            let Entry::Chain(ChainEntry { event, .. }) = entry else { return false };
            matches!(event, ChainEvent::SettlementWithdrawn { .. })
        });
        entries.truncate(withdrawn.unwrap());
        newest_settlement(entries)
    };
    let (silent, loud) = (folder.data_dir().join("silent"), folder.data_dir().join("loud"));
    let mut settlement = None;
    forge(&log, &silent, |entries| settlement = Some(up_to_there(entries)));
    let (index, transaction) = settlement.unwrap();
    let txid = transaction.compute_txid();
    let block = settle_by_hand(&node, transaction);
    forge(&log, &loud, |entries| {
        up_to_there(entries);
        entries.push(paid(index, block, txid));
    });
    for log in [silent, loud] {
        let (code, answer) = ask(&log, &node);
        let lies = answer["lies"].as_array().unwrap();
        let words = "the settlement is paid, and so were credits of it by a block";
        assert!(lies.len() == 1 && lies[0]["what"].as_str().unwrap().starts_with(words), "{answer:#}");
        assert_eq!((code, &lies[0]["entry"]), (Some(1), &json!(index)), "{answer:#}");
        assert_eq!(verify_files(&log, &node), (code, answer));
        // Without the chain it cannot be known.
        let (code, answer) = answer_of(&verify(&log, &["--json"]));
        assert_eq!((code, &answer["proven"]), (Some(2), &json!(false)), "{answer:#}");
    }
}

#[test]
fn lie_a_settlement_that_is_not_paid_is_called_paid() {
    let (node, pool) = stage();
    mine(&pool, &node, 3);
    mine_empty(&node, 100);
    let (index, _) = wait_for_psbt(&pool, &node, 0);
    let index = index.parse().unwrap();
    let log = pool.data_dir().join("log");
    let (status, folder) = pool.stop();
    assert!(status.success());
    let (code, answer) = ask(&log, &node);
    assert_eq!((code, &answer["lies"]), (Some(0), &json!([])), "an open one is no lie: {answer:#}");
    let claim = paid(index, BlockHash::from_byte_array([7; 32]), Txid::from_byte_array([8; 32]));
    append(&log, node.network, SEGMENT_BYTES_DEFAULT, &[claim]);
    // It may yet be.
    let (code, answer) = ask(&log, &node);
    let words = format!("that the settlement of entry {index} is paid, as the log says");
    let unproven = answer["not_proven"].as_array().unwrap();
    assert!(unproven.iter().any(|line| line.as_str().unwrap().starts_with(&words)), "{answer:#}");
    assert_eq!((code, &answer["lies"]), (Some(2), &json!([])), "{answer:#}");
    // The pool goes on for a hundred blocks.
    let pool = folder.start();
    mine(&pool, &node, 1);
    mine_empty(&node, 100);
    mine(&pool, &node, 1);
    let (status, _folder) = pool.stop();
    assert!(status.success());
    let (code, answer) = ask(&log, &node);
    let lies = answer["lies"].as_array().unwrap();
    let words = "the settlement is said to be paid, and is not: what it spends is there, 1";
    assert!(lies.len() == 1 && lies[0]["what"].as_str().unwrap().starts_with(words), "{answer:#}");
    assert_eq!((code, &lies[0]["entry"]), (Some(1), &json!(index)), "{answer:#}");
}

#[test]
fn lie_a_settlement_is_called_failed_although_nothing_has_spent_its_outputs() {
    let (node, pool) = stage();
    mine(&pool, &node, 3);
    mine_empty(&node, 100);
    let (index, _) = wait_for_psbt(&pool, &node, 0);
    let settlement = index.parse().unwrap();
    let log = pool.data_dir().join("log");
    let reserve = logged(&log)[0].reserve[0];
    let (status, _folder) = pool.stop();
    assert!(status.success());
    let event = ChainEvent::SettlementFailed { settlement, spent: 1 };
    append(&log, node.network, SEGMENT_BYTES_DEFAULT, &[Entry::Chain(ChainEntry { unix_ms: 1, event })]);
    let (code, answer) = verify_each_way(&log, node);
    let words = format!(
        "the settlement is said to have failed because {} is spent, which it is not",
        reserve.outpoint
    );
    assert_eq!(
        (code, &answer["lies"]),
        (Some(1), &json!([{"entry": settlement, "what": words}])),
        "{answer:#}"
    );
}

#[test]
fn lie_a_settlement_that_is_paid_is_called_failed_or_withdrawn() {
    let (node, pool) = stage();
    mine(&pool, &node, 3);
    mine_empty(&node, 100);
    let (index, psbt) = wait_for_psbt(&pool, &node, 0);
    let settlement = index.parse().unwrap();
    let log = pool.data_dir().join("log");
    let (status, folder) = pool.stop();
    assert!(status.success());
    // Whoever holds the key has signed it, as it was given out.
    let transaction = psbt.parse::<Psbt>().unwrap().unsigned_tx;
    let txid = transaction.compute_txid();
    let block = settle_by_hand(&node, transaction);
    let failed = ChainEvent::SettlementFailed { settlement, spent: 1 };
    let withdrawn = ChainEvent::SettlementWithdrawn { settlement };
    let event = |event: &ChainEvent| Entry::Chain(ChainEntry { unix_ms: 1, event: *event });
    let claims = [
        ("failed", vec![event(&failed)]),
        ("failed", vec![paid(settlement, block, txid), event(&failed)]),
        ("withdrawn", vec![event(&withdrawn)]),
    ];
    for (number, (called, claim)) in claims.into_iter().enumerate() {
        let forged = folder.data_dir().join(number.to_string());
        forge(&log, &forged, |entries| entries.extend(claim));
        let (code, answer) = ask(&forged, &node);
        let words = format!("the settlement is called {called}, and is paid in block {block}");
        let lies = json!([{"entry": settlement, "what": words}]);
        assert_eq!((code, &answer["lies"]), (Some(1), &lies), "{number}: {answer:#}");
        assert_eq!(verify_files(&forged, &node), (code, answer), "{number}");
    }
}

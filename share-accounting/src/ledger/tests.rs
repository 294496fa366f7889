use super::*;
use crate::testing::{moved, payee, script};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn block(n: u8, height: u32, delta: &[(u8, i64)]) -> PoolBlock {
    let reserve: i64 = delta.iter().map(|(_, sats)| sats).sum();
    PoolBlock {
        hash: BlockHash::from_byte_array([n; 32]),
        height,
        prev_hash: BlockHash::from_byte_array([n - 1; 32]),
        found_unix_ms: 1_700_000_000_000,
        outputs: vec![
            TxOut { value: Amount::from_sat(1_000), script_pubkey: script(1) },
            TxOut { value: Amount::from_sat(reserve as u64), script_pubkey: script(9) },
        ],
        credit_delta: delta.iter().map(|(n, sats)| (script(*n), *sats)).collect(),
        reserve: Amount::from_sat(reserve as u64),
        coinbase: Some(Txid::from_byte_array([n; 32])),
    }
}

fn open() -> (tempfile::TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger.sqlite")).unwrap();
    (dir, ledger)
}

#[test]
fn a_found_block_is_recorded_once_and_survives_reopening() {
    let (dir, mut ledger) = open();
    let found = block(5, 100, &[(1, 40), (2, 60)]);
    ledger.record(&found).unwrap();
    ledger.record(&found).unwrap();
    ledger.record(&PoolBlock { found_unix_ms: found.found_unix_ms + 1, ..found.clone() }).unwrap();
    let mut other = found.clone();
    other.height = 101;
    assert!(matches!(ledger.record(&other), Err(LedgerError::Conflict(hash)) if hash == found.hash));
    drop(ledger);
    let ledger = Ledger::open(&dir.path().join("ledger.sqlite")).unwrap();
    assert_eq!(ledger.recent_blocks(10).unwrap(), [(found.clone(), BlockState::Solved)]);
    assert_eq!(ledger.open_blocks(0).unwrap().len(), 1);
    assert_eq!(ledger.block(found.hash).unwrap().unwrap().0.value(), Amount::from_sat(1_100));
    assert_eq!(ledger.block(BlockHash::all_zeros()).unwrap(), None);
}

#[test]
fn ch02_every_block_above_a_height_is_open_and_below_it_those_that_are_to_mature() {
    let (_dir, mut ledger) = open();
    for (n, state) in (1_u8..).zip(BlockState::ALL) {
        for (nth, height) in [(0, 100), (100, 500)] {
            let found = block(nth + n, height, &[]);
            ledger.record(&found).unwrap();
            if state == BlockState::Matured {
                ledger.set_state(found.hash, BlockState::InChain).unwrap();
            }
            ledger.set_state(found.hash, state).unwrap();
        }
    }
    let open = |above| -> Vec<(u32, BlockState)> {
        let blocks = ledger.open_blocks(above).unwrap();
        blocks.into_iter().map(|(block, state)| (block.height, state)).collect()
    };
    assert_eq!(open(0).len(), 2 * BlockState::ALL.len());
    assert_eq!(open(499).len(), 1 + BlockState::ALL.len());
    assert_eq!(open(499)[0], (100, BlockState::InChain));
    // Those above a height, not at it.
    assert_eq!(open(500), [(100, BlockState::InChain), (500, BlockState::InChain)]);
}

#[test]
fn credits_count_in_chain_blocks_only_and_follow_a_reorganisation() {
    let (_dir, mut ledger) = open();
    let (first, second) = (block(1, 100, &[(1, 40)]), block(2, 101, &[(1, -10), (2, 70)]));
    for found in [&first, &second] {
        ledger.record(found).unwrap();
    }
    assert_eq!(
        ledger.credits(101, &Moves::default()).unwrap(),
        Credits { block: BlockHash::all_zeros(), by_script: BTreeMap::new() }
    );
    ledger.set_state(first.hash, BlockState::Submitted).unwrap();
    ledger.set_state(first.hash, BlockState::InChain).unwrap();
    ledger.set_state(first.hash, BlockState::Matured).unwrap();
    ledger.set_state(second.hash, BlockState::InChain).unwrap();
    let both = ledger.credits(101, &Moves::default()).unwrap();
    assert_eq!(both, Credits { block: second.hash, by_script: [(script(1), 30), (script(2), 70)].into() });
    let first_only = Credits { block: first.hash, by_script: [(script(1), 40)].into() };
    assert_eq!(ledger.credits(100, &Moves::default()).unwrap(), first_only, "the second is above that tip");
    ledger.set_state(second.hash, BlockState::Orphaned).unwrap();
    assert_eq!(ledger.credits(101, &Moves::default()).unwrap(), first_only);
    ledger.set_state(second.hash, BlockState::InChain).unwrap();
    assert_eq!(ledger.credits(101, &Moves::default()).unwrap(), both);
}

#[test]
fn illegal_transitions_and_unknown_blocks_are_refused() {
    let (_dir, mut ledger) = open();
    let found = block(1, 100, &[(1, 40)]);
    assert!(matches!(ledger.set_state(found.hash, BlockState::InChain), Err(LedgerError::UnknownBlock(_))));
    ledger.record(&found).unwrap();
    assert!(matches!(ledger.set_state(found.hash, BlockState::Matured), Err(LedgerError::Transition { .. })));
    for from in BlockState::ALL {
        assert!(from.may_become(from));
        assert_eq!(BlockState::from_label(from.label()), Some(from));
        assert!(!from.may_become(BlockState::Solved) || from == BlockState::Solved);
        // Nothing matures that was not in the chain.
        assert_eq!(from.may_become(BlockState::Matured), from.is_in_chain());
    }
    assert_eq!(BlockState::from_label(""), None);
}

#[test]
fn the_epoch_grows_past_log_and_ledger_and_wraps() {
    let (_dir, mut ledger) = open();
    let mut next = |log| ledger.identify([1; 16], log).unwrap().epoch;
    assert_eq!(next(None), 0);
    assert_eq!(next(None), 1, "a start that failed before it reached the log counts too");
    assert_eq!(next(Some(0)), 2);
    assert_eq!(next(Some(7)), 8, "the ledger is older than the log");
    assert_eq!(next(Some(3)), 9, "the log is older than the ledger");
    // Half a turn at most lies between the two.
    for log in [30_000, 60_000, u16::MAX - 1] {
        assert_eq!(next(Some(log)), log + 1);
    }
    assert_eq!(next(Some(u16::MAX)), 0);
    assert_eq!(next(Some(u16::MAX)), 1);
}

#[test]
fn a_ledger_serves_its_own_log_only_and_keeps_its_salt() {
    let (_dir, mut ledger) = open();
    assert!(matches!(ledger.identify([1; 16], Some(4)), Err(LedgerError::Lost)));
    let salt = ledger.identify([1; 16], None).unwrap().worker_salt;
    assert_eq!(ledger.identify([1; 16], Some(0)).unwrap().worker_salt, salt);
    assert!(matches!(ledger.identify([2; 16], Some(1)), Err(LedgerError::OtherLog)));
}

#[test]
fn a_ledger_of_an_earlier_version_is_converted_and_keeps_what_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.sqlite");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(VERSIONS[0]).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    let row = "INSERT INTO blocks VALUES (zeroblob(32), 9, zeroblob(32), 1, 5000, 0, 'in_chain')";
    old.execute_batch(row).unwrap();
    drop(old);
    let mut ledger = Ledger::open(&path).unwrap();
    let (block, state) = ledger.block(BlockHash::all_zeros()).unwrap().unwrap();
    assert_eq!((block.height, block.coinbase, state), (9, None, BlockState::InChain));
    // The same block, from a note that knows its coinbase.
    ledger.record(&PoolBlock { coinbase: Some(Txid::all_zeros()), ..block }).unwrap();
    ledger.record(&self::block(5, 100, &[(1, 40)])).unwrap();
    drop(ledger);
    let ledger = Ledger::open(&path).unwrap();
    assert_eq!(ledger.recent_blocks(1).unwrap()[0].0.coinbase, Some(Txid::from_byte_array([5; 32])));
}

#[test]
fn a_newer_schema_is_refused() {
    let (dir, ledger) = open();
    ledger.db.pragma_update(None, "user_version", 4).unwrap();
    drop(ledger);
    assert!(matches!(Ledger::open(&dir.path().join("ledger.sqlite")), Err(LedgerError::NewerSchema(4))));
}

#[test]
fn payees_are_listed_in_script_order_and_noted_once() {
    let (_dir, mut ledger) = open();
    for (n, worker) in [(2, "b"), (1, "'; DROP TABLE payees; --"), (2, "a"), (2, "b")] {
        ledger.note_payees([&*payee(n, worker)], 5).unwrap();
    }
    let all = ledger.payees(0, 10).unwrap();
    let expected = [(1, "%27%3B%20DROP%20TABLE%20payees%3B%20--"), (2, "a"), (2, "b")];
    assert_eq!(all, expected.map(|(n, worker)| (script(n), worker.to_owned())));
    assert_eq!(ledger.payees(1, 1).unwrap(), all[1..2]);
}

#[test]
fn a_negative_credit_is_told_with_its_height_and_a_remedy() {
    let negative = block(1, 100, &[(1, -5), (2, 10)]);
    assert_eq!(
        fold([&negative], &Moves::default()),
        Err(Inconsistent::Negative { script: script(1), sats: -5 })
    );
    let (_dir, mut ledger) = open();
    ledger.record(&negative).unwrap();
    ledger.set_state(negative.hash, BlockState::InChain).unwrap();
    let error = ledger.credits(100, &Moves::default()).unwrap_err().to_string();
    assert!(error.contains("at height 100") && error.contains("-5 satoshis"), "{error}");
    assert!(error.contains("restore the ledger"), "{error}");
    assert!(ledger.credits(99, &Moves::default()).is_ok());
}

#[test]
fn what_was_owed_to_an_old_address_can_be_paid_to_the_new_one() {
    let mut moves = Moves::default();
    moves.note(&moved([1; 16], 200, script(3)), true);
    // The last one from a job that was made before.
    let blocks = [
        block(1, 100, &[(200, 500), (2, 10)]),
        block(2, 101, &[(3, -400), (2, 400)]),
        block(3, 102, &[(200, -100), (2, 101)]),
    ];
    let owed = |blocks: &[PoolBlock]| fold(blocks, &moves).map(|credits| credits.by_script);
    assert_eq!(owed(&blocks[..1]), Ok([(script(3), 500), (script(2), 10)].into()));
    assert_eq!(owed(&blocks[..2]), Ok([(script(3), 100), (script(2), 410)].into()));
    assert_eq!(owed(&blocks), Ok([(script(2), 511)].into()));
}

#[test]
fn credit_without_reserve_is_refused() {
    let mut unbacked = block(1, 100, &[(1, 10)]);
    unbacked.reserve = Amount::from_sat(9);
    assert_eq!(
        fold([&unbacked], &Moves::default()),
        Err(Inconsistent::Unbacked { credits: 10, reserves: 9 })
    );
}

#[test]
fn sums_that_overflow_are_refused() {
    let most = |n: u8, sats: i64| PoolBlock { credit_delta: vec![(script(1), sats)], ..block(n, 100, &[]) };
    assert_eq!(fold([&most(1, i64::MAX), &most(2, 1)], &Moves::default()), Err(Inconsistent::Overflow));
    assert_eq!(fold([&most(1, i64::MIN), &most(2, -1)], &Moves::default()), Err(Inconsistent::Overflow));
    let mut three = block(1, 100, &[]);
    three.credit_delta = [1, 2, 3].map(|n| (script(n), i64::MAX)).to_vec();
    assert_eq!(fold([&three], &Moves::default()), Err(Inconsistent::Overflow));
    let mut reserves = [block(1, 100, &[]), block(2, 101, &[])];
    reserves.iter_mut().for_each(|block| block.reserve = Amount::MAX);
    assert_eq!(fold(&reserves, &Moves::default()), Err(Inconsistent::Overflow));
}

proptest! {
    // Every case writes a real database with full synchronisation.
    #![proptest_config(crate::testing::cases())]
    #[test]
    fn i9_orphaned_blocks_leave_no_trace_in_the_ledger(
        deltas in proptest::collection::vec((proptest::collection::btree_map(1_u8..6, 1_i64..1_000, 1..4), any::<bool>()), 1..12)
    ) {
        let (_dir, mut ledger) = open();
        let mut kept = Vec::new();
        for ((n, height), (delta, orphaned)) in (1..).zip(100..).zip(deltas) {
            let found = block(n, height, &delta.into_iter().collect::<Vec<_>>());
            ledger.record(&found).unwrap();
            ledger.set_state(found.hash, BlockState::InChain).unwrap();
            if orphaned {
                ledger.set_state(found.hash, BlockState::Orphaned).unwrap();
            } else {
                kept.push(found);
            }
        }
        let expected = fold(kept.iter().rev(), &Moves::default()).unwrap();
        prop_assert_eq!(ledger.credits(u32::MAX, &Moves::default()).unwrap(), expected);
    }
}

//! Shares that solve a block and are logged by a later process than the one that has judged them.

use super::history::{History, POT, honest};
use super::*;
use crate::BlockShare;
use crate::log::append::SEGMENT_BYTES_DEFAULT;
use stratum::share::JudgedShare;

fn kept(share: &JudgedShare) -> BlockShare {
    let kept = BlockShare::of(share);
    assert_eq!(BlockShare::decode(share.hash(), &kept.encode()), Some(kept.clone()));
    kept
}

/// A pool that is killed when a block is in the chain and its share not in the log.
fn killed() -> (History, JudgedShare) {
    let mut history = lived(20, &honest());
    let job = history.plan(1, &honest());
    let share = history.mine_unlogged_block(&job, 9);
    (history, share)
}

/// A few blocks later: the entries, if all of it is proven.
fn proven_in_the_end(mut history: History) -> Vec<Entry> {
    for n in 0..3 {
        let job = history.plan(1, &honest());
        let _ = (0..).find(|_| history.mine(&job, 1 + n % 3, POT));
    }
    let entries = history.entries();
    let report = audited(&entries);
    assert!(report.is_proven(), "{:#?}, {} left out", report.findings, report.jobs_left_out);
    entries
}

/// Whether the share of a block earns, for each time that it is in a log.
fn logged(entries: &[Entry], block: BlockHash) -> Vec<bool> {
    let report = audited(entries);
    let at = report.blocks.iter().filter(|(_, hash)| **hash == block).map(|(at, _)| *at as usize);
    at.map(|at| matches!(&entries[at], Entry::Share(share) if share.credited)).collect()
}

#[test]
fn what_a_block_has_paid_is_proven_by_a_share_that_a_later_process_logs() {
    let (history, share) = killed();
    let history = history.restarted(SEGMENT_BYTES_DEFAULT);
    assert_eq!(history.restore(vec![kept(&share)]), 1);
    // Killed again before anybody notes that.
    let history = history.restarted(SEGMENT_BYTES_DEFAULT);
    assert_eq!(history.restore(vec![kept(&share)]), 0);
    assert_eq!(logged(&proven_in_the_end(history), share.hash()), [false]);
}

#[test]
fn a_share_that_is_in_the_log_is_not_logged_again() {
    let (history, share) = killed();
    history.commit(share.clone());
    let mut history = history.restarted(1_000);
    // Whatever it has in common with others, and however many segments have begun since.
    let job = history.plan(1, &honest());
    let other = history.mine_unlogged_block(&job, 9);
    assert_eq!(history.restore(vec![kept(&share), kept(&other)]), 1);
    for n in 0..20 {
        history.mine_stale(&job, 1 + n % 3);
    }
    assert_eq!(history.restore(vec![kept(&other), kept(&share)]), 0);
    let entries = proven_in_the_end(history);
    assert_eq!((logged(&entries, share.hash()), logged(&entries, other.hash())), (vec![true], vec![false]));
}

#[test]
fn what_is_damaged_or_of_another_block_is_no_share() {
    let (history, share) = killed();
    let bytes = BlockShare::of(&share).encode();
    assert_eq!(BlockShare::decode(BlockHash::all_zeros(), &bytes), None);
    for end in 0..bytes.len() {
        assert_eq!(BlockShare::decode(share.hash(), &bytes[..end]), None);
    }
    // In the hash of the block before.
    let mut flipped = bytes.clone();
    flipped[20] ^= 1;
    assert_eq!(BlockShare::decode(share.hash(), &flipped), None);
    drop(history);
}

//! What is paid from the reserve, and what a coinbase has paid already.

use super::*;

/// A pool whose coinbase has room for one miner, so that it owes the others something; then it settles.
pub fn owing(bend: impl Fn(&mut Settlement)) -> History {
    owing_by(params(12), bend)
}

fn owing_by(rules: Params, bend: impl Fn(&mut Settlement)) -> History {
    let mut history = History::new(rules);
    history.class = SizeClass::B255;
    let mut job = history.plan(1, &honest());
    let mut blocks = 0;
    for n in 0.. {
        if history.mine(&job, 1 + n % 3, POT) {
            blocks += 1;
            job = history.next(&job, 1);
            if blocks >= 4 && history.settle(history.place().0, 200, &bend) {
                return history;
            }
        }
    }
    unreachable!("some day the pool owes something")
}

fn last_settlement(entries: &[Entry]) -> usize {
    entries.iter().rposition(|entry| matches!(entry, Entry::Settlement(_))).unwrap()
}

#[test]
fn what_is_settled_is_paid_by_no_coinbase_and_is_no_lie() {
    let mut history = owing(|_| {});
    for round in 0..3 {
        let mut job = history.plan(1, &honest());
        history.class = SizeClass::B755;
        for n in 0..30 {
            if history.mine(&job, 1 + n % 3, POT) || n % 4 == 0 {
                job = history.next(&job, 1);
            }
        }
        history.class = SizeClass::B255;
        if round == 0 {
            history.settled();
        }
    }
    let chain = history.in_chain();
    let entries = history.entries();
    let report = audited(&entries);
    assert!(report.is_proven(), "{:#?}", report.findings);
    assert_eq!((chain.settled.len(), report.paid_twice(&chain)), (1, vec![]));
    assert_eq!((report.settlements.all().len(), report.may_be_paid()), (1, 1));
    assert!(!report.reserves.is_empty());
}

#[test]
fn lie_a_settlement_of_less_than_the_rules_want() {
    let rules = Params { settlement_at_least: 1 << 50, ..params(12) };
    let entries = owing_by(rules, |_| {}).entries();
    assert_lie(&entries, last_settlement(&entries), "where the rules want 1125899906842624 for a settlement");
}

#[test]
fn lie_a_credit_that_is_settled_is_paid_in_a_coinbase_too() {
    let mut history = owing(|_| {});
    history.class = SizeClass::B755;
    let job = history.plan(1, &Crook { forgets_locks: true, ..honest() });
    history.mine_no_block(&job, 1);
    let entries = history.entries();
    let job = entries.iter().rposition(|entry| matches!(entry, Entry::Job(_))).unwrap();
    let found = lies(&entries);
    assert!(found.len() == 1 && found[0].starts_with(&format!("entry {job}: ")), "{found:#?}");
}

/// A job from before a settlement has solved a block that pays a credit of it.
/// Gives the place before that block, too.
fn paid_by_an_old_job() -> (History, (BlockHash, BlockHash)) {
    loop {
        let mut history = owing(|_| {});
        history.event(ChainEvent::SettlementWithdrawn { settlement: history.open_settlement().unwrap() });
        history.class = SizeClass::B255;
        let old = history.plan(1, &honest());
        let before = history.place();
        assert!(history.settle(before.0, 0, |_| {}));
        let _ = (0..).find(|_| history.mine(&old, 1, POT));
        let job = history.plan(1, &honest());
        history.mine_no_block(&job, 1);
        if !history.is_owed_at(history.place().0) {
            return (history, before);
        }
    }
}

#[test]
fn a_settlement_that_is_withdrawn_because_a_block_has_paid_a_credit_of_it_is_no_lie() {
    let (history, _) = paid_by_an_old_job();
    history.event(ChainEvent::SettlementWithdrawn { settlement: history.open_settlement().unwrap() });
    let report = audited(&history.entries());
    assert_eq!(report.findings, []);
    // Both of them, for all that the log says.
    assert_eq!(report.may_be_paid(), 2);
}

/// That the last settlement alone is found to be paid by blocks, too, once the chain is known; the log itself is whole.
fn assert_paid_twice(history: History) {
    let chain = history.in_chain();
    let entries = history.entries();
    let report = audited(&entries);
    assert_eq!(report.findings, []);
    let settlements = entries.iter().filter(|entry| matches!(entry, Entry::Settlement(_)));
    assert_eq!(report.may_be_paid(), settlements.count() as u64);
    let found = report.paid_twice(&chain);
    let named = found.first().map(ToString::to_string).unwrap_or_default();
    let words =
        format!("entry {}: the settlement is paid, and so were credits of it", last_settlement(&entries));
    assert!(found.len() == 1 && named.starts_with(&words), "{found:#?}");
    // Nor is it in the chain.
    assert_eq!(report.paid_twice(&InChain { settled: BTreeMap::new(), ..chain }), []);
}

#[test]
fn lie_a_settlement_goes_by_an_old_ledger_and_pays_what_blocks_have_paid_since() {
    loop {
        let mut history = owing(|_| {});
        history.event(ChainEvent::SettlementWithdrawn { settlement: history.open_settlement().unwrap() });
        let old = history.place();
        for _ in 0..2 {
            next_block(&mut history);
        }
        let now = history.place();
        history.orphan(old);
        assert!(history.settle(old.0, 0, |_| {}));
        history.orphan(now);
        if !history.is_owed_at(now.0) {
            history.settled();
            return assert_paid_twice(history);
        }
    }
}

#[test]
fn lie_a_settlement_by_the_ledger_of_a_block_that_has_lost_pays_what_the_chain_has_paid() {
    loop {
        let mut history = owing(|_| {});
        history.event(ChainEvent::SettlementWithdrawn { settlement: history.open_settlement().unwrap() });
        let old = history.place();
        next_block(&mut history);
        let lost = history.place();
        history.orphan((old.0, BlockHash::from_byte_array([97; 32])));
        // The chain's own, which pay what is owed.
        for _ in 0..2 {
            next_block(&mut history);
        }
        let now = history.place();
        history.orphan(lost);
        let settles = history.settle(old.0, 0, |_| {});
        history.orphan(now);
        if settles && !history.is_owed_at(now.0) {
            let job = history.plan(1, &honest());
            history.mine_no_block(&job, 1);
            history.settled();
            return assert_paid_twice(history);
        }
    }
}

#[test]
fn lie_a_credit_paid_twice_is_hidden_by_one_job_on_a_block_that_never_was() {
    let (mut history, before) = paid_by_an_old_job();
    let now = history.place();
    // One worthless share on a job that goes by the older ledger, on a parent that nobody knows.
    history.orphan((before.0, BlockHash::from_byte_array([99; 32])));
    let job = history.plan(1, &honest());
    history.mine_no_block(&job, 1);
    let settlement = history.open_settlement().unwrap();
    history.log_paid(settlement);
    history.orphan(now);
    history.is_in_newest(settlement);
    let job = history.plan(1, &honest());
    history.mine_no_block(&job, 1);
    assert_paid_twice(history);
}

#[test]
fn lie_a_credit_paid_twice_is_hidden_by_not_logging_that_the_settlement_is_paid() {
    let (mut history, _) = paid_by_an_old_job();
    history.settled_unlogged();
    assert_paid_twice(history);
}

#[test]
fn lie_a_job_from_before_a_settlement_pays_a_credit_of_it_after_it_is_paid() {
    loop {
        let mut history = owing(|_| {});
        history.event(ChainEvent::SettlementWithdrawn { settlement: history.open_settlement().unwrap() });
        history.class = SizeClass::B255;
        let old = history.plan(1, &honest());
        assert!(history.settle(history.place().0, 0, |_| {}));
        history.settled();
        let _ = (0..).find(|_| history.mine(&old, 1, POT));
        if !history.is_owed_at(history.place().0) {
            return assert_paid_twice(history);
        }
    }
}

#[test]
fn a_settlement_is_no_lie_whose_credit_was_paid_by_a_block_that_has_lost_and_was_followed_by_no_share() {
    let (mut history, before) = paid_by_an_old_job();
    // Nobody mines for the six blocks until it is given out.
    history.orphan((before.0, BlockHash::from_byte_array([90; 32])));
    for n in 91..97 {
        history.new_tip(BlockHash::from_byte_array([n; 32]));
    }
    assert!(history.is_owed_at(history.place().0));
    history.settled();
    assert_eq!(lies_in(history), [""; 0]);
}

#[test]
fn no_chain_of_blocks_of_a_hostile_log_is_followed_for_ever() {
    let mut history = owing(|_| {});
    history.settled();
    let (_, tip) = history.place();
    let (block, _) = next_block(&mut history);
    let mut entries = history.entries();
    // The job that solved the block once more, as if it went by that very block, and its share once more.
    let share_at = *shares(&entries).last().unwrap();
    let Entry::Share(share) = entries[share_at].clone() else { unreachable!() };
    let Entry::Job(mut job) = entries[usize::try_from(share.job).unwrap()].clone() else { unreachable!() };
    assert_eq!(job.prev_hash, tip);
    let PlanEntry::Window { ledger_block, .. } = &mut job.plan else { panic!("a solo job") };
    *ledger_block = block;
    let again = Entry::Share(Share { job: entries.len() as u64, credited: false, ..share });
    entries.extend([Entry::Job(job), again]);
    for matured in [BlockHash::all_zeros(), block] {
        let credits = vec![(script(1), 10_000)];
        let outpoint = bitcoin::OutPoint::null();
        let reserve = vec![crate::entry::Reserve { outpoint, sats: 10_000 }];
        let settlement = Settlement { matured, ledger_block: block, fee: 0, credits, reserve };
        let with = [&entries[..], &[Entry::Settlement(settlement.into())]].concat();
        assert!(!audited(&with).is_honest());
    }
}

#[test]
fn lie_a_settlement_pays_what_a_block_has_paid() {
    let (mut history, _) = paid_by_an_old_job();
    history.settled();
    assert_paid_twice(history);
}

#[test]
fn lie_a_settlement_pays_somebody_who_is_owed_less() {
    let give = |settlement: &mut Settlement| {
        // So that all sums are right.
        settlement.credits[0].1 -= 1_000;
        settlement.credits.last_mut().unwrap().1 += 1_000;
    };
    let entries = owing(give).entries();
    assert_lie(&entries, last_settlement(&entries), "the settlement is not what the ledger gives: credit 0");
}

#[test]
fn lie_a_settlement_pays_a_stranger() {
    let entries = owing(|settlement| settlement.credits[0].0 = ScriptBuf::from_bytes(vec![0; 2])).entries();
    assert_lie(&entries, last_settlement(&entries), "credit 0 that it pays is");
}

#[test]
fn lie_a_settlement_leaves_somebody_out() {
    let leave_out = |settlement: &mut Settlement| {
        settlement.credits.pop();
        settlement.fee = 0;
    };
    let entries = owing(leave_out).entries();
    assert_lie(&entries, last_settlement(&entries), "that it pays is nothing where the ledger gives");
}

#[test]
fn lie_a_settlement_spends_an_output_that_is_none_of_the_reserve() {
    let entries = owing(|settlement| settlement.reserve[0].outpoint.vout += 1).entries();
    assert_lie(&entries, last_settlement(&entries), "reserve output 0 that it spends is not");
}

#[test]
fn lie_a_settlement_takes_a_larger_fee() {
    let mut entries = owing(|_| {}).entries();
    let at = last_settlement(&entries);
    let Entry::Settlement(settlement) = &mut entries[at] else { unreachable!() };
    settlement.fee += 1;
    assert_lie(&entries, at, "a settlement's fee is more than the rules allow");
}

/// Mines one, with three payees in turn.
fn next_block(history: &mut History) -> (BlockHash, BlockHash) {
    let job = history.plan(1, &honest());
    let _ = (0..).find(|n| history.mine(&job, 1 + n % 3, POT));
    history.place()
}

#[test]
fn lie_a_settlement_of_another_branch() {
    let mut history = owing(|_| {});
    history.settled();
    loop {
        let (ledger_block, tip) = next_block(&mut history);
        let (orphaned, _) = next_block(&mut history);
        history.orphan((ledger_block, tip));
        if history.settle(orphaned, 0, |_| {}) {
            break;
        }
    }
    let entries = history.entries();
    assert_lie(&entries, last_settlement(&entries), "is not in the chain of block");
}

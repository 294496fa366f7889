//! Lies are caught, each by its name, and no honest history is called a lie.

mod history;
mod light;
mod moves;
mod receipted;
mod restored;

use self::history::{Crook, History, POT, Planned, honest, params};
use super::*;
use crate::entry::{ChainEntry, ChainEvent};
use crate::entry::{PlanEntry, Settlement, Share};
use crate::testing::{SIGNERS, script};
use bitcoin::hashes::Hash;
use bitcoin::{Amount, ScriptBuf, TxOut};
use proptest::prelude::*;
use std::convert::Infallible;
use stratum::class::SizeClass;
use stratum::job::TemplateId;
use stratum::pot::Pot;
use stratum::share::NTIME_AHEAD_MAX_S;

/// 65,536 hashes a share: what is altered meets that by chance once in so many. Each is a block.
const HARD: i8 = -16;

fn audited(entries: &[Entry]) -> Report {
    audited_with(Seen::default(), entries)
}

fn audited_with(seen: Seen, entries: &[Entry]) -> Report {
    let read = || Ok::<_, Infallible>((0..).zip(entries).map(|(index, entry)| Ok((index, entry.clone()))));
    let Ok(report) = audit_with(seen, Network::Regtest, None, read);
    report
}

/// What a log and a chain show together, in words.
fn lies_in(history: History) -> Vec<String> {
    let chain = history.in_chain();
    let report = audited(&history.entries());
    report.findings.iter().chain(&report.paid_twice(&chain)).map(ToString::to_string).collect()
}

/// What is found in a log, in words.
fn lies(entries: &[Entry]) -> Vec<String> {
    audited(entries).findings.iter().map(ToString::to_string).collect()
}

/// That one lie alone is found, named so.
fn assert_lie(entries: &[Entry], index: usize, words: &str) {
    let found = lies(entries);
    let named = found.iter().any(|lie| lie.starts_with(&format!("entry {index}: ")) && lie.contains(words));
    assert!(named && found.len() == 1, "{words}: {found:#?}");
}

/// A pool that starts alone and then pays a window: `shares` shares of three payees on jobs of a crook, or of none.
fn lived(shares: usize, crook: &Crook) -> History {
    let mut history = History::new(params(12));
    let solo = history.plan(1, &honest());
    history.mine(&solo, 1, POT);
    let mut job = history.plan(1, &honest());
    for n in 0..shares {
        let to = 1 + (n % 3) as u8;
        if history.mine(&job, to, POT) || n % 5 == 4 {
            let honest = honest();
            job = history.plan(to, if n + 8 < shares { &honest } else { crook });
        }
    }
    history.mine(&job, 2, HARD);
    history
}

fn shares(entries: &[Entry]) -> Vec<usize> {
    (0..entries.len()).filter(|at| matches!(entries[*at], Entry::Share(_))).collect()
}

fn share(entries: &mut [Entry], at: usize) -> &mut Share {
    let Entry::Share(share) = &mut entries[at] else { panic!("entry {at} is no share") };
    share
}

/// A liar who knows how to add.
fn resum(entries: &mut [Entry]) {
    let mut sum = 0;
    for entry in entries {
        if let Entry::Share(share) = entry {
            sum += share.credited_work().0;
            share.total_work = Work(sum);
        }
    }
}

/// An honest log, and its last share, one of [`HARD`].
fn honest_log() -> (Vec<Entry>, usize) {
    let entries = lived(20, &honest()).entries();
    assert_eq!(lies(&entries), [""; 0]);
    let last = *shares(&entries).last().unwrap();
    (entries, last)
}

/// The first job that a crook has made: what he lies about there, all later ones repeat.
fn assert_crooked(crook: &Crook, words: &str) {
    let found = lies(&lived(30, crook).entries());
    assert!(!found.is_empty() && found.iter().all(|lie| lie.contains(words)), "{words}: {found:#?}");
}

#[test]
fn lie_a_share_credited_twice() {
    let (mut entries, last) = honest_log();
    entries.push(entries[last].clone());
    resum(&mut entries);
    assert_lie(
        &entries,
        entries.len() - 1,
        &format!("share credited twice: the same header as that of entry {last}"),
    );
    assert_eq!(audited_with(Seen::of_bits(3), &entries), audited(&entries), "among many that look alike");
}

#[test]
fn lie_a_share_credited_twice_whose_job_is_long_gone_by_events_alone() {
    let (mut entries, last) = honest_log();
    let share = share(&mut entries, last).clone();
    let Entry::Job(job) = &entries[share.job as usize] else { panic!("{} is no job", share.job) };
    let template = job.template;
    // A share of a newer template says that it came in a far future: by then the older one is replaced.
    let mut newer = job.clone();
    newer.template = TemplateId(template.0 + 1);
    let at = entries.len() as u64;
    entries.push(Entry::Job(newer));
    let far = u64::MAX / 2;
    entries.push(Entry::Share(Share { job: at, credited: false, received_unix_ms: far, ..share.clone() }));
    let replaced =
        |unix_ms, template| Entry::Chain(ChainEntry { unix_ms, event: ChainEvent::Superseded(template) });
    entries.push(replaced(share.received_unix_ms + 1, template));
    entries.push(replaced(share.received_unix_ms + 7_200_000, TemplateId(template.0 + 1)));
    entries.push(Entry::Share(share));
    resum(&mut entries);
    let found = lies(&entries);
    assert!(
        found.iter().any(|lie| lie.contains(&format!("the same header as that of entry {last}"))),
        "{found:#?}"
    );
}

#[test]
fn lie_more_shares_credited_twice_than_are_told() {
    let (mut entries, last) = honest_log();
    let count = FINDINGS_MAX + 5;
    entries.extend(vec![entries[last].clone(); count]);
    resum(&mut entries);
    let report = audited(&entries);
    assert_eq!((report.findings.len(), report.findings_total), (FINDINGS_MAX, count as u64));
    assert!(report.findings.iter().all(|finding| finding.lie == Lie::Twice(last as u64)));
}

#[test]
fn lie_a_share_credited_again_when_its_tip_is_long_forgotten() {
    let mut history = History::new(params(12));
    let first = history.plan(1, &honest());
    history.mine(&first, 1, POT);
    for n in 0..70_u8 {
        history.new_tip(BlockHash::from_byte_array([n + 2; 32]));
        let job = history.plan(1, &honest());
        history.mine_stale(&job, 1);
    }
    let mut entries = history.entries();
    assert_eq!(lies(&entries), [""; 0]);
    let first = *shares(&entries).first().unwrap();
    entries.push(entries[first].clone());
    resum(&mut entries);
    let found = lies(&entries);
    assert!(found.iter().any(|lie| lie.contains("which very many others have followed")), "{found:#?}");
}

#[test]
fn lie_a_share_credited_to_another_payee() {
    let (mut entries, last) = honest_log();
    let booked = share(&mut entries, last).payee;
    share(&mut entries, last).payee = (booked + 1) % 3;
    assert_lie(&entries, last, "share credited to another payee");
}

#[test]
fn lie_a_stale_share_credited() {
    let mut history = lived(20, &honest());
    let job = history.plan(1, &honest());
    history.mine_stale(&job, 1);
    let mut entries = history.entries();
    assert_eq!(lies(&entries), [""; 0]);
    let last = *shares(&entries).last().unwrap();
    // Of what was refused for a new tip, the log says when.
    share(&mut entries, last).credited = true;
    let before = share(&mut entries, last).received_unix_ms;
    let tip = ChainEvent::NewTip(BlockHash::from_byte_array([9; 32]));
    entries.insert(last, Entry::Chain(ChainEntry { unix_ms: before - 6_000, event: tip }));
    resum(&mut entries);
    assert_lie(&entries, last + 1, "stale share credited: another block was the newest one for 6000 ms");
}

#[test]
fn lie_a_share_of_a_job_older_than_120_s_credited() {
    let mut history = lived(20, &honest());
    let job = history.plan(1, &honest());
    history.event(ChainEvent::Superseded(job.body.template));
    history.mine(&job, 1, POT);
    let mut entries = history.entries();
    assert_eq!(lies(&entries), [""; 0]);
    let last = *shares(&entries).last().unwrap();
    share(&mut entries, last).received_unix_ms += 131_000;
    assert_lie(&entries, last, "120 s are the most");
}

#[test]
fn lie_a_share_of_a_replaced_job_although_the_log_does_not_note_it() {
    let mut history = lived(20, &honest());
    let (old, newer) = (history.plan(1, &honest()), history.plan(1, &honest()));
    history.mine_no_block(&newer, 2);
    history.pass(131);
    history.mine_no_block(&old, 1);
    let entries = history.entries();
    let last = *shares(&entries).last().unwrap();
    assert_lie(&entries, last, "share credited 131 s after its job was replaced");
}

/// An honest log whose last share has a time as far ahead as it may be.
fn log_of_a_share_ahead_of_time() -> (Vec<Entry>, usize) {
    let mut history = lived(20, &honest());
    let job = history.plan(1, &honest());
    history.ntime = (history.unix_ms() / 1_000) as u32 + NTIME_AHEAD_MAX_S;
    history.mine_no_block(&job, 1);
    let entries = history.entries();
    assert_eq!(lies(&entries), [""; 0]);
    let last = *shares(&entries).last().unwrap();
    (entries, last)
}

#[test]
fn lie_a_rejected_share_credited_that_is_too_far_ahead_of_time() {
    let (mut entries, last) = log_of_a_share_ahead_of_time();
    share(&mut entries, last).received_unix_ms -= 2_000;
    assert_lie(&entries, last, "two hours after it was received");
    share(&mut entries, last).credited = false;
    resum(&mut entries);
    assert_eq!(lies(&entries), [""; 0]);
}

#[test]
fn lie_a_rejected_share_credited_that_is_older_than_its_job_allows() {
    let (mut entries, last) = log_of_a_share_ahead_of_time();
    let at = share(&mut entries, last).job as usize;
    let ntime = share(&mut entries, last).ntime;
    let Entry::Job(job) = &mut entries[at] else { panic!("entry {at} is no job") };
    job.ntime_min = ntime + 1;
    assert_lie(&entries, last, "its time is not between its job's and");
}

#[test]
fn lie_a_rejected_share_credited_whose_job_pays_one_payee_when_others_have_worked() {
    for (seconds, is_lie) in [(11, false), (13, true)] {
        let mut history = History::new(params(12));
        let solo = history.plan(1, &honest());
        history.mine_no_block(&solo, 1);
        let job = history.next(&solo, 1);
        history.mine_no_block(&job, 2);
        history.pass(seconds);
        history.mine_no_block(&solo, 1);
        let entries = history.entries();
        let last = *shares(&entries).last().unwrap();
        match is_lie {
            true => assert_lie(&entries, last, "pays one payee alone, 13 s after such jobs had ended"),
            false => assert_eq!(lies(&entries), [""; 0]),
        }
    }
}

#[test]
fn lie_a_plan_that_leaves_out_what_was_known() {
    for (late_s, is_lie) in [(890, false), (901, true)] {
        let mut history = lived(20, &honest());
        let (before, frozen) = (history.plan(1, &honest()), history.plan(1, &honest()));
        history.mine_no_block(&before, 1);
        history.pass(late_s);
        history.replace(&before);
        history.mine_no_block(&frozen, 2);
        let entries = history.entries();
        let job = entries.iter().rposition(|entry| matches!(entry, Entry::Job(_))).unwrap();
        if is_lie {
            assert_lie(&entries, job, "901 s after the next share had been received: it was out of date");
        } else {
            assert_eq!(lies(&entries), [""; 0]);
        }
    }
}

#[test]
fn lie_a_job_for_one_payee_long_after_others_have_worked() {
    let mut history = History::new(params(12));
    let (first, frozen) = (history.plan(1, &honest()), history.plan(2, &honest()));
    for n in 0..10 {
        history.mine_no_block(&first, 1 + n % 2);
    }
    history.pass(3_600);
    history.replace(&first);
    history.mine_no_block(&frozen, 2);
    let entries = history.entries();
    let job = entries.iter().rposition(|entry| matches!(entry, Entry::Job(_))).unwrap();
    assert_lie(&entries, job, "the job pays the window of ");
}

#[test]
fn lie_a_block_left_out_of_the_ledger() {
    let mut history = lived(20, &honest());
    let before = history.place();
    let job = history.plan(1, &honest());
    while !history.mine(&job, 1, POT) {}
    let (_, block) = history.place();
    // It is the newest block, and the pool goes on from the books before it.
    history.orphan((before.0, block));
    let job = history.plan(2, &honest());
    history.mine_no_block(&job, 2);
    let entries = history.entries();
    let job = entries.iter().rposition(|entry| matches!(entry, Entry::Job(_))).unwrap();
    assert_lie(&entries, job, &format!("but it builds on block {block}, which is the pool's, too"));
}

#[test]
fn lie_a_share_credited_above_its_pot() {
    let (mut entries, last) = honest_log();
    share(&mut entries, last).pot = Pot::try_from(HARD + 1).unwrap();
    resum(&mut entries);
    assert_lie(&entries, last, "at another difficulty than it was mined for: 2^-15 instead of 2^-16");
}

#[test]
fn lie_a_fabricated_share_without_work() {
    let (mut entries, last) = honest_log();
    let mut fabricated = entries[last].clone();
    let Entry::Share(made_up) = &mut fabricated else { unreachable!() };
    made_up.nonce ^= 1 << 30;
    entries.push(fabricated);
    resum(&mut entries);
    let found = lies(&entries);
    // By chance, once in 2,048, it is the work of an easier job.
    assert!(
        found.len() == 1 && found[0].starts_with(&format!("entry {}: share ", entries.len() - 1)),
        "{found:?}"
    );
    assert!(found[0].contains("share without work") || found[0].contains("mined for"), "{found:?}");
}

#[test]
fn a_payout_on_top_of_a_block_that_no_share_solves_is_left_out_and_nothing_is_called_proven() {
    let mut history = lived(20, &honest());
    history.new_tip(BlockHash::from_byte_array([200; 32]));
    let job = history.plan(1, &honest());
    history.mine_no_block(&job, 1);
    let mut entries = history.entries();
    assert!(audited(&entries).is_proven());
    let job = entries.iter_mut().rev().find_map(|entry| match entry {
        Entry::Job(job) => Some(job),
        _ => None,
    });
    let PlanEntry::Window { ledger_block, .. } = &mut job.unwrap().plan else { panic!("a solo job") };
    *ledger_block = BlockHash::from_byte_array([77; 32]);
    let report = audited(&entries);
    assert_eq!((report.is_honest(), report.is_proven(), report.jobs_left_out), (true, false, 1));
}

/// A pool whose coinbase has room for one miner, so that it owes the others something; then it settles.
fn owing(bend: impl Fn(&mut Settlement)) -> History {
    let mut history = History::new(params(12));
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
    assert_eq!(lies_in(history), [""; 0]);
}

/// That the last settlement alone is found to be paid by blocks, too, once the chain is known; the log itself is whole.
fn assert_paid_twice(history: History) {
    let chain = history.in_chain();
    let entries = history.entries();
    let report = audited(&entries);
    assert_eq!((&report.findings[..], report.may_be_paid()), (&[][..], 1));
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
        let with = [&entries[..], &[Entry::Settlement(settlement)]].concat();
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

#[test]
fn lie_a_hidden_block() {
    let mut history = lived(20, &honest());
    let mut job = history.plan(1, &honest());
    while !history.mine(&job, 1, POT) {
        job = history.plan(1, &honest());
    }
    let mut entries = history.entries();
    let last = *shares(&entries).last().unwrap();
    share(&mut entries, last).block_candidate = false;
    assert_lie(&entries, last, "hidden block");
}

#[test]
fn lie_two_heads_shown_to_two_miners() {
    assert_crooked(&Crook { log_root: Box::new(|root| root[0] ^= 1), ..honest() }, "commits to other books");
    assert_crooked(&Crook { commits: false, ..honest() }, "does not commit to the log");
}

#[test]
fn lie_a_payees_weight_shaved_by_1() {
    let shave = |weights: &mut BTreeMap<ScriptBuf, Work>| weights.get_mut(&script(1)).unwrap().0 -= 1;
    assert_crooked(&Crook { weights: Box::new(shave), ..honest() }, "a miner's, pays");
}

#[test]
fn lie_an_output_moved_to_the_operator() {
    let take = |outputs: &mut Vec<TxOut>| outputs[0].script_pubkey = script(250);
    assert_crooked(
        &Crook { outputs: Box::new(take), ..honest() },
        "output 0 of the job's coinbase, a miner's, pays",
    );
}

#[test]
fn lie_a_fee_above_the_rules() {
    let crook = Crook { split: Box::new(|split| split.fee_bp += 1), ..honest() };
    assert_crooked(&crook, "where the rules give");
    // The rest of it paid for by the donation.
    let take = |outputs: &mut Vec<TxOut>| {
        let fee = outputs.iter().position(|output| output.script_pubkey == script(250)).unwrap();
        let donation = outputs.iter().position(|output| output.script_pubkey == script(252)).unwrap();
        outputs[fee].value += Amount::from_sat(1);
        outputs[donation].value -= Amount::from_sat(1);
    };
    assert_crooked(&Crook { outputs: Box::new(take), ..honest() }, "a donation, pays 24999999");
}

#[test]
fn lie_less_room_for_miners_than_the_coinbase_has() {
    let mut history = lived(20, &honest());
    history.kept_out = 31;
    let job = history.plan(1, &honest());
    history.mine_no_block(&job, 1);
    let entries = history.entries();
    let job = entries.iter().rposition(|entry| matches!(entry, Entry::Job(_))).unwrap();
    assert_lie(&entries, job, "bytes for miners, but its size class of 755 bytes leaves");
}

/// What is found when a crook makes the job that owes two miners of three something: there is room for one.
fn assert_crooked_reserve(bend: impl Fn(&mut Vec<TxOut>) + 'static, words: &str) {
    let mut history = History::new(params(12));
    history.class = SizeClass::B255;
    let mut job = history.plan(1, &honest());
    for to in 1..=3 {
        if history.mine(&job, to, POT) {
            job = history.plan(1, &honest());
        }
    }
    let job = history.plan(1, &Crook { outputs: Box::new(bend), ..honest() });
    history.mine(&job, 1, POT);
    let found = lies(&history.entries());
    assert!(found.len() == 1 && found[0].contains(words), "{words}: {found:?}");
}

#[test]
fn lie_a_reserve_output_missing() {
    let give_away = |outputs: &mut Vec<TxOut>| {
        let reserve = outputs.pop().unwrap();
        assert_eq!(reserve.script_pubkey, script(251));
        outputs[0].value += reserve.value;
    };
    assert_crooked_reserve(give_away, "output 0 of the job's coinbase, a miner's, pays");
    let take = |outputs: &mut Vec<TxOut>| outputs.last_mut().unwrap().script_pubkey = script(250);
    assert_crooked_reserve(take, "the reserve's, pays");
}

#[test]
fn lie_a_share_moved_across_the_edge_of_the_window() {
    // What just left the window of one payee's is counted instead of another's oldest share.
    let work = Pot::try_from(POT).unwrap().work().0;
    let shift = move |weights: &mut BTreeMap<ScriptBuf, Work>| {
        weights.get_mut(&script(1)).unwrap().0 += work;
        weights.get_mut(&script(2)).unwrap().0 -= work;
    };
    assert_crooked(&Crook { weights: Box::new(shift), ..honest() }, "a miner's, pays");
}

#[test]
fn lie_rounding_in_the_operators_favour() {
    let round = |outputs: &mut Vec<TxOut>| {
        let fee = outputs.iter().position(|output| output.script_pubkey == script(250)).unwrap();
        outputs[0].value -= Amount::from_sat(1);
        outputs[fee].value += Amount::from_sat(1);
    };
    assert_crooked(
        &Crook { outputs: Box::new(round), ..honest() },
        "output 0 of the job's coinbase, a miner's, pays",
    );
}

#[test]
fn lie_a_job_for_one_payee_while_others_have_worked() {
    let grab = |weights: &mut BTreeMap<ScriptBuf, Work>| weights.clear();
    assert_crooked(&Crook { weights: Box::new(grab), ..honest() }, "pays one payee alone");
}

/// A step of a pool's life.
#[derive(Debug, Clone)]
enum Step {
    Mine {
        to: u8,
        harder: i8,
    },
    Stale {
        to: u8,
    },
    Plan {
        class: SizeClass,
    },
    /// Another block wins at the height of the pool's newest.
    Orphan,
    /// Somebody else's block.
    Tip,
    /// What is owed is paid from the reserve, or what is being paid has been, or never will be.
    Settle {
        fee_bp: u16,
        withdrawn: bool,
    },
    Wait {
        seconds: u64,
    },
    /// A payee is paid to another address from now on, if it can be.
    Move {
        from: u8,
        to: u8,
    },
}

fn payee_number() -> impl Strategy<Value = u8> {
    prop_oneof![1_u8..6, SIGNERS.start..SIGNERS.start + 3]
}

fn step() -> impl Strategy<Value = Step> {
    let classes = prop::sample::select(&SizeClass::ALL[..]);
    prop_oneof![
        2 => (SIGNERS.start..SIGNERS.start + 3, payee_number()).prop_map(|(from, to)| Step::Move { from, to }),
        12 => (payee_number(), -4_i8..1).prop_map(|(to, harder)| Step::Mine { to, harder }),
        1 => payee_number().prop_map(|to| Step::Stale { to }),
        4 => classes.prop_map(|class| Step::Plan { class }),
        1 => Just(Step::Orphan),
        1 => Just(Step::Tip),
        3 => (0_u16..=200, any::<bool>()).prop_map(|(fee_bp, withdrawn)| Step::Settle { fee_bp, withdrawn }),
        1 => (1_u64..100).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

/// The log of such a life, and the chain in the end.
fn live(window: u64, steps: Vec<Step>) -> (Vec<Entry>, InChain) {
    let mut history = History::new(params(window));
    let mut before_block = None;
    let mut knows_settlement = true;
    let mut job: Planned = history.plan(1, &honest());
    // Blocks of others, each another one: work on a tip that comes back late is not taken.
    let mut others = (2_u8..).map(|n| BlockHash::from_byte_array([n; 32]));
    for step in steps {
        match step {
            Step::Mine { to, harder } => {
                let place = history.place();
                if history.mine(&job, to, POT + harder) {
                    before_block = Some(place);
                    job = history.next(&job, to);
                    knows_settlement = true;
                }
            }
            Step::Stale { to } => history.mine_stale(&job, to),
            Step::Wait { seconds } => history.pass(seconds),
            Step::Move { from, to } => {
                history.move_payee(from, to);
            }
            Step::Plan { class } => {
                history.class = class;
                job = history.next(&job, 1);
                knows_settlement = true;
            }
            Step::Orphan => {
                let goes_back = |place: &(BlockHash, BlockHash)| history.can_go_back_to(place.0);
                if let Some((ledger_block, _)) = before_block.take().filter(goes_back) {
                    history.orphan((ledger_block, others.next().unwrap()));
                    history.settle_again();
                    job = history.next(&job, 1);
                    knows_settlement = true;
                }
            }
            Step::Settle { fee_bp, withdrawn } => match history.open_settlement() {
                None => {
                    knows_settlement &= !history.settle(history.place().0, fee_bp, |_| {});
                }
                Some(settlement) if withdrawn || !history.is_owed_at(history.place().0) => {
                    history.event(ChainEvent::SettlementWithdrawn { settlement });
                }
                Some(_) => {
                    // Blocks pass in which no work from before is left.
                    if !std::mem::replace(&mut knows_settlement, true) {
                        job = history.next(&job, 1);
                    }
                    history.settled();
                }
            },
            Step::Tip => {
                history.new_tip(others.next().unwrap());
                before_block = None;
                job = history.next(&job, 1);
                knows_settlement = true;
            }
        }
    }
    let chain = history.in_chain();
    (history.entries(), chain)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if std::env::var_os("SLUICE_LONG").is_some() { 1_000 } else { 64 }))]
    #[test]
    fn no_honest_history_is_called_a_lie(window in 1_u64..80, steps in prop::collection::vec(step(), 1..60)) {
        let (entries, chain) = live(window, steps);
        let report = audited(&entries);
        prop_assert!(report.is_honest(), "{:#?}", report.findings);
        prop_assert_eq!(report.paid_twice(&chain), []);
        prop_assert_eq!((report.entries, report.jobs_left_out, report.not_hashed), (entries.len() as u64, 0, 0));
        prop_assert_eq!(report.shares, shares(&entries).len() as u64);
        // Headers that look alike are compared.
        prop_assert!(audited_with(Seen::of_bits(3), &entries) == report);
    }

    #[test]
    fn no_entry_makes_an_audit_panic(seed in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut entries = base_log();
        for (which, byte, value) in seed {
            let at = which.index(entries.len());
            let mut bytes = Vec::new();
            entries[at].encode(&mut bytes);
            let place = byte.index(bytes.len());
            bytes[place] ^= value;
            if let Ok((altered, _)) = Entry::decode(&bytes) {
                entries[at] = altered;
            }
        }
        audited(&entries);
    }
}

/// One log for all cases, with a settlement that is paid.
fn base_log() -> Vec<Entry> {
    static LOG: std::sync::OnceLock<Vec<Entry>> = std::sync::OnceLock::new();
    let live = || {
        let mut history = owing(|_| {});
        history.settled();
        history.entries()
    };
    LOG.get_or_init(live).clone()
}

/// A pool that goes on after a block whose share never got into the log, on jobs of a crook in the end.
fn after_an_unlogged_block(crook: &Crook) -> Vec<Entry> {
    let mut history = lived(20, &honest());
    let job = history.plan(1, &honest());
    let _ = history.mine_unlogged_block(&job, 1);
    for n in 0..5 {
        let job = history.plan(1, &honest());
        let _ = (0..).find(|_| history.mine(&job, 1 + n % 3, POT));
    }
    // The window is three payees'.
    let job = history.plan(1, &honest());
    for n in 0..12 {
        history.mine_no_block(&job, 1 + n % 3);
    }
    let job = history.plan(1, crook);
    history.mine_no_block(&job, 1);
    history.pass(62);
    let job = history.plan(1, &honest());
    history.mine_no_block(&job, 1);
    history.mine_no_block(&job, 1);
    history.entries()
}

#[test]
fn a_block_whose_share_is_not_in_the_log_leaves_jobs_out_and_a_node_is_asked_of_them() {
    let entries = after_an_unlogged_block(&honest());
    let report = audited(&entries);
    assert_eq!(report.findings, []);
    assert!(report.jobs_left_out > 0 && !report.is_proven());
    let solved: Vec<_> = report.blocks.values().collect();
    let (unsolved, at): (Vec<_>, Vec<_>) =
        report.unsolved.iter().map(|((_, named), at)| (named, *at)).unzip();
    assert!(!unsolved.is_empty() && unsolved.iter().all(|named| !solved.contains(named)));
    // What is newer than a minute may still come.
    assert!(at.iter().all(|at| *at < report.entries - 3));
    let newest = audited(&entries[..=at[0] as usize + 1]);
    assert!(newest.jobs_left_out > 0 && newest.unsolved.is_empty());
    assert!(audited(&lived(20, &honest()).entries()).unsolved.is_empty());
}

#[test]
fn lie_a_pool_that_has_hidden_a_block_pays_itself() {
    let all: fn(&mut Vec<TxOut>) =
        |outputs| outputs.iter_mut().for_each(|output| output.script_pubkey = script(250));
    let fee: fn(&mut Vec<TxOut>) = |outputs| {
        let at = outputs.iter().rposition(|output| output.script_pubkey == script(250)).unwrap();
        outputs[0].value -= Amount::from_sat(1);
        outputs[at].value += Amount::from_sat(1);
    };
    let stranger: fn(&mut Vec<TxOut>) = |outputs| outputs[0].script_pubkey = script(77);
    let less: fn(&mut Vec<TxOut>) = |outputs| {
        outputs[0].value -= Amount::from_sat(100_000_000);
        outputs[1].value += Amount::from_sat(100_000_000);
    };
    let takes = [
        (all, "the operator's fee and the donations are not"),
        (fee, "the operator's fee and the donations are not"),
        (stranger, "nothing can be owed to it"),
        (less, "where its part of the window alone is"),
    ];
    for (take, words) in takes {
        let entries = after_an_unlogged_block(&Crook { outputs: Box::new(take), ..honest() });
        let found = lies(&entries);
        assert!(found.len() == 1 && found[0].contains(words), "{words}: {found:#?}");
    }
    let entries = after_an_unlogged_block(&Crook { commits: false, ..honest() });
    let found = lies(&entries);
    assert!(found.len() == 1 && found[0].contains("does not commit"), "{found:#?}");
}

//! Payees that move to another address: what was theirs goes with them, and nothing else.

use super::history::{Crook, History, POT, honest, params};
use super::*;
use crate::entry::{ChainEvent, Move};
use crate::moves::HOPS_MAX;
use crate::testing::{moved, script};

/// A pool that owes something to payees 200 and 201, of whom the first has moved to 3 and goes on mining as before.
fn moved_on(crook: &Crook) -> (Vec<Entry>, usize) {
    let mut history = History::new(params(40));
    history.class = SizeClass::B255;
    let solo = history.plan(200, &honest());
    history.mine(&solo, 200, POT);
    let mut job = history.plan(200, &honest());
    for n in 0..60 {
        if history.mine(&job, 200 + n % 2, POT) || n % 5 == 0 {
            job = history.next(&job, 1);
        }
    }
    assert!(history.move_payee(200, 3) && !history.move_payee(200, 4) && !history.move_payee(202, 3));
    history.class = SizeClass::B755;
    history.replace(&job);
    let job = history.plan(1, crook);
    for n in 0..30 {
        history.mine(&job, 200 + n % 2, POT);
    }
    let entries = history.entries();
    let at = entries.iter().position(|entry| matches!(entry, Entry::Move(_))).unwrap();
    (entries, at)
}

#[test]
fn what_was_earned_and_owed_under_an_old_address_is_paid_to_the_new_one() {
    let (entries, at) = moved_on(&honest());
    let report = audited(&entries);
    assert!(report.is_proven(), "{:#?}", report.findings);
    assert_eq!(report.moves.len(), 1);
    let paid = |entries: &[Entry], to: u8| {
        let jobs = entries.iter().filter_map(|entry| match entry {
            Entry::Job(job) => Some(jobs::coinbase(job).unwrap().0.output),
            _ => None,
        });
        jobs.flatten().any(|output| output.script_pubkey == script(to))
    };
    assert!(paid(&entries[..at], 200) && !paid(&entries[..at], 3));
    assert!(!paid(&entries[at..], 200) && paid(&entries[at..], 3));
}

#[test]
fn nobody_moves_while_a_settlement_is_paying_him_and_a_log_that_says_so_contradicts_itself() {
    let mut history = History::new(params(12));
    history.class = SizeClass::B255;
    let mut job = history.plan(200, &honest());
    let mut blocks = 0;
    for to in [200, 201, 1].into_iter().cycle() {
        if history.mine(&job, to, POT) {
            blocks += 1;
            job = history.next(&job, 1);
            if blocks >= 6 && history.settle(history.place().0, 200, |_| {}) {
                break;
            }
        }
    }
    let paid = history.open_credits();
    let from = if paid.contains(&script(200)) { 200 } else { 201 };
    assert!(paid.contains(&script(from)), "{paid:?}");
    assert!(
        !history.move_payee(from, 3),
        "credit of the new address would hide that a block has paid this one"
    );
    let log_id = history.log_id();
    history.event(ChainEvent::SettlementWithdrawn { settlement: history.open_settlement().unwrap() });
    assert!(history.move_payee(from, 3));
    let mut entries = history.entries();
    assert_eq!(lies(&entries), [""; 0]);
    let at = entries.iter().position(|entry| matches!(entry, Entry::Settlement(_))).unwrap();
    entries.retain(|entry| !matches!(entry, Entry::Move(_)));
    entries.insert(at + 1, Entry::Move(moved(log_id, from, script(3)).into()));
    assert!(lies(&entries).iter().any(|lie| lie.contains("a settlement is paying the old address")));
}

#[test]
fn lie_a_payee_moves_without_its_owners_signature() {
    let (entries, at) = moved_on(&honest());
    let bent: [fn(&mut Move); 3] =
        [|moved| moved.to = script(250), |moved| moved.from = script(201), |moved| moved.log_id = [0; 16]];
    for bend in bent {
        let mut entries = entries.clone();
        let Entry::Move(moved) = &mut entries[at] else { unreachable!("it was found there") };
        bend(moved);
        assert_lie(&entries, at, "the signature is not that of the address's owner");
    }
}

#[test]
fn lie_a_job_pays_an_address_that_has_moved() {
    let back = |weights: &mut BTreeMap<ScriptBuf, Work>| {
        let work = weights.remove(&script(3)).unwrap();
        weights.insert(script(200), work);
    };
    let found = lies(&moved_on(&Crook { weights: Box::new(back), ..honest() }).0);
    assert!(!found.is_empty(), "{found:#?}");
    assert!(found.iter().all(|lie| lie.contains(&format!("{:x}", script(3)))), "{found:#?}");
}

#[test]
fn who_has_moved_to_an_address_moves_on_from_it_so_many_times() {
    let mut history = History::new(params(40));
    let job = history.plan(200, &honest());
    history.mine(&job, 200, POT);
    assert!(!history.move_payee(224, 3), "nothing is there of it");
    let hops = u8::try_from(HOPS_MAX).unwrap();
    for hop in 0..hops {
        assert!(history.move_payee(200 + hop, 201 + hop), "{hop}: its machines go on naming 200");
    }
    assert!(!history.move_payee(200 + hops, 3), "whoever has one share could fill the log");
    history.replace(&job);
    let job = history.plan(1, &honest());
    history.mine(&job, 200, POT);
    let entries = history.entries();
    let report = audited(&entries);
    assert!(report.is_proven(), "{:#?}", report.findings);
    assert_eq!(report.moves.payee(&script(200)), &script(200 + hops));
}

#[test]
fn nobody_makes_an_address_stay_by_moving_to_it() {
    let mut history = History::new(params(40));
    let job = history.plan(200, &honest());
    history.mine(&job, 200, POT);
    history.mine(&job, 219, POT);
    let hops = u8::try_from(HOPS_MAX).unwrap();
    for hop in 0..hops - 1 {
        assert!(history.move_payee(200 + hop, 201 + hop));
    }
    // To one with shares of its own, which moves on, and to where that has gone.
    assert!(history.move_payee(200 + hops - 1, 219) && history.move_payee(219, 220));
    assert!(history.move_payee(220, 221) && history.move_payee(221, 3));
}

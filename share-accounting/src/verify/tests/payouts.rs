//! Jobs that pay or commit to something else than the rules give.

use super::*;

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

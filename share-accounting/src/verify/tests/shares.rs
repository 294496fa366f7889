//! Shares that should not have been credited so.

use super::*;

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
    let earliest = u64::from(share(&mut entries, last).ntime - NTIME_AHEAD_MAX_S) * 1_000;
    share(&mut entries, last).received_unix_ms = earliest;
    assert_eq!(lies(&entries), [""; 0]);
    share(&mut entries, last).received_unix_ms = earliest - 1;
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
    let mut history = History::new(params(12));
    let solo = history.plan(1, &honest());
    history.mine_no_block(&solo, 1);
    let job = history.next(&solo, 1);
    history.mine_no_block(&job, 2);
    history.mine_no_block(&solo, 1);
    let mut entries = history.entries();
    let ended = entries.iter().find_map(|entry| match entry {
        Entry::Chain(ChainEntry { unix_ms, event: ChainEvent::Superseded(_) }) => Some(*unix_ms),
        _ => None,
    });
    let last = *shares(&entries).last().unwrap();
    share(&mut entries, last).received_unix_ms = ended.unwrap() + 62_000;
    assert_eq!(lies(&entries), [""; 0]);
    share(&mut entries, last).received_unix_ms += 1;
    assert_lie(&entries, last, "pays one payee alone, 62 s after such jobs had ended");
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

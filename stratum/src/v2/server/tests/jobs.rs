//! Jobs: their ids, their order, and how long they are good for.

use super::*;
use crate::ring::JOBS_MAX;
use crate::share::SUPERSEDED_MAX;

fn hear(peer: &mut Peer, machine: &mut Machine) -> Vec<&'static str> {
    let heard = peer.heard();
    heard.iter().for_each(|message| machine.hear(message));
    names(&heard)
}

#[test]
fn mn_28_mn_33_a_job_on_the_same_parent_starts_at_once_and_one_on_a_new_parent_waits_for_it() {
    for (kind, job) in KINDS.into_iter().zip(["NewMiningJob", "NewExtendedMiningJob"]) {
        let (mut peer, mut machine) = Peer::mining(kind);
        for (parent, expected) in
            [(1, &[job][..]), (2, &[job, "SetNewPrevHash"]), (2, &[job]), (1, &[job, "SetNewPrevHash"])]
        {
            peer.work(&body_on(parent, HARD_NBITS));
            assert_eq!(hear(&mut peer, &mut machine), expected);
            let roll = machine.hit();
            peer.accepted(&mut machine, &roll);
            assert_eq!(peer.credited.last().unwrap().body().prev_hash, sample::prev_hash(parent));
        }
    }
}

#[test]
fn mn_27_m14_job_ids_never_come_twice_and_differ_between_channels() {
    let (mut peer, mut first) = Peer::mining(Kind::Standard);
    let mut second = peer.opened(Kind::Extended);
    for round in 0..100 {
        peer.work(&body_on(round / 10, HARD_NBITS));
        // The machines watch that no id comes twice.
        let heard = peer.heard();
        for message in &heard {
            first.hear(message);
            second.hear(message);
        }
    }
    assert!(first.jobs.iter().all(|job| second.jobs.iter().all(|other| other.id != job.id)));
}

#[test]
fn m14_only_the_id_of_a_job_that_was_sent_on_the_channel_is_known() {
    let (mut peer, mut machine) = Peer::mining(Kind::Standard);
    let other = peer.opened(Kind::Standard);
    let id = machine.newest().id;
    for forged in [0, 1, id - 1, id + 1, id ^ 1 << 31, u32::MAX, other.newest().id] {
        let roll = Roll { job: forged, ..machine.hit() };
        assert_eq!(peer.code(&mut machine, &roll), "invalid-job-id", "{forged:x}");
    }
    assert_eq!(peer.refused, [Reject::UnknownJob; 7]);
}

#[test]
fn m14_m15_a_job_that_was_dropped_is_stale_and_one_that_never_was_is_unknown() {
    let (mut peer, mut machine) = Peer::mining(Kind::Extended);
    let roll = machine.hit();
    for _ in 1..JOBS_MAX {
        peer.work(&body_on(1, HARD_NBITS));
        hear(&mut peer, &mut machine);
    }
    peer.accepted(&mut machine, &roll);
    let next = machine.hit();
    let old = machine.mine(roll.job, Machine::meets);
    peer.work(&body_on(1, HARD_NBITS));
    hear(&mut peer, &mut machine);
    assert_eq!(peer.code(&mut machine, &old), "stale-share");
    peer.accepted(&mut machine, &next);
    let never = Roll { job: machine.newest().id + 1, ..machine.hit() };
    assert_eq!(peer.code(&mut machine, &never), "invalid-job-id");
    assert_eq!(peer.refused, [Reject::Stale, Reject::UnknownJob]);
}

#[test]
fn m15_a_new_tip_makes_the_old_jobs_stale_and_their_blocks_are_still_found() {
    for kind in KINDS {
        let mut peer = Peer::ready(settings());
        peer.offer = Some(sample::encoded(sample::body(REGTEST_NBITS)));
        let mut machine = peer.opened(kind);
        let job = machine.newest().id;
        let block = machine.mine(job, Machine::is_block);
        peer.work(&body_on(2, REGTEST_NBITS));
        hear(&mut peer, &mut machine);
        assert_eq!(peer.code(&mut machine, &block), "stale-share");
        assert_eq!((peer.blocks.len(), peer.credited.len()), (1, 0));
        let roll = machine.hit();
        peer.accepted(&mut machine, &roll);
    }
}

#[test]
fn m15_a_superseded_job_earns_for_two_minutes() {
    for kind in KINDS {
        let (mut peer, mut machine) = Peer::mining(kind);
        let job = machine.newest().id;
        peer.work(&body_on(1, HARD_NBITS));
        hear(&mut peer, &mut machine);
        peer.now += SUPERSEDED_MAX;
        let roll = machine.mine(job, Machine::meets);
        peer.accepted(&mut machine, &roll);
        peer.now += Duration::from_millis(1);
        let roll = machine.mine(job, Machine::meets);
        assert_eq!(peer.code(&mut machine, &roll), "stale-share");
    }
}

#[test]
fn a_newer_job_takes_the_place_of_one_that_was_not_sent_and_says_what_that_one_had_to_say() {
    let mut peer = Peer::ready(wide());
    let mut machine = peer.open(open_with(Kind::Extended, 1e6));
    let mut other = peer.opened(Kind::Standard);
    let mut actions = Vec::new();
    let mut jobs = Vec::new();
    let sealed = peer.sealed(&update(machine.channel, 1e6, pot(-3).target().into()).into());
    peer.session.receive(&mut &sealed[..], peer.now, &mut actions).unwrap();
    peer.session.work(0, &body_on(2, HARD_NBITS), peer.now, &mut actions);
    peer.session.work(0, &body_on(2, HARD_NBITS), peer.now, &mut actions);
    peer.session.work(1, &body_on(2, HARD_NBITS), peer.now, &mut actions);
    for action in actions {
        match action {
            Action::Job(job) => jobs.push(job),
            other => panic!("{other:?}"),
        }
    }
    let [target, parent, mut newest, mut others] = <[_; 4]>::try_from(jobs).unwrap();
    assert!(!others.absorb(&newest), "another channel's is no older one of this");
    let mut waiting = parent.clone();
    assert!(waiting.absorb(&target) && newest.absorb(&waiting));
    peer.act(vec![Action::Job(newest), Action::Job(others)]);
    let heard = peer.heard();
    let spoken = names(&heard);
    assert_eq!(spoken[..3], ["SetTarget", "NewExtendedMiningJob", "SetNewPrevHash"]);
    heard.iter().for_each(|message| {
        machine.hear(message);
        other.hear(message);
    });
    assert_eq!(machine.newest().target, pot(-3).target().value());
    peer.judge.new_tip(sample::prev_hash(2), peer.now);
    let roll = other.roll(other.newest().id);
    let lucky = other.meets(&roll);
    assert_eq!(peer.submit(&mut other, &roll).is_ok(), lucky);
}

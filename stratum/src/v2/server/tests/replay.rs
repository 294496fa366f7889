//! Shares that come again, in whatever dress (faults M01, M02).

use super::*;

#[test]
fn m01_an_accepted_share_under_another_sequence_number_is_a_duplicate() {
    for kind in KINDS {
        let (mut peer, mut machine) = Peer::mining(kind);
        let roll = machine.hit();
        peer.accepted(&mut machine, &roll);
        for sequence in [1, 2, 7, 0, u32::MAX] {
            machine.sequence = sequence.min(u32::MAX - 1);
            assert_eq!(peer.code(&mut machine, &roll), "duplicate-share");
        }
        assert_eq!(peer.credited.len(), 1);
    }
}

#[test]
fn m01_m14_an_accepted_share_under_the_id_of_a_later_job_of_the_same_body_is_paid_once() {
    // A job that is sent again with the same pot has the same header: only the hash tells.
    for kind in KINDS {
        let (mut peer, mut machine) = Peer::mining(kind);
        let work = sample::encoded(sample::body(HARD_NBITS));
        let roll = machine.hit();
        peer.accepted(&mut machine, &roll);
        peer.work(&work);
        peer.heard().iter().for_each(|message| machine.hear(message));
        let again = Roll { job: machine.newest().id, ..roll.clone() };
        assert_ne!(again.job, roll.job);
        assert_eq!(peer.code(&mut machine, &again), "duplicate-share");
    }
}

#[test]
fn m02_an_accepted_share_through_another_channel_earns_nothing() {
    for (kind, other) in KINDS.into_iter().flat_map(|kind| KINDS.map(|other| (kind, other))) {
        let (mut peer, mut machine) = Peer::mining(kind);
        let mut thief = peer.opened(other);
        for _ in 0..30 {
            let roll = machine.hit();
            peer.accepted(&mut machine, &roll);
            // The other's job with the same numbers is another header: it is judged by its own hash alone.
            for job in [thief.newest().id, roll.job] {
                let extranonce = vec![0x5a; thief.extranonce_size];
                let stolen = Roll { job, extranonce, ..roll.clone() };
                let known = thief.jobs.iter().any(|work| work.id == job);
                let lucky = known && thief.meets(&stolen) && thief.hash(&stolen) != machine.hash(&roll);
                let answer = peer.submit(&mut thief, &stolen);
                assert_eq!(answer.is_ok(), lucky, "{answer:?}");
            }
        }
        let hashes: std::collections::HashSet<_> = peer.credited.iter().map(JudgedShare::hash).collect();
        assert_eq!(hashes.len(), peer.credited.len(), "no header is paid twice");
    }
}

#[test]
fn m02_a_prefix_that_comes_back_brings_none_of_its_old_shares() {
    for kind in KINDS {
        let mut peer = Peer::ready(settings());
        peer.prefixes = PrefixAllocator::with_limit(7, seconds(120), 1);
        let mut machine = peer.opened(kind);
        let rolls: Vec<_> = (0..20).map(|_| machine.hit()).collect();
        rolls.iter().for_each(|roll| peer.accepted(&mut machine, roll));
        peer.say(close(machine.channel));
        peer.now += seconds(120);
        let mut again = peer.opened(kind);
        assert_eq!(again.prefix, machine.prefix);
        for roll in &rolls {
            let old = Roll { job: again.newest().id, ..roll.clone() };
            assert_eq!(peer.code(&mut again, &old), "duplicate-share");
        }
    }
}

#[test]
fn m02_a_kind_of_channel_does_not_lead_to_the_header_of_another() {
    // A standard channel's extranonce is its prefix and zeros: an extended one has another prefix.
    let (mut peer, mut standard) = Peer::mining(Kind::Standard);
    let mut extended = peer.opened(Kind::Extended);
    let roll = standard.hit();
    peer.accepted(&mut standard, &roll);
    let same = Roll { job: extended.newest().id, extranonce: vec![0; 8], ..roll.clone() };
    assert_ne!(extended.hash(&same), standard.hash(&roll));
    let lucky = extended.meets(&same);
    assert_eq!(peer.submit(&mut extended, &same).is_ok(), lucky);
}

#[test]
fn m04_a_parent_that_comes_back_brings_its_shares_back() {
    for kind in KINDS {
        let (mut peer, mut machine) = Peer::mining(kind);
        let work = sample::encoded(sample::body(HARD_NBITS));
        let roll = machine.hit();
        peer.accepted(&mut machine, &roll);
        for work in [body_on(2, HARD_NBITS), body_on(3, HARD_NBITS), work] {
            peer.work(&work);
            peer.heard().iter().for_each(|message| machine.hear(message));
        }
        let again = Roll { job: machine.newest().id, ..roll.clone() };
        assert_eq!(peer.code(&mut machine, &again), "duplicate-share");
        assert_eq!(peer.credited.len(), 1);
    }
}

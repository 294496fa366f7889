//! Difficulty: what a share is worth, and how it changes.

use super::*;

/// Submits without mining, as fast as `gap` says, until the pot changes; how many it took.
fn flood(peer: &mut Peer, machine: &mut Machine, gap: Duration, most: u32) -> u32 {
    let before = machine.target;
    for count in 1..=most {
        peer.now += gap;
        let roll = machine.roll(machine.newest().id);
        let submit = machine.submit(&roll);
        peer.say(submit);
        peer.heard().iter().for_each(|message| machine.hear(message));
        if machine.target != before {
            return count;
        }
    }
    panic!("{most} shares changed nothing");
}

#[test]
fn mn_35_m06_m07_a_target_is_followed_at_once_by_its_job_and_older_jobs_keep_theirs() {
    for (kind, job) in KINDS.into_iter().zip(["NewMiningJob", "NewExtendedMiningJob"]) {
        let mut peer = Peer::ready(Settings { pot_start: Pot::MIN, ..wide() });
        let mut machine = peer.opened(kind);
        let easy = machine.newest().id;
        let early: Vec<_> = (0..50).map(|_| machine.hit()).collect();
        peer.say(update(machine.channel, 1e3, any_target()));
        let heard = peer.heard();
        assert_eq!(names(&heard), ["SetTarget", job]);
        heard.iter().for_each(|message| machine.hear(message));
        assert!(machine.target < machine.job(easy).target);
        peer.hold = true;
        for roll in &early {
            let submit = machine.submit(roll);
            peer.say(submit);
        }
        // No share in flight is refused for the new target, and none earns it.
        for (ticket, share) in std::mem::take(&mut peer.held) {
            let pot = peer.judged(share).unwrap();
            assert_eq!(pot, Pot::MIN);
            peer.answer(ticket, Ok(pot));
        }
        peer.flush();
        assert_eq!((peer.credited.len(), names(&peer.heard())), (50, vec!["SubmitSharesSuccess"]));
        // And one that was mined easily is not sold as a hard one.
        let sold = machine.mine(easy, |machine, roll| machine.meets(roll));
        let sold = Roll { job: machine.newest().id, ..sold };
        peer.hold = false;
        let lucky = machine.meets(&sold);
        assert_eq!(peer.submit(&mut machine, &sold).is_ok(), lucky);
    }
}

#[test]
fn m08_a_flood_is_met_within_three_shares_and_bad_shares_count_too() {
    for kind in KINDS {
        let mut peer = Peer::ready(wide());
        let mut machine = peer.opened(kind);
        let before = machine.target;
        assert!(flood(&mut peer, &mut machine, Duration::from_millis(1), 3) <= 3);
        assert!(machine.target <= before >> 8, "as fast as that, at least eight pots");
        // All of them were refused, for none was mined.
        assert!(peer.credited.len() <= 1);

        let mut peer = Peer::ready(wide());
        let mut machine = peer.opened(kind);
        for _ in 0..3 {
            let roll = Roll { job: 0, ..machine.roll(machine.newest().id) };
            assert_eq!(peer.code(&mut machine, &roll), "invalid-job-id");
        }
        assert!(machine.target <= before >> 8);
    }
}

#[test]
fn m08_difficulty_stays_between_the_operators_bounds_and_the_networks_target() {
    for kind in KINDS {
        let bounds = Settings { pot_start: pot(0), pot_min: pot(-4), pot_max: pot(5), ..wide() };
        let mut peer = Peer::ready(bounds);
        let mut machine = peer.opened(kind);
        for _ in 0..200 {
            peer.now += Duration::from_millis(1);
            let roll = machine.roll(machine.newest().id);
            let submit = machine.submit(&roll);
            peer.say(submit);
            peer.heard().iter().for_each(|message| machine.hear(message));
        }
        assert_eq!(machine.target, pot(5).target().value());
        // An easier network outranks the floor: no block may hide below a share target.
        peer.work(&sample::encoded(sample::body(REGTEST_NBITS)));
        peer.heard().iter().for_each(|message| machine.hear(message));
        assert_eq!(machine.newest().target, Pot::MIN.target().value());
    }
    let mut peer = Peer::ready(Settings { pot_start: pot(0), pot_min: pot(-4), ..wide() });
    let mut machine = peer.opened(Kind::Standard);
    for _ in 0..20 {
        peer.now = peer.session.deadline();
        if peer.tick().is_err() {
            break;
        }
        peer.heard().iter().for_each(|message| machine.hear(message));
    }
    assert_eq!(machine.target, pot(-4).target().value());
}

#[test]
fn m08_silence_is_noticed_at_the_deadline_and_lowers_one_channel_alone() {
    let mut peer = Peer::ready(Settings { idle: seconds(86_400), ..wide() });
    let mut busy = peer.open(open_with(Kind::Standard, 1e6));
    let mut silent = peer.open(open_with(Kind::Standard, 1e6));
    let before = busy.target;
    for _ in 0..30 {
        peer.now += seconds(5);
        let roll = busy.roll(busy.newest().id);
        let submit = busy.submit(&roll);
        peer.say(submit);
        if peer.now >= peer.session.deadline() {
            peer.tick().unwrap();
            assert!(peer.session.deadline() > peer.now, "no busy loop");
        }
        for message in peer.heard() {
            busy.hear(&message);
            silent.hear(&message);
        }
    }
    assert_eq!(busy.target, before);
    assert!(silent.target > before);
}

#[test]
fn another_aim_moves_the_deadline() {
    let mut peer = Peer::ready(wide());
    peer.opened(Kind::Standard);
    let before = peer.session.deadline();
    peer.session.aim(120.0);
    let after = peer.session.deadline();
    assert!(after < before, "a silence is shorter where more shares are wanted");
    peer.session.aim(0.5);
    assert!(peer.session.deadline() > peer.now);
}

#[test]
fn a_new_channel_is_steered_to_what_the_others_are() {
    let mut peer = Peer::ready(wide());
    peer.session.aim(12.0 / 16.0);
    let machine = peer.open(open_with(Kind::Standard, 1e12));
    assert_eq!(machine.target, pot(14).target().value());
}

#[test]
fn what_a_miner_does_is_unknown_before_its_first_share() {
    let mut peer = Peer::ready(wide());
    let mut machine = peer.open(open_with(Kind::Extended, 1e12));
    assert_eq!(peer.session.miner(0).unwrap().hashes_per_s, 0.0);
    let roll = machine.roll(machine.newest().id);
    let submit = machine.submit(&roll);
    peer.say(submit);
    let measured = peer.session.miner(0).unwrap().hashes_per_s;
    assert!((2e11..5e12).contains(&measured), "{measured}");
    assert!(peer.session.miner(1).is_none());
}

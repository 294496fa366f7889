//! Channels that change and end.

use super::*;

#[test]
fn mn_14_a_valid_update_gets_no_answer() {
    for kind in KINDS {
        let (mut peer, machine) = Peer::mining(kind);
        for rate in [0.0, 1e12, f32::MAX, 0.0] {
            peer.say(update(machine.channel, rate, any_target()));
            assert_eq!(peer.heard(), []);
        }
    }
}

#[test]
fn mn_14_an_invalid_update_gets_an_error_and_changes_nothing() {
    let (mut peer, mut machine) = Peer::mining(Kind::Extended);
    let (id, hard) = (machine.channel, Number::from(1) << 129_usize);
    for (asked, code) in [
        (update(GROUP, 1.0, any_target()), "invalid-channel-id"),
        (update(id + 1, 1.0, any_target()), "invalid-channel-id"),
        (update(0, 1.0, any_target()), "invalid-channel-id"),
        (update(id, f32::NAN, any_target()), "invalid-nominal-hashrate"),
        (update(id, -1.0, any_target()), "invalid-nominal-hashrate"),
        (update(id, 1.0, U256([0; 32])), "max-target-out-of-range"),
        (update(id, 1.0, U256::from(hard)), "max-target-out-of-range"),
    ] {
        let error_code = text(code);
        let error = UpdateChannelError { channel_id: asked.channel_id, error_code };
        assert_eq!(peer.ask(asked), error.into());
    }
    let roll = machine.hit();
    peer.accepted(&mut machine, &roll);
}

#[test]
fn mn_13_a_smaller_maximum_target_is_followed_by_a_target_and_a_job() {
    for (kind, job) in KINDS.into_iter().zip(["NewMiningJob", "NewExtendedMiningJob"]) {
        let mut peer = Peer::ready(wide());
        let mut machine = peer.open(open_with(kind, 1e6));
        let before = machine.newest().id;
        let limit = pot(-3).target();
        peer.say(update(machine.channel, 1e6, limit.into()));
        let heard = peer.heard();
        assert_eq!(names(&heard), ["SetTarget", job]);
        heard.iter().for_each(|message| machine.hear(message));
        assert_eq!((machine.target, machine.newest().target), (limit.value(), limit.value()));
        assert!(machine.job(before).target > limit.value(), "MN-35: an active job keeps its own");
    }
}

#[test]
fn an_update_is_believed_until_shares_say_better() {
    let mut peer = Peer::ready(wide());
    let mut machine = peer.open(open_with(Kind::Standard, 1e3));
    let mut targets = Vec::new();
    for rate in [1e6, 1e3, 0.0, 1e4] {
        peer.say(update(machine.channel, rate, any_target()));
        peer.heard().iter().for_each(|message| machine.hear(message));
        targets.push(machine.target);
    }
    let of = |number| pot(number).target().value();
    assert_eq!(targets, [of(-10), of(-20), of(-20), of(-17)]);
    let roll = machine.roll(machine.newest().id);
    let submit = machine.submit(&roll);
    peer.say(submit);
    for (rate, expected) in [(1.0, of(-17)), (1e6, of(-10)), (1e3, of(-10))] {
        peer.say(update(machine.channel, rate, any_target()));
        peer.heard().iter().for_each(|message| machine.hear(message));
        assert_eq!(machine.target, expected, "{rate}");
    }
}

#[test]
fn mn_15_a_closed_channel_hears_nothing_more() {
    for kind in KINDS {
        let (mut peer, mut machine) = Peer::mining(kind);
        let mut other = peer.opened(kind);
        peer.hold = true;
        for _ in 0..3 {
            let roll = machine.hit();
            let submit = machine.submit(&roll);
            peer.say(submit);
        }
        let held = std::mem::take(&mut peer.held);
        peer.answer(held[0].0, Ok(pot(-31)));
        peer.say(close(machine.channel));
        peer.answer(held[1].0, Ok(pot(-31)));
        peer.answer(held[2].0, Err(Reject::Duplicate));
        peer.flush();
        peer.work(&body_on(2, HARD_NBITS));
        peer.now += seconds(60);
        peer.tick().unwrap();
        let heard = peer.heard();
        assert_eq!(heard.len(), 2, "{heard:?}");
        heard.iter().for_each(|message| other.hear(message));
        assert_eq!(other.jobs.len(), 2);
        assert_eq!(peer.closed.len(), 1);
    }
}

#[test]
fn mn_15_a_share_and_the_end_of_its_channel_in_one_read_credit_the_share_in_silence() {
    let (mut peer, mut machine) = Peer::mining(Kind::Standard);
    let roll = machine.hit();
    let submit = machine.submit(&roll);
    let stream = [peer.sealed(&submit), peer.sealed(&close(machine.channel).into())].concat();
    peer.raw(&stream).unwrap();
    assert_eq!((peer.heard(), peer.credited.len(), peer.closed.len()), (Vec::new(), 1, 1));
}

#[test]
fn what_follows_a_request_in_the_same_read_finds_the_channel() {
    for kind in KINDS {
        for id in [FIRST, GROUP] {
            let mut peer = Peer::ready(settings());
            let stream = [peer.sealed(&open(kind)), peer.sealed(&close(id).into())].concat();
            peer.raw(&stream).unwrap();
            assert_eq!(names(&peer.heard()), first_job(kind));
            assert_eq!((peer.closed.len(), peer.session.prefixes().count()), (1, 0));
        }
        let mut peer = Peer::ready(wide());
        let smaller = update(FIRST, 1e6, pot(-3).target().into());
        let stream = [peer.sealed(&open(kind)), peer.sealed(&smaller.into())].concat();
        peer.raw(&stream).unwrap();
        let heard = peer.heard();
        assert_eq!(names(&heard)[..4], [&first_job(kind)[..], &["SetTarget"]].concat());
    }
}

#[test]
fn mn_17_closing_the_group_closes_all_its_channels() {
    let mut peer = Peer::ready(settings());
    let machines: Vec<_> = (0..5).map(|at| peer.opened(KINDS[at % 2])).collect();
    peer.say(close(GROUP));
    assert_eq!((peer.heard(), peer.closed.len()), (Vec::new(), 5));
    assert_eq!(peer.session.prefixes().count(), 0);
    for mut machine in machines {
        let roll = machine.hit();
        assert_eq!(peer.code(&mut machine, &roll), "invalid-channel-id");
    }
    // And the connection goes on.
    let mut machine = peer.opened(Kind::Extended);
    let roll = machine.hit();
    peer.accepted(&mut machine, &roll);
}

#[test]
fn mn_05_mn_17_closing_one_group_leaves_the_channels_of_the_others_open() {
    let mut peer = Peer::ready(settings());
    let mut machines: Vec<_> = WIDTHS.chain(WIDTHS).map(|width| peer.open(wide_extended(width))).collect();
    machines.push(peer.opened(Kind::Standard));
    // Members have extranonces of the same size, prefix and rolled part together.
    for (one, other) in machines.iter().flat_map(|one| machines.iter().map(move |other| (one, other))) {
        let bytes = |machine: &Machine| machine.prefix.len() + machine.extranonce_size;
        assert_eq!(one.group == other.group, bytes(one) == bytes(other));
    }
    for group in GROUP..=GROUPS {
        peer.say(close(group));
        let members = if group == GROUP { 3 } else { 2 };
        assert_eq!((peer.heard(), std::mem::take(&mut peer.closed).len()), (Vec::new(), members));
        for machine in machines.iter_mut().filter(|machine| machine.group >= group) {
            let roll = machine.hit();
            if machine.group == group {
                assert_eq!(peer.code(machine, &roll), "invalid-channel-id");
            } else {
                peer.accepted(machine, &roll);
            }
        }
    }
}

#[test]
fn closing_what_is_not_there_is_no_fault() {
    let (mut peer, mut machine) = Peer::mining(Kind::Standard);
    for id in [0, GROUPS, machine.channel + 1, u32::MAX] {
        peer.say(close(id));
    }
    let roll = machine.hit();
    peer.accepted(&mut machine, &roll);
    peer.say(close(machine.channel));
    peer.say(close(machine.channel));
    assert_eq!(peer.closed.len(), 1);
}

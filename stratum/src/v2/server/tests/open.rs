//! Requests for channels.

use super::*;

/// More bytes of extranonce than any channel has to roll.
const TOO_MUCH: u16 = EXTRANONCE2_BYTES_MAX as u16 + 1; // 13

/// Asks for a channel and takes the code of the refusal.
fn refused(peer: &mut Peer, request: impl Into<Message>) -> String {
    match peer.ask(request) {
        Message::OpenMiningChannelError(error) => {
            assert_eq!(error.request_id, 10);
            error.error_code.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn mn_11_esp_miner_the_success_comes_first_then_a_future_job_and_its_parent() {
    for kind in KINDS {
        let mut peer = Peer::ready(settings());
        peer.say(open(kind));
        let heard = peer.heard();
        assert_eq!(names(&heard), first_job(kind));
        let min_ntime = match &heard[1] {
            Message::NewMiningJob(job) => job.min_ntime,
            Message::NewExtendedMiningJob(job) => job.min_ntime,
            other => panic!("{other:?}"),
        };
        assert_eq!(min_ntime, None);
        let mut machine = Machine::new(&heard[0]);
        heard[1..].iter().for_each(|message| machine.hear(message));
        let Message::SetNewPrevHash(parent) = &heard[2] else { panic!("{heard:?}") };
        assert_eq!(
            (parent.job_id, parent.min_ntime, parent.nbits),
            (machine.newest().id, UNIX_S, HARD_NBITS)
        );
        let roll = machine.hit();
        peer.accepted(&mut machine, &roll);
    }
}

#[test]
fn mn_07_esp_miner_requests_sent_together_are_answered_in_their_order_and_echo_their_ids() {
    let mut peer = Peer::new(settings());
    let mut stream = peer.sealed(&setup().into());
    for request_id in [3, 0, u32::MAX, 3] {
        stream.extend(peer.sealed(&OpenStandardMiningChannel { request_id, ..standard() }.into()));
    }
    let bad = OpenExtendedMiningChannel { request_id: 8, min_extranonce_size: TOO_MUCH, ..extended() };
    stream.extend(peer.sealed(&bad.into()));
    stream.extend(peer.sealed(&OpenExtendedMiningChannel { request_id: 9, ..extended() }.into()));
    peer.raw(&stream).unwrap();
    let heard = peer.heard();
    assert_eq!(heard[0].name(), "SetupConnectionSuccess");
    let answers: Vec<_> = heard
        .iter()
        .enumerate()
        .filter_map(|(at, message)| match message {
            Message::OpenStandardMiningChannelSuccess(open) => {
                Some((at, open.request_id, open.channel_id, open.group_channel_id))
            }
            Message::OpenExtendedMiningChannelSuccess(open) => {
                Some((at, open.request_id, open.channel_id, open.group_channel_id))
            }
            Message::OpenMiningChannelError(error) => Some((at, error.request_id, 0, 0)),
            _ => None,
        })
        .collect();
    let expected = [
        (1, 3, FIRST, GROUP),
        (4, 0, FIRST + 1, GROUP),
        (7, u32::MAX, FIRST + 2, GROUP),
        (10, 3, FIRST + 3, GROUP),
        (13, 8, 0, 0),
        (14, 9, FIRST + 4, GROUP),
    ];
    assert_eq!(answers, expected);
}

#[test]
fn every_refusal_of_a_channel_says_its_code_echoes_the_request_and_keeps_the_connection() {
    let mut peer = Peer::ready(settings());
    for name in ["", "nobody", ".rig1", MAINNET_ADDRESS, &format!("{ADDRESS}.{}", "x".repeat(200))] {
        let request = OpenStandardMiningChannel { user_identity: text(name), ..standard() };
        assert_eq!(refused(&mut peer, request), "invalid-user-identity", "{name}");
    }
    let user_identity = Str255::new(vec![0xff; 42]).unwrap();
    let request = OpenExtendedMiningChannel { user_identity, ..extended() };
    assert_eq!(refused(&mut peer, request), "invalid-user-identity");
    for rate in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, -f32::MIN_POSITIVE] {
        for kind in KINDS {
            assert_eq!(refused(&mut peer, open_with(kind, rate)), "invalid-nominal-hashrate");
        }
    }
    for target in [0, 1, u128::MAX].map(|number| U256::from(Number::from(number))) {
        let request = OpenStandardMiningChannel { max_target: target, ..standard() };
        assert_eq!(refused(&mut peer, request), "max-target-out-of-range");
        let request = OpenExtendedMiningChannel { max_target: target, ..extended() };
        assert_eq!(refused(&mut peer, request), "max-target-out-of-range");
    }
    for min_extranonce_size in [TOO_MUCH, 16, 32, 33, 256, u16::MAX] {
        let request = OpenExtendedMiningChannel { min_extranonce_size, ..extended() };
        assert_eq!(refused(&mut peer, request), "min-extranonce-size-too-large");
    }
    peer.offer = None;
    assert_eq!(refused(&mut peer, standard()), "no-job-available");
    peer.offer = Some(sample::encoded(sample::body(HARD_NBITS)));
    peer.prefixes = PrefixAllocator::with_limit(7, seconds(120), 0);
    assert_eq!(refused(&mut peer, extended()), "channel-capacity-exhausted");
    peer.prefixes = PrefixAllocator::new(7, seconds(120));
    assert_eq!(peer.session.prefixes().count(), 0);
    peer.opened(Kind::Extended);

    let mut peer = Peer::new(settings());
    peer.ask(SetupConnection { flags: flag::REQUIRES_STANDARD_JOBS, ..setup() });
    assert_eq!(refused(&mut peer, extended()), "extended-channels-not-supported-for-standard-jobs");
    peer.opened(Kind::Standard);
}

#[test]
fn mn_09_the_target_is_never_above_the_clients_nor_below_the_networks() {
    let hardest = Pot::hardest_within(Target::from_nbits(HARD_NBITS).unwrap());
    for number in -32..=95 {
        let mut peer = Peer::ready(wide());
        // A little below the pot's own target.
        let limit = pot(number).target().value() - Number::from(1);
        peer.say(OpenStandardMiningChannel { max_target: limit.into(), ..standard() });
        match &peer.heard()[0] {
            Message::OpenStandardMiningChannelSuccess(open) => {
                assert!(pot(number) < hardest && open.target.value() <= limit, "{number}");
            }
            Message::OpenMiningChannelError(error) => {
                assert!(pot(number) >= hardest, "{number}");
                assert_eq!(error.error_code.to_string(), "max-target-out-of-range");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_prefix_that_no_channel_took_is_given_back() {
    let mut peer = Peer::ready(settings());
    peer.offer = None;
    peer.say(standard());
    peer.offer = Some(sample::encoded(sample::body(REGTEST_NBITS)));
    peer.say(OpenStandardMiningChannel { max_target: pot(0).target().into(), ..standard() });
    assert_eq!(names(&peer.heard()), ["OpenMiningChannelError", "OpenMiningChannelError"]);
    assert_eq!(peer.closed.len(), 2);
}

#[test]
fn mn_10_an_extended_channel_gets_what_it_needs_and_8_bytes_at_least_behind_a_prefix_of_4() {
    for wanted in 0..=*WIDTHS.end() {
        let mut peer = Peer::ready(settings());
        let machine = peer.open(wide_extended(wanted));
        assert_eq!((machine.prefix.len(), machine.extranonce_size), (4, wanted.max(8)));
    }
    let (_, machine) = Peer::mining(Kind::Standard);
    assert_eq!(machine.prefix.len(), 12, "MN-05: as long as the others of its group");
}

#[test]
fn mn_02_mn_03_channels_have_ids_and_prefixes_of_their_own_for_good() {
    let mut peer = Peer::ready(settings());
    let mut seen = std::collections::HashSet::new();
    let mut ids = Vec::new();
    for round in 0..50 {
        let machine = peer.opened(KINDS[round % 2]);
        assert!(seen.insert(machine.prefix[..4].to_vec()));
        ids.push(machine.channel);
        if round % 3 == 0 {
            peer.say(close(machine.channel));
        }
    }
    assert!(ids.is_sorted() && ids[0] > GROUP, "{ids:?}");
    ids.dedup();
    assert_eq!(ids.len(), 50);
}

#[test]
fn m13_exhausted_prefixes_refuse_one_request_and_leave_the_others_alone() {
    let mut peer = Peer::ready(settings());
    peer.prefixes = PrefixAllocator::with_limit(7, seconds(120), 2);
    let (mut first, second) = (peer.opened(Kind::Standard), peer.opened(Kind::Extended));
    assert_eq!(refused(&mut peer, standard()), "channel-capacity-exhausted");
    let roll = first.hit();
    peer.accepted(&mut first, &roll);
    peer.say(close(second.channel));
    assert_eq!(refused(&mut peer, standard()), "channel-capacity-exhausted");
    peer.now += seconds(120);
    peer.opened(Kind::Standard);
}

#[test]
fn the_named_hash_rate_picks_the_first_target() {
    // A share of pot p takes 2^(32 + p) hashes, and 12 are wanted each minute.
    for (rate, expected) in [(0.0, -20), (1e12, 10), (1e14, 16), (5e5, -11), (1e-30, -32), (f32::MAX, 46)] {
        for kind in KINDS {
            let mut peer = Peer::ready(wide());
            let machine = peer.open(open_with(kind, rate));
            assert_eq!(machine.target, pot(expected).target().value(), "{rate}");
        }
    }
}

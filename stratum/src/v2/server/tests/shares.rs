//! What is wrong and right with a share.

use super::*;
use bitcoin::consensus::serialize;

#[test]
fn mn_36_m09_only_hashes_at_or_below_the_target_are_shares() {
    for kind in KINDS {
        let (mut peer, mut machine) = Peer::mining(kind);
        for _ in 0..20 {
            let (hit, miss) = (machine.hit(), machine.miss());
            assert_eq!(peer.submit(&mut machine, &hit), Ok((1, 0)));
            assert_eq!(peer.code(&mut machine, &miss), "difficulty-too-low");
        }
        assert_eq!(peer.credited.len(), 20);
    }
}

#[test]
fn mn_29_mn_30_m16_the_coinbase_of_an_extended_client_is_the_transaction_that_is_judged() {
    let (mut peer, mut machine) = Peer::mining(Kind::Extended);
    peer.hold = true;
    for extranonce in [[0; 8], [0xff; 8], [1, 2, 3, 4, 5, 6, 7, 8]] {
        let roll = Roll { extranonce: extranonce.to_vec(), ..machine.roll(machine.newest().id) };
        let submit = machine.submit(&roll);
        peer.say(submit);
        let (_, share) = peer.held.pop().unwrap();
        let coinbase = machine.coinbase(&roll);
        assert_eq!(serialize(&coinbase), share.job.coinbase(&share.roll), "no marker, flag or witness");
        assert!(coinbase.is_coinbase() && coinbase.input[0].script_sig.len() <= 100);
        assert_eq!(coinbase.output.len(), 1);
        let hash = sha256d::sha256d(&share.job.header(&share.roll));
        assert_eq!(hash, *bitcoin::hashes::Hash::as_byte_array(&machine.hash(&roll)));
    }
}

#[test]
fn mn_10_mn_30_shares_of_extended_clients_count_whatever_they_roll_on_first_and_later_jobs() {
    for width in WIDTHS {
        let mut peer = Peer::ready(settings());
        let mut machine = peer.open(wide_extended(width));
        for parent in [1, 1, 2] {
            peer.work(&body_on(parent, HARD_NBITS));
            peer.heard().iter().for_each(|message| machine.hear(message));
            let roll = machine.hit();
            assert_eq!(roll.extranonce.len(), width);
            let coinbase = machine.coinbase(&roll);
            let script = coinbase.input[0].script_sig.as_bytes();
            let rolled = [&machine.prefix[..], &roll.extranonce].concat();
            assert!(coinbase.is_coinbase() && script.len() <= 100);
            assert!(script.windows(rolled.len()).any(|window| window == rolled));
            peer.accepted(&mut machine, &roll);
            assert_eq!(peer.credited.last().unwrap().hash(), machine.hash(&roll));
            for size in WIDTHS.filter(|size| *size != width) {
                let mut roll = machine.hit();
                roll.extranonce.resize(size, 0x5a);
                assert_eq!(peer.code(&mut machine, &roll), "bad-extranonce-size", "{size}");
            }
        }
    }
}

#[test]
fn mn_19_m12_an_extranonce_of_another_size_is_refused_never_padded_or_cut() {
    let (mut peer, mut machine) = Peer::mining(Kind::Extended);
    for size in (0..=32).filter(|size| *size != 8) {
        let mut roll = machine.hit();
        roll.extranonce.resize(size, 0);
        assert_eq!(peer.code(&mut machine, &roll), "bad-extranonce-size", "{size}");
    }
    assert_eq!(peer.refused, [Reject::BadExtranonceSize; 32]);
    let roll = machine.hit();
    peer.accepted(&mut machine, &roll);
}

#[test]
fn m16_a_standard_share_on_an_extended_channel_and_the_other_way_round_are_refused() {
    for (kind, other) in [(Kind::Standard, Kind::Extended), (Kind::Extended, Kind::Standard)] {
        let (mut peer, mut machine) = Peer::mining(kind);
        for extranonce in [Vec::new(), vec![0; 8]] {
            let roll = Roll { extranonce, ..machine.hit() };
            let answer = peer.ask(machine.submit_as(other, 9, &roll));
            let error = SubmitSharesError {
                channel_id: machine.channel,
                sequence_number: 9,
                error_code: text("invalid-channel-id"),
            };
            assert_eq!(answer, error.into());
        }
        assert!(peer.credited.is_empty());
        let roll = machine.hit();
        peer.accepted(&mut machine, &roll);
    }
}

/// Whether a share with these version bits is taken, or why not.
fn rolled(mask: u32, version: u32) -> Result<(), String> {
    let settings = Settings { version_mask: mask, ..settings() };
    let mut peer = Peer::new(settings);
    peer.ask(SetupConnection { flags: 0, ..setup() });
    let mut machine = peer.opened(Kind::Extended);
    assert_eq!(machine.newest().version_rolling, mask != 0);
    let job = machine.newest().id;
    let mut roll = machine.roll(job);
    roll.version = version;
    while !machine.meets(&roll) {
        roll.nonce += 1;
    }
    peer.submit(&mut machine, &roll).map(drop)
}

#[test]
fn mn_22_m11_version_bits_outside_of_the_mask_are_refused() {
    let plain = 0x2000_0000;
    for mask in [0x1fff_e000, 0x1fff_ffe0, 0] {
        for bit in 0..32 {
            let expected = match (mask & 1 << bit != 0, mask) {
                (true, _) => Ok(()),
                (false, 0) => Err("version-rolling-not-allowed".to_owned()),
                (false, _) => Err("invalid-non-rollable-version-bit".to_owned()),
            };
            assert_eq!(rolled(mask, plain ^ 1 << bit), expected, "{mask:08x} {bit}");
        }
        assert_eq!(rolled(mask, plain), Ok(()));
        assert_eq!(rolled(mask, plain | mask), Ok(()));
    }
}

#[test]
fn m10_times_from_the_median_to_two_hours_ahead_are_taken() {
    for kind in KINDS {
        let (mut peer, mut machine) = Peer::mining(kind);
        for (ntime, taken) in [
            (UNIX_S - 601, false),
            (UNIX_S - 600, true),
            (UNIX_S, true),
            (UNIX_S + 7_200, true),
            (UNIX_S + 7_201, false),
            (0, false),
            (u32::MAX, false),
        ] {
            let mut roll = Roll { ntime, ..machine.hit() };
            while !machine.meets(&roll) {
                roll.nonce += 1;
            }
            let answer = peer.submit(&mut machine, &roll);
            assert_eq!(answer, if taken { Ok((1, 0)) } else { Err("invalid-share".to_owned()) }, "{ntime}");
        }
    }
}

#[test]
fn mn_21_time_may_be_rolled_once_a_second() {
    let (mut peer, mut machine) = Peer::mining(Kind::Standard);
    for passed in [0, 1, 60, 600] {
        peer.now = peer.started + seconds(u64::from(passed));
        let mut roll = Roll { ntime: UNIX_S + passed, ..machine.hit() };
        while !machine.meets(&roll) {
            roll.nonce += 1;
        }
        peer.accepted(&mut machine, &roll);
    }
}

#[test]
fn m05_m10_m11_a_block_is_found_whatever_else_is_wrong_and_paid_once() {
    for kind in KINDS {
        let mut peer = Peer::ready(settings());
        peer.offer = Some(sample::encoded(sample::body(REGTEST_NBITS)));
        let mut machine = peer.opened(kind);
        let job = machine.newest().id;
        let block = machine.mine(job, Machine::is_block);
        assert_eq!(peer.submit(&mut machine, &block), Ok((1, 0)));
        for _ in 0..3 {
            assert_eq!(peer.code(&mut machine, &block), "duplicate-share");
        }
        assert_eq!((peer.credited.len(), peer.blocks.len()), (1, 4));
        let bad = [
            (Roll { version: block.version | 1, ..block.clone() }, "invalid-non-rollable-version-bit"),
            (Roll { ntime: UNIX_S + 7_201, ..block.clone() }, "invalid-share"),
        ];
        for (mut roll, code) in bad {
            while !machine.is_block(&roll) {
                roll.nonce += 1;
            }
            let blocks = peer.blocks.len();
            assert_eq!(peer.code(&mut machine, &roll), code);
            assert_eq!(peer.blocks.len(), blocks + 1);
            assert_eq!(peer.blocks[blocks].hash, machine.hash(&roll));
        }
    }
}

#[test]
fn fr_13_fields_of_extensions_behind_a_share_are_ignored() {
    for kind in KINDS {
        let (mut peer, mut machine) = Peer::mining(kind);
        // A worker's name of 32 bytes, and half a field.
        let name = [&[2, 0, 1, 32, 0][..], &[b'w'; 32]].concat();
        for tlv in [&name[..], &[2, 0, 1], &[0xff]] {
            let roll = machine.hit();
            let mut frame = Vec::new();
            machine.submit(&roll).write_frame(&mut frame);
            let header = Header::from_bytes(*frame.first_chunk().unwrap());
            let payload = [&frame[HEADER_BYTES..], tlv].concat();
            peer.frame(Header { payload_bytes: payload.len(), ..header }, &payload).unwrap();
            assert_eq!(names(&peer.heard()), ["SubmitSharesSuccess"]);
            // What was ignored makes no other share of it.
            assert_eq!(peer.code(&mut machine, &roll), "duplicate-share");
        }
        assert_eq!(peer.credited.len(), 3);
    }
}

//! Frames that lie, are cut, changed or unknown.

use super::*;
use crate::v2::noise::NONCES_MAX;

#[test]
fn n03_fr_12_a_header_that_announces_too_much_closes_before_its_payload() {
    for (ready, msg_type, channel, most) in [
        (false, SetupConnection::TYPE, false, 1_291),
        (true, OpenStandardMiningChannel::TYPE, false, 296),
        (true, OpenExtendedMiningChannel::TYPE, false, 298),
        (true, UpdateChannel::TYPE, true, 40),
        (true, CloseChannel::TYPE, true, 260),
        (true, SubmitSharesStandard::TYPE, true, 61),
        (true, SubmitSharesExtended::TYPE, true, 94),
    ] {
        for payload_bytes in [most + 1, 65_536, 0xff_ffff] {
            let mut peer = if ready { Peer::ready(settings()) } else { Peer::new(settings()) };
            let header = Header { extension_type: 0, channel, msg_type, payload_bytes };
            let sealed = peer.sealed_frame(&header.to_bytes());
            assert!(matches!(peer.raw(&sealed), Err(Fault::Malformed(_))), "{msg_type:x} {payload_bytes}");
        }
        let mut peer = if ready { Peer::ready(settings()) } else { Peer::new(settings()) };
        let header = Header { extension_type: 0, channel, msg_type, payload_bytes: most };
        let sealed = peer.sealed_frame(&header.to_bytes());
        peer.raw(&sealed).unwrap();
    }
}

#[test]
fn n03_a_payload_that_ends_before_its_last_field_closes() {
    let mut machine = Peer::mining(Kind::Extended).1;
    let roll = machine.hit();
    let messages = [
        machine.submit_as(Kind::Extended, 1, &roll),
        machine.submit_as(Kind::Standard, 1, &roll),
        open(Kind::Standard),
        open(Kind::Extended),
        update(FIRST, 0.0, any_target()).into(),
        close(FIRST).into(),
    ];
    for message in messages {
        let mut frame = Vec::new();
        message.write_frame(&mut frame);
        let header = Header::from_bytes(*frame.first_chunk().unwrap());
        for payload_bytes in 0..header.payload_bytes {
            let mut peer = Peer::mining(Kind::Extended).0;
            let payload = &frame[HEADER_BYTES..HEADER_BYTES + payload_bytes];
            let cut = peer.frame(Header { payload_bytes, ..header }, payload);
            assert!(matches!(cut, Err(Fault::Malformed(_))), "{} at {payload_bytes}", message.name());
            assert_eq!(peer.heard(), []);
        }
    }
    let mut frame = Vec::new();
    Message::from(setup()).write_frame(&mut frame);
    let header = Header::from_bytes(*frame.first_chunk().unwrap());
    for payload_bytes in 0..header.payload_bytes {
        let mut peer = Peer::new(settings());
        let payload = &frame[HEADER_BYTES..HEADER_BYTES + payload_bytes];
        assert!(matches!(peer.frame(Header { payload_bytes, ..header }, payload), Err(Fault::Malformed(_))));
    }
}

#[test]
fn n03_an_extranonce_longer_than_its_field_allows_closes() {
    let (mut peer, mut machine) = Peer::mining(Kind::Extended);
    let roll = machine.hit();
    let mut frame = Vec::new();
    machine.submit(&roll).write_frame(&mut frame);
    let header = Header::from_bytes(*frame.first_chunk().unwrap());
    let mut payload = frame[HEADER_BYTES..HEADER_BYTES + 24].to_vec();
    payload.push(33);
    payload.extend([0; 33]);
    let sent = peer.frame(Header { payload_bytes: payload.len(), ..header }, &payload);
    assert!(matches!(sent, Err(Fault::Malformed(_))));
}

#[test]
fn n03_unknown_core_types_close() {
    for msg_type in [0x05, 0x1e, 0x26, 0x50, 0x70, 0xff] {
        for channel in [false, true] {
            let mut peer = Peer::ready(settings());
            let header = Header { extension_type: 0, channel, msg_type, payload_bytes: 0 };
            assert!(matches!(peer.frame(header, &[]), Err(Fault::Malformed(_))), "{msg_type:x}");
        }
    }
}

#[test]
fn fr_11_a_wrong_channel_bit_closes() {
    for message in [open(Kind::Standard), close(FIRST).into(), update(FIRST, 0.0, any_target()).into()] {
        let mut frame = Vec::new();
        message.write_frame(&mut frame);
        frame[1] ^= 0x80;
        let (mut peer, _) = Peer::mining(Kind::Standard);
        let sealed = peer.sealed_frame(&frame);
        assert_eq!(peer.raw(&sealed), Err(Fault::Malformed("wrong channel bit")));
        assert_eq!((peer.heard(), peer.closed.len()), (Vec::new(), 0));
    }
}

#[test]
fn fr_04_ex_06_unknown_extensions_are_passed_over_in_silence() {
    let (mut peer, mut machine) = Peer::mining(Kind::Extended);
    for (extension_type, channel, msg_type, payload_bytes) in [
        (1, false, 0, 6), // RequestExtensions
        (1, false, 0, 0), // nothing in it
        (2, true, 1, 4),  // about a channel
        (2, true, 1, 3),  // about half a channel
        (0x7fff, true, 0x1b, 1_291),
        (0x4000, false, 0x00, 1_291),
    ] {
        let header = Header { extension_type, channel, msg_type, payload_bytes };
        peer.frame(header, &vec![2; payload_bytes]).unwrap();
        assert_eq!(peer.heard(), []);
        // Both sides still agree on the nonce.
        let roll = machine.hit();
        peer.accepted(&mut machine, &roll);
    }
    let header = Header { extension_type: 2, channel: false, msg_type: 0, payload_bytes: 1_292 };
    assert!(matches!(peer.frame(header, &[]), Err(Fault::Malformed(_))));
}

#[test]
fn ns_07_one_changed_bit_closes_and_nothing_is_read_after_it() {
    for bit in [0, 7 * 8, 21 * 8, 22 * 8, 30 * 8, 61 * 8] {
        let (mut peer, mut machine) = Peer::mining(Kind::Standard);
        let roll = machine.hit();
        let mut sealed = peer.sealed(&machine.submit_as(Kind::Standard, 1, &roll));
        sealed[bit / 8] ^= 1;
        assert_eq!(peer.raw(&sealed), Err(Fault::Malformed("cannot be decrypted")));
        let again = peer.sealed(&machine.submit_as(Kind::Standard, 1, &roll));
        assert!(peer.raw(&again).is_err());
        assert_eq!((peer.heard(), peer.credited.len()), (Vec::new(), 0));
    }
}

#[test]
fn n16_ns_13_a_session_reads_to_the_last_nonce_and_no_further() {
    let mut peer = Peer::new(settings());
    let (mut client, mut server) = transports();
    // Six blocks are left: setup and a request, two each.
    client.seal.skip_to(NONCES_MAX - 6);
    server.open.skip_to(NONCES_MAX - 6);
    peer.session = Session::new(Arc::new(settings()), server.open, peer.now);
    peer.seal = client.seal;
    peer.ask(setup());
    let mut machine = peer.opened(Kind::Standard);
    let roll = machine.hit();
    peer.accepted(&mut machine, &roll);
    // An honest client cannot seal any more, and what it could forge is not read.
    let mut out = Vec::new();
    assert!(peer.seal.seal(&[0; 6], &[], &mut out).is_err());
    assert_eq!(peer.raw(&[0; 22]), Err(Fault::Malformed("cannot be decrypted")));
}

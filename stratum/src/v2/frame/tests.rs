use super::*;
use crate::v2::codec::draw::{Length, Source, any_rng};
use crate::v2::message::{NewMiningJob, SetupConnection, SubmitSharesExtended, SubmitSharesStandard};
use proptest::prelude::*;

fn core(channel: bool, msg_type: u8, payload_bytes: usize) -> Header {
    Header { extension_type: CORE, channel, msg_type, payload_bytes }
}

const SHARES: [Allowed; 2] = [
    Allowed::of::<SubmitSharesStandard>(),
    // With room for the worker's name of extension 0x0002.
    Allowed { msg_type: SubmitSharesExtended::TYPE, payload_bytes_max: 94 },
];

#[test]
fn fr_01_a_frame_is_its_header_and_its_payload() {
    let share =
        SubmitSharesStandard { channel_id: 1, sequence_number: 2, job_id: 3, nonce: 4, ntime: 5, version: 6 };
    let mut out = vec![0xee];
    write_frame(&share, &mut out);
    assert_eq!(out[..7], [0xee, 0x00, 0x80, 0x1a, 24, 0, 0]);
    assert_eq!(SubmitSharesStandard::decode(&out[7..]), Ok(share));
    assert_eq!(out.len(), 7 + 24);
}

#[test]
fn fr_02_the_channel_bit_is_the_highest_and_no_part_of_the_extension() {
    let header = Header::from_bytes([0xbc, 0x8a, 0x10, 0x03, 0x02, 0x01]);
    let expected = Header { extension_type: 0x0abc, channel: true, msg_type: 0x10, payload_bytes: 0x01_0203 };
    assert_eq!(header, expected);
    let without = Header::from_bytes([0xbc, 0x0a, 0x10, 0x03, 0x02, 0x01]);
    assert_eq!(without, Header { channel: false, ..expected });
}

#[test]
#[should_panic(expected = "a frame's length has 24 bits")]
fn fr_02_a_header_of_our_own_does_not_announce_what_it_cannot() {
    core(false, 0, PAYLOAD_BYTES_MAX + 1).to_bytes();
}

#[test]
fn fr_04_unknown_extensions_are_read_past() {
    for (channel, class) in [(false, Class::Extension), (true, Class::ChannelExtension)] {
        for extension_type in [1, 2, 0x4000, 0x7fff] {
            // Types of the table mean nothing there.
            for msg_type in [0x00, 0x1a, 0xff] {
                let header = Header { extension_type, channel, msg_type, payload_bytes: SKIPPED_BYTES_MAX };
                assert_eq!((header.class(), header.admit(&SHARES)), (class, Ok(Admission::Skip)));
                let long = Header { payload_bytes: SKIPPED_BYTES_MAX + 1, ..header };
                assert!(matches!(long.admit(&SHARES), Err(Fault::Malformed(_))));
            }
        }
    }
    assert_eq!(Message::payload_bytes_max(SetupConnection::TYPE), Some(SKIPPED_BYTES_MAX));
}

#[test]
fn fr_11_a_wrong_channel_bit_is_malformed() {
    for shape in Message::SHAPES {
        let header = core(!shape.channel, shape.msg_type, shape.payload_bytes_min);
        assert_eq!(header.class(), Class::WrongChannelBit(*shape));
        let allowed = [Allowed { msg_type: shape.msg_type, payload_bytes_max: shape.payload_bytes_max }];
        assert_eq!(header.admit(&allowed), Err(Fault::Malformed("wrong channel bit")));
    }
}

#[test]
fn fr_12_a_payload_is_as_long_as_its_message_and_the_session_allow() {
    for (msg_type, max) in [(0x1a, 24), (0x1b, 94)] {
        assert_eq!(core(true, msg_type, max).admit(&SHARES), Ok(Admission::Accept));
        let long = core(true, msg_type, max + 1).admit(&SHARES);
        assert_eq!(long, Err(Fault::Malformed("payload is longer than its message allows")));
        let huge = core(true, msg_type, PAYLOAD_BYTES_MAX).admit(&SHARES);
        assert_eq!(huge, long);
    }
}

#[test]
fn n03_a_message_out_of_place_ends_the_session_under_its_name() {
    assert_eq!(core(false, 0, 16).admit(&SHARES), Err(Fault::Misbehaved("SetupConnection")));
    assert_eq!(core(true, 0x15, 45).admit(&SHARES), Err(Fault::Misbehaved(NewMiningJob::NAME)));
    assert_eq!(core(true, 0x1a, 24).admit(&[]), Err(Fault::Misbehaved("SubmitSharesStandard")));
}

#[test]
fn n03_an_unknown_core_type_is_malformed() {
    for msg_type in (0..=255).filter(|msg_type| Message::shape_of(*msg_type).is_none()) {
        for channel in [false, true] {
            let header = core(channel, msg_type, 0);
            assert_eq!(header.class(), Class::UnknownType);
            assert_eq!(header.admit(&SHARES), Err(Fault::Malformed("unknown message type")));
        }
    }
}

proptest! {
    #[test]
    fn fr_02_every_six_bytes_are_a_header_and_back(bytes: [u8; HEADER_BYTES]) {
        let header = Header::from_bytes(bytes);
        prop_assert_eq!(header.to_bytes(), bytes);
        prop_assert!(header.extension_type < CHANNEL_BIT && header.payload_bytes <= PAYLOAD_BYTES_MAX);
        let limit = Allowed { msg_type: header.msg_type, payload_bytes_max: 100 };
        if let Ok(admission) = header.admit(&[limit]) {
            let most = if admission == Admission::Accept { 100 } else { SKIPPED_BYTES_MAX };
            prop_assert!(header.payload_bytes <= most);
        }
    }

    #[test]
    fn fr_01_every_message_is_admitted_from_its_own_frame(mut rng in any_rng()) {
        for message in Message::draw_each(&mut Source { rng: &mut rng, length: Length::Any }) {
            let mut out = Vec::new();
            message.write_frame(&mut out);
            let (header, payload) = out.split_first_chunk().unwrap();
            let header = Header::from_bytes(*header);
            prop_assert_eq!((header.extension_type, header.payload_bytes), (CORE, payload.len()));
            prop_assert_eq!(header.class(), Class::Known(message.shape()));
            let shape = message.shape();
            let allowed = [Allowed { msg_type: shape.msg_type, payload_bytes_max: shape.payload_bytes_max }];
            prop_assert_eq!(header.admit(&allowed), Ok(Admission::Accept));
            prop_assert_eq!(Message::decode(header.msg_type, payload), Ok(message));
        }
    }
}

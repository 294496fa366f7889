use super::*;
use crate::v2::codec::draw::{Length, Source, any_rng};
use proptest::prelude::*;
use proptest::test_runner::TestRng;

/// Types, channel bits and payload sizes as the specification's tables give them, in its order.
const TABLE: [(u8, u8, &str, usize, usize); 26] = [
    (0x00, 0, "SetupConnection", 16, 1_291),
    (0x01, 0, "SetupConnection.Success", 6, 6),
    (0x02, 0, "SetupConnection.Error", 5, 260),
    (0x03, 1, "ChannelEndpointChanged", 4, 4),
    (0x04, 0, "Reconnect", 3, 258),
    (0x10, 0, "OpenStandardMiningChannel", 41, 296),
    (0x11, 0, "OpenStandardMiningChannel.Success", 45, 77),
    (0x12, 0, "OpenMiningChannel.Error", 5, 260),
    (0x13, 0, "OpenExtendedMiningChannel", 43, 298),
    (0x14, 0, "OpenExtendedMiningChannel.Success", 47, 79),
    (0x15, 1, "NewMiningJob", 45, 49),
    (0x16, 1, "UpdateChannel", 40, 40),
    (0x17, 1, "UpdateChannel.Error", 5, 260),
    (0x18, 1, "CloseChannel", 5, 260),
    (0x19, 1, "SetExtranoncePrefix", 5, 37),
    (0x1a, 1, "SubmitSharesStandard", 24, 24),
    (0x1b, 1, "SubmitSharesExtended", 25, 57),
    (0x1c, 1, "SubmitShares.Success", 20, 20),
    (0x1d, 1, "SubmitShares.Error", 9, 264),
    (0x1f, 1, "NewExtendedMiningJob", 19, 139_253),
    (0x20, 1, "SetNewPrevHash", 48, 48),
    (0x21, 1, "SetTarget", 36, 36),
    (0x22, 1, "SetCustomMiningJob", 69, 74_274),
    (0x23, 1, "SetCustomMiningJob.Success", 12, 12),
    (0x24, 1, "SetCustomMiningJob.Error", 9, 264),
    (0x25, 0, "SetGroupChannel", 6, 262_146),
];

fn each(rng: &mut TestRng, length: Length) -> Vec<Message> {
    Message::draw_each(&mut Source { rng, length })
}

fn payload(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode_payload(&mut out);
    out
}

fn decode(message: &Message, payload: &[u8]) -> Result<Message, Malformed> {
    Message::decode(message.shape().msg_type, payload)
}

#[test]
fn fr_12_the_table_is_the_specifications() {
    let ours: Vec<_> = Message::SHAPES
        .iter()
        .map(|s| (s.msg_type, u8::from(s.channel), s.name.into(), s.payload_bytes_min, s.payload_bytes_max))
        .collect();
    let spec: Vec<_> = TABLE.iter().map(|row| (row.0, row.1, row.2.replace('.', ""), row.3, row.4)).collect();
    assert_eq!(ours, spec);
}

#[test]
fn fr_12_a_type_outside_the_table_has_no_shape_and_no_message() {
    for msg_type in 0..=255 {
        let row = TABLE.iter().find(|row| row.0 == msg_type);
        assert_eq!(Message::payload_bytes_max(msg_type), row.map(|row| row.4));
        assert_eq!(Message::shape_of(msg_type).is_some(), row.is_some());
        let known = Message::decode(msg_type, &[0; 2_000]) != Err(Malformed("unknown message type"));
        assert_eq!(known, row.is_some(), "{msg_type:#x}");
    }
}

#[test]
fn dt_01_a_share_is_written_field_by_field() {
    let share = SubmitSharesExtended {
        channel_id: 0x0403_0201,
        sequence_number: 0x0807_0605,
        job_id: 0x0c0b_0a09,
        nonce: 0x100f_0e0d,
        ntime: 0x1413_1211,
        version: 0x1817_1615,
        extranonce: Bytes32::from([0x1a, 0x1b]),
    };
    let mut out = Vec::new();
    share.encode_payload(&mut out);
    let expected: Vec<u8> = (1..=0x18).chain([2, 0x1a, 0x1b]).collect();
    assert_eq!(out, expected);
    assert_eq!(SubmitSharesExtended::decode(&expected), Ok(share));
}

proptest! {
    #[test]
    fn dt_08_every_message_is_read_as_it_was_written(mut rng in any_rng()) {
        for message in each(&mut rng, Length::Any) {
            let bytes = payload(&message);
            let shape = message.shape();
            prop_assert!((shape.payload_bytes_min..=shape.payload_bytes_max).contains(&bytes.len()));
            prop_assert_eq!(decode(&message, &bytes), Ok(message));
        }
    }

    #[test]
    fn fr_13_bytes_behind_the_last_field_are_ignored(mut rng in any_rng(), tail: Vec<u8>) {
        for message in each(&mut rng, Length::Any) {
            let bytes = [payload(&message), tail.clone()].concat();
            prop_assert_eq!(decode(&message, &bytes), Ok(message));
        }
    }

    #[test]
    fn n03_a_payload_cut_anywhere_is_malformed(mut rng in any_rng()) {
        for length in [Length::Min, Length::Any] {
            for message in each(&mut rng, length) {
                let bytes = payload(&message);
                for end in 0..bytes.len() {
                    let expected = Err(Malformed("payload ends early"));
                    prop_assert_eq!(decode(&message, &bytes[..end]), expected, "{} {}", message.name(), end);
                }
            }
        }
    }

    #[test]
    fn n03_any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..1_500)) {
        for shape in Message::SHAPES {
            if let Ok(message) = Message::decode(shape.msg_type, &bytes) {
                // What was read is not longer written again: nothing was made up.
                let again = payload(&message);
                prop_assert!(again.len() <= bytes.len());
                prop_assert_eq!(message.shape(), *shape);
            }
        }
    }
}

proptest! {
    // The longest are large, and lengths at the limits have few cases.
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn fr_12_the_shortest_and_longest_payloads_are_as_long_as_the_table_says(mut rng in any_rng()) {
        for (length, bytes) in [
            (Length::Min, TABLE.map(|row| row.3)),
            (Length::Max, TABLE.map(|row| row.4)),
        ] {
            for (message, expected) in each(&mut rng, length).iter().zip(bytes) {
                let written = payload(message);
                prop_assert_eq!(written.len(), expected, "{}", message.name());
                prop_assert_eq!(decode(message, &written), Ok(message.clone()));
                prop_assert!(decode(message, &written[..expected - 1]).is_err());
            }
        }
    }
}

//! Every message and frame header, on random values: same bytes from equal values, equal values
//! from same bytes, same verdict on damaged bytes.
//!
//! Their `SetupConnection.protocol` is an enum of three; ours is the byte, so that a session can
//! answer `unsupported-protocol`. Only those three are drawn.

use std::fmt::Debug;

use framing_sv2::framing::{EncodableFrame, MessageFrame};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use stratum::v2::codec::{Blob, Bytes32, Bytes64K, Bytes255, Malformed, Seq64K, Seq255, Str255, U256};
use stratum::v2::extension;
use stratum::v2::frame::{HEADER_BYTES, Header, write_frame};
use stratum::v2::message::Wire;

mod ours {
    pub use stratum::v2::message::negotiation::*;
    pub use stratum::v2::message::*;
}

/// A data type of ours and theirs.
trait Twin {
    type Theirs<'a>: PartialEq + Debug
    where
        Self: 'a;

    fn random(rng: &mut StdRng) -> Self;
    fn theirs(&self) -> Self::Theirs<'_>;
}

/// One byte is used by one field alone.
impl Twin for u8 {
    type Theirs<'a> = common_messages_sv2::Protocol;

    fn random(rng: &mut StdRng) -> Self {
        rng.random_range(0..3)
    }

    fn theirs(&self) -> Self::Theirs<'_> {
        (*self).try_into().expect("only protocols that they know are drawn")
    }
}

macro_rules! same_type {
    ($($number:ty)*) => {$(
        impl Twin for $number {
            type Theirs<'a> = $number;

            fn random(rng: &mut StdRng) -> Self {
                rng.random()
            }

            fn theirs(&self) -> Self::Theirs<'_> {
                *self
            }
        }
    )*};
}
same_type!(bool u16 u32 u64);

impl Twin for f32 {
    type Theirs<'a> = f32;

    fn random(rng: &mut StdRng) -> Self {
        let any = f32::from_bits(rng.random());
        // NaN is no equal of itself.
        if any.is_nan() { 0.0 } else { any }
    }

    fn theirs(&self) -> Self::Theirs<'_> {
        *self
    }
}

impl Twin for Option<u32> {
    type Theirs<'a> = binary_sv2::Sv2Option<'a, u32>;

    fn random(rng: &mut StdRng) -> Self {
        rng.random::<bool>().then(|| rng.random())
    }

    fn theirs(&self) -> Self::Theirs<'_> {
        binary_sv2::Sv2Option::new(*self)
    }
}

impl Twin for U256 {
    type Theirs<'a> = binary_sv2::U256<'a>;

    fn random(rng: &mut StdRng) -> Self {
        Self(rng.random())
    }

    fn theirs(&self) -> Self::Theirs<'_> {
        (&self.0).into()
    }
}

/// Mostly short, sometimes at the limit.
fn random_length(rng: &mut StdRng, max: usize) -> usize {
    match rng.random_range(0..8) {
        0 => 0,
        1 => max.min(300),
        2 if rng.random_range(0..16) == 0 => max,
        _ => rng.random_range(0..=max.min(40)),
    }
}

fn random_bytes(rng: &mut StdRng, max: usize) -> Vec<u8> {
    let mut bytes = vec![0; random_length(rng, max)];
    rng.fill_bytes(&mut bytes);
    bytes
}

impl Twin for Bytes32 {
    type Theirs<'a> = binary_sv2::B032<'a>;

    fn random(rng: &mut StdRng) -> Self {
        Self::new(&random_bytes(rng, 32)).unwrap()
    }

    fn theirs(&self) -> Self::Theirs<'_> {
        binary_sv2::B032::new(self.as_bytes()).unwrap()
    }
}

impl Twin for Bytes255 {
    type Theirs<'a> = binary_sv2::B0255<'a>;

    fn random(rng: &mut StdRng) -> Self {
        Blob::new(random_bytes(rng, 255)).unwrap()
    }

    fn theirs(&self) -> Self::Theirs<'_> {
        binary_sv2::B0255::new(self.as_bytes()).unwrap()
    }
}

impl Twin for Bytes64K {
    type Theirs<'a> = binary_sv2::B064K<'a>;

    fn random(rng: &mut StdRng) -> Self {
        Blob::new(random_bytes(rng, 65_535)).unwrap()
    }

    fn theirs(&self) -> Self::Theirs<'_> {
        binary_sv2::B064K::new(self.as_bytes()).unwrap()
    }
}

/// Their texts are bytes too, UTF-8 or not.
impl Twin for Str255 {
    type Theirs<'a> = binary_sv2::Str0255<'a>;

    fn random(rng: &mut StdRng) -> Self {
        Self::new(random_bytes(rng, 255)).unwrap()
    }

    fn theirs(&self) -> Self::Theirs<'_> {
        binary_sv2::Str0255::new(self.as_bytes()).unwrap()
    }
}

impl Twin for Seq255<U256> {
    type Theirs<'a> = binary_sv2::Seq0255<'a, binary_sv2::U256<'a>>;

    fn random(rng: &mut StdRng) -> Self {
        Self::new((0..random_length(rng, 255)).map(|_| Twin::random(rng)).collect()).unwrap()
    }

    fn theirs(&self) -> Self::Theirs<'_> {
        binary_sv2::Seq0255::new(self.as_slice().iter().map(Twin::theirs).collect()).unwrap()
    }
}

macro_rules! sequence {
    ($($number:ty)*) => {$(
        impl Twin for Seq64K<$number> {
            type Theirs<'a> = binary_sv2::Seq064K<'a, $number>;

            fn random(rng: &mut StdRng) -> Self {
                Self::new((0..random_length(rng, 65_535)).map(|_| rng.random()).collect()).unwrap()
            }

            fn theirs(&self) -> Self::Theirs<'_> {
                binary_sv2::Seq064K::new(self.as_slice().to_vec()).unwrap()
            }
        }
    )*};
}
sequence!(u16 u32);

/// A payload that is cut, or has one byte changed, or has bytes behind it.
fn damaged(payload: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = payload.to_vec();
    let at = rng.random_range(0..bytes.len());
    match rng.random_range(0..3) {
        0 => bytes.truncate(at),
        1 => bytes[at] = rng.random(),
        _ => bytes.extend(random_bytes(rng, 50)),
    }
    bytes
}

/// The payload that a message of ours has, if it could be read.
fn again(message: Result<impl Wire, Malformed>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    message.ok()?.encode_payload(&mut out);
    Some(out)
}

macro_rules! message {
    ($module:ident $name:ident $type:ident $bit:ident { $($field:ident),* }) => {
        message!($module $name $type $bit { $($field),* } theirs { $($field),* });
    };
    ($module:ident $name:ident $type:ident $bit:ident { $($field:ident),* } theirs { $($their_field:ident),* }) => {
        proptest! {
            #[test]
            #[expect(non_snake_case, reason = "the test has its message's name")]
            fn $name(seed: u64) {
                let rng = &mut StdRng::seed_from_u64(seed);
                let message = ours::$name { $($field: Twin::random(rng)),* };

                // Equal values, same frames.
                let theirs = $module::$name { $($their_field: message.$field.theirs()),* };
                let theirs = MessageFrame::from_message(theirs, $module::$type, ours::$name::EXTENSION, $module::$bit);
                let theirs = theirs.unwrap();
                let mut their_frame = vec![0; theirs.encoded_length()];
                theirs.encode_into(&mut their_frame).unwrap();
                let mut frame = Vec::new();
                write_frame(&message, &mut frame);
                prop_assert_eq!(&frame, &their_frame);

                // Same bytes, equal values.
                let mut payload = frame.split_off(HEADER_BYTES);
                prop_assert_eq!(ours::$name::decode(&payload), Ok(message.clone()));
                let bad = damaged(&payload, rng);
                let theirs: $module::$name = binary_sv2::from_bytes(&mut payload).unwrap();
                $(prop_assert_eq!(&theirs.$their_field, &message.$field.theirs());)*

                // Damaged bytes: refused by both, or read by both as the same.
                let ours = again(ours::$name::decode(&bad));
                if !(ours::$name::TYPE == ours::SetupConnection::TYPE && bad.first() > Some(&2)) {
                    let mut bad = bad;
                    let theirs = binary_sv2::from_bytes::<$module::$name>(&mut bad).ok();
                    let theirs = theirs.map(|theirs| binary_sv2::to_bytes(theirs).unwrap());
                    prop_assert_eq!(ours, theirs);
                }
            }
        }
    };
}

message!(common_messages_sv2 SetupConnection MESSAGE_TYPE_SETUP_CONNECTION CHANNEL_BIT_SETUP_CONNECTION {
    protocol, min_version, max_version, flags, endpoint_host, endpoint_port, vendor, hardware_version, firmware,
    device_id
});
message!(common_messages_sv2 SetupConnectionSuccess
    MESSAGE_TYPE_SETUP_CONNECTION_SUCCESS CHANNEL_BIT_SETUP_CONNECTION_SUCCESS { used_version, flags });
message!(common_messages_sv2 SetupConnectionError
    MESSAGE_TYPE_SETUP_CONNECTION_ERROR CHANNEL_BIT_SETUP_CONNECTION_ERROR { flags, error_code });
message!(common_messages_sv2 ChannelEndpointChanged
    MESSAGE_TYPE_CHANNEL_ENDPOINT_CHANGED CHANNEL_BIT_CHANNEL_ENDPOINT_CHANGED { channel_id });
message!(common_messages_sv2 Reconnect MESSAGE_TYPE_RECONNECT CHANNEL_BIT_RECONNECT { new_host, new_port });

message!(mining_sv2 OpenStandardMiningChannel
    MESSAGE_TYPE_OPEN_STANDARD_MINING_CHANNEL CHANNEL_BIT_OPEN_STANDARD_MINING_CHANNEL {
    request_id, user_identity, nominal_hash_rate, max_target
});
message!(mining_sv2 OpenStandardMiningChannelSuccess
    MESSAGE_TYPE_OPEN_STANDARD_MINING_CHANNEL_SUCCESS CHANNEL_BIT_OPEN_STANDARD_MINING_CHANNEL_SUCCESS {
    request_id, channel_id, target, extranonce_prefix, group_channel_id
});
message!(mining_sv2 OpenMiningChannelError
    MESSAGE_TYPE_OPEN_MINING_CHANNEL_ERROR CHANNEL_BIT_OPEN_MINING_CHANNEL_ERROR { request_id, error_code });
message!(mining_sv2 OpenExtendedMiningChannel
    MESSAGE_TYPE_OPEN_EXTENDED_MINING_CHANNEL CHANNEL_BIT_OPEN_EXTENDED_MINING_CHANNEL {
    request_id, user_identity, nominal_hash_rate, max_target, min_extranonce_size
});
message!(mining_sv2 OpenExtendedMiningChannelSuccess
    MESSAGE_TYPE_OPEN_EXTENDED_MINING_CHANNEL_SUCCESS CHANNEL_BIT_OPEN_EXTENDED_MINING_CHANNEL_SUCCESS {
    request_id, channel_id, target, extranonce_size, extranonce_prefix, group_channel_id
});
message!(mining_sv2 NewMiningJob MESSAGE_TYPE_NEW_MINING_JOB CHANNEL_BIT_NEW_MINING_JOB {
    channel_id, job_id, min_ntime, version, merkle_root
});
message!(mining_sv2 UpdateChannel MESSAGE_TYPE_UPDATE_CHANNEL CHANNEL_BIT_UPDATE_CHANNEL {
    channel_id, nominal_hash_rate, maximum_target
});
message!(mining_sv2 UpdateChannelError MESSAGE_TYPE_UPDATE_CHANNEL_ERROR CHANNEL_BIT_UPDATE_CHANNEL_ERROR {
    channel_id, error_code
});
message!(mining_sv2 CloseChannel MESSAGE_TYPE_CLOSE_CHANNEL CHANNEL_BIT_CLOSE_CHANNEL {
    channel_id, reason_code
});
message!(mining_sv2 SetExtranoncePrefix MESSAGE_TYPE_SET_EXTRANONCE_PREFIX CHANNEL_BIT_SET_EXTRANONCE_PREFIX {
    channel_id, extranonce_prefix
});
message!(mining_sv2 SubmitSharesStandard MESSAGE_TYPE_SUBMIT_SHARES_STANDARD CHANNEL_BIT_SUBMIT_SHARES_STANDARD {
    channel_id, sequence_number, job_id, nonce, ntime, version
});
message!(mining_sv2 SubmitSharesExtended MESSAGE_TYPE_SUBMIT_SHARES_EXTENDED CHANNEL_BIT_SUBMIT_SHARES_EXTENDED {
    channel_id, sequence_number, job_id, nonce, ntime, version, extranonce
});
message!(mining_sv2 SubmitSharesSuccess MESSAGE_TYPE_SUBMIT_SHARES_SUCCESS CHANNEL_BIT_SUBMIT_SHARES_SUCCESS {
    channel_id, last_sequence_number, new_submits_accepted_count, new_shares_sum
});
message!(mining_sv2 SubmitSharesError MESSAGE_TYPE_SUBMIT_SHARES_ERROR CHANNEL_BIT_SUBMIT_SHARES_ERROR {
    channel_id, sequence_number, error_code
});
message!(mining_sv2 NewExtendedMiningJob
    MESSAGE_TYPE_NEW_EXTENDED_MINING_JOB CHANNEL_BIT_NEW_EXTENDED_MINING_JOB {
    channel_id, job_id, min_ntime, version, version_rolling_allowed, merkle_path, coinbase_tx_prefix,
    coinbase_tx_suffix
});
message!(mining_sv2 SetNewPrevHash MESSAGE_TYPE_MINING_SET_NEW_PREV_HASH CHANNEL_BIT_MINING_SET_NEW_PREV_HASH {
    channel_id, job_id, prev_hash, min_ntime, nbits
});
message!(mining_sv2 SetTarget MESSAGE_TYPE_SET_TARGET CHANNEL_BIT_SET_TARGET { channel_id, maximum_target });
// One field has another name there.
message!(mining_sv2 SetCustomMiningJob MESSAGE_TYPE_SET_CUSTOM_MINING_JOB CHANNEL_BIT_SET_CUSTOM_MINING_JOB {
    channel_id, request_id, mining_job_token, version, prev_hash, min_ntime, nbits, coinbase_tx_version,
    coinbase_prefix, coinbase_tx_input_n_sequence, coinbase_tx_outputs, coinbase_tx_locktime, merkle_path
} theirs {
    channel_id, request_id, token, version, prev_hash, min_ntime, nbits, coinbase_tx_version,
    coinbase_prefix, coinbase_tx_input_n_sequence, coinbase_tx_outputs, coinbase_tx_locktime, merkle_path
});
message!(mining_sv2 SetCustomMiningJobSuccess
    MESSAGE_TYPE_SET_CUSTOM_MINING_JOB_SUCCESS CHANNEL_BIT_SET_CUSTOM_MINING_JOB_SUCCESS {
    channel_id, request_id, job_id
});
message!(mining_sv2 SetCustomMiningJobError
    MESSAGE_TYPE_SET_CUSTOM_MINING_JOB_ERROR CHANNEL_BIT_SET_CUSTOM_MINING_JOB_ERROR {
    channel_id, request_id, error_code
});
message!(mining_sv2 SetGroupChannel MESSAGE_TYPE_SET_GROUP_CHANNEL CHANNEL_BIT_SET_GROUP_CHANNEL {
    group_channel_id, channel_ids
});

message!(extensions_sv2 RequestExtensions
    MESSAGE_TYPE_REQUEST_EXTENSIONS CHANNEL_BIT_REQUEST_EXTENSIONS { request_id, requested_extensions });
message!(extensions_sv2 RequestExtensionsSuccess
    MESSAGE_TYPE_REQUEST_EXTENSIONS_SUCCESS CHANNEL_BIT_REQUEST_EXTENSIONS_SUCCESS {
    request_id, supported_extensions
});
message!(extensions_sv2 RequestExtensionsError
    MESSAGE_TYPE_REQUEST_EXTENSIONS_ERROR CHANNEL_BIT_REQUEST_EXTENSIONS_ERROR {
    request_id, unsupported_extensions, required_extensions
});

#[test]
fn ex_01_the_negotiation_has_their_number() {
    let theirs = extensions_sv2::EXTENSION_TYPE_EXTENSIONS_NEGOTIATION;
    assert_eq!((extension::NEGOTIATION, ours::RequestExtensionsError::EXTENSION), (theirs, theirs));
}

proptest! {
    #[test]
    fn any_header_is_read_the_same(bytes: [u8; HEADER_BYTES]) {
        let ours = Header::from_bytes(bytes);
        let theirs = framing_sv2::header::Header::from_bytes(&bytes).unwrap();
        prop_assert_eq!(ours.extension_type, theirs.ext_type_without_channel_msg());
        prop_assert_eq!(ours.channel, theirs.channel_msg());
        prop_assert_eq!(ours.msg_type, theirs.msg_type());
        prop_assert_eq!(ours.payload_bytes, theirs.payload_length());
        let mut again = [0; HEADER_BYTES];
        theirs.write_into(&mut again).unwrap();
        prop_assert_eq!(ours.to_bytes(), again);
    }
}

/// A message added to our table must be added here. Beside it there are the three of the negotiation.
#[test]
fn every_message_of_the_table_is_compared() {
    assert_eq!(include_str!("messages.rs").matches("\nmessage!(").count(), ours::Message::SHAPES.len() + 3);
}

#[test]
fn er_01_codes_are_spelled_as_theirs() {
    use common_messages_sv2 as common;
    use mining_sv2 as mining;
    use stratum::v2::error_code::*;
    for (ours, theirs) in [
        (UNSUPPORTED_FEATURE_FLAGS, common::ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_FEATURE_FLAGS),
        (UNSUPPORTED_PROTOCOL, common::ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_PROTOCOL),
        (PROTOCOL_VERSION_MISMATCH, common::ERROR_CODE_SETUP_CONNECTION_PROTOCOL_VERSION_MISMATCH),
        (UNKNOWN_USER, mining::ERROR_CODE_OPEN_MINING_CHANNEL_UNKNOWN_USER),
        (INVALID_USER_IDENTITY, mining::ERROR_CODE_OPEN_MINING_CHANNEL_INVALID_USER_IDENTITY),
        (MAX_TARGET_OUT_OF_RANGE, mining::ERROR_CODE_OPEN_MINING_CHANNEL_MAX_TARGET_OUT_OF_RANGE),
        (MAX_TARGET_OUT_OF_RANGE, mining::ERROR_CODE_UPDATE_CHANNEL_MAX_TARGET_OUT_OF_RANGE),
        (INVALID_NOMINAL_HASHRATE, mining::ERROR_CODE_OPEN_MINING_CHANNEL_INVALID_NOMINAL_HASHRATE),
        (INVALID_NOMINAL_HASHRATE, mining::ERROR_CODE_UPDATE_CHANNEL_INVALID_NOMINAL_HASHRATE),
        (MIN_EXTRANONCE_SIZE_TOO_LARGE, mining::ERROR_CODE_OPEN_MINING_CHANNEL_MIN_EXTRANONCE_SIZE_TOO_LARGE),
        (
            UNSUPPORTED_MIN_EXTRANONCE_SIZE,
            mining::ERROR_CODE_OPEN_MINING_CHANNEL_UNSUPPORTED_MIN_EXTRANONCE_SIZE,
        ),
        (
            STANDARD_CHANNELS_NOT_SUPPORTED_FOR_CUSTOM_WORK,
            mining::ERROR_CODE_OPEN_MINING_CHANNEL_STANDARD_CHANNELS_NOT_SUPPORTED_FOR_CUSTOM_WORK,
        ),
        (
            EXTENDED_CHANNELS_NOT_SUPPORTED_FOR_STANDARD_JOBS,
            mining::ERROR_CODE_OPEN_MINING_CHANNEL_EXTENDED_CHANNELS_NOT_SUPPORTED_FOR_STANDARD_JOBS,
        ),
        (CHANNEL_CAPACITY_EXHAUSTED, mining::ERROR_CODE_OPEN_MINING_CHANNEL_CHANNEL_CAPACITY_EXHAUSTED),
        (INVALID_CHANNEL_ID, mining::ERROR_CODE_UPDATE_CHANNEL_INVALID_CHANNEL_ID),
        (INVALID_CHANNEL_ID, mining::ERROR_CODE_SUBMIT_SHARES_INVALID_CHANNEL_ID),
        (INVALID_JOB_ID, mining::ERROR_CODE_SUBMIT_SHARES_INVALID_JOB_ID),
        (STALE_SHARE, mining::ERROR_CODE_SUBMIT_SHARES_STALE_SHARE),
        (DIFFICULTY_TOO_LOW, mining::ERROR_CODE_SUBMIT_SHARES_DIFFICULTY_TOO_LOW),
        (DUPLICATE_SHARE, mining::ERROR_CODE_SUBMIT_SHARES_DUPLICATE_SHARE),
        (BAD_EXTRANONCE_SIZE, mining::ERROR_CODE_SUBMIT_SHARES_BAD_EXTRANONCE_SIZE),
        (VERSION_ROLLING_NOT_ALLOWED, mining::ERROR_CODE_VERSION_ROLLING_NOT_ALLOWED),
        (INVALID_NON_ROLLABLE_VERSION_BIT, mining::ERROR_CODE_SUBMIT_SHARES_INVALID_NON_ROLLABLE_VERSION_BIT),
        (INVALID_SHARE, mining::ERROR_CODE_SUBMIT_SHARES_INVALID_SHARE),
        (JD_NOT_SUPPORTED, mining::ERROR_CODE_SET_CUSTOM_MINING_JOB_JD_NOT_SUPPORTED),
    ] {
        assert_eq!(ours.as_str(), theirs);
    }
}

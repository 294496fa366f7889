//! A server that means harm, or does not know better.

use super::*;
use crate::v2::codec::draw::{Length, Source};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

const MISBEHAVED: &str = "misbehaved";

fn refused(talk: &mut Talk, message: impl Into<Message>) {
    let message = message.into();
    let name = message.name();
    talk.events.clear();
    assert_eq!(talk.try_hear(message).unwrap_err().label(), MISBEHAVED, "{name}");
    assert_eq!(talk.take(), [], "{name}");
}

#[test]
fn n19_jobs_that_make_no_sense_are_refused() {
    let with = |change: fn(&mut NewExtendedMiningJob)| {
        let mut job = job(2, 1, None);
        change(&mut job);
        job
    };
    for bad in [
        with(|job| job.merkle_path = Seq255::new(vec![U256([0; 32]); BRANCH_MAX + 1]).unwrap()),
        with(|job| job.coinbase_tx_prefix = Bytes64K::new(vec![0; 65_500]).unwrap()),
        with(|job| job.version_rolling_allowed = false),
        with(|job| job.min_ntime = Some(1)),
    ] {
        refused(&mut Talk::extended(2), bad);
    }
    let most = with(|job| job.merkle_path = Seq255::new(vec![U256([0; 32]); BRANCH_MAX]).unwrap());
    Talk::extended(2).hear(most);
    refused(&mut Talk::extended(2), standard_job(2, 1, None));
    refused(&mut Talk::extended(2), standard_job(GROUP, 1, None));
    let mut talk = Talk::ready();
    talk.open_standard(2);
    refused(&mut talk, job(2, 1, None));
}

#[test]
fn n19_a_job_longer_than_any_is_refused_before_it_is_read() {
    let mut talk = Talk::extended(2);
    let header =
        Header { payload_bytes: EXTENDED_JOB.payload_bytes_max + 1, ..Header::of::<NewExtendedMiningJob>(0) };
    let mut sealed = Vec::new();
    talk.server.seal(&header.to_bytes(), &[0; 10], &mut sealed).unwrap();
    let result =
        talk.client.receive(&sealed[..crate::v2::noise::SEALED_HEADER_BYTES], talk.now, &mut talk.events);
    assert_eq!(result, Err(Fault::Malformed("payload is longer than its message allows")));
}

#[test]
fn n19_a_new_parent_needs_a_job_that_was_sent_for_it() {
    for id in [2, GROUP] {
        let mut talk = Talk::extended(2);
        talk.begin(2);
        refused(&mut talk, tip(id, 99, 2));
        let mut talk = Talk::extended(2);
        talk.begin(2);
        // One that is worked on was not sent for the next parent.
        refused(&mut talk, tip(id, 1, 2));
    }
    refused(&mut Talk::extended(2), tip(2, 1, 1));
    let mut talk = Talk::extended(2);
    talk.hear(job(2, 1, None));
    refused(&mut talk, SetNewPrevHash { nbits: 0, ..tip(2, 1, 1) });
}

#[test]
fn n19_absurd_targets_are_refused() {
    for id in [2, GROUP] {
        refused(&mut Talk::extended(2), SetTarget { channel_id: id, maximum_target: U256([0; 32]) });
    }
    let mut talk = Talk::ready();
    let request_id = talk.open(Kind::Standard);
    refused(
        &mut talk,
        OpenStandardMiningChannelSuccess { target: U256([0; 32]), ..standard_success(request_id, 2) },
    );
}

#[test]
fn n19_channels_are_what_was_asked_for() {
    let extended = |change: fn(&mut OpenExtendedMiningChannelSuccess)| {
        let mut talk = Talk::extended(2);
        let request_id = talk.open(Kind::Extended { min_extranonce_size: 4 });
        let mut success = extended_success(request_id, 3);
        change(&mut success);
        refused(&mut talk, success);
    };
    extended(|success| success.request_id += 1);
    extended(|success| success.extranonce_size = 3);
    extended(|success| success.extranonce_size = 29);
    extended(|success| success.extranonce_size = u16::MAX);
    extended(|success| success.channel_id = 2);
    extended(|success| success.channel_id = GROUP);
    extended(|success| success.group_channel_id = 2);
    extended(|success| success.group_channel_id = 3);
    let mut talk = Talk::ready();
    let request_id = talk.open(Kind::Standard);
    refused(&mut talk, extended_success(request_id, 2));
    refused(&mut Talk::extended(2), OpenMiningChannelError { request_id: 0, error_code: text("again") });
    refused(&mut Talk::extended(2), SetExtranoncePrefix { channel_id: GROUP, extranonce_prefix: [1].into() });
    refused(&mut Talk::extended(2), SetExtranoncePrefix { channel_id: 2, extranonce_prefix: [1; 25].into() });
    let mut talk = Talk::extended(2);
    talk.open_extended(3);
    refused(&mut talk, SetGroupChannel { group_channel_id: 2, channel_ids: Seq64K::new(vec![3]).unwrap() });
}

#[test]
fn mn_37_where_only_standard_jobs_are_taken_there_are_no_others_and_no_groups() {
    let standard = || {
        let mut talk = Talk::new(Settings { standard_jobs_only: true, ..settings() });
        talk.hear(SetupConnectionSuccess { used_version: 2, flags: 0 });
        talk.open_standard(2);
        talk
    };
    refused(&mut standard(), job(2, 1, None));
    refused(
        &mut standard(),
        SetGroupChannel { group_channel_id: 9, channel_ids: Seq64K::new(vec![2]).unwrap() },
    );
    let mut talk = standard();
    let extended = Kind::Extended { min_extranonce_size: 1 };
    let asked = talk.client.open(request(extended), talk.now, &mut talk.events);
    assert_eq!(asked, Err(OpenError::StandardOnly));
    talk.hear(standard_job(2, 1, None));
    assert_eq!(talk.work(tip(2, 1, 1))[0].0.merkle_root(&[]), [8; 32]);
}

#[test]
fn messages_out_of_their_place_end_the_connection() {
    refused(&mut Talk::new(settings()), job(2, 1, None));
    refused(&mut Talk::ready(), SetupConnectionSuccess { used_version: 2, flags: 0 });
    let share =
        SubmitSharesStandard { channel_id: 1, sequence_number: 0, job_id: 0, nonce: 0, ntime: 0, version: 0 };
    refused(&mut Talk::ready(), share);
}

#[test]
fn fr_04_fr_06_messages_of_unknown_extensions_are_read_past() {
    for channel in [false, true] {
        let mut talk = Talk::extended(2);
        let header = Header { extension_type: 0x0abc, channel, msg_type: 0x20, payload_bytes: 5 };
        let mut sealed = Vec::new();
        talk.server.seal(&header.to_bytes(), &[2, 0, 0, 0, 9], &mut sealed).unwrap();
        assert_eq!(talk.client.receive(&sealed, talk.now, &mut talk.events), Ok(()));
        assert_eq!(talk.take(), []);
        assert_eq!(talk.begin(2).len(), 1);
    }
}

#[test]
fn n09_what_a_server_can_make_us_keep_is_bounded() {
    let mut talk = Talk::ready();
    for _ in 0..OPENS_MAX {
        talk.open(Kind::Standard);
    }
    let more = talk.client.open(request(Kind::Standard), talk.now, &mut talk.events);
    assert_eq!(more, Err(OpenError::TooManyPending));

    let mut talk = Talk::extended(2);
    for id in 0..100 {
        talk.hear(job(2, id, None));
        talk.hear(job(GROUP, id + 1_000, None));
    }
    let live = talk.work(tip(2, 99, 1)).remove(0).0;
    for id in 0..100 {
        talk.hear(job(2, id + 200, Some(1)));
    }
    assert!(!talk.client.is_live(&live), "the oldest of 101 jobs");
    let kept = (0..100).filter(|id| talk.client.is_live(&Job { id: id + 200, ..Job::clone(&live) })).count();
    assert_eq!(kept, JOBS_MAX);
    // The channel has none left, and the group's newest eight do not hold this one.
    refused(&mut talk, tip(GROUP, 1_000 + 99 - FUTURE_JOBS_MAX as u32, 2));
    // With eight waiting jobs and 32 live ones, coinbases apart.
    assert!(size_of::<Channel>() <= 320, "{}", size_of::<Channel>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn n19_any_messages_in_any_order_do_no_harm(seed: [u8; 32], order in prop::collection::vec((0..29_usize, 0..4_u32), 1..60)) {
        let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let mut talk = Talk::extended(2);
        talk.open_standard(3);
        for (at, id) in order {
            let mut source = Source { rng: &mut rng, length: Length::Any };
            let messages = Message::draw_each(&mut source);
            let message = messages[at % messages.len()].clone();
            let mut payload = Vec::new();
            message.encode_payload(&mut payload);
            // Mostly to somebody who is there, about jobs that may be.
            if payload.len() >= 5 {
                payload[..4].copy_from_slice(&id.to_le_bytes());
                payload[4] %= 3;
            }
            let header = Header {
                extension_type: 0,
                channel: message.shape().channel,
                msg_type: message.shape().msg_type,
                payload_bytes: payload.len(),
            };
            let mut sealed = Vec::new();
            talk.server.seal(&header.to_bytes(), &payload, &mut sealed).unwrap();
            if talk.client.receive(&sealed, talk.now, &mut talk.events).is_err() {
                return Ok(());
            }
        }
    }
}

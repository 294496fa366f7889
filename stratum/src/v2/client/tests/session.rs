//! How a connection and its channels begin and end, and shares.

use super::*;

#[test]
fn cm_06_the_first_message_says_who_we_are_and_what_we_need() {
    let talk = Talk::new(Settings { vendor: Str255::default(), ..settings() });
    let [Message::SetupConnection(setup)] = &sent(&talk.events)[..] else { panic!("{:?}", talk.events) };
    assert_eq!((setup.protocol, setup.min_version, setup.max_version), (0, 2, 2));
    assert_eq!(setup.flags, flag::REQUIRES_VERSION_ROLLING);
    assert_eq!((setup.endpoint_host.to_string(), setup.endpoint_port), ("pool.example".to_owned(), 3336));
    assert_eq!((setup.vendor.clone(), setup.device_id.clone()), (Settings::VENDOR, Str255::default()));
    let talk = Talk::new(Settings { standard_jobs_only: true, version_rolling: false, ..settings() });
    let [Message::SetupConnection(setup)] = &sent(&talk.events)[..] else { panic!("{:?}", talk.events) };
    assert_eq!(setup.flags, flag::REQUIRES_STANDARD_JOBS);
}

#[test]
fn cm_07_flags_of_the_server_are_obeyed() {
    let hear = |settings: Settings, used_version, flags| {
        let mut talk = Talk::new(settings);
        let result = talk.try_hear(SetupConnectionSuccess { used_version, flags });
        (result, talk)
    };
    let (fixed, extended) = (flag::REQUIRES_FIXED_VERSION, flag::REQUIRES_EXTENDED_CHANNELS);
    assert_eq!(hear(settings(), 2, fixed).0, Err(Fault::Incompatible));
    assert_eq!(hear(settings(), 3, 0).0, Err(Fault::Incompatible));
    let standard = Settings { standard_jobs_only: true, ..settings() };
    assert_eq!(hear(standard, 2, extended).0, Err(Fault::Incompatible));
    let (result, mut talk) = hear(settings(), 2, extended);
    assert_eq!((result, talk.events.pop()), (Ok(()), Some(Event::Ready { flags: extended })));
    let refused = talk.client.open(request(Kind::Standard), talk.now, &mut talk.events);
    assert_eq!(refused, Err(OpenError::ExtendedOnly));
    assert!(sent(&talk.events).len() == 1, "only the setup was sent");
    talk.open_extended(2);

    let (result, mut talk) = hear(Settings { version_rolling: false, ..settings() }, 2, fixed);
    assert_eq!(result, Ok(()));
    talk.open_extended(2);
    assert_eq!(talk.begin(2)[0].0.version_mask, 0);
    talk.open_standard(3);
    talk.hear(standard_job(3, 1, None));
    assert_eq!(talk.work(tip(3, 1, 1))[0].0.version_mask, 0);
}

#[test]
fn er_01_a_refused_setup_is_told_and_ends_the_connection() {
    let mut talk = Talk::new(settings());
    talk.events.clear();
    let code = Str255::new(vec![0xff, b'\n']).unwrap();
    assert_eq!(
        talk.try_hear(SetupConnectionError { flags: 4, error_code: code.clone() }),
        Err(Fault::Incompatible)
    );
    assert_eq!(talk.events, [Event::SetupRefused { flags: 4, code }]);
}

#[test]
fn channels_are_opened_refused_updated_and_closed() {
    let mut talk = Talk::new(settings());
    let early = talk.client.open(request(Kind::Standard), talk.now, &mut talk.events);
    assert_eq!(early, Err(OpenError::NotReady));
    talk.hear(SetupConnectionSuccess { used_version: 2, flags: 0 });
    let first = talk.open(Kind::Extended { min_extranonce_size: 4 });
    let second = talk.open(Kind::Standard);
    talk.events.clear();
    // Answers may come in any order.
    talk.hear(standard_success(second, 3));
    talk.hear(OpenMiningChannelError { request_id: first, error_code: text("unknown-user") });
    let target = Target::try_from(EASY).unwrap();
    let expected = [
        Event::Opened {
            request: RequestId(second),
            channel: 3,
            target,
            extranonce_prefix: [7; 12].into(),
            extranonce_size: 0,
        },
        Event::OpenRefused { request: RequestId(first), code: text("unknown-user") },
    ];
    assert_eq!(talk.take(), expected);
    assert_eq!(talk.client.update(3, 5e12, EASY, &mut talk.events), Ok(()));
    assert_eq!(talk.client.update(4, 5e12, EASY, &mut talk.events), Err(NotOpen(4)));
    assert_eq!(talk.client.close(3, text("bye"), &mut talk.events), Ok(()));
    assert_eq!(talk.client.close(3, text("bye"), &mut talk.events), Err(NotOpen(3)));
    let told = [
        UpdateChannel { channel_id: 3, nominal_hash_rate: 5e12, maximum_target: EASY }.into(),
        CloseChannel { channel_id: 3, reason_code: text("bye") }.into(),
    ];
    assert_eq!(sent(&talk.take()), told);
    // What was on its way to a channel that we have closed is no fault.
    talk.hear(standard_job(3, 1, None));
    talk.hear(super::target(3, 1));
    assert_eq!((talk.take().len(), talk.client.ignored()), (0, 2));
}

#[test]
fn mn_17_closing_a_group_closes_all_of_it() {
    let mut talk = Talk::extended(2);
    talk.open_standard(3);
    talk.open_extended(4);
    let group = SetGroupChannel { group_channel_id: 9, channel_ids: Seq64K::new(vec![4, 77]).unwrap() };
    talk.hear(group);
    let close = |channel_id| CloseChannel { channel_id, reason_code: text("maintenance") };
    let closed = |channel| Event::Closed { channel, reason: text("maintenance") };
    talk.hear(close(GROUP));
    assert_eq!(talk.take(), [closed(2), closed(3)]);
    talk.hear(close(4));
    assert_eq!(talk.take(), [closed(4)]);
    talk.hear(close(9));
    assert_eq!(talk.take(), []);
}

#[test]
fn shares_are_numbered_from_zero_on_each_channel_and_bounded() {
    let mut talk = Talk::extended(2);
    talk.open_standard(3);
    let works = talk.begin(GROUP);
    assert_eq!(works.len(), 2);
    for (job, _) in &works {
        for nonce in 0..2 {
            assert_eq!(talk.client.submit(&share(job, nonce), &mut talk.events), Ok(nonce));
        }
    }
    let told = sent(&talk.take());
    let Message::SubmitSharesExtended(extended) = &told[1] else { panic!("{told:?}") };
    assert_eq!((extended.channel_id, extended.sequence_number, extended.job_id), (2, 1, 1));
    assert_eq!(extended.extranonce, [0xab; 8].into());
    let Message::SubmitSharesStandard(standard) = &told[2] else { panic!("{told:?}") };
    assert_eq!((standard.channel_id, standard.sequence_number, standard.ntime), (3, 0, 100));

    let job = &works[0].0;
    for nonce in 2..SUBMITS_MAX {
        talk.client.submit(&share(job, nonce), &mut talk.events).unwrap();
    }
    let full = talk.client.submit(&share(job, 0), &mut talk.events);
    assert_eq!((full, talk.client.pending(2)), (Err(SubmitError::TooManyPending), SUBMITS_MAX));
    let success = |last_sequence_number, new_submits_accepted_count| SubmitSharesSuccess {
        channel_id: 2,
        last_sequence_number,
        new_submits_accepted_count,
        new_shares_sum: 5,
    };
    talk.events.clear();
    talk.hear(SubmitSharesError { channel_id: 2, sequence_number: 0, error_code: text("stale-share") });
    talk.hear(success(9, 9));
    assert_eq!(talk.client.pending(2), SUBMITS_MAX - 10);
    let rejected = Event::Rejected { channel: 2, sequence_number: 0, code: text("stale-share") };
    let accepted = Event::Accepted { channel: 2, last_sequence_number: 9, count: 9, difficulty_sum: 5 };
    assert_eq!(talk.take(), [rejected, accepted]);
    // A server that forgets some, and one that counts too many.
    talk.hear(success(SUBMITS_MAX - 2, 1));
    assert_eq!(talk.client.pending(2), 1);
    talk.hear(success(u32::MAX, u32::MAX));
    let count = talk.take().pop();
    assert!(matches!(count, Some(Event::Accepted { count: 1, .. })), "{count:?}");
    assert_eq!((talk.client.pending(2), talk.client.pending(3)), (0, 2));
}

#[test]
fn mn_19_mn_20_mn_22_shares_that_no_server_could_accept_are_not_sent() {
    let mut talk = Talk::extended(2);
    let job = &talk.begin(2)[0].0;
    let good = share(job, 0);
    let short = Share { extranonce: [0; 7].into(), ..good.clone() };
    let early = Share { ntime: 99, ..good.clone() };
    let version = Share { version: job.version | 0x10, ..good.clone() };
    for (share, error) in [
        (short, SubmitError::ExtranonceSize { len: 7, wanted: 8 }),
        (early, SubmitError::Ntime { ntime: 99, min_ntime: 100 }),
        (version, SubmitError::VersionOutsideMask { version: 0x2000_0010, mask: 0x1fff_ffe0 }),
    ] {
        assert_eq!(talk.client.submit(&share, &mut talk.events), Err(error));
    }
    assert_eq!(talk.take(), []);
    let rolled = Share { version: job.version | 0x20, ..good };
    assert_eq!(talk.client.submit(&rolled, &mut talk.events), Ok(0));
    assert_eq!(job.max_ntime(talk.now + Duration::from_millis(2_900)), 102);
    talk.client.close(2, text(""), &mut talk.events).unwrap();
    let late = talk.client.submit(&rolled, &mut talk.events);
    assert_eq!(late, Err(SubmitError::NotOpen(NotOpen(2))));
}

#[test]
fn a_server_that_does_not_answer_is_left() {
    let talk = Talk::new(settings());
    let wait = settings().answer_within;
    assert_eq!(talk.client.deadline(), talk.now + wait);
    assert_eq!(talk.client.tick(talk.now), Ok(()));
    assert_eq!(talk.client.tick(talk.now + wait), Err(Fault::TimedOut(Awaited::Setup)));
    let mut talk = Talk::ready();
    assert_eq!(talk.client.deadline(), talk.now + settings().silence_max);
    let silent = talk.client.tick(talk.now + settings().silence_max);
    assert_eq!(silent, Err(Fault::TimedOut(Awaited::FirstBytes)));
    talk.open(Kind::Standard);
    assert_eq!(talk.client.tick(talk.now + wait), Err(Fault::TimedOut(Awaited::Channel)));
}

#[test]
fn cm_10_a_request_to_reconnect_names_what_it_changes() {
    let mut talk = Talk::ready();
    talk.hear(Reconnect { new_host: text(""), new_port: 0 });
    talk.hear(Reconnect { new_host: text("other.example"), new_port: 7 });
    talk.hear(ChannelEndpointChanged { channel_id: 5 });
    let expected = [
        Event::Reconnect { host: None, port: None },
        Event::Reconnect { host: Some(text("other.example")), port: Some(7) },
    ];
    assert_eq!(talk.take(), expected);
}

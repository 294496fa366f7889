//! `SetupConnection`: what comes first, and what is agreed.

use super::*;

fn error(peer: &mut Peer, setup: SetupConnection) -> (u32, String) {
    assert_eq!(peer.try_say(setup), Err(Fault::Incompatible));
    match peer.heard().as_slice() {
        [Message::SetupConnectionError(error)] => (error.flags, error.error_code.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn cm_02_cm_03_esp_miner_exactly_one_frame_answers_the_setup_and_names_version_2() {
    for (min_version, max_version) in [(2, 2), (0, 2), (2, 9), (0, u16::MAX)] {
        let mut peer = Peer::new(settings());
        let answer = peer.ask(SetupConnection { min_version, max_version, ..setup() });
        assert_eq!(answer, SetupConnectionSuccess { used_version: 2, flags: 0 }.into());
        peer.now += seconds(1);
        peer.tick().unwrap();
        assert_eq!(peer.heard(), [], "some firmware reads one frame and takes it for the answer");
    }
}

#[test]
fn cm_02_cm_03_versions_without_2_are_told_why_and_closed() {
    for (min_version, max_version) in [(0, 1), (3, 3), (3, 9), (2, 1), (9, 0), (u16::MAX, u16::MAX)] {
        let asked = SetupConnection { min_version, max_version, ..setup() };
        assert_eq!(error(&mut Peer::new(settings()), asked), (0, "protocol-version-mismatch".into()));
    }
}

#[test]
fn cm_08_other_protocols_are_told_so_and_closed() {
    for protocol in [flag::PROTOCOL_JOB_DECLARATION, flag::PROTOCOL_TEMPLATE_DISTRIBUTION, 3, 255] {
        let asked = SetupConnection { protocol, ..setup() };
        assert_eq!(error(&mut Peer::new(settings()), asked), (0, "unsupported-protocol".into()));
    }
}

#[test]
fn cm_04_cm_05_a_probe_with_all_flags_learns_every_flag_that_is_not_offered() {
    for (version_mask, flags, unsupported) in [
        (VERSION_MASK, u32::MAX, !0b101),
        (VERSION_MASK, 0b010, 0b010),
        (VERSION_MASK, 0b110, 0b010),
        (VERSION_MASK, 1 << 31, 1 << 31),
        (0, u32::MAX, !0b001),
        (0, 0b100, 0b100),
    ] {
        let mut peer = Peer::new(Settings { version_mask, ..settings() });
        let asked = SetupConnection { flags, ..setup() };
        assert_eq!(error(&mut peer, asked), (unsupported, "unsupported-feature-flags".into()));
    }
}

#[test]
fn cm_02_supported_flags_are_agreed_to_and_a_fixed_version_is_said() {
    for (version_mask, flags, answered) in [
        (VERSION_MASK, 0, 0),
        (VERSION_MASK, flag::REQUIRES_STANDARD_JOBS, 0),
        (VERSION_MASK, flag::REQUIRES_VERSION_ROLLING | flag::REQUIRES_STANDARD_JOBS, 0),
        (0, 0, flag::REQUIRES_FIXED_VERSION),
        (0, flag::REQUIRES_STANDARD_JOBS, flag::REQUIRES_FIXED_VERSION),
    ] {
        let mut peer = Peer::new(Settings { version_mask, ..settings() });
        let answer = peer.ask(SetupConnection { flags, ..setup() });
        assert_eq!(answer, SetupConnectionSuccess { used_version: 2, flags: answered }.into());
    }
}

#[test]
fn cm_01_anything_else_first_closes_without_an_answer() {
    let share = SubmitSharesStandard {
        channel_id: FIRST,
        sequence_number: 1,
        job_id: 1,
        nonce: 1,
        ntime: UNIX_S,
        version: 0x2000_0000,
    };
    let success = SetupConnectionSuccess { used_version: 2, flags: 0 };
    for first in [
        open(Kind::Standard),
        open(Kind::Extended),
        update(FIRST, 0.0, any_target()).into(),
        close(GROUP).into(),
        share.into(),
        success.into(),
    ] {
        let mut peer = Peer::new(settings());
        assert_eq!(peer.try_say(first.clone()), Err(Fault::Misbehaved(first.name())));
        assert_eq!(peer.heard(), []);
    }
}

#[test]
fn cm_01_an_extensions_message_first_closes() {
    for channel in [false, true] {
        let header = Header { extension_type: 1, channel, msg_type: 0, payload_bytes: 4 };
        let mut peer = Peer::new(settings());
        assert!(matches!(peer.frame(header, &[0; 4]), Err(Fault::Misbehaved(_))));
        assert_eq!(peer.heard(), []);
    }
}

#[test]
fn cm_01_a_second_setup_closes() {
    let mut peer = Peer::ready(settings());
    assert_eq!(peer.try_say(setup()), Err(Fault::Misbehaved("SetupConnection")));
    let (mut peer, _) = Peer::mining(Kind::Standard);
    assert_eq!(peer.try_say(setup()), Err(Fault::Misbehaved("SetupConnection")));
    assert_eq!(peer.heard(), []);
}

#[test]
fn messages_that_only_a_server_sends_or_that_are_not_offered_close() {
    let custom = SetCustomMiningJob {
        channel_id: FIRST,
        request_id: 1,
        mining_job_token: Default::default(),
        version: 0,
        prev_hash: U256([0; 32]),
        min_ntime: 0,
        nbits: 0,
        coinbase_tx_version: 2,
        coinbase_prefix: Default::default(),
        coinbase_tx_input_n_sequence: 0,
        coinbase_tx_outputs: Default::default(),
        coinbase_tx_locktime: 0,
        merkle_path: Default::default(),
    };
    for message in [
        custom.into(),
        SetTarget { channel_id: FIRST, maximum_target: any_target() }.into(),
        Message::from(Reconnect { new_host: text(""), new_port: 0 }),
        SetGroupChannel { group_channel_id: GROUP, channel_ids: Default::default() }.into(),
    ] {
        let (mut peer, _) = Peer::mining(Kind::Extended);
        assert_eq!(peer.try_say(message.clone()), Err(Fault::Misbehaved(message.name())));
    }
}

#[test]
fn dt_07_texts_that_are_no_utf_8_are_no_reason_to_refuse() {
    let vendor = Str255::new(vec![0xff, 0x00, 0x0a]).unwrap();
    let answer = Peer::new(settings()).ask(SetupConnection { vendor, ..setup() });
    assert_eq!(answer.name(), "SetupConnectionSuccess");
}

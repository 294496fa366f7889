//! `mining.configure` and version rolling (BIP 310, V1 checklist §D).

use super::*;

#[test]
fn v1_30_vr_01_every_requested_code_gets_an_entry() {
    let mut peer = Peer::fresh();
    let answer = peer.configure(
        json!(["version-rolling", "minimum-difficulty", "subscribe-extranonce", "info", "x\"y", "x\"y", 5]),
        json!({"minimum-difficulty.value": 2048, "version-rolling.min-bit-count": "not a number"}),
    );
    assert_eq!(
        answer,
        json!({"version-rolling": true, "version-rolling.mask": "1fffe000", "minimum-difficulty": true,
            "subscribe-extranonce": true, "info": false, "x\"y": false})
    );
    // Quirks: no map, no list, one of them alone, nothing.
    for params in [json!([[]]), json!([]), json!(null), json!({}), json!([[], null]), json!("x")] {
        assert_eq!(peer.ask("mining.configure", params)["result"], json!({}));
    }
    assert_eq!(peer.ask("mining.configure", json!([["version-rolling"]]))["result"]["version-rolling"], true);
}

#[test]
fn vr_02_the_mask_is_what_both_can_roll() {
    for (wanted, agreed) in [
        (json!("ffffffff"), Some("1fffe000")),
        (json!("1fffe000"), Some("1fffe000")),
        (json!("00006000"), Some("00006000")),
        (json!("FFFF0000"), Some("1fff0000")),
        (json!("6000"), Some("00006000")),
        (json!("e0000001"), None),
        (json!("00000000"), None),
        (json!("xyz"), None),
        (json!(5), None),
        (json!("1ffffffff"), None),
        (json!("+1fffe00"), None),
        (json!(null), None),
    ] {
        let mut peer = Peer::fresh();
        let answer = peer.configure(json!(["version-rolling"]), json!({"version-rolling.mask": wanted}));
        assert_eq!(answer["version-rolling"] == true, agreed.is_some(), "{wanted}");
        assert_eq!(answer["version-rolling.mask"].as_str(), agreed, "{wanted}");
    }
}

#[test]
fn vr_03_the_server_mask_is_a_setting_and_zero_offers_none() {
    for (mask, answer) in [
        (0x1fff_ffe0, json!({"version-rolling": true, "version-rolling.mask": "1fffffe0"})),
        (0, json!({"version-rolling": false})),
    ] {
        let mut peer = Peer::new(Settings { version_mask: mask, ..sample::settings() });
        assert_eq!(peer.configure(json!(["version-rolling"]), json!({})), answer);
    }
}

#[test]
fn vr_04_vr_05_m11_bits_replace_the_masked_ones_and_others_are_refused() {
    // The template's own version has bits inside the mask: OR-ing would keep them.
    let mut peer = rolling(0x3fff_0000, "ffffffff", sample::settings());
    let (_, share) = peer.submit(with_bits("00002000"));
    assert_eq!((share.roll.version, share.allowed.is_ok()), (0x2000_2000, true));
    let (_, share) = peer.submit(with_bits("1fffe000"));
    assert_eq!((share.roll.version, share.allowed.is_ok()), (0x3fff_e000, true));
    for bits in ["00000001", "20000000", "ffffffff", "1fffe001"] {
        let (_, share) = peer.submit(with_bits(bits));
        assert_eq!(share.allowed, Err(Reject::BadVersionBits), "{bits}");
        // Hashed as the machine must have hashed it: a block outranks the mask.
        assert_eq!(share.roll.version, 0x2000_0000 | u32::from_str_radix(bits, 16).unwrap());
    }
}

#[test]
fn vr_06_bits_without_agreement_may_change_nothing() {
    let mut peer = Peer::mining();
    for same in ["00000000", "20000000"] {
        let (_, share) = peer.submit(with_bits(same));
        assert_eq!((share.roll.version, share.allowed.is_ok()), (0x2000_0000, true));
    }
    let (_, share) = peer.submit(with_bits("00002000"));
    assert_eq!((share.roll.version, share.allowed), (0x2000_2000, Err(Reject::BadVersionBits)));
}

#[test]
fn vr_06_missing_bits_are_zero_only_behind_the_switch() {
    let mut strict = rolling(0x2000_4000, "ffffffff", sample::settings());
    let (_, pending) = strict.submit(share());
    assert_eq!(pending.allowed, Err(Reject::Malformed("version bits are missing")));
    let mut lenient =
        rolling(0x2000_4000, "ffffffff", Settings { zero_bits_when_missing: true, ..sample::settings() });
    let (_, pending) = lenient.submit(share());
    assert_eq!((pending.roll.version, pending.allowed.is_ok()), (0x2000_0000, true));
}

#[test]
fn vr_07_a_new_mask_holds_at_once_and_the_old_one_for_older_jobs() {
    let mut peer = rolling(0x2000_0000, "00006000", sample::settings());
    peer.say(json!({"id": 5, "method": "mining.configure", "params": [["version-rolling"], {"version-rolling.mask": "1fff0000"}]}));
    let lines = peer.heard();
    assert_eq!(methods(&lines), ["-", "mining.set_version_mask"]);
    assert_eq!(lines[1]["params"], json!(["1fff0000"]));
    assert!(peer.submit(with_bits("00006000")).1.allowed.is_ok());
    assert!(peer.submit(with_bits("1fff0000")).1.allowed.is_ok());
    peer.work(&body_on(1));
    peer.actions.clear();
    let mut newer = with_bits("00006000");
    newer[1] = "71".into();
    assert_eq!(peer.submit(newer).1.allowed, Err(Reject::BadVersionBits));
}

#[test]
fn vr_08_minimum_difficulty_is_a_floor_rounded_up_and_may_change() {
    let floor = |value: Value| json!({"minimum-difficulty.value": value});
    let mut peer = Peer::new(Settings { pot_max: pot(30), ..sample::settings() });
    peer.start();
    for (value, granted, now) in [
        (json!(100_000), true, 17),
        (json!(131_073), true, 18),
        (json!(1e300), true, 30),
        (json!(0), true, 30),
    ] {
        assert_eq!(
            peer.configure(json!(["minimum-difficulty"]), floor(value))
                == json!({"minimum-difficulty": true}),
            granted
        );
        assert_eq!(peer.session.pot(), pot(now));
    }
    for nonsense in [json!(-1), json!("5"), json!(null)] {
        let answer = peer.configure(json!(["minimum-difficulty"]), floor(nonsense));
        assert!(answer["minimum-difficulty"].is_string());
    }
    // Silence does not go below the floor.
    peer.configure(json!(["minimum-difficulty"]), floor(json!(1 << 28)));
    for _ in 0..5 {
        peer.now = peer.session.deadline();
        peer.session.tick(peer.now, &mut peer.actions).unwrap();
    }
    assert_eq!(peer.session.pot(), pot(28));
}

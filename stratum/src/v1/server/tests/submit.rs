//! What a share looks like on the wire (V1 checklist §C).

use super::*;

#[test]
fn v1_29_v1_40_v1_48_m12_malformed_shares_are_refused_with_20() {
    let mut peer = Peer::mining();
    for (at, values) in [
        (
            2,
            &[
                "",
                "00",
                "00000000000000f",
                "00000000000000fff",
                "0000000000000000ff",
                "000000000000000g",
                "0x000000000000ff",
                "+0000000000000ff",
            ][..],
        ),
        (3, &["", "6ab13b8", "6ab13b800", "6ab13b8g", "+ab13b80", " 6ab13b8"]),
        (4, &["", "2a", "00000000000000002a", "0000002ä"]),
        (5, &["", "2000", "zzzzzzzz"]),
    ] {
        for value in values {
            let mut params = with_bits("00000000");
            params[at] = (*value).into();
            assert_eq!(peer.refused("mining.submit", params).0, 20, "{at} {value}");
        }
    }
    for params in [
        json!([]),
        json!(null),
        json!({}),
        json!("x"),
        json!([user(), "70", "00000000000000ff", "6ab13b80"]),
        json!([user(), "70", "00000000000000ff", "6ab13b80", 42]),
        json!([user(), 70, "00000000000000ff", "6ab13b80", "0000002a"]),
        json!([null, "70", "00000000000000ff", "6ab13b80", "0000002a"]),
    ] {
        assert_eq!(peer.refused("mining.submit", params).0, 20);
    }
}

#[test]
fn v1_29_v1_43_m01_hex_in_either_case_and_extra_parameters_are_the_same_share() {
    let mut peer = Peer::mining();
    let (_, lower) = peer.submit(share());
    let (_, upper) = peer.submit(json!([user(), "70", "00000000000000FF", "6AB13B80", "0000002A"]));
    assert_eq!(lower.roll, upper.roll);
    let (_, more) =
        peer.submit(json!([user(), "70", "00000000000000ff", "6ab13b80", "0000002a", "00000000", "x", 5]));
    assert_eq!(lower.roll, more.roll);
    let roll = lower.roll;
    assert_eq!((roll.extranonce1, roll.extranonce2.0), (PREFIX, [0, 0, 0, 0, 0, 0, 0, 255]));
    assert_eq!((roll.ntime, roll.nonce, roll.version), (0x6ab1_3b80, 42, 0x2000_0000));
}

#[test]
fn v1_40_not_subscribed_outranks_unknown_job_outranks_bad_hex() {
    let mut peer = Peer::fresh();
    assert_eq!(peer.refused("mining.submit", share()).0, 25);
    assert_eq!(peer.refused("mining.submit", json!([])).0, 20);
    peer.ask("mining.subscribe", json!([]));
    assert_eq!(peer.refused("mining.submit", share()).0, 21);
    let mut peer = Peer::mining();
    assert_eq!(peer.refused("mining.submit", json!([user(), "6f", "x", "x", "x"])).0, 21);
    assert_eq!(peer.refused("mining.submit", json!([user(), "70", "x", "x", "x"])).0, 20);
}

#[test]
fn v1_47_an_unauthorized_user_is_judged_all_the_same() {
    let mut peer = Peer::mining();
    let mut params = share();
    params[0] = format!("{ADDRESS}.rig2").into();
    let (ticket, share) = peer.submit(params);
    assert_eq!(share.payee, Err(Reject::Unauthorized));
    assert_eq!(share.job.tag, sample::payee().tag);
    peer.session.answer(ticket, Err(Reject::Unauthorized), &mut peer.actions);
    assert_eq!(peer.heard()[0]["error"], json!([24, "unauthorized worker", null]));
}

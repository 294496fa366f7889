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
    assert_eq!((roll.extranonce1, roll.extranonce2.as_bytes()), (PREFIX, &[0, 0, 0, 0, 0, 0, 0, 255][..]));
    assert_eq!((roll.ntime, roll.nonce, roll.version), (0x6ab1_3b80, 42, 0x2000_0000));
}

/// What can be wrong with a share that only its session knows, in the order of judgement (§C).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wrong {
    Parameters,
    Subscription,
    Job,
    Hex,
    Worker,
    Bits,
}

impl Wrong {
    const ALL: [Wrong; 6] =
        [Self::Parameters, Self::Subscription, Self::Job, Self::Hex, Self::Worker, Self::Bits];

    fn reject(self) -> Reject {
        match self {
            Self::Parameters => Reject::Malformed("parameters are no list of texts"),
            Self::Subscription => Reject::NotSubscribed,
            Self::Job => Reject::UnknownJob,
            Self::Hex => Reject::Malformed("ntime is not 8 hex digits"),
            Self::Worker => Reject::Unauthorized,
            Self::Bits => Reject::BadVersionBits,
        }
    }
}

/// Submits a share with these faults: what the session says, and whether it is judged all the same.
fn judged(wrong: &[Wrong]) -> (Result<(), Reject>, bool) {
    let mut peer = rolling(0x2000_0000, "ffffffff", sample::settings());
    if wrong.contains(&Wrong::Subscription) {
        peer = Peer::fresh();
        peer.ask("mining.authorize", json!([user()]));
    }
    let mut params = with_bits("00002000");
    for wrong in wrong {
        match wrong {
            Wrong::Parameters => params[4] = 42.into(),
            Wrong::Subscription => {}
            Wrong::Job => params[1] = "6f".into(),
            Wrong::Hex => params[3] = "6ab13b8g".into(),
            Wrong::Worker => params[0] = OTHER_ADDRESS.into(),
            Wrong::Bits => params[5] = "00000001".into(),
        }
    }
    peer.say(json!({"id": 9, "method": "mining.submit", "params": params}));
    let said = peer.actions.iter().find_map(|action| match action {
        Action::Share { share, .. } => Some((share.allowed, true)),
        Action::Refused(reject) => Some((Err(*reject), false)),
        _ => None,
    });
    let (outcome, hashed) = said.unwrap();
    if !hashed {
        let reject = outcome.unwrap_err();
        assert_eq!(peer.heard()[0]["error"], json!([code::of(reject), reject.to_string(), null]));
    }
    (outcome, hashed)
}

#[test]
fn v1_40_of_any_two_faults_the_one_judged_first_is_answered() {
    assert_eq!(judged(&[]), (Ok(()), true));
    for (at, first) in Wrong::ALL.into_iter().enumerate() {
        for second in &Wrong::ALL[at..] {
            // Worker and bits count only after the hash: it may be a block.
            let hashed = first >= Wrong::Worker;
            assert_eq!(judged(&[first, *second]), (Err(first.reject()), hashed), "{first:?} {second:?}");
        }
    }
}

#[test]
fn v1_40_missing_parameters_outrank_all_and_a_wrong_worker_outranks_missing_bits() {
    let mut peer = Peer::fresh();
    assert_eq!(peer.refused("mining.submit", json!([OTHER_ADDRESS, "6f", "x"])).0, 20);
    // Authorized or not, who is not subscribed is told so.
    assert_eq!(peer.refused("mining.submit", share()).0, 25);
    // Subscribed, and no job yet.
    peer.ask("mining.subscribe", json!([]));
    assert_eq!(peer.refused("mining.submit", share()).0, 21);
    let mut peer = rolling(0x2000_0000, "ffffffff", sample::settings());
    let mut params = share();
    assert_eq!(peer.submit(params.clone()).1.allowed, Err(Reject::Malformed("version bits are missing")));
    params[0] = OTHER_ADDRESS.into();
    assert_eq!(peer.submit(params).1.allowed, Err(Reject::Unauthorized));
}

#[test]
fn v1_47_an_unauthorized_user_is_judged_all_the_same() {
    let mut peer = Peer::mining();
    let mut params = share();
    params[0] = format!("{ADDRESS}.rig2").into();
    let (ticket, share) = peer.submit(params);
    assert_eq!(share.allowed, Err(Reject::Unauthorized));
    assert_eq!(share.job.tag, sample::payee().tag);
    peer.answer(ticket, Err(Reject::Unauthorized));
    assert_eq!(peer.heard()[0]["error"], json!([24, "unauthorized worker", null]));
}

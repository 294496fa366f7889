//! Requests that are none, other methods, bounds and deadlines (V1 checklist §A).

use super::*;

#[test]
fn v1_06_v1_31_v1_34_other_methods_are_answered_politely_and_answers_not_at_all() {
    let mut peer = Peer::mining();
    assert!(peer.ask("client.get_version", json!([]))["result"].as_str().unwrap().starts_with("sluice/"));
    assert_eq!(peer.ask("mining.ping", json!([]))["result"], "pong");
    assert_eq!(peer.ask("mining.extranonce.subscribe", json!([]))["result"], true);
    for method in ["mining.get_transactions", "mining.multi_version", "mining.capabilities"] {
        for _ in 0..100 {
            assert_eq!(peer.refused(method, json!([1])).0, 20);
        }
    }
    for line in [
        json!({"id": 7, "method": "pong", "params": []}), // ESP-Miner
        json!({"id": null, "method": "client.show_message", "params": ["hi"]}),
        json!({"id": null, "result": true, "error": null}), // some firmware answers notifications
        json!({"id": 4, "result": null, "error": "what?"}),
    ] {
        (0..100).for_each(|_| peer.say(line.clone()));
        assert!(peer.actions.is_empty());
    }
}

#[test]
fn v1_04_ids_of_every_kind_come_back_and_shares_may_share_one() {
    let mut peer = Peer::mining();
    for id in [json!(null), json!("abc"), json!(0), json!(-1), json!(1.5), json!("\u{1f}\"")] {
        peer.say(json!({"id": id, "method": "mining.ping"}));
        assert_eq!(peer.heard()[0]["id"], id);
    }
    // cpuminer sends every share with id 4.
    let tickets: Vec<_> = (0..2)
        .map(|_| {
            peer.say(json!({"id": 4, "method": "mining.submit", "params": share()}));
            peer.actions
                .drain(..)
                .find_map(|a| match a {
                    Action::Share { ticket, .. } => Some(ticket),
                    _ => None,
                })
                .unwrap()
        })
        .collect();
    peer.answer(tickets[1], Ok(()));
    assert!(peer.heard().is_empty());
    peer.answer(tickets[0], Err(Reject::Duplicate));
    assert_eq!(
        peer.heard(),
        [
            json!({"id": 4, "result": null, "error": [22, "duplicate share", null]}),
            json!({"id": 4, "result": true, "error": null}),
        ]
    );
}

#[test]
fn v1_07_unknown_methods_are_refused_and_their_flood_is_ended() {
    let mut peer = Peer::mining();
    assert_eq!(peer.refused("mining.nonsense", json!([])).0, 20);
    // One every half minute for a day is honest firmware.
    for _ in 0..2880 {
        peer.now += seconds(30);
        assert_eq!(peer.refused("mining.nonsense", json!([])).0, 20);
    }
    let line = json!({"id": 1, "method": "mining.nonsense"}).to_string() + "\n";
    let survived = (0..1000).take_while(|_| peer.raw(&line).is_ok()).count();
    assert_eq!(survived, 95);
    assert_eq!(peer.raw(&line), Err(Fault::Misbehaved("too many unknown methods")));
}

#[test]
fn n02_bad_messages_are_answered_if_they_have_an_id_and_end_the_connection_if_they_are_many() {
    for (line, answered) in [
        ("not json\n", false),
        ("[1,2]\n", false),
        ("{\"id\":1}\n", true),
        ("{\"id\":1,\"method\":[]}\n", true),
        ("{\"id\":1,\"method\":\"mining.ping\",\"params\":[\"\\ud800\"]}\n", true),
        ("{\"id\":1,\"method\":\"mining.ping\",\"params\":[1e999]}\n", true),
        ("{\"id\":1,\"id\":2,\"method\":\"mining.ping\"}\n", false),
        ("{\"id\":1,\"method\":\"mining.ping\",\"method\":\"mining.ping\"}\n", true),
    ] {
        let mut peer = Peer::mining();
        for _ in 0..crate::patience::BAD_MESSAGES {
            peer.raw(line).unwrap();
        }
        let answers = peer.heard();
        assert_eq!(answers.len(), if answered { 16 } else { 0 }, "{line}");
        assert!(answers.iter().all(|answer| answer["error"][0] == 20));
        let mut later = peer.now;
        assert_eq!(peer.raw(line), Err(Fault::Misbehaved("too many bad messages")), "{line}");
        // Patience comes back once a minute.
        later += crate::patience::BAD_MESSAGE_REFILL;
        peer.now = later;
        peer.raw(line).unwrap();
        assert!(peer.raw(line).is_err());
    }
}

#[test]
fn n02_a_line_without_a_readable_id_leaves_the_answers_around_it_alone() {
    let mut peer = Peer::fresh();
    for damaged in ["{\"id\":1,\"meth{\"id\":2}", "{\"id\":[1],\"method\":\"mining.subscribe\"}", "\u{0}"] {
        let before = json!({"id": 3, "method": "mining.subscribe", "params": []});
        let behind = json!({"id": 4, "method": "mining.authorize", "params": [user()]});
        peer.raw(&format!("{before}\n{damaged}\n{behind}\n")).unwrap();
        let ids: Vec<_> = peer.answers().iter().map(|answer| answer["id"].clone()).collect();
        assert_eq!(ids, [3, 4], "{damaged}");
    }
}

#[test]
fn n02_v1_10_who_says_nothing_readable_is_closed_for_want_of_a_subscribe() {
    let mut peer = Peer::fresh();
    peer.raw("GET / HTTP/1.1\r\nHost: pool.example\r\nAccept: */*\r\n\r\n").unwrap();
    assert!(peer.heard().is_empty());
    peer.now += seconds(15);
    assert_eq!(peer.session.tick(peer.now, &mut peer.actions), Err(Fault::TimedOut(Awaited::Subscribe)));
}

#[test]
fn n01_v1_02_a_line_too_long_ends_the_connection() {
    let mut peer = Peer::mining();
    let long = "x".repeat(9000);
    assert_eq!(peer.raw(&long), Err(Fault::Malformed("line too long")));
}

#[test]
fn n10_bad_shares_are_no_bad_messages() {
    let mut peer = Peer::mining();
    for _ in 0..10_000 {
        let mut params = share();
        params[1] = "beef".into();
        peer.refused("mining.submit", params);
    }
}

#[test]
fn n08_a_connection_with_too_many_unanswered_requests_is_closed() {
    let mut peer = Peer::mining();
    for _ in 0..reply::UNANSWERED_MAX - 1 {
        peer.submit(share());
    }
    peer.say(json!({"id": 1, "method": "mining.ping"}));
    assert_eq!(peer.raw("{\"id\":1,\"method\":\"mining.ping\"}\n"), Err(Fault::TooFast));
    let mut peer = Peer::mining();
    for _ in 0..reply::UNANSWERED_MAX {
        peer.submit(share());
    }
    let line = json!({"id": 1, "method": "mining.submit", "params": share()}).to_string() + "\n";
    assert_eq!(peer.raw(&line), Err(Fault::TooFast));
    // It is judged all the same: it may be a block.
    assert!(matches!(peer.actions.as_slice(), [Action::Unanswered(share)] if share.allowed.is_ok()));
}

#[test]
fn v1_10_n04_deadlines_end_connections_that_do_nothing() {
    let due = |peer: &Peer| peer.session.deadline().duration_since(peer.now);
    let expire = |peer: &mut Peer, after: u64, awaited| {
        let at = peer.now + seconds(after);
        assert_eq!(peer.session.tick(at - Duration::from_millis(1), &mut peer.actions), Ok(()));
        assert_eq!(peer.session.tick(at, &mut peer.actions), Err(Fault::TimedOut(awaited)));
    };
    let mut peer = Peer::fresh();
    assert_eq!(due(&peer), seconds(5));
    expire(&mut peer, 5, Awaited::FirstBytes);
    peer.raw("{").unwrap();
    assert_eq!(due(&peer), seconds(15));
    expire(&mut peer, 15, Awaited::Subscribe);
    let mut peer = Peer::fresh();
    peer.ask("mining.subscribe", json!([]));
    expire(&mut peer, 30, Awaited::Authorize);
    let mut peer = Peer::fresh();
    peer.ask("mining.authorize", json!([ADDRESS]));
    expire(&mut peer, 15, Awaited::Subscribe);
    peer.ask("mining.subscribe", json!([]));
    expire(&mut peer, 900, Awaited::Share);
    let mut peer = Peer::mining();
    peer.now += seconds(800);
    peer.submit(share());
    expire(&mut peer, 900, Awaited::Share);
}

#[test]
fn v1_05_every_answer_has_a_result_and_an_error_and_one_of_them_is_null() {
    let mut peer = Peer::fresh();
    for (method, params) in [
        ("mining.configure", json!([["version-rolling"], {}])),
        ("mining.submit", share()),
        ("mining.subscribe", json!([])),
        ("mining.authorize", json!([MAINNET_ADDRESS])),
        ("mining.authorize", json!([user()])),
        ("mining.submit", json!([])),
        ("mining.suggest_difficulty", json!([1])),
        ("mining.get_transactions", json!(["70"])),
        ("mining.nonsense", json!([])),
    ] {
        let answer = peer.ask(method, params);
        let members: Vec<_> = answer.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["error", "id", "result"], "{method}");
        assert_ne!(answer["error"].is_null(), answer["result"].is_null(), "{method}");
        if let Some(error) = answer["error"].as_array() {
            assert!(error[0].is_i64() && error[1].is_string() && error[2].is_null(), "{method}");
        }
    }
    assert_eq!(peer.raw("nonsense\n"), Ok(()));
    let (ticket, _) = {
        peer.work(&body_on(1));
        peer.submit(share())
    };
    peer.answer(ticket, Ok(()));
    assert_eq!(peer.heard().pop(), Some(json!({"id": 9, "result": true, "error": null})));
}

//! Difficulty: hints, changes, and what a job is worth.

use super::*;

#[test]
fn v1_25_v1_41_v1_42_m07_a_change_of_difficulty_comes_with_a_new_job_of_the_same_body() {
    let mut peer = Peer::mining();
    let (_, before) = peer.submit(share());
    for _ in 0..3 {
        peer.submit(share());
    }
    // Four shares at one instant are too many: the pot went up, and no difficulty comes alone.
    assert!(peer.session.pot() > before.job.pot);
    let mut again = share();
    again[1] = "71".into();
    let (_, after) = peer.submit(again);
    assert_eq!(after.job.pot, peer.session.pot());
    assert!(Arc::ptr_eq(&before.job.body, &after.job.body));
    // M06, V1-41, V1-42: the older job keeps what it was sent with.
    assert_eq!(peer.submit(share()).1.job.pot, before.job.pot);
}

#[test]
fn v1_25_difficulty_is_sent_once_and_always_right_before_a_notify() {
    let mut peer = Peer::mining();
    for _ in 0..30 {
        peer.say(json!({"id": 9, "method": "mining.submit", "params": share()}));
    }
    peer.now += seconds(300);
    peer.session.tick(peer.now, &mut peer.actions).unwrap();
    let lines: Vec<_> = peer.heard().into_iter().filter(|line| line.get("method").is_some()).collect();
    let pairs: Vec<_> = methods(&lines).chunks(2).map(<[&str]>::to_vec).collect();
    assert!(pairs.len() >= 2);
    assert!(pairs.iter().all(|pair| pair == &["mining.set_difficulty", "mining.notify"]));
    assert!(lines.iter().skip(1).step_by(2).all(|notify| notify["params"][8] == false));
    peer.work(&body_on(1));
    assert_eq!(methods(&peer.heard()), ["mining.notify"]);
}

#[test]
fn v1_25_no_pot_is_harder_than_the_network_target() {
    let mut peer = Peer::fresh();
    peer.ask("mining.subscribe", json!([]));
    peer.ask("mining.authorize", json!([ADDRESS, "d=1000000"]));
    peer.work(&sample::encoded(sample::body(sample::REGTEST_NBITS)));
    assert_eq!(peer.session.pot(), Pot::MIN);
}

#[test]
fn v1_32_hints_are_clamped_and_nonsense_is_ignored() {
    let suggest = |method: &str, params: Value| {
        let mut peer = Peer::new(Settings { pot_max: pot(40), ..sample::settings() });
        assert_eq!(peer.ask(method, params)["result"], true);
        peer.session.pot().get()
    };
    let difficulty = "mining.suggest_difficulty";
    for (params, start) in [
        (json!([1024]), 10),
        (json!(1024), 10),
        (json!([0.0001]), -14),
        (json!(["512"]), 9),
        (json!([1e308]), 40),
        (json!([1e-9]), -16),
        (json!([0]), 13),
        (json!([-1]), 13),
        (json!([]), 13),
        (json!(null), 13),
        (json!(["nan"]), 13),
        (json!([null]), 13),
        (json!([[]]), 13),
        (json!({"a": 1}), 13),
    ] {
        assert_eq!(suggest(difficulty, params.clone()), start, "{params}");
    }
    // ckpool knows firmware that writes the number into the name.
    for (name, start) in [("(256)", 8), ("(0)", 13), ("()", 13), ("(x)", 13), ("(1e999)", 13), ("s", 13)] {
        assert_eq!(suggest(&format!("{difficulty}{name}"), json!([])), start, "{name}");
    }
    for (target, start) in [
        (format!("{:0>8}{:f<56}", "", ""), -1),
        ("00000000ffff".to_owned() + &"0".repeat(52), 0),
        ("0000000000ffff".to_owned() + &"0".repeat(50), 8),
        ("xyz".into(), 13),
        (String::new(), 13),
        ("0".into(), 13),
        ("1".repeat(65), 13),
        ("ä".into(), 13),
    ] {
        assert_eq!(suggest("mining.suggest_target", json!([target])), start, "{target}");
    }
}

#[test]
fn v1_32_a_suggestion_without_id_gets_no_answer_and_counts_once() {
    // NerdMiner repeats it every half minute.
    let mut peer = Peer::mining();
    let line = json!({"method": "mining.suggest_difficulty", "params": [0.0001]});
    peer.say(line.clone());
    assert_eq!(methods(&peer.heard()), ["mining.set_difficulty", "mining.notify"]);
    for _ in 0..100 {
        peer.say(line.clone());
    }
    assert!(peer.actions.is_empty());
}

#[test]
fn v1_32_hints_after_the_first_job_are_few_and_end_with_the_first_share() {
    let mut peer = Peer::mining();
    for round in 0..20 {
        peer.ask("mining.suggest_difficulty", json!([1 << (round % 2)]));
    }
    assert_eq!(peer.session.pot(), pot(1));
    let mut peer = Peer::mining();
    peer.accept(share());
    let before = peer.session.pot();
    peer.ask("mining.suggest_difficulty", json!([1]));
    assert_eq!(peer.session.pot(), before);
}

#[test]
fn m08_silence_lowers_the_difficulty_at_the_deadline_the_session_names() {
    let mut peer = Peer::mining();
    let mut pots = vec![peer.session.pot()];
    for _ in 0..4 {
        peer.now = peer.session.deadline();
        peer.session.tick(peer.now, &mut peer.actions).unwrap();
        pots.push(peer.session.pot());
        assert_eq!(methods(&peer.heard()), ["mining.set_difficulty", "mining.notify"]);
    }
    assert_eq!(pots, [13, 10, 4, -8, -16].map(pot));
    assert!(peer.session.deadline() > peer.now);
}

#[test]
fn m08_shares_that_the_session_refuses_raise_the_difficulty_like_any_others() {
    for (at, value) in [(1, "beef"), (2, "no hex"), (4, "")] {
        let mut peer = Peer::mining();
        let before = peer.session.pot();
        let mut refused = share();
        refused[at] = value.into();
        for _ in 0..3 {
            peer.say(json!({"id": 9, "method": "mining.submit", "params": refused}));
        }
        assert!(!peer.actions.iter().any(|action| matches!(action, Action::Share { .. })));
        assert!(peer.session.pot() > before, "{value}");
        let lines = peer.heard();
        assert_eq!(methods(&lines), ["-", "-", "-", "mining.set_difficulty", "mining.notify"], "{value}");
    }
}

#[test]
fn a_machines_rate_is_known_from_its_first_share_on() {
    let mut peer = Peer::mining();
    assert_eq!(peer.session.miner().unwrap().hashes_per_s, 0.0);
    peer.submit(share());
    let expected = 2_f64.powi(32 + i32::from(peer.session.pot().get())) / 5.0;
    assert_eq!(peer.session.miner().unwrap().hashes_per_s, expected);
}

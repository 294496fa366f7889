//! Subscribe and authorize (V1 checklist §B).

use super::*;

#[test]
fn v1_20_v1_23_subscribe_names_the_prefix_and_eight_bytes_twice_the_same() {
    let mut peer = Peer::fresh();
    for id in [1, 2] {
        peer.say(json!({"id": id, "method": "mining.subscribe", "params": ["a/1"]}));
        assert_eq!(
            peer.heard(),
            [json!({"id": id, "error": null, "result":
                [[["mining.set_difficulty", "01020304"], ["mining.notify", "01020304"]], "01020304", 8]})]
        );
    }
    assert_eq!(peer.session.prefix(), PREFIX);
}

#[test]
fn v1_20_v1_21_subscribe_takes_what_firmware_sends_and_resumes_nothing() {
    for (params, agent, class) in [
        (json!([]), "", SizeClass::B755),
        (json!(null), "", SizeClass::B755),
        (json!(["bitaxe/BM1368/v2.9.0"]), "bitaxe%2FBM1368%2Fv2.9.0", SizeClass::B455),
        // LuxOS
        (json!(["LUXminer/2024", null, "pool.example:3333", null]), "LUXminer%2F2024", SizeClass::B755),
        // cgminer asks to resume a session; we do not (V1-21).
        (json!(["cgminer/4.12.1", "deadbeef"]), "cgminer%2F4.12.1", SizeClass::B755),
        (json!([5, {"a": []}]), "", SizeClass::B755),
        (json!({"agent": "x"}), "", SizeClass::B755),
        (json!(["<b>\u{1b}[31m\n"]), "%3Cb%3E%1B%5B31m%0A", SizeClass::B755),
    ] {
        let mut peer = Peer::fresh();
        assert_eq!(peer.ask("mining.subscribe", params)["result"][1], "01020304");
        assert_eq!((peer.session.agent(), peer.session.client.as_ref().unwrap().class), (agent, class));
    }
}

#[test]
fn v1_08_every_order_of_the_first_messages_works() {
    let configure = json!({"id": 1, "method": "mining.configure", "params": [["version-rolling"], {}]});
    let subscribe = json!({"id": 2, "method": "mining.subscribe", "params": ["cgminer/4.12"]});
    let authorize = json!({"id": 3, "method": "mining.authorize", "params": [user(), "x"]});
    let suggest = json!({"id": 4, "method": "mining.suggest_difficulty", "params": [1]});
    for order in [
        [&configure, &subscribe, &authorize, &suggest],
        // ckpool tells of machines that authorize first.
        [&authorize, &subscribe, &configure, &suggest],
        [&suggest, &subscribe, &configure, &authorize],
        [&subscribe, &suggest, &authorize, &configure],
    ] {
        let mut peer = Peer::fresh();
        order.iter().for_each(|line| peer.say((*line).clone()));
        let ready = peer.actions.iter().filter(|action| matches!(action, Action::NeedWork)).count();
        assert_eq!(ready, 1);
        let lines = peer.heard();
        let ids: Vec<_> =
            lines.iter().filter(|line| line.get("method").is_none()).map(|l| &l["id"]).collect();
        assert_eq!(ids, order.map(|line| &line["id"]));
        assert_eq!(methods(&lines).iter().filter(|name| **name == "mining.set_version_mask").count(), 1);
        peer.work(&body_on(1));
        assert_eq!(methods(&peer.heard()), ["mining.set_difficulty", "mining.notify"]);
    }
}

#[test]
fn v1_33_nothing_but_replies_leaves_before_the_machine_is_subscribed_and_authorized() {
    let mut peer = Peer::fresh();
    peer.work(&body_on(1));
    assert!(peer.actions.is_empty());
    peer.configure(json!(["version-rolling", "minimum-difficulty"]), json!({"minimum-difficulty.value": 4}));
    peer.ask("mining.subscribe", json!(["cgminer/4.12.1"]));
    peer.work(&body_on(1));
    assert!(peer.actions.is_empty());
    peer.ask("mining.suggest_difficulty", json!([64]));
    peer.say(json!({"id": 3, "method": "mining.authorize", "params": [user(), "x"]}));
    // cgminer takes the next line without a method for its answer.
    let lines = peer.heard();
    assert_eq!(methods(&lines), ["-", "mining.set_version_mask"]);
    assert_eq!(lines[1]["params"], json!(["1fffe000"]));
}

#[test]
fn v1_09_pipelined_and_bytewise_requests_work_alike() {
    let text = [
        json!({"id": 1, "method": "mining.configure", "params": [["version-rolling"], {"version-rolling.mask": "ffffffff"}]}),
        json!({"id": 2, "method": "mining.subscribe", "params": ["bitaxe/BM1370/v2.9.0"]}),
        json!({"id": 3, "method": "mining.authorize", "params": [user(), "x"]}),
    ]
    .map(|line| format!("{line}\r\n"))
    .concat();
    let (mut whole, mut bytewise) = (Peer::fresh(), Peer::fresh());
    whole.raw(&text).unwrap();
    text.as_bytes().chunks(1).for_each(|byte| bytewise.raw(std::str::from_utf8(byte).unwrap()).unwrap());
    let heard = whole.heard();
    assert_eq!(heard.len(), 4);
    assert_eq!(bytewise.heard(), heard);
}

#[test]
fn v1_24_users_are_an_address_and_a_worker_and_errors_say_what_is_wrong() {
    let typo = ADDRESS.replace("w508", "w509");
    for (params, why) in [
        (
            json!([MAINNET_ADDRESS, "x"]),
            format!("address {MAINNET_ADDRESS} is not for signet: use an address of this network"),
        ),
        (json!([typo]), format!("\"{typo}\" is not a Bitcoin address: check it for a typo")),
        (json!([]), "user name must be a Bitcoin address, optionally followed by .worker".into()),
        (json!([5]), "user name must be a Bitcoin address, optionally followed by .worker".into()),
        (json!(null), "user name must be a Bitcoin address, optionally followed by .worker".into()),
    ] {
        let mut peer = Peer::fresh();
        peer.ask("mining.subscribe", json!([]));
        assert_eq!(peer.refused("mining.authorize", params), (24, why));
        assert!(peer.session.workers.any().is_none());
        assert_eq!(peer.ask("mining.authorize", json!([ADDRESS]))["result"], true);
        assert_eq!(peer.session.workers.any().unwrap().worker.as_str(), "");
    }
}

#[test]
fn v1_24_one_payee_and_many_workers_per_connection() {
    let mut peer = Peer::new(Settings { workers_max: 3, ..sample::settings() });
    peer.start();
    let authorize = |peer: &mut Peer, user: String| peer.ask("mining.authorize", json!([user, "x"]));
    assert_eq!(authorize(&mut peer, user())["result"], true);
    assert_eq!(authorize(&mut peer, format!("{ADDRESS}.rig2"))["result"], true);
    assert_eq!(authorize(&mut peer, format!("{ADDRESS}_rig0"))["result"], true);
    let (code, why) = peer.refused("mining.authorize", json!([OTHER_ADDRESS]));
    assert_eq!((code, why.contains("another address")), (24, true));
    let (code, why) = peer.refused("mining.authorize", json!([format!("{ADDRESS}.rig3")]));
    assert_eq!((code, why.contains("3 workers")), (24, true));
    for (user, worker) in
        [(user(), "rig1"), (format!("{ADDRESS}.rig2"), "rig2"), (format!("{ADDRESS}_rig0"), "rig0")]
    {
        let mut params = share();
        params[0] = user.into();
        assert_eq!(peer.submit(params).1.payee.worker.as_str(), worker);
    }
    assert!(!peer.actions.iter().any(|action| matches!(action, Action::NeedWork)));
}

#[test]
fn v1_24_a_password_may_hint_at_the_difficulty_and_is_not_kept() {
    for (password, start) in [
        ("d=1024", 10),
        ("x,diff=1500", 10),
        ("s3cret;md=2048", 11),
        ("d=0.5", -1),
        ("d=1e308", 20),
        ("d=0", 13),
        ("d=-5", 13),
        ("d=nan", 13),
        ("d=inf", 13),
        ("d=", 13),
        ("x", 13),
        ("", 13),
        ("=d=4", 13),
        ("d=1e-300", -16),
    ] {
        let mut peer = Peer::new(Settings { pot_max: pot(20), ..sample::settings() });
        peer.ask("mining.subscribe", json!([]));
        peer.ask("mining.authorize", json!([ADDRESS, password]));
        peer.work(&body_on(1));
        assert_eq!(peer.heard()[0]["params"][0].as_f64(), Some(pot(start).difficulty()), "{password}");
        assert!(!format!("{:?}", peer.session).contains("s3cret"));
    }
}

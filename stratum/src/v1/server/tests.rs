//! The session from outside: lines in, lines out.

use super::*;
use crate::sample::{self, ADDRESS, HARD_NBITS, MAINNET_ADDRESS, OTHER_ADDRESS, PREFIX};
use proptest::prelude::*;
use serde_json::json;
use std::time::Duration;

/// A connection and everything that came out of it.
struct Peer {
    session: Session,
    now: Instant,
    actions: Vec<Action>,
}

impl Peer {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        Self { session: sample::session(settings, now), now, actions: Vec::new() }
    }

    fn fresh() -> Self {
        Self::new(sample::settings())
    }

    /// Subscribed, authorized as `ADDRESS.rig1` and holding a job; its actions are read.
    fn mining() -> Self {
        let mut peer = Self::fresh();
        peer.start();
        peer
    }

    fn start(&mut self) {
        self.say(json!({"id": 1, "method": "mining.subscribe", "params": ["cpuminer/2.5.1"]}));
        self.say(json!({"id": 2, "method": "mining.authorize", "params": [format!("{ADDRESS}.rig1"), "x"]}));
        self.work(&sample::encoded(sample::body(HARD_NBITS)));
        self.actions.clear();
    }

    fn say(&mut self, line: Value) {
        self.raw(&format!("{line}\n")).unwrap();
    }

    fn raw(&mut self, bytes: &str) -> Result<(), Fault> {
        self.session.receive(bytes.as_bytes(), self.now, &mut self.actions)
    }

    fn work(&mut self, encoded: &Arc<EncodedJob>) {
        self.session.work(encoded, self.now, &mut self.actions);
    }

    /// Takes all actions; sends and jobs as the lines that the machine reads.
    fn heard(&mut self) -> Vec<Value> {
        lines(self.actions.drain(..).collect())
    }

    fn answers(&mut self) -> Vec<Value> {
        self.heard().into_iter().filter(|line| line.get("method").is_none()).collect()
    }

    /// Asks and takes the one answer.
    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.say(json!({"id": 5, "method": method, "params": params}));
        let mut answers = self.answers();
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(answers[0]["id"], 5);
        answers.remove(0)
    }

    /// Asks and takes the code of the error.
    fn refused(&mut self, method: &str, params: Value) -> (i64, String) {
        let answer = self.ask(method, params);
        assert_eq!(answer["result"], Value::Null);
        (answer["error"][0].as_i64().unwrap(), answer["error"][1].as_str().unwrap().to_owned())
    }

    /// Submits and answers that it is accepted.
    fn accept(&mut self, params: Value) -> PendingShare {
        let (ticket, share) = self.submit(params);
        self.session.answer(ticket, Ok(()), &mut self.actions);
        self.actions.clear();
        share
    }

    fn configure(&mut self, codes: Value, wishes: Value) -> Value {
        self.ask("mining.configure", json!([codes, wishes]))["result"].take()
    }

    /// Submits and takes the share.
    fn submit(&mut self, params: Value) -> (Ticket, PendingShare) {
        self.say(json!({"id": 9, "method": "mining.submit", "params": params}));
        match self.actions.drain(..).find(|action| matches!(action, Action::Share { .. })) {
            Some(Action::Share { ticket, share }) => (ticket, share),
            _ => panic!("no share"),
        }
    }
}

fn lines(actions: Vec<Action>) -> Vec<Value> {
    let mut pieces = Vec::new();
    for action in actions {
        match action {
            Action::Send(bytes) => pieces.push(bytes),
            Action::Job(message) => message.write_to(&mut pieces),
            Action::Share { .. } | Action::Refused(_) | Action::NeedWork => {}
        }
    }
    let text = String::from_utf8(pieces.concat()).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn user() -> String {
    format!("{ADDRESS}.rig1")
}

/// Parameters of a share for the first job.
fn share() -> Value {
    json!([user(), "70", "00000000000000ff", "6ab13b80", "0000002a"])
}

fn with_bits(bits: &str) -> Value {
    json!([user(), "70", "00000000000000ff", "6ab13b80", "0000002a", bits])
}

fn methods(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["method"].as_str().unwrap_or("-")).collect()
}

fn pot(pot: i8) -> Pot {
    Pot::try_from(pot).unwrap()
}

fn body_on(parent: u8) -> Arc<EncodedJob> {
    let mut body = sample::body(HARD_NBITS);
    body.prev_hash = sample::prev_hash(parent);
    sample::encoded(body)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

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
        assert_eq!((peer.session.agent(), peer.session.class()), (agent, class));
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
        assert!(peer.session.payee().is_none());
        assert_eq!(peer.ask("mining.authorize", json!([ADDRESS]))["result"], true);
        assert_eq!(peer.session.payee().unwrap().worker.as_str(), "");
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
        assert_eq!(peer.submit(params).1.payee.unwrap().worker.as_str(), worker);
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

#[test]
fn m14_only_the_exact_id_of_a_live_job_is_known() {
    let mut peer = Peer::mining();
    peer.work(&body_on(1));
    peer.actions.clear();
    for alias in [
        "",
        "0",
        "6f",
        "beef",
        "070",
        "+70",
        "0x70",
        " 70",
        "70 ",
        "7G",
        "ffffffffffffffff",
        "10000000000000070",
        "-1",
    ] {
        let mut params = share();
        params[1] = alias.into();
        assert_eq!(peer.refused("mining.submit", params).0, 21, "{alias}");
    }
    for known in ["70", "71"] {
        let mut params = share();
        params[1] = known.into();
        peer.submit(params);
    }
}

#[test]
fn v1_28_job_ids_are_never_reused_and_count_up_from_the_seed() {
    let mut peer = Peer::mining();
    let mut ids = std::collections::HashSet::from(["70".to_owned()]);
    for _ in 0..100 {
        peer.work(&body_on(1));
        let lines = peer.heard();
        assert!(ids.insert(lines[0]["params"][0].as_str().unwrap().to_owned()));
    }
}

#[test]
fn the_job_ring_keeps_thirty_two_and_drops_dead_parents() {
    let mut peer = Peer::mining();
    for _ in 1..jobs::JOBS_MAX {
        peer.work(&body_on(1));
    }
    peer.actions.clear();
    peer.accept(share());
    peer.work(&body_on(1));
    peer.actions.clear();
    assert_eq!(peer.refused("mining.submit", share()).0, 21);

    let mut peer = Peer::mining();
    peer.work(&body_on(2));
    peer.actions.clear();
    peer.now += seconds(120);
    peer.work(&body_on(2));
    peer.actions.clear();
    // A block for the previous parent would still be found; the judge calls the share stale.
    assert_eq!(peer.accept(share()).job.body.prev_hash, sample::prev_hash(1));
    peer.now += seconds(1);
    peer.work(&body_on(2));
    peer.actions.clear();
    assert_eq!(peer.refused("mining.submit", share()).0, 21);
}

#[test]
fn a_superseded_job_of_the_same_parent_stays_for_its_blocks() {
    let mut peer = Peer::mining();
    peer.work(&body_on(1));
    let superseded = peer.now;
    peer.now += seconds(600);
    peer.work(&body_on(1));
    peer.actions.clear();
    let (_, share) = peer.submit(share());
    assert_eq!(share.job.superseded_at, Some(superseded));
}

#[test]
fn v1_27_clean_jobs_means_a_new_parent_or_the_first_job_or_the_end_of_solo_work() {
    let mut peer = Peer::fresh();
    peer.ask("mining.subscribe", json!([]));
    peer.ask("mining.authorize", json!([ADDRESS]));
    let solo = |parent| {
        let mut body = sample::body(HARD_NBITS);
        body.prev_hash = sample::prev_hash(parent);
        let script = sample::payee().script.clone();
        body.payout =
            Arc::new(crate::job::Payout { outputs: Vec::new(), basis: crate::job::Basis::Solo(script) });
        sample::encoded(body)
    };
    for (encoded, clean) in [
        (solo(1), true),
        (solo(1), false),
        (body_on(1), true),
        (body_on(1), false),
        (body_on(2), true),
        (body_on(2), false),
        (body_on(1), true),
        (solo(1), true),
    ] {
        peer.work(&encoded);
        let lines = peer.heard();
        assert_eq!(lines.last().unwrap()["params"][8], clean);
    }
}

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
    peer.session.answer(tickets[1], Ok(()), &mut peer.actions);
    assert!(peer.heard().is_empty());
    peer.session.answer(tickets[0], Err(Reject::Duplicate), &mut peer.actions);
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
        for _ in 0..patience::BAD_MESSAGES {
            peer.raw(line).unwrap();
        }
        let answers = peer.heard();
        assert_eq!(answers.len(), if answered { 16 } else { 0 }, "{line}");
        assert!(answers.iter().all(|answer| answer["error"][0] == 20));
        let mut later = peer.now;
        assert_eq!(peer.raw(line), Err(Fault::Misbehaved("too many bad messages")), "{line}");
        // Patience comes back once a minute.
        later += patience::BAD_MESSAGE_REFILL;
        peer.now = later;
        peer.raw(line).unwrap();
        assert!(peer.raw(line).is_err());
    }
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
fn i14_replies_leave_in_request_order_and_jobs_do_not_wait() {
    let mut peer = Peer::mining();
    let (first, _) = peer.submit(share());
    peer.say(json!({"id": 10, "method": "mining.ping"}));
    peer.say(json!({"id": 11, "method": "mining.submit", "params": []}));
    peer.work(&body_on(2));
    assert_eq!(methods(&peer.heard()), ["mining.notify"]);
    peer.session.answer(first, Err(Reject::AccountingUnavailable), &mut peer.actions);
    let ids: Vec<_> = peer.heard().iter().map(|line| line["id"].clone()).collect();
    assert_eq!(ids, [9, 10, 11]);
}

#[test]
#[should_panic(expected = "answered once")]
fn a_ticket_cannot_be_answered_twice() {
    let mut peer = Peer::mining();
    let (ticket, _) = peer.submit(share());
    peer.session.answer(ticket, Ok(()), &mut peer.actions);
    peer.session.answer(ticket, Ok(()), &mut peer.actions);
}

#[test]
fn v1_40_every_reject_has_its_code_on_the_wire() {
    for (reject, code) in [
        (Reject::Malformed("x"), 20),
        (Reject::BadVersionBits, 20),
        (Reject::BadNtime, 20),
        (Reject::DuplicateSetFull, 20),
        (Reject::AccountingUnavailable, 20),
        (Reject::UnknownJob, 21),
        (Reject::Stale, 21),
        (Reject::Duplicate, 22),
        (Reject::LowDifficulty, 23),
        (Reject::Unauthorized, 24),
        (Reject::NotSubscribed, 25),
    ] {
        let mut peer = Peer::mining();
        let (ticket, _) = peer.submit(share());
        peer.session.answer(ticket, Err(reject), &mut peer.actions);
        assert_eq!(peer.heard()[0]["error"], json!([code, reject.to_string(), null]));
    }
}

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

/// A connection that agreed on a mask and holds a job of this version.
fn rolling(version: u32, mask: &str, settings: Settings) -> Peer {
    let mut peer = Peer::new(settings);
    peer.configure(json!(["version-rolling"]), json!({"version-rolling.mask": mask}));
    peer.ask("mining.subscribe", json!([]));
    peer.ask("mining.authorize", json!([user()]));
    let mut body = sample::body(HARD_NBITS);
    body.version = version;
    peer.work(&sample::encoded(body));
    peer.actions.clear();
    peer
}

#[test]
fn vr_04_vr_05_m11_bits_replace_the_masked_ones_and_others_are_refused() {
    // The template's own version has bits inside the mask: OR-ing would keep them.
    let mut peer = rolling(0x3fff_0000, "ffffffff", sample::settings());
    let (_, share) = peer.submit(with_bits("00002000"));
    assert_eq!((share.roll.version, share.payee.is_ok()), (0x2000_2000, true));
    let (_, share) = peer.submit(with_bits("1fffe000"));
    assert_eq!((share.roll.version, share.payee.is_ok()), (0x3fff_e000, true));
    for bits in ["00000001", "20000000", "ffffffff", "1fffe001"] {
        let (_, share) = peer.submit(with_bits(bits));
        assert_eq!(share.payee, Err(Reject::BadVersionBits), "{bits}");
        // Hashed as the machine must have hashed it: a block outranks the mask.
        assert_eq!(share.roll.version, 0x2000_0000 | u32::from_str_radix(bits, 16).unwrap());
    }
}

#[test]
fn vr_06_bits_without_agreement_may_change_nothing() {
    let mut peer = Peer::mining();
    for same in ["00000000", "20000000"] {
        let (_, share) = peer.submit(with_bits(same));
        assert_eq!((share.roll.version, share.payee.is_ok()), (0x2000_0000, true));
    }
    let (_, share) = peer.submit(with_bits("00002000"));
    assert_eq!((share.roll.version, share.payee), (0x2000_2000, Err(Reject::BadVersionBits)));
}

#[test]
fn vr_06_missing_bits_are_zero_only_behind_the_switch() {
    let mut strict = rolling(0x2000_4000, "ffffffff", sample::settings());
    let (_, pending) = strict.submit(share());
    assert_eq!(pending.payee, Err(Reject::Malformed("version bits are missing")));
    let mut lenient =
        rolling(0x2000_4000, "ffffffff", Settings { zero_bits_when_missing: true, ..sample::settings() });
    let (_, pending) = lenient.submit(share());
    assert_eq!((pending.roll.version, pending.payee.is_ok()), (0x2000_0000, true));
}

#[test]
fn vr_07_a_new_mask_holds_at_once_and_the_old_one_for_older_jobs() {
    let mut peer = rolling(0x2000_0000, "00006000", sample::settings());
    peer.say(json!({"id": 5, "method": "mining.configure", "params": [["version-rolling"], {"version-rolling.mask": "1fff0000"}]}));
    let lines = peer.heard();
    assert_eq!(methods(&lines), ["-", "mining.set_version_mask"]);
    assert_eq!(lines[1]["params"], json!(["1fff0000"]));
    assert!(peer.submit(with_bits("00006000")).1.payee.is_ok());
    assert!(peer.submit(with_bits("1fff0000")).1.payee.is_ok());
    peer.work(&body_on(1));
    peer.actions.clear();
    let mut newer = with_bits("00006000");
    newer[1] = "71".into();
    assert_eq!(peer.submit(newer).1.payee, Err(Reject::BadVersionBits));
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
    peer.session.answer(ticket, Ok(()), &mut peer.actions);
    assert_eq!(peer.heard().pop(), Some(json!({"id": 9, "result": true, "error": null})));
}

#[test]
fn cb_13_neither_another_address_nor_another_branch_rewrites_a_job_that_was_sent() {
    let mut peer = Peer::fresh();
    peer.ask("mining.subscribe", json!([]));
    peer.ask("mining.authorize", json!([user()]));
    let first = body_on(1);
    peer.work(&first);
    let sent = peer.heard();
    let coinbase_before = peer.accept(share()).job.body.coinbase.clone();
    assert_eq!(peer.refused("mining.authorize", json!([OTHER_ADDRESS])).0, 24);
    // Another branch of the chain, whose plan pays somebody else, and back to the first one.
    let mut body = sample::body(HARD_NBITS);
    body.prev_hash = sample::prev_hash(2);
    body.coinbase = sample::coinbase(sample::prev_hash(3).to_string().into_bytes().into());
    peer.work(&sample::encoded(body));
    peer.work(&body_on(1));
    peer.actions.clear();
    let (_, share) = peer.submit(share());
    assert!(Arc::ptr_eq(&share.job.body, first.body()));
    assert_eq!(share.job.body.coinbase, coinbase_before);
    // What is judged is what was sent.
    let notify = sent.last().unwrap();
    let coinb2 = notify["params"][3].as_str().unwrap();
    let tail: String = coinbase_before.tail().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(coinb2, tail);
}

/// What a machine knows: the difficulty in force, and which one each job came with.
#[derive(Default)]
struct Machine {
    difficulty: f64,
    jobs: Vec<(String, f64)>,
}

impl Machine {
    fn hear(&mut self, lines: &[Value]) {
        for line in lines {
            match line["method"].as_str() {
                Some("mining.set_difficulty") => self.difficulty = line["params"][0].as_f64().unwrap(),
                Some("mining.notify") => {
                    let id = line["params"][0].as_str().unwrap().to_owned();
                    self.jobs.push((id, self.difficulty));
                }
                _ => {}
            }
        }
    }
}

#[test]
fn an_idle_session_is_small() {
    assert!(size_of::<Session>() <= 512, "{}", size_of::<Session>());
    let mut peer = Peer::mining();
    let tickets: Vec<_> = (0..500).map(|_| peer.submit(share()).0).collect();
    tickets.into_iter().for_each(|ticket| peer.session.answer(ticket, Ok(()), &mut peer.actions));
    assert!(peer.session.replies.idle_bytes() <= 8 * 32);
}

proptest! {
    #[test]
    fn v1_41_v1_42_m06_m07_a_share_is_worth_what_its_job_was_announced_with(
        steps in proptest::collection::vec((0_u8..6, any::<prop::sample::Index>(), 0_u64..40), 1..80)
    ) {
        let mut peer = Peer::fresh();
        let mut machine = Machine::default();
        peer.ask("mining.subscribe", json!([]));
        peer.ask("mining.authorize", json!([user()]));
        peer.work(&body_on(1));
        machine.hear(&peer.heard());
        for (kind, which, amount) in steps {
            peer.now += seconds(amount);
            match kind {
                0 => peer.work(&body_on(1)),
                1 => peer.say(json!({"id": 1, "method": "mining.suggest_difficulty", "params": [1_u64 << amount]})),
                2 => {
                    let floor = json!({"minimum-difficulty.value": 1_u64 << (amount / 3)});
                    peer.say(json!({"id": 1, "method": "mining.configure", "params": [["minimum-difficulty"], floor]}));
                }
                3 => peer.session.tick(peer.now, &mut peer.actions).unwrap(),
                _ => {
                    let (id, difficulty) = which.get(&machine.jobs).clone();
                    let mut params = share();
                    params[1] = id.into();
                    peer.say(json!({"id": 9, "method": "mining.submit", "params": params}));
                    // Jobs beyond the ring are unknown; all others are worth what they were announced with.
                    let taken = peer.actions.iter().find_map(|action| match action {
                        Action::Share { ticket, share } => Some((*ticket, share.job.pot)),
                        _ => None,
                    });
                    if let Some((ticket, pot)) = taken {
                        prop_assert_eq!(pot.difficulty(), difficulty);
                        peer.session.answer(ticket, Ok(()), &mut peer.actions);
                    }
                }
            }
            let lines = peer.heard();
            // A difficulty never comes without the job that it is for.
            let spoken = methods(&lines);
            for (at, name) in spoken.iter().enumerate() {
                prop_assert!(*name != "mining.set_difficulty" || spoken[at + 1] == "mining.notify");
            }
            machine.hear(&lines);
        }
    }

    #[test]
    fn vr_05_m11_any_version_mask_and_bits_give_the_version_of_bip_310(
        server in prop_oneof![Just(VERSION_MASK), Just(0x1fff_ffe0), any::<u32>()],
        wanted: u32,
        version: u32,
        bits: u32,
        inside: bool,
    ) {
        let mask = server & wanted;
        let bits = if inside { bits & mask } else { bits };
        let settings = Settings { version_mask: server, ..sample::settings() };
        let mut peer = rolling(version, &format!("{wanted:08x}"), settings);
        let (_, share) = peer.submit(with_bits(&format!("{bits:08x}")));
        // Bit by bit, as BIP 310 has it; what is outside of the mask was hashed as set.
        let expected = (0..32).map(|bit| 1_u32 << bit).fold(0, |sum, bit| {
            let source = if mask & bit == 0 { version | bits } else { bits };
            sum | (source & bit)
        });
        prop_assert_eq!(share.roll.version, expected);
        let allowed = bits & !mask == 0 || expected == version;
        prop_assert_eq!(share.payee.err(), (!allowed).then_some(Reject::BadVersionBits));
    }

    #[test]
    fn v1_09_any_split_of_the_bytes_gives_the_same_actions(sizes in proptest::collection::vec(1_usize..60, 1..60)) {
        let text = [
            r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{}]}"#.to_owned(),
            "garbage".into(),
            format!(r#"{{"id":2,"method":"mining.authorize","params":["{ADDRESS}.rig1","d=16"]}}"#),
            r#"{"id":"a","method":"mining.subscribe","params":["x"]}"#.into(),
            format!(r#"{{"id":4,"method":"mining.submit","params":["{ADDRESS}.rig1","70","00000000000000ff","6ab13b80","0000002a"]}}"#),
            r#"{"id":5,"method":"mining.ping"}"#.into(),
            String::new(),
            r#"{"id":6,"method":"mining.nonsense"}"#.into(),
        ].join("\r\n") + "\n";
        let shown = |peer: &mut Peer| format!("{:?}", peer.heard());
        let mut whole = Peer::fresh();
        whole.raw(&text).unwrap();
        let mut split = Peer { session: sample::session(sample::settings(), whole.now), now: whole.now, actions: Vec::new() };
        let mut rest = text.as_str();
        for size in sizes.iter().cycle() {
            let (piece, behind) = rest.split_at((*size).min(rest.len()));
            split.raw(piece).unwrap();
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        let kinds = |peer: &Peer| -> Vec<_> {
            peer.actions.iter().filter(|a| !matches!(a, Action::Send(_))).map(|a| format!("{a:?}")).collect()
        };
        prop_assert_eq!(kinds(&whole), kinds(&split));
        prop_assert_eq!(shown(&mut whole), shown(&mut split));
    }

    #[test]
    fn i14_replies_are_in_request_order_for_any_order_of_verdicts(
        steps in proptest::collection::vec((0_u8..3, any::<usize>(), any::<bool>()), 1..120)
    ) {
        let mut peer = Peer::mining();
        let (mut open, mut next, mut heard) = (Vec::new(), 0_u64, Vec::new());
        for (kind, which, good) in steps {
            match kind {
                0 => {
                    peer.say(json!({"id": next, "method": "mining.submit", "params": share()}));
                    open.extend(peer.actions.iter().filter_map(|a| match a {
                        Action::Share { ticket, .. } => Some(*ticket),
                        _ => None,
                    }));
                    next += 1;
                }
                1 => {
                    peer.say(json!({"id": next, "method": "mining.ping"}));
                    next += 1;
                }
                _ if open.is_empty() => {}
                _ => {
                    let ticket = open.swap_remove(which % open.len());
                    let answer = if good { Ok(()) } else { Err(Reject::LowDifficulty) };
                    peer.session.answer(ticket, answer, &mut peer.actions);
                }
            }
            heard.extend(peer.answers().iter().map(|line| line["id"].as_u64().unwrap()));
        }
        for ticket in open {
            peer.session.answer(ticket, Ok(()), &mut peer.actions);
        }
        heard.extend(peer.answers().iter().map(|line| line["id"].as_u64().unwrap()));
        prop_assert_eq!(heard, (0..next).collect::<Vec<_>>());
    }

    #[test]
    fn n02_no_bytes_panic(pieces in proptest::collection::vec(any::<Vec<u8>>(), 0..20)) {
        let mut peer = Peer::mining();
        for piece in pieces {
            if peer.session.receive(&piece, peer.now, &mut peer.actions).is_err() {
                break;
            }
        }
    }

    #[test]
    fn n02_no_parameters_panic(
        method in prop_oneof![
            Just("mining.submit"), Just("mining.subscribe"), Just("mining.authorize"), Just("mining.configure"),
            Just("mining.suggest_difficulty"), Just("mining.suggest_difficulty(1"), Just("mining.suggest_target"),
        ],
        params in r#"(\[|\{)?("[0-9a-fxé.+-]{0,20}"|[0-9]{1,3}|null|,|:|\[|\]|-1e9){0,8}(\]|\})?"#,
    ) {
        let mut peer = Peer::mining();
        let _ = peer.raw(&format!("{{\"id\":1,\"method\":\"{method}\",\"params\":{params}}}\n"));
        let _ = peer.raw(&format!("{{\"id\":1,\"method\":\"{method}\",\"params\":[{params}]}}\n"));
    }
}

//! Properties that hold for any input.

use super::*;

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
    assert_eq!(size_of::<crate::ring::Sent>(), 48);
    let mut peer = Peer::mining();
    let tickets: Vec<_> = (0..500).map(|_| peer.submit(share()).0).collect();
    tickets.into_iter().for_each(|ticket| peer.answer(ticket, Ok(())));
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
                        peer.answer(ticket, Ok(()));
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
        prop_assert_eq!(share.allowed.err(), (!allowed).then_some(Reject::BadVersionBits));
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
    fn a_share_is_answered_alike_whichever_way_its_line_is_read(
        user in prop_oneof![4 => Just(user()), 1 => Just(OTHER_ADDRESS.to_owned()), 1 => "[a-z.]{0,9}"],
        job in prop_oneof![4 => Just("70".to_owned()), 1 => "[0-9a-fA-F]{0,9}"],
        extranonce2 in prop_oneof![4 => "[0-9a-fA-F]{16}", 1 => "[0-9a-g]{0,18}"],
        words in proptest::collection::vec(prop_oneof![8 => "[0-9a-fA-F]{8}", 1 => "[0-9a-g]{7,9}"], 2..=3),
        id in prop_oneof![Just(json!(null)), any::<u32>().prop_map(Value::from), "[a-z]{0,20}".prop_map(Value::from)],
    ) {
        let params: Vec<_> = [user, job, extranonce2].into_iter().chain(words).collect();
        let line = json!({"id": id, "method": "mining.submit", "params": params}).to_string();
        // A member that nobody knows is skipped, but not the quick way.
        let general = line.replacen('{', "{\"jsonrpc\":\"2.0\",", 1);
        prop_assert!(SubmitLine::recognise(line.as_bytes()).is_some());
        prop_assert!(SubmitLine::recognise(general.as_bytes()).is_none());
        let said = |line: String| {
            let mut peer = Peer::mining();
            peer.raw(&(line + "\n")).unwrap();
            let mut said = Vec::new();
            for action in std::mem::take(&mut peer.actions) {
                said.push(match action {
                    Action::Share { ticket, share } => {
                        peer.answer(ticket, Ok(()));
                        format!("{ticket:?} {:?} {:?}", share.roll, share.payee)
                    }
                    other => format!("{other:?}"),
                });
            }
            (said, peer.heard())
        };
        prop_assert_eq!(said(line), said(general));
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
                    peer.answer(ticket, answer);
                }
            }
            heard.extend(peer.answers().iter().map(|line| line["id"].as_u64().unwrap()));
        }
        for ticket in open {
            peer.answer(ticket, Ok(()));
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

use super::*;
use crate::v1::line::LineTooLong;
use bitcoin::hashes::Hash;
use bytes::Bytes;
use proptest::prelude::*;

const NOTIFY: &str = r#"{"id":null,"method":"mining.notify","params":["j1","0a8ce26f72b3f1b646a2a6c14ff763ae65831e939c085ae10019d66800000000","0100","ff00",[],"20000000","1e0377ae","4966bc61",true]}"#;
const SUBSCRIBE: Fault = Fault::Malformed("answer to mining.subscribe");

fn settings() -> Settings {
    Settings { agent: "agent".to_owned(), ..Settings::new("user.rig", "pool.example") }
}

struct Talk {
    client: Client,
    now: Instant,
    events: Vec<Event>,
}

impl Talk {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        let mut talk = Self { client: Client::new(settings, now), now, events: Vec::new() };
        talk.client.start(now, &mut talk.events);
        talk
    }

    /// A session whose first words are `mining.subscribe`.
    fn subscribing() -> Self {
        Self::new(Settings { version_mask: None, ..settings() })
    }

    /// A session that has got as far as `Authorized`, with version rolling.
    fn authorized() -> Self {
        let mut talk = Self::new(settings());
        talk.hear(
            r#"{"id":1,"result":{"version-rolling":true,"version-rolling.mask":"1fffe000"},"error":null}"#,
        );
        talk.hear(r#"{"id":2,"result":[[],"0a0b0c0d",8],"error":null}"#);
        talk.hear(r#"{"id":3,"result":true,"error":null}"#);
        talk.events.clear();
        talk
    }

    fn try_hear(&mut self, line: &str) -> Result<(), Fault> {
        self.client.receive(format!("{line}\n").as_bytes(), self.now, &mut self.events)
    }

    fn hear(&mut self, line: &str) {
        assert_eq!(self.try_hear(line), Ok(()), "{line}");
    }

    fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    fn job(&mut self, line: &str) -> Arc<Job> {
        self.hear(line);
        match self.take().pop() {
            Some(Event::Job(job)) => job,
            other => panic!("{other:?}"),
        }
    }

    fn submit(&mut self, share: &Share, tag: u64) -> Result<(), SubmitError> {
        self.client.submit(share, tag, self.now, &mut self.events)
    }
}

fn share(job: &Arc<Job>) -> Share {
    let mut extranonce2 = vec![0; job.extranonce2_size];
    extranonce2[job.extranonce2_size - 1] = 0xab;
    Share { job: job.clone(), extranonce2: extranonce2.into(), ntime: 1, nonce: 2, version: job.version }
}

fn sent(text: &str) -> Event {
    Event::Send(Bytes::from(format!("{text}\n")))
}

fn told(method: &str, params: &str) -> String {
    format!(r#"{{"id":null,"method":"{method}","params":{params}}}"#)
}

#[test]
fn v1_08_configure_subscribe_authorize_each_after_the_answer_before() {
    let mut talk = Talk::new(settings());
    let configure = r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000","version-rolling.min-bit-count":2}]}"#;
    assert_eq!(talk.take(), [sent(configure)]);
    talk.hear(r#"{"id":1,"result":{"version-rolling":true,"version-rolling.mask":"3fffff00"},"error":null}"#);
    let subscribe = sent(r#"{"id":2,"method":"mining.subscribe","params":["agent"]}"#);
    assert_eq!(talk.take(), [Event::VersionMask(0x1fff_e000), subscribe]);
    talk.hear(r#"{"id":2,"result":[[["mining.notify","1"]],"0a0b0c0d",8],"error":null}"#);
    let subscribed = Event::Subscribed { extranonce1: [10, 11, 12, 13].into(), extranonce2_size: 8 };
    let authorize = sent(r#"{"id":3,"method":"mining.authorize","params":["user.rig","x"]}"#);
    assert_eq!(talk.take(), [subscribed, authorize]);
    talk.hear(r#"{"id":3,"result":true,"error":null}"#);
    assert_eq!(talk.take(), [Event::Authorized]);
}

#[test]
fn vr_09_without_an_agreed_mask_no_version_is_rolled() {
    for answer in [
        r#"{"id":1,"result":null,"error":[20,"unknown method",null]}"#,
        r#"{"id":1,"result":{"version-rolling":false},"error":null}"#,
        r#"{"id":1,"result":{"version-rolling":"not today","version-rolling.mask":"1fffe000"},"error":null}"#,
        r#"{"id":1,"result":{"version-rolling":true},"error":null}"#,
        r#"{"id":1,"result":{"version-rolling":true,"version-rolling.mask":"xyz"},"error":null}"#,
        r#"{"id":1,"result":true,"error":null}"#,
    ] {
        let mut talk = Talk::new(settings());
        talk.hear(answer);
        assert_eq!(talk.client.version_mask(), 0, "{answer}");
        talk.hear(r#"{"id":2,"result":[[],"",4],"error":null}"#);
        talk.hear(r#"{"id":3,"result":true,"error":null}"#);
        let job = talk.job(NOTIFY);
        let rolled = Share { version: job.version ^ 0x2000, ..share(&job) };
        let error = SubmitError::VersionOutsideMask { version: 0x2000_2000, mask: 0 };
        assert_eq!(talk.submit(&rolled, 1), Err(error));
        assert_eq!(talk.submit(&share(&job), 1), Ok(()));
        let five = r#"{"id":4,"method":"mining.submit","params":["user.rig","j1","000000ab","00000001","00000002"]}"#;
        assert_eq!(talk.take(), [sent(five)]);
    }
}

#[test]
fn a_client_that_rolls_no_version_does_not_configure() {
    let mut talk = Talk::subscribing();
    assert_eq!(talk.take(), [sent(r#"{"id":1,"method":"mining.subscribe","params":["agent"]}"#)]);
    talk.hear(&told("mining.set_version_mask", "[\"1fffe000\"]"));
    assert_eq!((talk.take(), talk.client.version_mask(), talk.client.ignored()), (vec![], 0, 1));
}

#[test]
fn v1_25_difficulty_applies_to_the_next_job_and_never_to_one_already_here() {
    let mut talk = Talk::authorized();
    let before = talk.job(NOTIFY);
    assert_eq!(before.difficulty, 1.0);
    talk.hear(&told("mining.set_difficulty", "[0.0001220703125]"));
    assert_eq!(talk.take(), []);
    let after = talk.job(&NOTIFY.replace("j1", "j2"));
    assert_eq!(after.target, crate::pot::Pot::try_from(-13).unwrap().target());
    assert_eq!(before.target, crate::pot::Pot::try_from(0).unwrap().target());
    talk.hear(&told("mining.set_difficulty", "[512]"));
    assert_eq!(talk.job(NOTIFY).difficulty, 512.0);
}

#[test]
fn v1_31_a_new_extranonce_applies_to_the_next_job() {
    let mut talk = Talk::authorized();
    let before = talk.job(NOTIFY);
    talk.hear(&told("mining.set_extranonce", "[\"ffee\",4]"));
    let subscribed = Event::Subscribed { extranonce1: [255, 238].into(), extranonce2_size: 4 };
    assert_eq!(talk.take(), [subscribed]);
    let after = talk.job(&NOTIFY.replace("j1", "j2"));
    assert_eq!((&*before.extranonce1, before.extranonce2_size), (&[10, 11, 12, 13][..], 8));
    assert_eq!((&*after.extranonce1, after.extranonce2_size), (&[255, 238][..], 4));
}

#[test]
fn v1_33_a_version_mask_holds_at_once_and_never_exceeds_what_was_asked() {
    let mut talk = Talk::authorized();
    let job = talk.job(NOTIFY);
    talk.hear(&told("mining.set_version_mask", "[\"fff00000\"]"));
    assert_eq!(talk.take(), [Event::VersionMask(0x1ff0_0000)]);
    let old = Share { version: job.version | 0x2000, ..share(&job) };
    assert!(matches!(talk.submit(&old, 9), Err(SubmitError::VersionOutsideMask { .. })));
    assert_eq!(talk.submit(&Share { version: job.version | 0x0010_0000, ..share(&job) }, 9), Ok(()));
    let line = r#"{"id":4,"method":"mining.submit","params":["user.rig","j1","00000000000000ab","00000001","00000002","00100000"]}"#;
    assert_eq!(talk.take(), [sent(line)]);
}

#[test]
fn v1_27_a_clean_job_voids_the_earlier_ones_and_others_do_not() {
    let mut talk = Talk::authorized();
    let more = |n: u32| NOTIFY.replace("j1", &format!("j{n}")).replace("true]", "false]");
    let first = talk.job(NOTIFY);
    let second = talk.job(&more(2));
    assert!(talk.client.is_live(&first) && talk.client.is_live(&second));
    let third = talk.job(&NOTIFY.replace("j1", "j3"));
    assert!(!talk.client.is_live(&first) && !talk.client.is_live(&second) && talk.client.is_live(&third));
    for n in 4..100 {
        talk.job(&more(n));
        assert!(talk.client.jobs.len() <= JOBS_MAX);
    }
    assert!(!talk.client.is_live(&third));
}

#[test]
fn v1_05_answers_come_in_any_order_and_unknown_ones_are_counted() {
    let mut talk = Talk::authorized();
    let job = talk.job(NOTIFY);
    for tag in [100, 101, 102] {
        talk.submit(&share(&job), tag).unwrap();
    }
    talk.take();
    talk.hear(r#"{"id":6,"result":null,"error":[23,"low difficulty share",null]}"#);
    talk.hear(r#"{"id":4,"result":true,"error":null}"#);
    talk.hear(r#"{"id":4,"result":true,"error":null}"#);
    talk.hear(r#"{"id":99,"result":true,"error":null}"#);
    talk.hear(r#"{"id":null,"result":true,"error":null}"#);
    talk.hear(r#"{"id":"5","result":null,"error":"stale"}"#);
    let refused = |code, text: &str| Err(Refusal { code, text: text.to_owned() });
    assert_eq!(
        talk.take(),
        [
            Event::Answer { tag: 102, result: refused(Some(23), "low difficulty share") },
            Event::Answer { tag: 100, result: Ok(()) },
            Event::Answer { tag: 101, result: refused(None, "stale") },
        ]
    );
    assert_eq!((talk.client.pending(), talk.client.ignored()), (0, 3));
}

#[test]
fn n19_requests_that_wait_are_bounded() {
    let mut talk = Talk::authorized();
    let job = talk.job(NOTIFY);
    for tag in 0..PENDING_MAX as u64 {
        assert_eq!(talk.submit(&share(&job), tag), Ok(()));
    }
    assert_eq!(talk.submit(&share(&job), 0), Err(SubmitError::TooManyPending));
    talk.hear(r#"{"id":4,"result":true,"error":null}"#);
    assert_eq!(talk.submit(&share(&job), 0), Ok(()));
}

#[test]
fn v1_11_reconnect_is_obeyed_for_the_same_host_only() {
    let again = |port, seconds| Event::Reconnect { port, wait: Duration::from_secs(seconds) };
    let refused = |host: &str| Event::ReconnectRefused { host: host.to_owned() };
    for (params, event) in [
        ("[]", again(None, 0)),
        ("null", again(None, 0)),
        (r#"["pool.example"]"#, again(None, 0)),
        (r#"["POOL.example", 4444, 5]"#, again(Some(4444), 5)),
        (r#"["pool.example", "4444", "5"]"#, again(Some(4444), 5)),
        (r#"["", 4444]"#, again(Some(4444), 0)),
        (r#"["evil.example", 3333, 0]"#, refused("evil.example")),
        (r#"["xpool.example"]"#, refused("xpool.example")),
        (r#"["pool.example.evil\n"]"#, refused("pool.example.evil\\n")),
    ] {
        let mut talk = Talk::authorized();
        talk.hear(&told("client.reconnect", params));
        assert_eq!(talk.take(), [event], "{params}");
    }
    for port in ["0", "65536", "-1", "null", "[]", "\"x\""] {
        let fault = Talk::authorized().try_hear(&told("client.reconnect", &format!("[\"\",{port}]")));
        assert_eq!(fault, Err(Fault::Malformed("client.reconnect")), "{port}");
    }
}

#[test]
fn v1_06_requests_of_the_upstream_are_answered_and_notifications_are_not() {
    let mut talk = Talk::authorized();
    let version = r#"{"id":"v","result":"agent","error":null}"#;
    let unknown = r#"{"id":8,"result":null,"error":[20,"unknown method",null]}"#;
    for (line, events) in [
        (r#"{"id":5,"method":"mining.ping"}"#, vec![sent(r#"{"id":5,"result":"pong","error":null}"#)]),
        (r#"{"id":"v","method":"client.get_version","params":[]}"#, vec![sent(version)]),
        (r#"{"id":8,"method":"mining.dance"}"#, vec![sent(unknown)]),
        (r#"{"id":null,"method":"mining.dance","params":[1]}"#, vec![]),
        (r#"{"method":"mining.ping"}"#, vec![]),
        (
            r#"{"id":null,"method":"client.show_message","params":["hi\u001b[2J"]}"#,
            vec![Event::ShowMessage("hi\\u{1b}[2J".to_owned())],
        ),
    ] {
        talk.hear(line);
        assert_eq!(talk.take(), events, "{line}");
    }
}

#[test]
fn a_refused_subscribe_or_authorize_ends_the_session_with_the_reason() {
    let refusal = Refusal { code: Some(24), text: "not for signet".to_owned() };
    let mut talk = Talk::subscribing();
    let fault = talk.try_hear(r#"{"id":1,"result":null,"error":[24,"not for signet",null]}"#);
    assert_eq!(fault, Err(Fault::Refused { method: "mining.subscribe", refusal: refusal.clone() }));
    let mut talk = Talk::subscribing();
    talk.hear(r#"{"id":1,"result":[[],"00",4],"error":null}"#);
    let fault = talk.try_hear(r#"{"id":2,"result":null,"error":[24,"not for signet",null]}"#).unwrap_err();
    assert_eq!(fault, Fault::Refused { method: "mining.authorize", refusal });
    assert_eq!(fault.to_string(), "upstream refused mining.authorize: 24 not for signet");
}

#[test]
fn n19_hostile_answers_to_subscribe_end_the_session() {
    for result in [
        "true",
        "[]",
        r#"[[],"00"]"#,
        r#"[[],"0",4]"#,
        r#"[[],"zz",4]"#,
        r#"[[],"00",0]"#,
        r#"[[],"00",17]"#,
        r#"[[],"00",-1]"#,
        r#"[[],"00",4.5]"#,
        r#"[[],"00","4"]"#,
        r#"[[],5,4]"#,
        r#"[[],null,4]"#,
        &format!(r#"[[],"{}",4]"#, "00".repeat(33)),
        "[0,\"00\",4,0,0,0,0,0,0]",
        "\"\"",
        "{\"a\":1}",
    ] {
        let line = format!(r#"{{"id":1,"result":{result},"error":null}}"#);
        assert_eq!(Talk::subscribing().try_hear(&line), Err(SUBSCRIBE), "{result}");
    }
}

#[test]
fn n19_hostile_lines_end_the_session() {
    for difficulty in
        ["[]", "[0]", "[-1]", "[1e308]", "[1e999]", "[null]", "[\"1\"]", "{}", "[[1]]", "[true]", "null"]
    {
        let fault = Talk::authorized().try_hear(&told("mining.set_difficulty", difficulty));
        assert_eq!(fault, Err(Fault::Malformed("difficulty")), "{difficulty}");
    }
    for params in ["[]", "[\"00\"]", "[\"00\",0]", "[\"00\",99999999999999999999]", "null", "[null,null]"] {
        let fault = Talk::authorized().try_hear(&told("mining.set_extranonce", params));
        assert_eq!(fault, Err(Fault::Malformed("mining.set_extranonce")), "{params}");
    }
    for params in ["[]", "[5]", "[\"1fffe0000\"]", "[\"1fffe00\"]", "null"] {
        let fault = Talk::authorized().try_hear(&told("mining.set_version_mask", params));
        assert_eq!(fault, Err(Fault::Malformed("version mask")), "{params}");
    }
    assert_eq!(Talk::subscribing().try_hear(NOTIFY), Err(Fault::TooEarly("a job")));
    let early = Talk::subscribing().try_hear(&told("mining.set_extranonce", "[\"00\",4]"));
    assert_eq!(early, Err(Fault::TooEarly("mining.set_extranonce")));
    for garbage in ["GET / HTTP/1.1", "{", "[]", "nul", "\u{0}\u{1}", &"[".repeat(200_000)] {
        assert_eq!(Talk::authorized().try_hear(garbage), Err(Fault::Malformed("line")), "{garbage:.20}");
    }
}

#[test]
fn n01_a_line_over_the_limit_ends_the_session() {
    let mut talk = Talk::new(Settings { line_bytes_max: 100, ..settings() });
    let fault = talk.client.receive(&[b'x'; 200], talk.now, &mut talk.events);
    assert_eq!(fault, Err(Fault::LineTooLong(LineTooLong(100))));
}

#[test]
fn an_upstream_that_does_not_answer_is_too_slow() {
    let mut talk = Talk::new(settings());
    let start = talk.now;
    assert_eq!(talk.client.deadline(), start + Duration::from_secs(30));
    assert_eq!(talk.client.tick(start + Duration::from_secs(29)), Ok(()));
    assert_eq!(talk.client.tick(start + Duration::from_secs(30)), Err(Fault::TooSlow("handshake")));

    let mut talk = Talk::authorized();
    assert_eq!(talk.client.deadline(), talk.now + Duration::from_secs(600));
    assert_eq!(talk.client.tick(talk.client.deadline()), Err(Fault::TooSlow("silence")));
    let job = talk.job(NOTIFY);
    talk.now += Duration::from_secs(10);
    talk.submit(&share(&job), 1).unwrap();
    assert_eq!(talk.client.deadline(), talk.now + Duration::from_secs(60));
    assert_eq!(talk.client.tick(talk.client.deadline()), Err(Fault::TooSlow("answer")));
    talk.hear(r#"{"id":4,"result":true}"#);
    assert_eq!(talk.client.tick(talk.now + Duration::from_secs(60)), Ok(()));
    // A clock that steps back is no reason to close.
    assert_eq!(talk.client.tick(start), Ok(()));
}

#[test]
fn shares_wait_for_the_authorization() {
    let mut talk = Talk::authorized();
    let job = talk.job(NOTIFY);
    assert_eq!(Talk::new(settings()).submit(&share(&job), 1), Err(SubmitError::NotAuthorized));
    let header = share(&job).header();
    assert_eq!(header[4..36], job.prev_hash.to_byte_array());
    assert_eq!(header[76..], [2, 0, 0, 0]);
}

/// Everything that an upstream may say, in order, as one stream.
fn conversation() -> String {
    let lines = [
        r#"{"id":1,"result":{"version-rolling":true,"version-rolling.mask":"1fffe000"},"error":null}"#,
        r#"{"id":null,"method":"mining.set_version_mask","params":["1fffe000"]}"#,
        r#"{"id":2,"result":[[["mining.notify","1"]],"0a0b0c0d",8],"error":null}"#,
        r#"{"id":null,"method":"mining.set_difficulty","params":[0.5]}"#,
        NOTIFY,
        r#"{"id":3,"result":true,"error":null}"#,
        r#"{"id":null,"method":"mining.set_extranonce","params":["ffee",4]}"#,
        &NOTIFY.replace("j1", "j2").replace("true]", "false]"),
        r#"{"id":1,"method":"mining.ping"}"#,
        r#"{"id":null,"method":"client.show_message","params":["hello"]}"#,
        r#"{"id":null,"method":"client.reconnect","params":["pool.example",3334,1]}"#,
    ];
    lines.join("\r\n") + "\n"
}

fn events_of(pieces: &[&[u8]]) -> (Vec<Event>, Result<(), Fault>) {
    let mut talk = Talk::new(settings());
    for piece in pieces {
        if let Err(fault) = talk.client.receive(piece, talk.now, &mut talk.events) {
            return (talk.events, Err(fault));
        }
    }
    (talk.events, Ok(()))
}

/// Text that looks like Stratum often enough to get past the first check.
fn almost_stratum() -> impl Strategy<Value = String> {
    let fixed = ["null", "true", "false", "[]", "{}", "\"00\"", "\"1fffe000\"", "1e308", "0.5", "8"];
    let token = prop_oneof![
        proptest::sample::select(fixed.to_vec()).prop_map(str::to_owned),
        any::<i64>().prop_map(|n| n.to_string()),
        "[0-9a-f]{0,70}".prop_map(|hex| format!("\"{hex}\"")),
        "\\PC{0,8}".prop_map(|text| format!("{text:?}")),
        proptest::collection::vec("\"[0-9a-f]{64}\"", 0..4).prop_map(|list| format!("[{}]", list.join(","))),
    ];
    let list =
        proptest::collection::vec(token.clone(), 0..11).prop_map(|list| format!("[{}]", list.join(",")));
    // A job with one parameter replaced comes much further than a list of nonsense.
    let almost_job = (0_usize..9, token.clone()).prop_map(|(at, token)| {
        let mut line: serde_json::Value = serde_json::from_str(NOTIFY).unwrap();
        line["params"][at] = serde_json::from_str(&token).unwrap_or_default();
        line.to_string()
    });
    let methods = [
        "mining.notify",
        "mining.set_difficulty",
        "mining.set_extranonce",
        "mining.set_version_mask",
        "client.reconnect",
        "client.show_message",
        "client.get_version",
        "mining.ping",
        "x",
    ];
    prop_oneof![
        Just(NOTIFY.to_owned()),
        almost_job,
        (token.clone(), proptest::sample::select(methods.to_vec()).prop_map(str::to_owned), list.clone())
            .prop_map(|(id, method, params)| format!(
                r#"{{"id":{id},"method":"{method}","params":{params}}}"#
            )),
        (0_u64..9, prop_oneof![list, token.clone()], token)
            .prop_map(|(id, result, error)| format!(r#"{{"id":{id},"result":{result},"error":{error}}}"#)),
    ]
}

proptest! {
    #[test]
    fn v1_09_any_split_of_the_stream_gives_the_same_events(
        cuts in proptest::collection::vec(0_usize..2000, 0..40)
    ) {
        let text = conversation();
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut % text.len()).chain([0, text.len()]).collect();
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
        let whole = events_of(&[text.as_bytes()]);
        prop_assert_eq!(whole.1.clone(), Ok(()));
        prop_assert_eq!(whole.0.len(), 13);
        prop_assert_eq!(events_of(&pieces), whole);
    }

    #[test]
    fn n02_arbitrary_bytes_never_panic(bytes: Vec<u8>, after in 0_usize..12) {
        let text = conversation();
        let lines: String = text.split_inclusive('\n').take(after).collect();
        let _ = events_of(&[lines.as_bytes(), &bytes, b"\n"]);
    }

    #[test]
    fn n19_almost_stratum_never_panics_and_all_bounds_hold(
        lines in proptest::collection::vec(almost_stratum(), 1..30), authorized: bool
    ) {
        let mut talk = if authorized { Talk::authorized() } else { Talk::new(settings()) };
        for (tag, line) in (0..).zip(lines) {
            // A fault ends a session; here it goes on, for the worse.
            let _ = talk.try_hear(&line);
            for event in talk.take() {
                if let Event::Job(job) = event {
                    let _ = talk.submit(&share(&job), tag);
                }
            }
            prop_assert!(talk.client.jobs.len() <= JOBS_MAX && talk.client.pending() <= PENDING_MAX);
            prop_assert!(talk.client.version_mask() & !0x1fff_e000 == 0);
        }
    }
}

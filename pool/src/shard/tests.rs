use super::*;
use crate::blocks::FoundBlocks;
use crate::books::Books;
use crate::left_over::open_submitter;
use crate::testing::{self, MASK, given, plan, script, work};
use crate::work::PlanError;
use bitcoin::Network;
use bitcoin::hashes::Hash;
use prometheus::Registry;
use serde_json::json;
use share_accounting::AccountingThread;
use share_accounting::entry::Entry;
use share_accounting::ledger::Ledger;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::mpsc::{Receiver, sync_channel};
use stratum::class::SizeClass;
use stratum::target::Work;
use stratum::v1;
use stratum_net::acceptor::Incoming;
use stratum_net::driver::{Ending, Peers};
use stratum_net::limits::{Gate, Limits, Refusal};
use stratum_net::serve::{self, Feeds};
use template::bitcoind::rpc::{Purpose, Rpc};
use template::submit::Submitter;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

mod sealed;

/// A shard with a real log behind it, and a node that is away.
struct Bench {
    shard: Shard,
    returns: mpsc::Receiver<Return>,
    news: Receiver<News>,
    metrics: Metrics,
    now: Instant,
    _accounting: AccountingThread,
    /// Declared last: the folder outlives what writes to it.
    dir: tempfile::TempDir,
}

fn address(n: u8) -> String {
    bitcoin::Address::from_script(&script(n), Network::Regtest).unwrap().to_string()
}

impl Bench {
    fn new() -> Self {
        let (accounting, thread, dir) = testing::accounting();
        let away = testing::away(dir.path());
        let (submitter, _) = Submitter::open(&dir.path().join("blocks"), &[away], |_| {}).unwrap();
        let (director, news) = sync_channel(16);
        let metrics = Metrics::new(Registry::new());
        let exits = Exits {
            accounting,
            blocks: BlockSink::new(Arc::new(submitter), FoundBlocks::default(), director.clone()),
            director,
            metrics: metrics.clone(),
        };
        let (pot_start, pot_min) = (Pot::MIN, Pot::MIN);
        let v1 = v1::server::Settings { pot_start, pot_min, ..v1::server::Settings::new(Network::Regtest) };
        let v2 = v2::server::Settings { pot_start, pot_min, ..v2::server::Settings::new(Network::Regtest) };
        let settings = SessionSettings { v1: Arc::new(v1), v2: Arc::new(v2) };
        let (to_shard, returns) = mpsc::channel(RETURNS_QUEUE_LEN);
        let now = Instant::now();
        let mut shard = Shard::new(0, settings, ShareRate::new(12, 500), Duration::ZERO, exits, to_shard);
        shard.follow(given(work()), now);
        Self { shard, returns, news, metrics, now, _accounting: thread, dir }
    }

    /// A connection that mines for payee `n`.
    fn mining(&mut self, n: u8) -> PeerKey {
        let key = self.shard.open(Wire::Lines, Rc::default(), self.now).unwrap();
        let user = format!("{}.rig", address(n));
        for (method, params) in [("mining.subscribe", json!([])), ("mining.authorize", json!([user, "x"]))] {
            let line = json!({"id": 1, "method": method, "params": params}).to_string() + "\n";
            self.receive(key, line.as_bytes());
        }
        key
    }

    /// Takes in what a peer has sent, and judges what it has brought.
    fn receive(&mut self, key: PeerKey, bytes: &[u8]) {
        self.shard.receive(key, bytes, self.now).unwrap();
        self.shard.judge_pending(self.now);
    }

    /// What waits for a peer, as text.
    fn sent(&mut self, key: PeerKey) -> String {
        String::from_utf8(self.waiting(key)).unwrap()
    }

    /// What waits for a peer, as it goes over the wire.
    fn waiting(&mut self, key: PeerKey) -> Vec<u8> {
        let outbox = self.shard.outbox(key);
        let mut bytes = Vec::new();
        while !outbox.is_empty() {
            let mut slices = Vec::new();
            outbox.slices(&mut slices).unwrap();
            let offered: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            outbox.written(offered.len());
            bytes.extend(offered);
        }
        bytes
    }

    /// A share of the newest job of a connection that `nonce` sets apart, as its line.
    fn share(&mut self, key: PeerKey, n: u8, nonce: u32) -> String {
        let sent = self.sent(key);
        let notify = sent.lines().rfind(|line| line.contains("mining.notify")).expect("a job");
        let job: serde_json::Value = serde_json::from_str(notify).unwrap();
        let user = format!("{}.rig", address(n));
        let params =
            json!([user, job["params"][0], "0000000000000000", job["params"][7], format!("{nonce:08x}")]);
        json!({"id": 7, "method": "mining.submit", "params": params}).to_string() + "\n"
    }

    /// Waits until the shard has heard of everything that is under way.
    fn settle(&mut self) {
        while !self.shard.is_drained() {
            if let Some(at) = self.shard.wake_at() {
                self.now = self.now.max(at);
                self.shard.wake(self.now);
            }
            let returned = self.returns.blocking_recv().unwrap();
            self.shard.returned(returned, self.now);
        }
    }

    /// Waits until the file of a block is on disk.
    fn wait_for_a_block(&self) {
        let files = || std::fs::read_dir(self.dir.path().join("blocks")).unwrap();
        let is_block = |file: std::io::Result<std::fs::DirEntry>| {
            file.unwrap().path().extension().is_some_and(|kind| kind == "block")
        };
        while !files().any(is_block) {
            std::thread::yield_now();
        }
    }

    fn panics(&self) -> bool {
        self.metrics.text().contains("sluice_pool_session_panics_total 1\n")
    }
}

#[test]
fn r05_a_session_that_panics_while_shares_settle_ends_alone() {
    let mut bench = Bench::new();
    let (broken, sound) = (bench.mining(1), bench.mining(2));
    // A commit under way, so that the next two shares settle together.
    let line = bench.share(sound, 2, 0);
    bench.receive(sound, line.as_bytes());
    let line = bench.share(broken, 1, 0);
    let mut actions = Vec::new();
    let peer = bench.shard.connections.find(broken).unwrap();
    peer.session.receive(&mut line.as_bytes(), bench.now, &mut actions).unwrap();
    let Some(Action::Share { ticket, .. }) = actions.iter().find(|a| matches!(a, Action::Share { .. }))
    else {
        panic!("{actions:?}")
    };
    let ticket = *ticket;
    bench.shard.act(broken, actions, bench.now);
    bench.shard.judge_pending(bench.now);
    // A bug of ours: the share is answered before it is durable. The second answer makes its session panic.
    bench.shard.answer(broken, ticket, Ok(Booked { pot: Pot::MIN, entry: None }), &mut Vec::new());
    bench.settle();
    assert!(bench.panics());
    assert_eq!(bench.shard.ended(broken), Some(Ending::Panicked));
    assert_eq!(bench.shard.ended(sound), None);
    assert!(bench.sent(sound).contains("\"result\":true"));
    // It is left alone from here on, and the shard goes on.
    bench.shard.offer_work(broken, bench.now);
    bench.shard.offer_work(sound, bench.now);
    assert!(bench.sent(sound).contains("mining.notify"));
    assert!(bench.panics());
}

#[test]
fn d07_a_shard_that_drains_reads_no_more_and_still_answers_what_it_has_read() {
    let mut bench = Bench::new();
    let key = bench.mining(1);
    let line = bench.share(key, 1, 0);
    assert!(bench.shard.may_read(key));
    bench.receive(key, line.as_bytes());
    bench.shard.connections.stop_reading();
    assert!(!bench.shard.may_read(key), "a busy miner could keep the shard from ever draining");
    assert!(!bench.shard.is_drained());
    bench.settle();
    assert!(bench.shard.is_drained());
    assert!(bench.sent(key).contains("\"result\":true"));
    // New work does not open it again.
    bench.shard.follow(given(work()), bench.now);
    assert!(!bench.shard.may_read(key));
}

#[test]
fn n08_n10_shares_that_cost_no_work_are_answered_until_they_are_too_many() {
    let mut bench = Bench::new();
    let (hostile, honest) = (bench.mining(1), bench.mining(2));
    let good = bench.share(honest, 2, 0);
    let bad = bench.share(hostile, 1, 0).replace("00000000\"]", "\"]");
    let mut refused = 0;
    while bench.shard.ended(hostile).is_none() {
        bench.receive(hostile, bad.as_bytes());
        refused += bench.sent(hostile).lines().filter(|line| line.contains("\"error\":[20,")).count();
        assert!(refused <= 20_000);
    }
    assert_eq!(refused, 10_001, "each is answered, the last too");
    assert!(bench.shard.ended(hostile).is_some_and(Ending::is_hostile));
    assert_eq!(bench.shard.ended(honest), None);
    bench.receive(honest, good.as_bytes());
    bench.settle();
    assert!(bench.sent(honest).contains("\"result\":true"));
}

#[test]
fn n10_a_thousand_bad_shares_a_second_are_borne_for_ever() {
    let mut bench = Bench::new();
    let key = bench.mining(1);
    let bad = bench.share(key, 1, 0).replace("00000000\"]", "\"]");
    for _ in 0..30_000 {
        bench.now += Duration::from_millis(1);
        bench.receive(key, bad.as_bytes());
        bench.sent(key);
    }
    assert_eq!(bench.shard.ended(key), None);
}

#[test]
fn n08_the_address_of_a_connection_that_broke_the_rules_waits_for_its_next() {
    let Bench { shard, returns, now, _accounting, dir, .. } = Bench::new();
    let gate = Gate::new(Limits::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (incoming, connections) = mpsc::channel(2);
    let (current, follow) = watch::channel(given(work()));
    current.send_replace(given(work()));
    let stop = CancellationToken::new();
    let feeds =
        Feeds { incoming: connections, returns, current: follow, load: Arc::default(), stop: stop.clone() };
    let address: std::net::IpAddr = "192.0.2.1".parse().unwrap();
    let connect = |text: &str| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, peer) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let permit = gate.enter(address, now).unwrap();
        incoming.try_send(Incoming { stream, address: peer, permit, wire: Wire::Lines }).unwrap();
        client.write_all(text.as_bytes()).unwrap();
        client
    };
    // One says something that is none of ours and leaves, one is malformed.
    drop(connect("{\"id\":1,\"method\":\"x\",\"params\":[]}\n"));
    let hostile = connect(&"x".repeat(20_000));
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let served = tokio::task::spawn_local(serve::run(shard, feeds));
        let client = hostile;
        client.set_nonblocking(true).unwrap();
        let mut client = tokio::net::TcpStream::from_std(client).unwrap();
        // Closed: with what was not read, as a reset.
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut client, &mut Vec::new()).await;
        stop.cancel();
        served.await.unwrap();
    });
    // Had both been hostile, it would be kept out for twice as long.
    assert_eq!(gate.enter(address, now + Duration::from_secs(9)).unwrap_err(), Refusal::KeptOut);
    assert!(gate.enter(address, now + Duration::from_secs(19)).is_ok());
    drop((_accounting, dir));
}

#[test]
fn b01_without_work_miners_are_let_go_until_there_is_work_again() {
    let mut bench = Bench::new();
    let key = bench.mining(1);
    bench.shard.follow(Current { work: None, ..given(work()) }, bench.now);
    assert_eq!(bench.shard.ended(key), Some(Ending::Released));
    let late = bench.shard.open(Wire::Lines, Rc::default(), bench.now).unwrap();
    assert_eq!(bench.shard.ended(late), Some(Ending::Released));
    bench.shard.follow(given(work()), bench.now);
    let back = bench.mining(1);
    assert_eq!(bench.shard.ended(back), None);
    assert!(bench.shard.may_read(back));
    assert!(bench.sent(back).contains("mining.notify"));
}

#[test]
fn a_payee_is_named_to_the_director_once_a_connection_and_only_for_durable_work() {
    let mut bench = Bench::new();
    let key = bench.mining(1);
    assert!(bench.news.try_iter().next().is_none());
    for nonce in 0..2 {
        bench.shard.offer_work(key, bench.now);
        let line = bench.share(key, 1, nonce);
        bench.receive(key, line.as_bytes());
        bench.settle();
    }
    let payees = bench.news.try_iter().filter(|news| matches!(news, News::Payee(p) if p.script == script(1)));
    assert_eq!(payees.count(), 1);
}

#[test]
fn gb_02_version_bits_that_the_node_requires_are_never_offered_for_rolling() {
    let solo = BTreeMap::new;
    assert!(matches!(plan(0x0000_6000, MASK, solo()), Err(PlanError::VersionBits(0x0000_6000))));
    assert!(plan(0x0000_6000, 0x1fff_8000, solo()).is_ok());
    assert!(plan(0x2000_0000, MASK, solo()).is_ok());
}

#[test]
fn m05_a_replay_of_a_block_waits_for_nothing_and_answers_for_nobody() {
    let mut bench = Bench::new();
    let key = bench.mining(1);
    let line = (0..64).find_map(|nonce| {
        bench.shard.offer_work(key, bench.now);
        let line = bench.share(key, 1, nonce);
        bench.receive(key, line.as_bytes());
        let solved = !bench.shard.held.is_empty();
        if !solved {
            bench.settle();
        }
        solved.then_some(line)
    });
    let line = line.expect("every second share solves a block");
    for _ in 0..3 {
        bench.receive(key, line.as_bytes());
    }
    bench.settle();
    assert!(bench.returns.try_recv().is_err(), "a replay took a place that others need");
    let sent = bench.sent(key);
    assert_eq!(sent.matches("\"result\":true").count(), 1, "{sent}");
    assert_eq!(sent.matches("duplicate").count(), 3, "{sent}");
}

/// The shares that the log of a bench holds.
fn logged(bench: &Bench) -> Vec<share_accounting::entry::Share> {
    let log = share_accounting::log::Reader::open(&bench.dir.path().join("log")).unwrap();
    let share = |entry| match entry {
        Entry::Share(share) => Some(share),
        _ => None,
    };
    log.filter_map(|entry| share(entry.unwrap().1)).collect()
}

#[test]
fn d04_a_block_that_cannot_be_logged_is_logged_without_credit_once_that_is_possible() {
    let mut bench = Bench::new();
    let key = bench.mining(1);
    let (stopped, thread, _dir) = testing::accounting();
    thread.stop().unwrap();
    let log = std::mem::replace(&mut bench.shard.exits.accounting, stopped);
    let line = bench.share(key, 1, 0);
    let nonce = |nonce: u32| line.replace("00000000\"]", &format!("{nonce:08x}\"]"));
    // Every second hash is a block.
    let (mut lines, mut solved, mut nonces) = (Vec::new(), None, 0..);
    while solved.is_none() || lines.is_empty() {
        let line = nonce(nonces.next().unwrap());
        let held = bench.shard.held.len();
        bench.receive(key, line.as_bytes());
        match bench.shard.held.len() > held {
            true => solved = Some(line),
            false => lines.push(line),
        }
    }
    let (solved, shares) = (solved.unwrap(), bench.shard.held.len() + lines.len());
    let unavailable = |text: &str| text.matches("accounting unavailable").count();
    let mut answers = String::new();
    while unavailable(&answers) < shares {
        let returned = bench.returns.blocking_recv().unwrap();
        bench.shard.returned(returned, bench.now);
        bench.now += Duration::from_secs(1);
        bench.shard.wake(bench.now);
        answers += &bench.sent(key);
    }
    assert!(!bench.shard.is_drained(), "a block's share is still on its way");
    bench.shard.exits.accounting = log;
    bench.settle();
    let kept = logged(&bench);
    assert_eq!(kept.len(), shares - lines.len(), "{kept:?}");
    assert!(kept.iter().all(|share| share.block_candidate && !share.credited), "{kept:?}");
    // Other shares may come again, those of blocks are there.
    bench.receive(key, solved.as_bytes());
    assert!(bench.sent(key).contains("duplicate"));
    bench.receive(key, lines[0].as_bytes());
    bench.settle();
    assert!(bench.sent(key).contains("\"result\":true"));
    assert_eq!(logged(&bench).len(), kept.len() + 1);
}

#[test]
fn a_block_whose_share_is_not_in_the_log_after_a_kill_is_logged_once_by_the_next_process() {
    let mut bench = Bench::new();
    let key = bench.mining(1);
    let (stopped, thread, _dir) = testing::accounting();
    thread.stop().unwrap();
    let log = std::mem::replace(&mut bench.shard.exits.accounting, stopped);
    let line = bench.share(key, 1, 0);
    let mut nonces = 0..;
    while bench.shard.held.is_empty() {
        let nonce = format!("{:08x}\"]", nonces.next().unwrap());
        bench.receive(key, line.replace("00000000\"]", &nonce).as_bytes());
    }
    bench.wait_for_a_block();
    assert!(logged(&bench).is_empty());
    let away = testing::away(bench.dir.path());
    for _ in 0..2 {
        let ledger = Ledger::open(&bench.dir.path().join("ledger.sqlite")).unwrap();
        let mut books = Books::new(ledger, vec![Rpc::new(&away, Purpose::Other)]);
        let (news, _mailbox) = sync_channel(16);
        open_submitter(bench.dir.path(), std::slice::from_ref(&away), &news, &log, &mut books).unwrap();
        let hash = *bench.shard.held.keys().next().unwrap();
        assert!(books.knows(hash) && books.is_logged(hash));
    }
    let logged = logged(&bench);
    assert_eq!(logged.len(), 1);
    assert!(logged[0].block_candidate && !logged[0].credited);
}

#[test]
fn blocks_are_logged_whatever_is_wrong_with_their_shares() {
    let mut bench = Bench::new();
    let key = bench.mining(1);
    let line = bench.share(key, 1, 0);
    let mut share: serde_json::Value = serde_json::from_str(&line).unwrap();
    share["params"][3] = json!("ffffffff");
    for nonce in 0..16 {
        share["params"][4] = json!(format!("{nonce:08x}"));
        for _ in 0..2 {
            bench.receive(key, format!("{share}\n").as_bytes());
            bench.settle();
            assert!(bench.sent(key).contains("[20,\"ntime"));
        }
    }
    let logged = logged(&bench);
    assert!((1..16).contains(&logged.len()), "{}", logged.len());
    assert!(logged.iter().all(|share| share.block_candidate && !share.credited), "{logged:?}");
}

#[test]
fn a_payee_above_one_percent_gets_no_coinbase_that_pays_fewer_miners() {
    // Ten payees of equal weight, more than 455 bytes hold, and one of less than 1 %.
    let weights = (1..=11).map(|n| (script(n), Work(if n == 11 { 1 } else { 1_000 }))).collect();
    let work = plan(0, MASK, weights).unwrap();
    let bytes = |n, class, hashes_per_s| {
        work.shared(&script(n), class, hashes_per_s).unwrap().body().coinbase.bytes().len()
    };
    let (farm, board) = (1e15, 1e12);
    let stock = bytes(1, SizeClass::B755, farm);
    assert_eq!(bytes(1, SizeClass::B455, farm), stock);
    assert!(bytes(11, SizeClass::B455, farm) < stock, "little weight");
    assert!(bytes(1, SizeClass::B455, board) < stock, "a small board");
}

#[test]
fn gb_07_credit_ends_with_the_tip_even_if_there_is_no_work_on_the_new_one() {
    let mut bench = Bench::new();
    let key = bench.mining(1);
    let line = bench.share(key, 1, 0);
    let current = given(work());
    let told = Current { tip: Some(BlockHash::from_byte_array([7; 32])), ..current.clone() };
    // The bench's work has the same name: nothing is there to be given out.
    assert!(!bench.shard.follow(told, bench.now));
    bench.receive(key, line.as_bytes());
    bench.settle();
    assert!(bench.sent(key).contains(r#""error":[21,"stale",null]"#));
    // The old tip wins after all.
    assert!(!bench.shard.follow(current, bench.now));
    bench.shard.offer_work(key, bench.now);
    let line = bench.share(key, 1, 1);
    bench.receive(key, line.as_bytes());
    bench.settle();
    assert!(bench.sent(key).contains("\"result\":true"));
}

#[test]
fn sb_02_m15_the_shard_hands_on_every_block_whatever_else_is_wrong_with_its_share() {
    type Spoil = fn(&mut Bench, &mut Vec<serde_json::Value>);
    let faults: [(Spoil, &str); 4] = [
        (|_, params| params[0] = json!(address(2)), "[24,"),
        (|_, params| params.push(json!("00000001")), "[20,\"version bits"),
        (|_, params| params[3] = json!("00000001"), "[20,\"ntime"),
        (
            |bench, _| {
                let tip = Some(BlockHash::from_byte_array([7; 32]));
                bench.shard.follow(Current { tip, ..given(work()) }, bench.now);
            },
            "[21,",
        ),
    ];
    for (spoil, answer) in faults {
        let mut bench = Bench::new();
        let key = bench.mining(1);
        let line = bench.share(key, 1, 0);
        let mut share: serde_json::Value = serde_json::from_str(&line).unwrap();
        let mut params = share["params"].as_array().unwrap().clone();
        spoil(&mut bench, &mut params);
        // Every second hash is a block.
        for nonce in 0..64 {
            params[4] = json!(format!("{nonce:08x}"));
            share["params"] = json!(params);
            bench.receive(key, format!("{share}\n").as_bytes());
            bench.settle();
            let sent = bench.sent(key);
            assert!(sent.contains(answer), "{answer}: {sent}");
        }
        bench.wait_for_a_block();
    }
}

#[test]
fn m15_stale_shares_are_logged_without_credit() {
    let mut bench = Bench::new();
    let key = bench.mining(1);
    let line = bench.share(key, 1, 0);
    let told = Current { tip: Some(BlockHash::from_byte_array([7; 32])), ..given(work()) };
    bench.shard.follow(told, bench.now);
    let entries = || bench.shard.exits.accounting.counters().log_entries;
    let before = entries();
    bench.receive(key, line.as_bytes());
    bench.settle();
    // Its job, its payee and itself.
    assert_eq!(bench.shard.exits.accounting.counters().log_entries, before + 3);
    let window = bench.shard.exits.accounting.ask_window(Work(1)).unwrap();
    assert_eq!(window.wait(Duration::from_secs(60)).unwrap().total, Work(0));
}

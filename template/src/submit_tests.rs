use super::small_disk::{fill, on_a_small_disk};
use super::*;
use crate::bitcoind::rpc::Timeouts;
use crate::bitcoind::stand_in::{Reply, StandIn};
use crate::coinbase::CoinbaseStyle;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{Amount, ScriptBuf, TxOut};
use std::net::TcpListener;
use std::sync::mpsc::sync_channel;
use stratum::class::SizeClass;
use stratum::extranonce::{Extranonce1, Extranonce2};
use stratum::job::{Basis, JobBody, Payout, Roll, TemplateId, Transactions};
use stratum::target::Target;

const LONG: Duration = Duration::from_secs(30);

fn solution(nonce: u8) -> Solution {
    let out = TxOut { value: Amount::from_sat(50), script_pubkey: ScriptBuf::from_bytes(vec![0x51]) };
    let style = CoinbaseStyle::new(0, 0, "").unwrap();
    let coinbase = style
        .build(
            7,
            SizeClass::B755,
            std::slice::from_ref(&out),
            &TxOut { value: Amount::ZERO, ..out.clone() },
            50,
        )
        .unwrap();
    let bytes = coinbase.bytes().clone();
    let payout =
        Arc::new(Payout { outputs: vec![out], basis: Basis::Solo { script: ScriptBuf::new(), log_size: 0 } });
    let body = JobBody {
        template: TemplateId(1),
        height: 7,
        version: 1,
        prev_hash: BlockHash::all_zeros(),
        nbits: 0,
        network_target: Target::MAX,
        hardest_share: Target::MAX,
        ntime_min: 0,
        ntime: 0,
        coinbase,
        merkle_branch: Vec::new(),
        class: SizeClass::B755,
        out_bytes: 0,
        payout,
        transactions: Transactions::default(),
    };
    let header = [nonce; 80];
    let hash = BlockHash::from_raw_hash(sha256d::Hash::hash(&header));
    let roll = Roll {
        extranonce1: Extranonce1([0; 4]),
        extranonce2: Extranonce2::ZERO,
        ntime: 0,
        nonce: 0,
        version: 1,
    };
    Solution { body: Arc::new(body), coinbase: bytes, roll, header, hash }
}

fn open(dir: &Path, nodes: &[Node]) -> (Submitter, Vec<Recovered>, Receiver<SubmitEvent>) {
    let (events, received) = sync_channel(1_000);
    let (submitter, recovered) = Submitter::open(dir, nodes, move |e| drop(events.send(e))).unwrap();
    (submitter, recovered, received)
}

/// The next final verdict.
fn verdict(received: &Receiver<SubmitEvent>) -> (Verdict, String) {
    loop {
        if let Outcome::Judged { verdict, words } = received.recv_timeout(LONG).unwrap().outcome
            && verdict.is_final()
        {
            return (verdict, words);
        }
    }
}

fn json(words: Option<&str>) -> Reply {
    Reply::Result(words.map_or("null".into(), |words| format!("\"{words}\"")))
}

/// What a node says of a block, what it must come to, and in which words.
fn verdicts() -> Vec<(Reply, Verdict, String)> {
    let said = |words: &str, verdict| (json(Some(words)), verdict, words.to_owned());
    let asked =
        |words: &str| (json(Some(words)), Verdict::Accepted, "getblockheader: 1 confirmations".to_owned());
    vec![
        (json(None), Verdict::Accepted, "null".to_owned()),
        said("duplicate", Verdict::Duplicate),
        said("duplicate-invalid", Verdict::DuplicateInvalid),
        asked("duplicate-inconclusive"),
        asked("inconclusive"),
        said("high-hash", Verdict::HighHash),
        said("bad-cb-amount", Verdict::Refused),
        said("bad-prevblk", Verdict::Refused),
        said("time-too-old", Verdict::Refused),
        said("rejected", Verdict::Refused),
        said("time-too-new", Verdict::Lost),
        said("prev-blk-not-found", Verdict::Lost),
        said("whatever a later version says", Verdict::Refused),
        asked("inconclusive-not-best-prevblk"),
        (Reply::Error(-22, "Block decode failed"), Verdict::Undecodable, "Block decode failed".to_owned()),
    ]
}

/// A node that fails its first call as `fault` says and then judges.
fn failing_once(listener: TcpListener, fault: Option<Reply>, judgement: Reply) -> StandIn {
    let fault = Mutex::new(fault);
    StandIn::on(listener, move |method, _| match method {
        "submitblock" => fault.lock().unwrap().take().unwrap_or_else(|| judgement.clone()),
        "getblockheader" => Reply::Result(r#"{"confirmations":1}"#.into()),
        // Far beyond the block.
        "getblockcount" => Reply::Result("1000".into()),
        other => panic!("{other}"),
    })
}

#[test]
fn b08_sb_04_every_verdict_is_reached_through_every_transport_fault_and_kept_word_for_word() {
    let faults: [Option<Reply>; 7] = [
        Some(Reply::Silence),
        Some(Reply::Status(401, "")),
        Some(Reply::Status(503, "Work queue depth exceeded")),
        Some(Reply::Close),
        Some(Reply::Cut),
        Some(Reply::Error(-28, "Loading block index...")),
        None,
    ];
    std::thread::scope(|scope| {
        for (reply, expected, words) in verdicts() {
            for fault in faults.clone() {
                let (reply, words) = (reply.clone(), words.clone());
                scope.spawn(move || {
                    let dir = tempfile::tempdir().unwrap();
                    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                    let stand_in = failing_once(listener, fault.clone(), reply);
                    let (submitter, _, received) = open(dir.path(), std::slice::from_ref(&stand_in.node));
                    let solution = solution(1);
                    submitter.submit(solution.clone(), b"note".to_vec(), Box::new(|| ())).unwrap();
                    assert_eq!(verdict(&received), (expected, words.clone()), "{fault:?}");
                    submitter.close(LONG);
                    // Closing waits for the call, so the verdict is on disk, word for word.
                    let file = dir.path().join(format!("7-{}.verdict", solution.hash));
                    let text = std::fs::read_to_string(file).unwrap();
                    assert_eq!(text, format!("{}: {expected}: {words}\n", stand_in.node.address));
                    assert!(open(dir.path(), &[stand_in.node]).1.is_empty());
                });
            }
        }
    });
}

#[test]
fn b08_a_block_whose_parent_the_node_does_not_know_yet_is_offered_until_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let early = Mutex::new(vec!["time-too-new", "prev-blk-not-found"]);
    let stand_in = StandIn::start(move |method, _| match method {
        "submitblock" => json(early.lock().unwrap().pop()),
        // The block is above the tip: it can still win.
        "getblockcount" => Reply::Result("6".into()),
        other => panic!("{other}"),
    });
    let (submitter, _, received) = open(dir.path(), std::slice::from_ref(&stand_in.node));
    submitter.submit(solution(1), Vec::new(), Box::new(|| ())).unwrap();
    for words in ["prev-blk-not-found", "time-too-new"] {
        let event = received.recv_timeout(LONG).unwrap();
        assert_eq!(event.outcome, Outcome::Judged { verdict: Verdict::Early, words: words.into() });
    }
    assert_eq!(verdict(&received), (Verdict::Accepted, "null".into()));
}

#[test]
fn b08_a_block_that_the_node_had_accepted_and_lost_is_handed_in_again_before_its_child() {
    let dir = tempfile::tempdir().unwrap();
    let (parent, mut child) = (solution(1), solution(2));
    child.header[4..36].copy_from_slice(parent.hash.as_byte_array());
    child.hash = BlockHash::from_raw_hash(sha256d::Hash::hash(&child.header));
    Arc::get_mut(&mut child.body).unwrap().height = 8;
    let hex = |header: [u8; 80]| header.map(|byte| format!("{byte:02x}")).concat();
    let (parent_hex, child_hex) = (hex(parent.header), hex(child.header));
    let has_parent = Arc::new(Mutex::new(false));
    let disk = Arc::clone(&has_parent);
    let stand_in = StandIn::start(move |method, params| match (method, params[0].as_str()) {
        ("submitblock", Some(block)) if block.starts_with(&parent_hex) => {
            *disk.lock().unwrap() = true;
            json(None)
        }
        ("submitblock", Some(block)) if block.starts_with(&child_hex) && *disk.lock().unwrap() => json(None),
        ("submitblock", _) => json(Some("prev-blk-not-found")),
        _ => Reply::Result("6".into()),
    });
    let (submitter, _, received) = open(dir.path(), std::slice::from_ref(&stand_in.node));
    submitter.submit(parent, Vec::new(), Box::new(|| ())).unwrap();
    assert_eq!(verdict(&received).0, Verdict::Accepted);
    // The node crashes before the block is on its disk.
    *has_parent.lock().unwrap() = false;
    submitter.submit(child, Vec::new(), Box::new(|| ())).unwrap();
    assert_eq!(verdict(&received), (Verdict::Accepted, "null".into()));
}

#[test]
fn b08_a_node_that_is_down_gets_the_block_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let credentials = dir.path().join("cookie");
    std::fs::write(&credentials, "a:b").unwrap();
    let node = Node { address: address.to_string(), credentials, timeouts: Default::default() };
    let (submitter, _, received) = open(dir.path(), &[node]);
    submitter.submit(solution(1), Vec::new(), Box::new(|| ())).unwrap();
    assert!(matches!(received.recv_timeout(LONG).unwrap().outcome, Outcome::Retrying(_)));
    let _stand_in = failing_once(TcpListener::bind(address).unwrap(), None, json(None));
    assert_eq!(verdict(&received).0, Verdict::Accepted);
}

#[test]
fn b08_each_of_two_nodes_that_fail_is_offered_the_same_bytes_until_it_has_judged() {
    let dir = tempfile::tempdir().unwrap();
    let offers = [(); 2].map(|()| Arc::new(Mutex::new(Vec::new())));
    let nodes = offers.clone().map(|offers| {
        StandIn::start(move |method, params| {
            assert_eq!(method, "submitblock");
            let mut offers = offers.lock().unwrap();
            offers.push(params.clone());
            if offers.len() < 4 { Reply::Status(503, "Work queue depth exceeded") } else { json(None) }
        })
    });
    // A slow machine must not look like a slow node: that would be one offer more.
    let patient = |node: &StandIn| Node { timeouts: Timeouts::default(), ..node.node.clone() };
    let addresses = [patient(&nodes[0]), patient(&nodes[1])];
    let (submitter, _, received) = open(dir.path(), &addresses);
    submitter.submit(solution(1), Vec::new(), Box::new(|| ())).unwrap();
    // What one accepts, the other is offered all the same.
    let mut accepted = Vec::new();
    while accepted.len() < 2 {
        let event = received.recv_timeout(LONG).unwrap();
        match event.outcome {
            Outcome::Judged { verdict, .. } => accepted.push((event.node.to_string(), verdict)),
            Outcome::Retrying(_) => {}
            Outcome::NotOnDisk(why) => panic!("{why}"),
        }
    }
    accepted.sort_by(|a, b| a.0.cmp(&b.0));
    let mut expected = addresses.map(|node| (node.address.clone(), Verdict::Accepted));
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(accepted, expected);
    let [first, second] = offers.map(|offers| offers.lock().unwrap().clone());
    assert_eq!((first.len(), &first), (4, &second));
    assert!(first.iter().all(|offer| *offer == first[0]));
}

#[test]
fn sb_01_the_block_is_on_disk_before_the_first_node_hears_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let stand_in = StandIn::start(move |_, params| {
        let on_disk = file::without_verdict(&path).unwrap();
        assert_eq!(on_disk.len(), 1);
        let on_disk = file::submit_params(&on_disk[0].1.block);
        let on_disk: serde_json::Value = serde_json::from_str(on_disk.get()).unwrap();
        json(Some(if *params == on_disk { "on-disk" } else { "not-on-disk" }))
    });
    let (submitter, _, received) = open(dir.path(), std::slice::from_ref(&stand_in.node));
    submitter.submit(solution(1), Vec::new(), Box::new(|| ())).unwrap();
    assert_eq!(verdict(&received), (Verdict::Refused, "on-disk".into()));
}

#[test]
fn sb_01_a_block_without_a_verdict_is_submitted_by_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let silent = StandIn::start(|_, _| Reply::Status(503, "Work queue depth exceeded"));
    let (submitter, _, received) = open(dir.path(), &[silent.node]);
    let solution = solution(1);
    submitter.submit(solution.clone(), b"whose it is".to_vec(), Box::new(|| ())).unwrap();
    assert!(matches!(received.recv_timeout(LONG).unwrap().outcome, Outcome::Retrying(_)));
    drop(submitter);
    let stand_in = failing_once(TcpListener::bind("127.0.0.1:0").unwrap(), None, json(None));
    let (submitter, recovered, received) = open(dir.path(), std::slice::from_ref(&stand_in.node));
    let expected = Recovered { hash: solution.hash, height: 7, note: b"whose it is".to_vec() };
    assert_eq!(recovered, [expected]);
    let event = received.recv_timeout(LONG).unwrap();
    assert_eq!((event.hash, &*event.note), (solution.hash, &b"whose it is"[..]));
    submitter.close(LONG);
    assert!(open(dir.path(), &[stand_in.node]).1.is_empty());
}

#[test]
fn d04_a_block_goes_out_when_its_file_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let stand_in = failing_once(TcpListener::bind("127.0.0.1:0").unwrap(), None, json(None));
    let (submitter, _, received) = open(&dir.path().join("blocks"), std::slice::from_ref(&stand_in.node));
    std::fs::rename(dir.path().join("blocks"), dir.path().join("gone")).unwrap();
    submitter.submit(solution(1), Vec::new(), Box::new(|| ())).unwrap();
    // The node does not wait for the words about the file, so they come in any order.
    let events = [(); 2].map(|()| received.recv_timeout(LONG).unwrap().outcome);
    assert!(events.iter().any(|event| matches!(event, Outcome::NotOnDisk(_))), "{events:?}");
    assert!(events.contains(&Outcome::Judged { verdict: Verdict::Accepted, words: "null".into() }));
}

/// Blocks that find the disk full, one after the other, and what a later process knows of them.
fn blocks_on_a_full_disk(disk: &Path) {
    let blocks = disk.join("blocks");
    let busy = StandIn::start(|_, _| Reply::Status(503, ""));
    drop(open(&blocks, std::slice::from_ref(&busy.node)));
    let hashes = [1, 2].map(|nonce| {
        fill(disk, &format!("filler {nonce}"));
        let (submitter, _, received) = open(&blocks, std::slice::from_ref(&busy.node));
        let solution = solution(nonce);
        submitter.submit(solution.clone(), vec![nonce], Box::new(|| ())).unwrap();
        // Stopped: what is to be said about the block has been said, and space is kept back for the next.
        submitter.close(LONG);
        assert!(received.try_iter().all(|event| !matches!(event.outcome, Outcome::NotOnDisk(_))));
        solution.hash
    });
    let (_submitter, recovered, _received) = open(&blocks, &[busy.node]);
    let mut notes: Vec<_> = recovered.iter().map(|block| (block.hash, block.note.clone())).collect();
    notes.sort_by_key(|(_, note)| note.clone());
    assert_eq!(notes, [(hashes[0], vec![1]), (hashes[1], vec![2])]);
}

#[test]
fn d04_blocks_that_find_the_disk_full_are_written_into_the_space_kept_back() {
    on_a_small_disk(
        "submit::tests::d04_blocks_that_find_the_disk_full_are_written_into_the_space_kept_back",
        blocks_on_a_full_disk,
    );
}

#[test]
fn sb_03_sb_05_two_blocks_of_one_height_go_to_all_nodes_though_one_node_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let (called, was_called) = sync_channel(2);
    let mut hanging = StandIn::start(move |_, _| {
        called.send(()).unwrap();
        Reply::Silence
    });
    hanging.node.timeouts.submit = Duration::from_secs(600);
    let stand_in = failing_once(TcpListener::bind("127.0.0.1:0").unwrap(), None, json(None));
    let nodes = [hanging.node.clone(), stand_in.node.clone()];
    let (submitter, _, received) = open(dir.path(), &nodes);
    let mut hashes = [1, 2].map(|nonce| {
        let solution = solution(nonce);
        submitter.submit(solution.clone(), Vec::new(), Box::new(|| ())).unwrap();
        solution.hash
    });
    let mut accepted = [0; 2].map(|_| {
        let event = received.recv_timeout(LONG).unwrap();
        assert_eq!(event.outcome, Outcome::Judged { verdict: Verdict::Accepted, words: "null".into() });
        event.hash
    });
    hashes.sort();
    accepted.sort();
    assert_eq!(accepted, hashes);
    for _ in 0..2 {
        was_called.recv_timeout(LONG).unwrap();
    }
}

#[test]
fn b08_a_refusal_by_one_node_is_not_the_last_word_while_another_is_silent() {
    let dir = tempfile::tempdir().unwrap();
    let refusing = failing_once(TcpListener::bind("127.0.0.1:0").unwrap(), None, json(Some("bad-cb-amount")));
    let busy = StandIn::start(|_, _| Reply::Status(503, ""));
    let (submitter, _, received) = open(dir.path(), &[refusing.node.clone(), busy.node]);
    submitter.submit(solution(1), Vec::new(), Box::new(|| ())).unwrap();
    assert_eq!(verdict(&received).0, Verdict::Refused);
    submitter.close(LONG);
    assert_eq!(open(dir.path(), &[refusing.node]).1.len(), 1);
}

#[test]
fn sb_02_more_blocks_than_memory_holds_all_get_their_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let stand_in = failing_once(TcpListener::bind("127.0.0.1:0").unwrap(), None, json(None));
    let (submitter, _, received) = open(dir.path(), std::slice::from_ref(&stand_in.node));
    let count = u8::try_from(BLOCKS_IN_MEMORY_MAX * 2).unwrap();
    for nonce in 0..count {
        submitter.submit(solution(nonce), vec![nonce], Box::new(|| ())).unwrap();
    }
    let mut notes: Vec<u8> = (0..count).map(|_| received.recv_timeout(LONG).unwrap().note[0]).collect();
    notes.sort_unstable();
    assert_eq!(notes, (0..count).collect::<Vec<_>>());
}

#[test]
fn d02_whoever_waits_is_told_when_the_file_is_there_or_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = dir.path().join("blocks");
    let silent = StandIn::start(|_, _| Reply::Status(503, "Work queue depth exceeded"));
    let (submitter, _, _received) = open(&blocks, &[silent.node]);
    let is_block = |name: &str| name.ends_with(".block");
    let files = move |dir: &Path| {
        let entries = std::fs::read_dir(dir).into_iter().flatten();
        entries.filter(|entry| entry.as_ref().unwrap().file_name().to_str().is_some_and(is_block)).count()
    };
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let report = |tell: &std::sync::mpsc::SyncSender<usize>| -> Stored {
        let (tell, blocks) = (tell.clone(), blocks.clone());
        Box::new(move || tell.send(files(&blocks)).unwrap())
    };
    submitter.submit(solution(1), Vec::new(), report(&tell)).unwrap();
    assert_eq!(told.recv_timeout(LONG), Ok(1));
    std::fs::rename(&blocks, dir.path().join("gone")).unwrap();
    submitter.submit(solution(2), Vec::new(), report(&tell)).unwrap();
    assert_eq!(told.recv_timeout(LONG), Ok(0));
}

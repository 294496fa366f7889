//! Templates, coinbases, proposals and blocks against a real node.
#![expect(clippy::unwrap_used, reason = "a test stops at what must not happen")]

mod bitcoind;

use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{Amount, BlockHash, Network, ScriptBuf, TxOut};
use bitcoind::{Bitcoind, SINK_REGTEST};
use serde_json::{Map, Value, json};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use stratum::class::SizeClass;
use stratum::extranonce::{Extranonce1, Extranonce2};
use stratum::job::{Basis, EXTRANONCE_ROOM_BYTES, Job, JobBody, JobId, Payout, Roll, Solution, TemplateId};
use stratum::payee::{Payee, PayeeTag};
use stratum::pot::Pot;
use stratum::share::{self, Judge, PendingShare, Reject};
use template::assemble::job_body;
use template::bitcoind::ask;
use template::bitcoind::rpc::Purpose;
use template::coinbase::CoinbaseStyle;
use template::fit::CoinbaseCost;
use template::propose::propose;
use template::submit::{Outcome, SubmitEvent, Submitter, Verdict};
use template::template::Template;
use template::{block, propose::ProposeError};

fn style() -> CoinbaseStyle {
    CoinbaseStyle::new(0xacae, 0xaeac, "Sluice on regtest").unwrap()
}

fn script(kind: usize, n: usize) -> ScriptBuf {
    let digest = sha256d::Hash::hash(&(n as u64).to_le_bytes()).to_byte_array();
    match kind {
        // P2WPKH, P2PKH, P2TR, P2SH
        0 => ScriptBuf::from_bytes([&[0x00, 0x14][..], &digest[..20]].concat()),
        1 => ScriptBuf::from_bytes([&[0x76, 0xa9, 0x14][..], &digest[..20], &[0x88, 0xac]].concat()),
        2 => ScriptBuf::from_bytes([&[0x51, 0x20][..], &digest[..]].concat()),
        _ => ScriptBuf::from_bytes([&[0xa9, 0x14][..], &digest[..20], &[0x87]].concat()),
    }
}

/// The longest list of miners that a class takes, beside a reserve output and a share-log commitment.
fn fullest_body(template: &Arc<Template>, class: SizeClass, kind: usize) -> (Arc<Template>, Arc<JobBody>) {
    let template = template.fit(CoinbaseCost::largest(class));
    let commitment = ScriptBuf::from_bytes([&[0x6a, 0x24][..], &[7; 36]].concat());
    let fixed = [
        TxOut { value: Amount::from_sat(1_000), script_pubkey: script(0, usize::MAX) },
        TxOut { value: Amount::ZERO, script_pubkey: commitment },
    ];
    let room = style().out_bytes(template.height(), class, &fixed).unwrap();
    let size = TxOut { value: Amount::ZERO, script_pubkey: script(kind, 0) }.size();
    let count = room as usize / size;
    assert!(count >= 1, "{class}");
    let mut left = template.value() - 1_000;
    let mut outputs: Vec<TxOut> = (1..count)
        .map(|n| {
            left -= 600;
            TxOut { value: Amount::from_sat(600), script_pubkey: script(kind, n) }
        })
        .collect();
    outputs.push(TxOut { value: Amount::from_sat(left), script_pubkey: script(kind, count) });
    outputs.extend(fixed);
    let payout = Payout { outputs, basis: Basis::Solo { script: script(kind, 1), log_size: 0 } };
    let body = job_body(TemplateId(1), &template, &style(), class, room, Arc::new(payout)).unwrap();
    let longest = body.coinbase.with_extranonce(EXTRANONCE_ROOM_BYTES);
    assert!(longest.bytes().len() <= class.coinbase_bytes_max());
    // No further output would have fitted; the smallest outputs could need a count of three bytes.
    assert!(longest.bytes().len() + size + 2 > class.coinbase_bytes_max());
    // Every other one as for a V2 client that rolls as much as it may.
    let coinbase = if kind.is_multiple_of(2) { body.coinbase.clone() } else { longest };
    (template, Arc::new(JobBody { coinbase, ..body }))
}

fn job_of(body: &Arc<JobBody>) -> Job {
    Job { body: Arc::clone(body), tag: PayeeTag([0xae; 8]), pot: Pot::MIN, superseded_at: None }
}

fn mine(body: &Arc<JobBody>) -> Solution {
    mine_at(body, body.ntime).1
}

/// Hashes until the header meets the network target; regtest needs two attempts on average.
fn mine_at(body: &Arc<JobBody>, ntime: u32) -> (Roll, Solution) {
    let job = job_of(body);
    for nonce in 0.. {
        let roll = Roll {
            extranonce1: Extranonce1([0xae; 4]),
            extranonce2: Extranonce2::new(&[0xae; 12][..body.coinbase.extranonce_bytes() - 4]).unwrap(),
            ntime,
            nonce,
            version: body.version,
        };
        let header = job.header(&roll);
        let digest = sha256d::Hash::hash(&header).to_byte_array();
        if body.network_target.is_met_by(&digest) {
            let hash = bitcoin::hashes::Hash::from_byte_array(digest);
            return (
                roll,
                Solution { body: Arc::clone(body), coinbase: job.coinbase(&roll), roll, header, hash },
            );
        }
    }
    unreachable!("an easy target is met by some nonce")
}

fn template(node: &Bitcoind, network: Network) -> Arc<Template> {
    Arc::new(ask::template(&mut node.rpc(Purpose::Template), network, None).unwrap())
}

/// A wallet with `outputs` coins of its own that can be spent now.
fn wallet(node: &Bitcoind, outputs: u32) -> String {
    node.ask("createwallet", json!(["w"]));
    let address = node.ask("getnewaddress", json!([])).as_str().unwrap().to_owned();
    node.ask("generatetoaddress", json!([outputs, address]));
    node.ask("generatetoaddress", json!([100, SINK_REGTEST]));
    address
}

fn submitter(node: &Bitcoind, dir: &std::path::Path) -> (Submitter, mpsc::Receiver<SubmitEvent>) {
    let (events, received) = mpsc::sync_channel(64);
    let (submitter, left_over) =
        Submitter::open(dir, &[node.node()], move |event| events.send(event).unwrap()).unwrap();
    assert!(left_over.is_empty());
    (submitter, received)
}

fn accepted(received: &mpsc::Receiver<SubmitEvent>, hash: BlockHash) {
    let event = received.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!((event.hash, &*event.note), (hash, &b"note"[..]));
    let expected = Outcome::Judged { verdict: Verdict::Accepted, words: "null".into() };
    assert_eq!(event.outcome, expected);
}

#[test]
fn cb_09_a_block_of_every_class_and_address_kind_is_proposed_mined_and_accepted() {
    let node = Bitcoind::regtest(&[]);
    let dir = tempfile::tempdir().unwrap();
    let (submitter, received) = submitter(&node, dir.path());
    let mut heights = 0..;
    for class in SizeClass::ALL {
        for kind in 0..4 {
            let template = template(&node, Network::Regtest);
            // Heights 1 to 16 are pushed by one opcode, later ones as data.
            assert_eq!(template.height(), heights.next().unwrap() + 1);
            let (_, body) = fullest_body(&template, class, kind);
            propose(&mut node.rpc(Purpose::Other), Network::Regtest, &body).unwrap();
            let solution = mine(&body);
            let block: bitcoin::Block = deserialize(&block::bytes(&solution)).unwrap();
            assert!(block.check_merkle_root() && block.check_witness_commitment());
            assert_eq!(block.block_hash(), solution.hash);
            submitter.submit(solution.clone(), b"note".to_vec(), Box::new(|| ())).unwrap();
            accepted(&received, solution.hash);
            assert_eq!(node.ask("getbestblockhash", json!([])), json!(solution.hash));
        }
    }
    submitter.close(Duration::from_secs(5));
    let verdicts = std::fs::read_dir(dir.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().ends_with(".verdict"));
    assert_eq!(verdicts.count(), 24);
}

#[test]
fn gb_04_templates_with_one_and_with_many_transactions_become_blocks() {
    let node = Bitcoind::regtest(&[]);
    let address = wallet(&node, 30);
    let dir = tempfile::tempdir().unwrap();
    let (submitter, received) = submitter(&node, dir.path());
    for count in [1, 2, 3, 24] {
        for _ in 0..count {
            node.ask("sendtoaddress", json!([address, 1]));
        }
        // The node caches its template for five seconds, but not across a longer list asked for anew.
        let template = loop {
            let template = template(&node, Network::Regtest);
            if template.transactions().len() == count {
                break template;
            }
        };
        let (template, body) = fullest_body(&template, SizeClass::B16000, 1);
        assert_eq!(template.transactions().len(), count);
        propose(&mut node.rpc(Purpose::Other), Network::Regtest, &body).unwrap();
        let solution = mine(&body);
        let block: bitcoin::Block = deserialize(&block::bytes(&solution)).unwrap();
        assert!(block.check_merkle_root() && block.check_witness_commitment());
        submitter.submit(solution.clone(), b"note".to_vec(), Box::new(|| ())).unwrap();
        accepted(&received, solution.hash);
    }
}

#[test]
fn signet_proposals_of_every_class_hold() {
    let node = Bitcoind::signet();
    let template = template(&node, Network::Signet);
    for class in SizeClass::ALL {
        let (_, body) = fullest_body(&template, class, 0);
        propose(&mut node.rpc(Purpose::Other), Network::Signet, &body).unwrap();
    }
}

/// What the node says of a block; `None` is its approval.
fn submit(node: &Bitcoind, solution: &Solution) -> Option<String> {
    let hex: String = block::bytes(solution).iter().map(|byte| format!("{byte:02x}")).collect();
    node.ask("submitblock", json!([hex])).as_str().map(str::to_owned)
}

#[test]
fn v1_45_m10_the_node_draws_the_same_lines_around_header_times() {
    let node = Bitcoind::regtest(&[]);
    let (start, now) = (1_800_000_000_u32, 1_800_000_600);
    node.ask("setmocktime", json!([start]));
    // More than eleven, so that the median is of blocks of our time.
    node.ask("generatetoaddress", json!([12, SINK_REGTEST]));
    node.ask("setmocktime", json!([now]));
    // Refused times first: a block that is accepted moves the earliest one.
    for case in 0..5 {
        let template = template(&node, Network::Regtest);
        let (_, body) = fullest_body(&template, SizeClass::B755, 0);
        let (ntime, expected) = match case {
            0 => (body.ntime_min - 1, Some("time-too-old")),
            1 => (now + 7_201, Some("time-too-new")),
            2 => (body.ntime_min, None),
            3 => (now, None),
            _ => (now + 7_200, None),
        };
        let (roll, solution) = mine_at(&body, ntime);
        let mut judge = Judge::new(Duration::ZERO);
        judge.new_tip(body.prev_hash, Instant::now());
        let payee = Payee::parse(SINK_REGTEST, Network::Regtest).unwrap();
        let share = PendingShare::new(JobId(1), job_of(&body), roll, Arc::new(payee));
        let verdict = judge.check(share, Instant::now(), u64::from(now) * 1000);
        assert!(verdict.block.is_some(), "a block is handed on whatever its time");
        let refused = matches!(verdict.outcome, share::Outcome::RefusedBlock(_, Reject::BadNtime));
        assert_eq!(submit(&node, &solution).as_deref(), expected, "{ntime}");
        assert_eq!(refused, expected.is_some(), "{ntime}");
    }
}

#[test]
fn cb_09_b06_a_template_that_leaves_no_room_for_a_large_coinbase_is_cut_until_its_block_is_valid() {
    // The node reserves the least that it can, so its fullest template has no room for a long list of payees.
    let node =
        Bitcoind::regtest(&["-blockreservedweight=2000", "-blockmaxsize=4000000", "-spendzeroconfchange=0"]);
    wallet(&node, 20);
    for outputs in [2_900; 11].into_iter().chain([150]) {
        let outputs: Map<String, Value> = (0..outputs).map(|n| (address(n), json!(0.001))).collect();
        node.ask("send", json!([outputs, null, null, 1]));
    }
    let template = template(&node, Network::Regtest);
    let taken: u64 = template.transactions().iter().map(|tx| tx.weight).sum();
    assert!(taken > 4_000_000 - 40_000, "the node has filled its template: {taken}");
    let (fitted, body) = fullest_body(&template, SizeClass::B16000, 0);
    assert!(fitted.transactions().len() < template.transactions().len());
    // Whole, it would have been too heavy; without witnesses that is found by the length.
    let mut outputs = body.payout.outputs.clone();
    outputs[0].value += Amount::from_sat(template.value() - fitted.value());
    let payout = Arc::new(Payout { outputs, basis: Basis::Solo { script: script(0, 1), log_size: 0 } });
    let heavy =
        job_body(TemplateId(2), &template, &style(), SizeClass::B16000, body.out_bytes, payout).unwrap();
    let refused = propose(&mut node.rpc(Purpose::Other), Network::Regtest, &Arc::new(heavy));
    assert_eq!(refused, Err(ProposeError::Refused("bad-blk-length".into())));
    propose(&mut node.rpc(Purpose::Other), Network::Regtest, &body).unwrap();
    assert_eq!(submit(&node, &mine(&body)), None);
}

fn address(n: usize) -> String {
    bitcoin::Address::from_script(&script(0, n), Network::Regtest).unwrap().to_string()
}

#[test]
fn gb_09_a_proposal_that_breaks_a_rule_gives_the_nodes_reason() {
    let node = Bitcoind::regtest(&[]);
    let template = template(&node, Network::Regtest);
    let (_, body) = fullest_body(&template, SizeClass::B755, 0);
    let mut body = Arc::try_unwrap(body).unwrap();
    body.merkle_branch.push([1; 32]);
    let refused = propose(&mut node.rpc(Purpose::Other), Network::Regtest, &Arc::new(body));
    assert_eq!(refused, Err(ProposeError::Refused("bad-txnmrklroot".into())));
}

#[test]
fn gb_02_a_chain_with_another_proof_of_work_is_refused() {
    let node = Bitcoind::regtest(&["-testactivationheight=blake2b@1"]);
    let refused = ask::template(&mut node.rpc(Purpose::Template), Network::Regtest, None).unwrap_err();
    assert_eq!(refused.to_string(), "this node follows a chain that is not mined with SHA-256d");
    assert!(refused.is_wrong_chain());
    // Also when the rule is in a template rather than in an error.
    let mut request = json!({"rules": ["segwit", "blake2b"]});
    let answer = node.ask("getblocktemplate", json!([request.take()]));
    let refused = Template::parse(answer.to_string().as_bytes(), Network::Regtest).unwrap_err();
    assert_eq!(refused.to_string(), "this node follows a chain that is not mined with SHA-256d");
}

#[test]
fn ch_04_another_network_is_refused() {
    let node = Bitcoind::regtest(&[]);
    let mut rpc = node.rpc(Purpose::Other);
    assert!(ask::check_chain(&mut rpc, Network::Regtest).is_ok());
    for network in [Network::Bitcoin, Network::Signet, Network::Testnet4] {
        assert!(ask::check_chain(&mut rpc, network).unwrap_err().is_wrong_chain());
    }
}

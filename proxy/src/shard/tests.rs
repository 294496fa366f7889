use super::*;
use crate::forward::Share;
use crate::rates::Rates;
use bitcoin::BlockHash;
use prometheus::Registry;
use serde_json::{Value, json};
use std::ops::RangeInclusive;
use stratum::target::Target;
use stratum::v1::server::Users;
use stratum::v2::client;
use stratum::v2::codec::{Bytes32, U256};
use stratum_net::clock::unix_ms;
use stratum_net::driver::Peers;
use tokio::sync::mpsc;

mod faults;

/// What machines roll here.
const ROLLED: usize = 8;

/// A shard whose connection upstream is the test itself.
struct Bench {
    shard: Shard,
    wishes: mpsc::Receiver<Wish>,
    route: Route,
    metrics: Metrics,
    now: Instant,
    /// The newest job as upstream gave it.
    job: client::Job,
    works: u64,
}

/// A machine as it sees itself.
struct Machine {
    key: PeerKey,
    extranonce1: String,
    job_id: String,
}

fn target(top: u8) -> Target {
    let mut bytes = [0xff; 32];
    bytes[31] = top;
    Target::try_from(U256(bytes)).unwrap()
}

fn upstream_job(id: u32, parent: u8, target: Target) -> client::Job {
    let coinbase =
        client::Coinbase { prefix: vec![1; 60].into(), suffix: vec![2; 60].into(), branch: Vec::new() };
    client::Job {
        channel: 5,
        id,
        version: 0x2000_0000,
        version_mask: stratum::v2::server::VERSION_MASK,
        prev_hash: BlockHash::from_byte_array([parent; 32]),
        nbits: 0x1702_1369,
        network_target: Target::from_nbits(0x1702_1369).unwrap(),
        min_ntime: u32::try_from(unix_ms() / 1_000).unwrap(),
        since: Instant::now(),
        target,
        extranonce_prefix: Bytes32::new(&[9; 4]).unwrap(),
        // Two more than machines roll: they are filled.
        extranonce_size: 14,
        work: client::Work::Coinbase(Arc::new(coinbase)),
    }
}

impl Bench {
    /// Every hash is a share below; above it has to meet this.
    fn new(above: Target) -> Self {
        Self::with_pot(Pot::MIN, above)
    }

    fn with_pot(pot: Pot, above: Target) -> Self {
        Self::with_pots(pot..=pot, above)
    }

    /// Machines start with the first of these, and may be steered up to the last.
    fn with_pots(pots: RangeInclusive<Pot>, above: Target) -> Self {
        let (pot, pot_max) = pots.into_inner();
        let settings = v1::server::Settings {
            users: Users::Anyone,
            pot_start: pot,
            pot_min: pot,
            pot_max,
            ..v1::server::Settings::new(bitcoin::Network::Bitcoin)
        };
        let metrics = Metrics::new(Registry::new());
        let shard = Shard::new(0, Arc::new(settings), metrics.clone(), Rates::new(1).of(0));
        let (sender, wishes) = mpsc::channel(WAITING_MAX);
        let route = Route { link: 1, wishes: sender };
        let job = upstream_job(1, 1, above);
        let mut bench =
            Self { shard, wishes, route, metrics, now: Instant::now(), job: job.clone(), works: 0 };
        bench.give(job);
        bench
    }

    /// New work from upstream, to all.
    fn give(&mut self, job: client::Job) {
        self.works += 1;
        let local = bridge::local_job(self.route.link, &job, ROLLED).unwrap();
        let work = WorkSet {
            id: self.works,
            route: self.route.clone(),
            tip: Some(job.prev_hash),
            extranonce2_bytes: ROLLED,
            accounts: [(Account::new(), Ok(local))].into(),
        };
        self.job = job;
        self.shard.follow(Current(Some(Arc::new(work))), self.now);
        for key in self.shard.connections.keys() {
            self.shard.offer_work(key, self.now);
        }
    }

    fn machine(&mut self) -> Machine {
        let key = self.shard.open(Wire::Lines, Rc::default(), self.now).unwrap();
        let rolling = json!([["version-rolling"], {"version-rolling.mask": "ffffffff"}]);
        self.line(key, &json!({"id": 1, "method": "mining.configure", "params": rolling}));
        self.line(key, &json!({"id": 2, "method": "mining.subscribe", "params": []}));
        self.line(key, &json!({"id": 3, "method": "mining.authorize", "params": ["rig", "x"]}));
        let lines = self.sent(key);
        let find = |wanted: &dyn Fn(&&Value) -> bool| lines.iter().rfind(wanted).expect("just asked").clone();
        let extranonce1 = find(&|line| line["id"] == 2)["result"][1].as_str().unwrap().to_owned();
        let job_id =
            find(&|line| line["method"] == "mining.notify")["params"][0].as_str().unwrap().to_owned();
        Machine { key, extranonce1, job_id }
    }

    fn line(&mut self, key: PeerKey, line: &Value) {
        self.shard.receive(key, format!("{line}\n").as_bytes(), self.now).unwrap();
        self.shard.judge_pending(self.now);
    }

    /// What waits for a machine.
    fn sent(&mut self, key: PeerKey) -> Vec<Value> {
        let outbox = self.shard.outbox(key);
        let mut text = Vec::new();
        while !outbox.is_empty() {
            let mut slices = Vec::new();
            outbox.slices(&mut slices).unwrap();
            let offered: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            outbox.written(offered.len());
            text.extend(offered);
        }
        let text = String::from_utf8(text).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Submits; `words` are extranonce2, nonce, and version bits.
    fn submit(&mut self, machine: &Machine, words: [&str; 3]) {
        self.submit_for(machine, &machine.job_id, words);
    }

    fn submit_for(&mut self, machine: &Machine, job_id: &str, [extranonce2, nonce, bits]: [&str; 3]) {
        let ntime = format!("{:08x}", self.job.min_ntime);
        let params = json!(["rig", job_id, extranonce2, ntime, nonce, bits]);
        self.line(machine.key, &json!({"id": 7, "method": "mining.submit", "params": params}));
    }

    /// Answers to shares: 0 for a good one, else the code.
    fn answers(&mut self, machine: &Machine) -> Vec<u64> {
        let lines = self.sent(machine.key);
        let answers = lines.iter().filter(|line| line["id"] == 7);
        answers
            .map(|line| if line["result"] == true { 0 } else { line["error"][0].as_u64().unwrap() })
            .collect()
    }

    /// The share that went upstream, if one did.
    fn forwarded(&mut self) -> Option<Share> {
        match self.wishes.try_recv() {
            Ok(Wish::Share(share)) => Some(share),
            Ok(other) => panic!("{other:?}"),
            Err(_) => None,
        }
    }

    fn verdict(&mut self, share: &Share, verdict: Result<(), Reject>) {
        let waiting = share.waiting.expect("somebody waits");
        self.shard.returned(Judged { waiting, verdict }, self.now);
    }

    fn hash(&self, machine: &Machine, extranonce2: &str, nonce: u32) -> [u8; 32] {
        use bitcoin::hashes::sha256d;
        use bitcoin::hex::FromHex;
        let rolled: Vec<u8> =
            FromHex::from_hex(&format!("0000{}{extranonce2}", machine.extranonce1)).unwrap();
        let header = self.job.header(&rolled, self.job.min_ntime, nonce, self.job.version);
        sha256d::Hash::hash(&header).to_byte_array()
    }

    fn counted(&self, line: &str) -> bool {
        self.metrics.text(&Rates::new(1), None).lines().any(|counted| counted == line)
    }
}

const ZEROS: &str = "0000000000000000";
const NO_BITS: &str = "00000000";

#[test]
fn a_share_below_upstreams_target_is_answered_here_and_one_that_meets_it_has_upstreams_verdict() {
    // Half of all hashes go upstream.
    let mut bench = Bench::new(target(0x7f));
    let machine = bench.machine();
    let mut seen = [0; 2];
    for nonce in 0..40 {
        let meets = bench.job.target.is_met_by(&bench.hash(&machine, ZEROS, nonce));
        seen[usize::from(meets)] += 1;
        bench.submit(&machine, [ZEROS, &format!("{nonce:08x}"), NO_BITS]);
        let forwarded = bench.forwarded();
        assert_eq!(forwarded.is_some(), meets, "nonce {nonce}");
        let Some(share) = forwarded else {
            assert_eq!(bench.answers(&machine), [0]);
            continue;
        };
        assert_eq!(bench.answers(&machine), [0_u64; 0], "not before upstream has spoken");
        let (verdict, code) = [
            (Ok(()), 0),
            (Err(Reject::Stale), 21),
            (Err(Reject::Duplicate), 22),
            (Err(Reject::LowDifficulty), 23),
            (Err(Reject::LostUpstream), 20),
        ][nonce as usize % 5];
        bench.verdict(&share, verdict);
        assert_eq!(bench.answers(&machine), [code]);
    }
    assert!(seen[0] > 5 && seen[1] > 5, "{seen:?}");
}

#[test]
fn answers_leave_in_the_order_of_the_shares_whoever_judges_them() {
    let mut bench = Bench::new(target(0x7f));
    let machine = bench.machine();
    let meets = |bench: &Bench, nonce: &u32| bench.job.target.is_met_by(&bench.hash(&machine, ZEROS, *nonce));
    let above = (0..).find(|nonce| meets(&bench, nonce)).unwrap();
    let below = (0..).find(|nonce| !meets(&bench, nonce)).unwrap();
    for nonce in [above, below] {
        bench.submit(&machine, [ZEROS, &format!("{nonce:08x}"), NO_BITS]);
    }
    assert_eq!(bench.answers(&machine), [0_u64; 0]);
    let share = bench.forwarded().unwrap();
    bench.verdict(&share, Err(Reject::Duplicate));
    assert_eq!(bench.answers(&machine), [22, 0]);
}

#[test]
fn m01_a_share_that_comes_again_goes_upstream_once_however_it_is_written() {
    let mut bench = Bench::new(target(0xff));
    let machine = bench.machine();
    bench.submit(&machine, ["000000000000000a", "0000000b", NO_BITS]);
    let share = bench.forwarded().unwrap();
    // The same before upstream has spoken, and after it.
    bench.submit(&machine, ["000000000000000A", "0000000B", NO_BITS]);
    bench.verdict(&share, Ok(()));
    bench.submit(&machine, ["000000000000000a", "0000000B", NO_BITS]);
    assert_eq!(bench.answers(&machine), [0, 22, 22]);
    // A later job on the same block makes nobody forget it.
    let before = machine.job_id.clone();
    let again = upstream_job(2, 1, target(0xff));
    bench.give(again);
    bench.submit_for(&machine, &before, ["000000000000000a", "0000000b", NO_BITS]);
    assert_eq!(bench.answers(&machine), [22]);
    assert!(bench.forwarded().is_none());
    assert!(bench.counted("sluice_proxy_forwarded_total 1"));
    assert!(bench.counted("sluice_proxy_shares_total{protocol=\"v1\",result=\"duplicate\"} 3"));
}

#[test]
fn m15_a_share_after_a_new_block_is_late_and_does_not_go_upstream() {
    let mut bench = Bench::new(target(0xff));
    let machine = bench.machine();
    let old = bench.job.min_ntime;
    bench.give(upstream_job(2, 2, target(0xff)));
    bench.job.min_ntime = old;
    bench.submit(&machine, [ZEROS, "00000001", NO_BITS]);
    assert_eq!(bench.answers(&machine), [21]);
    assert!(bench.forwarded().is_none());
    assert!(bench.counted("sluice_proxy_late_total 1"));
    assert!(bench.counted("sluice_proxy_forwarded_total 0"));
}

#[test]
fn m11_m12_m14_shares_of_unknown_jobs_or_wrong_shape_are_refused_here_with_their_codes() {
    let mut bench = Bench::new(target(0xff));
    let machine = bench.machine();
    bench.submit_for(&machine, "ffff", [ZEROS, "00000001", NO_BITS]);
    // Outside of the mask, and with two bytes less than there are.
    bench.submit(&machine, [ZEROS, "00000001", "00000001"]);
    bench.submit(&machine, ["000000000000", "00000001", NO_BITS]);
    assert_eq!(bench.answers(&machine), [21, 20, 20]);
    assert!(bench.forwarded().is_none());
}

#[test]
fn a_share_below_its_machines_own_difficulty_is_refused_here() {
    // One hash of four million would do, and upstream wants far more.
    let pot = Pot::try_from(-10).unwrap();
    let mut bench = Bench::with_pot(pot, Target::from_nbits(0x1702_1369).unwrap());
    let machine = bench.machine();
    bench.submit(&machine, [ZEROS, "00000001", NO_BITS]);
    assert_eq!(bench.answers(&machine), [23]);
    assert!(bench.forwarded().is_none());
}

#[test]
fn m19_a_share_whose_connection_upstream_is_gone_is_answered_and_counted_as_lost() {
    let mut bench = Bench::new(target(0xff));
    let machine = bench.machine();
    bench.wishes.close();
    bench.submit(&machine, [ZEROS, "00000001", NO_BITS]);
    assert_eq!(bench.answers(&machine), [20]);
    assert!(bench.counted("sluice_proxy_forwarded_total 1"));
    assert!(bench.counted("sluice_proxy_upstream_shares_total{result=\"lost\"} 1"));
    assert!(bench.counted("sluice_proxy_upstream_waiting 0"));
}

#[test]
fn m20_what_goes_upstream_is_what_the_machine_hashed() {
    let mut bench = Bench::new(target(0xff));
    let machine = bench.machine();
    bench.submit(&machine, ["0102030405060708", "0000002a", NO_BITS]);
    let share = bench.forwarded().unwrap();
    let job = Arc::new(bench.job.clone());
    let Share { extranonce, ntime, nonce, version, .. } = share;
    let sent = client::Share { job, extranonce, ntime, nonce, version };
    let hash = bitcoin::hashes::sha256d::Hash::hash(&sent.header()).to_byte_array();
    assert_eq!(hash, bench.hash(&machine, "0102030405060708", 0x2a));
    assert_eq!((share.channel_id, share.job_id), (bench.job.channel, bench.job.id));
}

#[test]
fn m19_n08_a_shard_reads_no_more_while_too_many_shares_wait_and_goes_on_with_the_first_verdict() {
    let mut bench = Bench::new(target(0xff));
    // No more than 1,024 of a single machine may be unanswered. One hash of 65,536 is no share even here.
    let machines: Vec<_> = (0..WAITING_MAX.div_ceil(1_000)).map(|_| bench.machine()).collect();
    for nonce in 0.. {
        if bench.shard.waiting == WAITING_MAX {
            break;
        }
        for machine in &machines {
            let full = bench.shard.waiting == WAITING_MAX;
            assert_eq!(bench.shard.may_read(machine.key), !full, "after {nonce} shares of each machine");
            if !full {
                bench.submit(machine, [ZEROS, &format!("{nonce:08x}"), NO_BITS]);
            }
        }
    }
    assert!(machines.iter().all(|machine| !bench.shard.may_read(machine.key)));
    let share = bench.forwarded().unwrap();
    bench.verdict(&share, Ok(()));
    assert!(machines.iter().all(|machine| bench.shard.may_read(machine.key)));
    assert_eq!(bench.answers(&machines[0])[0], 0);
}

//! Floods from one peer or many: all others are served, and how fast is printed.

use serde_json::json;
use sluice_tests::support::miner::Miner;
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{PoolBuilder, address};
use sluice_tests::support::rounds;
use sluice_tests::support::v2_miner::V2Miner;
use socket2::{Domain, Socket, Type};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use stratum::v2::client::Kind;
use stratum::v2::noise::ACT1_BYTES;
use stratum_net::limits::raise_file_limit;

const KIND: Kind = Kind::Extended { min_extranonce_size: 8 };

#[test]
fn n08_a_peer_that_asks_without_end_is_answered_no_faster_than_it_may_ask() {
    let node = Node::signet();
    let pool = PoolBuilder::new(&node).start();
    let mut bystander = Miner::connect(pool.v1(), &address(9, node.network), "sluice-fleet/bystander");
    let (used, started) = (pool.processor_time(), Instant::now());
    let mut hostile = TcpStream::connect(pool.v1()).unwrap();
    let mut answers = hostile.try_clone().unwrap();
    let question = b"{\"id\":1,\"method\":\"mining.ping\",\"params\":[]}\n";
    let reading = thread::spawn(move || {
        let (mut lines, mut piece) = (0, [0; 64 * 1024]);
        while let Ok(read @ 1..) = answers.read(&mut piece) {
            lines += piece[..read].iter().filter(|byte| **byte == b'\n').count();
        }
        lines
    });
    let asking = thread::spawn({
        let until = started + Duration::from_secs(8);
        move || {
            while Instant::now() < until && hostile.write_all(&question.repeat(100)).is_ok() {}
            let _ = hostile.shutdown(std::net::Shutdown::Both);
        }
    });
    let mut slowest = Duration::ZERO;
    while !asking.is_finished() {
        let asked = Instant::now();
        assert_eq!(bystander.request("mining.ping", json!([]))["result"], "pong");
        slowest = slowest.max(asked.elapsed());
        thread::sleep(Duration::from_millis(5));
    }
    asking.join().unwrap();
    let answered = reading.join().unwrap();
    let elapsed = started.elapsed();
    let used = pool.processor_time() - used;
    println!(
        "{answered} answers in {elapsed:?} for {used:?} of processor; the other miner waited {slowest:?} at most"
    );
    // 256 KiB at once, as much each second, and the last read.
    let bytes_max = (1 << 18) + (elapsed.as_millis() as usize) * (1 << 18) / 1_000 + (1 << 14);
    assert!(answered <= bytes_max / question.len(), "{answered} answers");
    assert!(answered > (1 << 18) / question.len(), "honest bursts are not held back: {answered} answers");
}

#[test]
fn n05_n06_threads_that_strangers_can_keep_busy_give_way_to_those_that_judge() {
    let node = Node::signet();
    let pool = PoolBuilder::new(&node).with_v2().start();
    let _served = Miner::connect(pool.v1(), &address(1, node.network), "sluice-fleet/served");
    let judging = pool.niceness("shard-0");
    // The first thread takes connections of V1. 19 is as low as it gets.
    for receiving in ["sluice-pool", "handshakes"] {
        assert!(pool.niceness(receiving) > judging || judging == 19, "{receiving} goes before shares");
    }
    for other in ["accounting", "director"] {
        assert_eq!(pool.niceness(other), judging, "{other} keeps shares waiting");
    }
}

/// Opens connection after connection, each with a first act that makes the server work, and leaves before the answer
/// is of use.
struct Attack {
    stop: Arc<AtomicBool>,
    begun: Arc<AtomicU64>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Attack {
    fn on(server: SocketAddr, threads: usize) -> Self {
        raise_file_limit();
        // The long run fills all that the kernel holds for the server.
        let held = rounds(500, 2_500);
        let (stop, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..threads).map(|number| {
            let (stop, begun) = (stop.clone(), begun.clone());
            thread::spawn(move || {
                let mut open = VecDeque::new();
                for round in 0_u32.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Some(stream) = begin(server, number as u8 + 2, round) {
                        open.push_back(stream);
                        begun.fetch_add(1, Ordering::Relaxed);
                    }
                    if open.len() >= held {
                        open.pop_front();
                    }
                }
            })
        });
        Self { stop: stop.clone(), begun: begun.clone(), threads: threads.collect() }
    }

    fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn begin(server: SocketAddr, net: u8, round: u32) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let [_, _, high, low] = round.to_be_bytes();
    let from = Ipv4Addr::new(127, net, high, low.max(1));
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    // No port is kept busy by a connection that is over.
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    socket.connect(&server.into()).ok()?;
    let mut stream = TcpStream::from(socket);
    let mut act1 = [0; ACT1_BYTES];
    act1.chunks_mut(4).for_each(|part| part.copy_from_slice(&round.wrapping_mul(0x9e37_79b1).to_be_bytes()));
    stream.write_all(&act1).ok()?;
    Some(stream)
}

/// How long a miner waited for the answers to its shares: the middle, and all but the slowest hundredth.
fn latency(miner: &mut V2Miner, count: usize) -> [Duration; 2] {
    let mut waits = Vec::new();
    while waits.len() < count {
        miner.catch_up();
        let (share, _) = miner.find_share();
        let sent = Instant::now();
        if miner.submit(&share).is_ok() {
            waits.push(sent.elapsed());
        }
    }
    waits.sort_unstable();
    [waits[count / 2], waits[count * 99 / 100]]
}

#[test]
fn n06_a_flood_of_handshakes_from_everywhere_shuts_no_honest_miner_out() {
    let node = Node::signet();
    let pool = PoolBuilder::new(&node).easiest().with_v2().start();
    let (v2, authority, user) = (pool.builder.v2(), pool.builder.authority(), address(9, node.network));
    let mut miner = V2Miner::connect(v2, authority, &user, KIND);
    let shares = rounds(200, 2_000);
    let idle = latency(&mut miner, shares);
    let (used, started) = (pool.processor_time(), Instant::now());
    let attack = Attack::on(v2, 2);
    let under_attack = latency(&mut miner, shares);
    // Loopback is exempt from what one address may do: these come as from a botnet.
    let handshakes = (0..rounds(10, 50)).map(|_| {
        let begun = Instant::now();
        let mut newcomer = V2Miner::connect(v2, authority, &user, KIND);
        let took = begun.elapsed();
        newcomer.mine_accepted_share();
        took
    });
    let slowest = handshakes.max().unwrap();
    let (elapsed, used) = (started.elapsed(), pool.processor_time() - used);
    let begun = attack.begun();
    drop(attack);
    println!(
        "{begun} handshakes begun in {elapsed:?} for {used:?} of processor; shares answered in {idle:?} before, \
         {under_attack:?} meanwhile; an honest handshake and channel took {slowest:?} at most"
    );
    assert!(begun > 1_000);
}

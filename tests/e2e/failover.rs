//! Upstreams that die, flap, freeze, differ and misbehave, under machines that must not notice more than they have to.

use sluice_tests::support::herd::Herd;
use sluice_tests::support::log::Log;
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{Pool, PoolBuilder, address};
use sluice_tests::support::proxy::{Proxy, ProxyBuilder};
use sluice_tests::support::relay::Relay;
use sluice_tests::support::stand_in::{Manner, StandIn};
use sluice_tests::support::{rounds, wait_for};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Within this time work comes from the next upstream.
const FAILOVER_MAX: Duration = Duration::from_secs(15);
/// Between two shares of a machine.
const SHARE_EVERY: Duration = Duration::from_secs(2);

/// A pool with V2 where every hash is a share, and hardly any is a block.
fn pool(node: &Node) -> Pool {
    PoolBuilder::new(node).easiest().with_v2().start()
}

/// A proxy for one account, with every hash a share.
fn proxy(upstreams: &[&StandIn]) -> ProxyBuilder {
    let named = upstreams.iter().fold(ProxyBuilder::new(), |builder, upstream| {
        builder.upstream_for(upstream.address, upstream.authority(), "account")
    });
    named.easiest()
}

/// The same with a network before the first upstream.
fn proxy_through(relay: &Relay, first: &StandIn, second: &StandIn) -> ProxyBuilder {
    let best = ProxyBuilder::new().easiest().upstream_for(relay.address, first.authority(), "account");
    best.upstream_for(second.address, second.authority(), "account")
}

fn users(machines: usize, node: &Node) -> Vec<String> {
    (0..machines).map(|at| format!("{}.{at}", address(1 + (at % 4) as u8, node.network))).collect()
}

fn names(machines: usize) -> Vec<String> {
    (0..machines).map(|at| format!("machine{at}")).collect()
}

/// Once nobody submits any more: every share has one answer, and what went upstream is accounted for.
fn assert_all_accounted_for(herd: &Herd, proxy: &Proxy) {
    let tally = herd.quiet();
    assert!(tally.adds_up(), "every share has exactly one answer");
    let known = |code: &u64| matches!(code, 20..=23);
    assert!(tally.refused.keys().all(known), "{:?}", tally.refused);
    let forwarded = wait_for("verdicts", || Some(proxy.forwarded()).filter(|shares| shares.waiting == 0.0));
    assert!(forwarded.adds_up(), "{forwarded:?}");
    assert_eq!(proxy.metric("sluice_proxy_unconfirmed_total"), 0.0);
    // All shares of the pool's difficulty go upstream, so what machines were told is what upstream said.
    assert_eq!(tally.acknowledged.len() as f64, forwarded.accepted, "{forwarded:?}, {:?}", tally.refused);
}

#[test]
fn m19_n18_an_upstream_dies_under_a_thousand_machines_and_the_next_takes_over() {
    let node = Node::signet();
    let pool = pool(&node);
    let (first, second) = (Relay::to(pool.builder.v2()), Relay::to(pool.builder.v2()));
    let authority = pool.builder.authority();
    let proxy = ProxyBuilder::passing_users()
        .easiest()
        .upstream(first.address, authority)
        .upstream(second.address, authority)
        .start();
    let empty = proxy.resident_kib();
    let machines = 1_000;
    let herd = Herd::start(proxy.v1(), users(machines, &node), SHARE_EVERY);
    herd.wait_for_work(machines);
    herd.wait_for_acknowledged(machines);
    let full = proxy.resident_kib();
    println!("{:.1} KiB a machine ({empty} KiB without any)", (full - empty) as f64 / machines as f64);
    // So that many shares are on their way when it dies.
    first.delay(Duration::from_millis(300));
    herd.wait_for_acknowledged(machines / 10);
    let died = Instant::now();
    first.down();
    let took = herd.wait_for_newer_work(died);
    println!("work from the second upstream for all after {took:?}");
    assert!(took <= FAILOVER_MAX, "{took:?}");
    herd.wait_for_acknowledged(machines);
    assert_all_accounted_for(&herd, &proxy);
    let tally = herd.tally();
    println!("{} shares, refused: {:?}, {:?}", tally.submitted, tally.refused, proxy.forwarded());
    assert_eq!((tally.disconnects, tally.with_work), (0, machines), "every machine stays");
    let (status, settings) = pool.stop();
    assert!(status.success());
    let logged = Log::read(&settings.data_dir()).header_hashes();
    let missing = tally.acknowledged.iter().filter(|hash| !logged.contains(*hash)).count();
    assert_eq!(missing, 0, "of {} acknowledged shares", tally.acknowledged.len());
}

#[test]
fn n18_two_hundred_accounts_get_their_channels_at_once_and_again_after_a_failover() {
    let node = Node::signet();
    let pool = pool(&node);
    let (first, second) = (Relay::to(pool.builder.v2()), Relay::to(pool.builder.v2()));
    // So that all ask before the first is answered.
    [&first, &second].iter().for_each(|relay| relay.delay(Duration::from_millis(100)));
    let authority = pool.builder.authority();
    let proxy = ProxyBuilder::passing_users()
        .easiest()
        .upstream(first.address, authority)
        .upstream(second.address, authority)
        .start();
    let accounts = 200;
    let users = (0..accounts).map(|number| address(number, node.network)).collect();
    let herd = Herd::start(proxy.v1(), users, SHARE_EVERY);
    herd.wait_for_work(accounts.into());
    herd.wait_for_acknowledged(accounts.into());
    let died = Instant::now();
    first.down();
    let took = herd.wait_for_newer_work(died);
    println!("work for {accounts} accounts after {took:?}");
    assert!(took <= FAILOVER_MAX, "{took:?}");
    herd.wait_for_acknowledged(accounts.into());
    assert_all_accounted_for(&herd, &proxy);
    assert_eq!(herd.tally().disconnects, 0);
    let second = second.address.to_string();
    let ended = |line: &str| line.contains(&second) && line.contains("ended");
    assert!(!proxy.log().lines().any(ended), "only the one that was cut ends");
}

#[test]
fn m19_upstreams_that_flap_by_turns_lose_no_machine_and_new_work_comes_within_two_seconds() {
    let (first, second) = (StandIn::start(1, Manner::Grants(12)), StandIn::start(2, Manner::Grants(12)));
    second.down();
    let proxy = proxy(&[&first, &second]).start();
    let machines = 50;
    let herd = Herd::start(proxy.v1(), names(machines), Duration::from_millis(200));
    herd.wait_for_work(machines);
    let mut slowest = Duration::ZERO;
    for turn in 0..rounds(4, 12) {
        // The time that it works is what is tested, not waited for.
        std::thread::sleep(Duration::from_secs(5));
        let (dies, works) = if turn % 2 == 0 { (&first, &second) } else { (&second, &first) };
        works.up();
        let died = Instant::now();
        dies.down();
        slowest = slowest.max(herd.wait_for_newer_work(died));
    }
    println!("new work after {slowest:?} at most");
    assert!(slowest <= Duration::from_secs(2), "{slowest:?}");
    herd.wait_for_acknowledged(machines);
    assert_all_accounted_for(&herd, &proxy);
    assert_eq!(herd.tally().disconnects, 0);
}

#[test]
fn m20_upstreams_with_other_extranonce_sizes_reconnect_only_machines_that_roll_too_much() {
    let grants = [16, 12, 6, 8];
    let mut mark = 0;
    let upstreams = grants.map(|bytes| {
        mark += 1;
        StandIn::start(mark, Manner::Grants(bytes))
    });
    let [sixteen, twelve, six, eight] = &upstreams;
    let proxy = proxy(&[sixteen, twelve, six, eight]).start();
    let machines = 40;
    let herd = Herd::start(proxy.v1(), names(machines), Duration::from_millis(200));
    let all_roll = |bytes: usize| {
        wait_for(&format!("all machines to roll {bytes} bytes"), || {
            let tally = herd.tally();
            (tally.with_work == machines && tally.extranonce2_bytes.get(&bytes) == Some(&machines))
                .then_some(())
        });
    };
    all_roll(8);
    herd.wait_for_acknowledged(machines);
    // 16 to 12: nobody has to know.
    let died = Instant::now();
    sixteen.down();
    assert!(herd.wait_for_newer_work(died) <= Duration::from_secs(5));
    herd.wait_for_acknowledged(machines);
    assert_eq!(herd.tally().disconnects, 0);
    // 12 to 8, past one that leaves too little for anybody: all roll too much, and each comes back once.
    twelve.down();
    all_roll(4);
    herd.wait_for_acknowledged(machines);
    assert_eq!(herd.tally().disconnects, machines as u64);
    assert!(six.connections() > 0 && six.hashes().is_empty());
    assert!(proxy.log().contains("min-extranonce-size-too-large"));
    // And back to 16: what they roll fits.
    let died = Instant::now();
    sixteen.up();
    eight.down();
    assert!(herd.wait_for_newer_work(died) <= Duration::from_secs(5));
    herd.wait_for_acknowledged(machines);
    assert_eq!(herd.tally().disconnects, machines as u64);
    assert_all_accounted_for(&herd, &proxy);
    // No share was judged with another prefix than the one it was sent to: the hashes are the same at both ends.
    let arrived: HashSet<_> = upstreams.iter().flat_map(StandIn::hashes).collect();
    let strange = herd.tally().acknowledged.iter().filter(|hash| !arrived.contains(*hash)).count();
    assert_eq!(strange, 0, "of {} shares", arrived.len());
}

#[test]
fn n19_an_upstream_that_talks_rubbish_is_left_for_the_next_and_the_proxy_lives() {
    for manner in [Manner::Noise, Manner::AbsurdTarget, Manner::UnknownGroup, Manner::EndlessTips] {
        let (bad, good) = (StandIn::start(1, manner), StandIn::start(2, Manner::Grants(8)));
        let started = Instant::now();
        let mut proxy = proxy(&[&bad, &good]).launch();
        wait_for(&format!("the next upstream after {manner:?}"), || {
            let upstream = proxy.health()?["upstream"].as_str()?.to_owned();
            (upstream == good.address.to_string()).then_some(())
        });
        println!("{manner:?}: on the next upstream after {:?}", started.elapsed());
        let herd = Herd::start(proxy.v1(), names(10), Duration::from_millis(200));
        herd.wait_for_acknowledged(10);
        assert_all_accounted_for(&herd, &proxy);
        assert!(proxy.is_alive());
        let bound_kib = 200 * 1024;
        assert!(proxy.resident_kib() < bound_kib, "{manner:?}: {} KiB", proxy.resident_kib());
    }
}

#[test]
fn n18_machines_stay_while_every_upstream_is_dead_and_have_work_soon_after_one_is_back() {
    let only = StandIn::start(1, Manner::Grants(12));
    let proxy = proxy(&[&only]).start();
    let machines = 20;
    let herd = Herd::start(proxy.v1(), names(machines), Duration::from_millis(500));
    herd.wait_for_work(machines);
    only.down();
    proxy.wait_for_log("no upstream: machines keep the last work for a while");
    // So that it is tried a few times in vain.
    let tries = only.connections();
    wait_for("vain tries", || (only.connections() >= tries + 2).then_some(()));
    let back = Instant::now();
    only.up();
    let took = herd.wait_for_newer_work(back);
    println!("work for all {took:?} after the upstream was back");
    // Its pause was four seconds at most, and a third for jitter.
    assert!(took <= Duration::from_secs(2) + Duration::from_secs(4).mul_f64(1.3), "{took:?}");
    assert_eq!(herd.tally().disconnects, 0);
    herd.wait_for_acknowledged(machines);
    assert_all_accounted_for(&herd, &proxy);
}

#[test]
fn n18_an_upstream_that_falls_silent_is_left_in_time() {
    let (best, other) = (StandIn::start(1, Manner::Grants(12)), StandIn::start(2, Manner::Grants(12)));
    let relay = Relay::to(best.address);
    let proxy = proxy_through(&relay, &best, &other).start();
    let machines = 40;
    let herd = Herd::start(proxy.v1(), names(machines), Duration::from_millis(500));
    herd.wait_for_acknowledged(machines);
    let silent = Instant::now();
    relay.hold();
    let took = herd.wait_for_newer_work(silent);
    println!("left a silent upstream after {took:?}");
    assert!(took <= FAILOVER_MAX, "{took:?}");
    assert!(proxy.log().contains("it has said nothing for"), "{}", proxy.log());
    // Nobody knows what became of its shares, and each machine was told something all the same.
    herd.wait_for_acknowledged(machines);
    let tally = herd.quiet();
    assert!(tally.adds_up() && tally.disconnects == 0);
    assert!(proxy.forwarded().adds_up(), "{:?}", proxy.forwarded());
}

#[test]
fn m20_another_prefix_from_upstream_changes_nothing_for_machines() {
    let upstream = StandIn::start(1, Manner::ChangesPrefix);
    let proxy = proxy(&[&upstream]).start();
    let machines = 20;
    let herd = Herd::start(proxy.v1(), names(machines), Duration::from_millis(200));
    herd.wait_for_work(machines);
    herd.wait_for_newer_work(Instant::now());
    herd.wait_for_acknowledged(3 * machines);
    assert_all_accounted_for(&herd, &proxy);
    let (tally, arrived) = (herd.tally(), upstream.hashes());
    let strange = tally.acknowledged.iter().filter(|hash| !arrived.contains(*hash)).count();
    assert_eq!((strange, tally.disconnects), (0, 0));
}

#[test]
fn n18_n19_a_connection_upstream_that_is_cut_halved_or_spoilt_is_left_at_once() {
    let faults: [fn(&Relay); 3] = [Relay::cut, Relay::half_close, |relay| relay.inject(&[0x5a; 100])];
    for fault in faults {
        let (best, other) = (StandIn::start(1, Manner::Grants(12)), StandIn::start(2, Manner::Grants(12)));
        let relay = Relay::to(best.address);
        let proxy = proxy_through(&relay, &best, &other).start();
        let machines = 40;
        let herd = Herd::start(proxy.v1(), names(machines), Duration::from_millis(500));
        herd.wait_for_acknowledged(machines);
        let broken = Instant::now();
        fault(&relay);
        let took = herd.wait_for_newer_work(broken);
        assert!(took <= Duration::from_secs(5), "{took:?}");
        herd.wait_for_acknowledged(machines);
        assert_all_accounted_for(&herd, &proxy);
        assert_eq!(herd.tally().disconnects, 0);
        assert!(other.connections() > 0, "the second is mined on");
    }
}

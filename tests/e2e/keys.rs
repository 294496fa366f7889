//! Who is at the other end: wrong keys, certificates that are too old or too new, and how they are renewed.

use bitcoin::secp256k1::XOnlyPublicKey;
use sluice_tests::support::herd::Herd;
use sluice_tests::support::miner::{hex, to_hex};
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{PoolBuilder, address, new_authority};
use sluice_tests::support::proxy::ProxyBuilder;
use sluice_tests::support::relay::Relay;
use sluice_tests::support::stand_in::{Manner, StandIn};
use sluice_tests::support::v2_link::shake_hands;
use sluice_tests::support::v2_miner::V2Miner;
use sluice_tests::support::wait_for;
use std::net::TcpStream;
use std::time::{Duration, Instant};
use stratum::v2::client::Kind;
use stratum::v2::keys::{AuthoritySecret, Certificate};
use stratum::v2::noise::ACT1_BYTES;
use stratum_net::clock::unix_s;

const HOUR_S: u32 = 3_600;

#[test]
fn n12_n14_n15_a_server_without_a_good_certificate_is_told_nothing_and_the_log_says_why() {
    let now = unix_s();
    let good = now - HOUR_S..now + HOUR_S;
    let (expired, early) = (now - 2 * HOUR_S..now - HOUR_S, now + HOUR_S..now + 2 * HOUR_S);
    let stranger = AuthoritySecret::from_bytes([8; 32]).unwrap().public();
    for (valid, wrong_key) in [(good, true), (expired, false), (early, false)] {
        let server = StandIn::certified(1, Manner::Grants(12), valid.clone());
        let relay = Relay::to(server.address);
        let expected = if wrong_key { stranger } else { server.authority() };
        let mut proxy = ProxyBuilder::new().upstream_for(relay.address, expected, "secret-account").launch();
        proxy.wait_for_log("upstream connection ended");
        wait_for("a second try", || (relay.connections() >= 2).then_some(()));
        let log = proxy.log();
        let line = log.lines().find(|line| line.contains("upstream connection ended")).unwrap();
        let named = |what: &str| line.contains(what);
        match (wrong_key, valid.start > now) {
            (true, _) => {
                let both = named(&expected.to_string()) && named(&server.server_key());
                assert!(both, "the key that was expected, and the server's: {line}");
            }
            (false, false) => assert!(named(&format!("was valid until {}", valid.end)), "{line}"),
            (false, true) => assert!(named(&format!("is valid from {} on", valid.start)), "{line}"),
        }
        let clock =
            line.split("our clock says ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        assert!(wrong_key || clock.is_some_and(|clock: u32| clock.abs_diff(now) < 60), "our time: {line}");
        assert!(proxy.is_alive());
        drop(proxy);
        // One act of the handshake for each connection, if it came to that, and not a byte more.
        let (bytes, connections) = (relay.upward_bytes(), relay.connections());
        assert!(bytes > 0 && bytes % ACT1_BYTES as u64 == 0, "{bytes}");
        assert!(bytes <= connections * ACT1_BYTES as u64, "{bytes} bytes on {connections} connections");
    }
}

/// The text of a certificate's file.
fn certificate(builder: &PoolBuilder, secret: &AuthoritySecret, from: u32, until: u32) -> String {
    let server_key = builder.server_key();
    let server = XOnlyPublicKey::from_slice(&hex(&server_key)).unwrap();
    let signed = to_hex(&Certificate::sign(secret, &server, from, until).to_bytes());
    format!(
        "authority = \"{}\"\nserver_key = \"{server_key}\"\ncertificate = \"{signed}\"\n",
        secret.public()
    )
}

#[test]
fn n15_a_pool_without_a_good_certificate_does_not_start_and_says_what_to_do() {
    let node = Node::regtest();
    let now = unix_s();
    let secret = AuthoritySecret::from_bytes([9; 32]).unwrap();
    for (fault, reason) in
        [("missing", "no certificate at"), ("expired", "was valid until"), ("foreign", "for another server")]
    {
        let builder = PoolBuilder::new(&node).with_v2();
        match fault {
            "missing" => std::fs::remove_file(builder.certificate_file()).unwrap(),
            "expired" => builder.certify(&certificate(&builder, &secret, now - 2 * HOUR_S, now - HOUR_S)),
            _ => {
                let other = PoolBuilder::new(&node).with_v2();
                builder.certify(&certificate(&other, &secret, now - HOUR_S, now + HOUR_S));
            }
        }
        let server_key = builder.server_key();
        let mut pool = builder.launch();
        let status = pool.wait_for_exit();
        let text = pool.whole_log();
        assert_eq!(status.code(), Some(1), "{text}");
        let remedy = format!("sluice-pool keys sign --authority FILE --days 30 {server_key}");
        assert!(text.contains(reason) && text.contains(&remedy), "{fault}: {text}");
    }
}

#[test]
fn n15_a_new_certificate_is_taken_up_without_a_restart_and_no_miner_notices() {
    let node = Node::signet();
    let pool = PoolBuilder::new(&node).easiest().with_v2().start();
    let (v2, authority) = (pool.builder.v2(), pool.builder.authority());
    let proxy = ProxyBuilder::passing_users().easiest().upstream(v2, authority).start();
    let machines = 200;
    let user = address(1, node.network);
    let herd = Herd::start(proxy.v1(), vec![user.clone(); machines], Duration::from_secs(2));
    let kind = Kind::Extended { min_extranonce_size: 8 };
    let mut miner = V2Miner::connect(v2, authority, &user, kind);
    herd.wait_for_work(machines);
    pool.builder.sign(&pool.builder.authority_file(), 60);
    pool.wait_for_log("new certificate");
    herd.wait_for_acknowledged(machines);
    miner.mine_share().unwrap();
    let mut newcomer = V2Miner::connect(v2, authority, &user, kind);
    newcomer.mine_share().unwrap();
    assert_eq!(herd.tally().disconnects, 0);
    assert_eq!(proxy.metric("sluice_proxy_upstream_ends_total"), 0.0);
}

#[test]
fn n15_authorities_change_under_a_thousand_machines_whose_proxy_knows_both_keys() {
    let node = Node::signet();
    let pool = PoolBuilder::new(&node).easiest().with_v2().start();
    let (old, file) = (pool.builder.authority(), pool.builder.data_dir().join("next.key"));
    let new = new_authority(&file);
    let relay = Relay::to(pool.builder.v2());
    let proxy = ProxyBuilder::passing_users()
        .easiest()
        .upstream(relay.address, old)
        .upstream(relay.address, new)
        .start();
    let machines = 1_000;
    let herd = Herd::start(proxy.v1(), vec![address(1, node.network); machines], Duration::from_secs(2));
    herd.wait_for_work(machines);
    pool.builder.sign(&file, 30);
    pool.wait_for_log("another authority");
    // Whoever is connected has seen a good certificate, and stays.
    herd.wait_for_acknowledged(machines);
    assert_eq!(proxy.metric("sluice_proxy_upstream_ends_total"), 0.0);
    let shake = |key| shake_hands(&mut TcpStream::connect(pool.builder.v2()).unwrap(), key);
    assert!(shake(old).is_err() && shake(new).is_ok());
    // A new connection finds the key that the server has now.
    let cut = Instant::now();
    relay.cut();
    let took = herd.wait_for_newer_work(cut);
    println!("work under the new authority for all after {took:?}");
    herd.wait_for_acknowledged(machines);
    assert_eq!(herd.tally().disconnects, 0);
}

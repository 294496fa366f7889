use super::*;
use prometheus::Registry;
use std::net::{Ipv4Addr, TcpListener};
use stratum::v2::codec::Str255;
use stratum::v2::keys::AuthoritySecret;
use stratum_net::outbound::Server;

/// An upstream at a port that nobody listens on.
fn dead() -> Upstream {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let authority = AuthoritySecret::from_bytes([1; 32]).unwrap().public();
    let server = Server { host: "127.0.0.1".to_owned(), port, authority };
    Upstream { server, user: Some(Str255::from_static("user")), log: None }
}

/// Work of a connection that is gone.
fn last_work() -> Current {
    let route = Route { link: 99, wishes: mpsc::channel(1).0 };
    let accounts = HashMap::new();
    Current(Some(Arc::new(WorkSet { id: 0, route, tip: None, extranonce2_bytes: 8, accounts })))
}

fn surroundings(upstreams: &[Upstream]) -> Surroundings {
    let names = upstreams.iter().map(|upstream| upstream.server.to_string()).collect();
    let health = Arc::new(Health::new(names));
    let (shards, metrics) = (vec![mpsc::channel(1).0], Metrics::new(Registry::new()));
    Surroundings { shards, health, metrics, journal: None }
}

#[tokio::test(start_paused = true)]
async fn n18_without_any_upstream_machines_keep_the_last_work_for_two_minutes_and_the_proxy_goes_on_trying() {
    let upstreams = vec![dead(), dead()];
    let surroundings = surroundings(&upstreams);
    let (show, mut current) = watch::channel(last_work());
    let (stop, started) = (CancellationToken::new(), tokio::time::Instant::now());
    let metrics = surroundings.metrics.clone();
    let running = tokio::spawn(Switchboard::new(upstreams, surroundings, show).run(stop.clone()));
    current.changed().await.unwrap();
    assert!(current.borrow_and_update().0.is_none(), "machines are let go");
    let held = started.elapsed();
    assert!(held >= LAST_WORK_MAX && held < LAST_WORK_MAX + Duration::from_secs(1), "{held:?}");
    let ends = || {
        let text = metrics.text(&crate::rates::Rates::new(1), None);
        let line = text.lines().find_map(|line| line.strip_prefix("sluice_proxy_upstream_ends_total "));
        line.unwrap().parse::<u64>().unwrap()
    };
    let before = ends();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert!(!running.is_finished(), "it never gives up");
    // Two upstreams, each at least every 78 s.
    assert!(ends() - before >= 2 * (3_600 / 84), "{}", ends() - before);
    stop.cancel();
    running.await.unwrap();
}

#[test]
fn r06_names_that_upstream_refuses_are_forgotten_in_time_and_cost_nobody_his_work() {
    let route = Route { link: 1, wishes: mpsc::channel(1).0 };
    let (accounts, refused, stop) = (HashMap::new(), VecDeque::new(), CancellationToken::new());
    let mut line = Line { route, live: true, tip: None, accounts, refused, stop };
    let name = |number: usize| Account::from_bytes(format!("name{number}").into_bytes());
    for number in 0..5 * ACCOUNTS_MAX {
        line.refuse(name(number), "who?".into());
        line.refuse(name(number), "who?".into());
    }
    assert_eq!((line.accounts.len(), line.refused.len()), (ACCOUNTS_MAX, ACCOUNTS_MAX));
    assert!(line.accounts.contains_key(&name(5 * ACCOUNTS_MAX - 1)), "the newest is told so");
}

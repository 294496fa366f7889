use super::*;

#[tokio::test]
async fn v1_10_small_lines_leave_at_once_and_dead_peers_are_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    prepare(&stream).unwrap();
    let socket = socket2::SockRef::from(&stream);
    assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
    let seconds = (socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap());
    assert_eq!(seconds, (Duration::from_secs(60), Duration::from_secs(10)));
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
}

#[tokio::test]
async fn n05_connections_beyond_the_pace_wait_for_their_turn_and_the_refused_do_not() {
    let limits = crate::limits::Limits { connections_per_s: 10, connections_max: 12, ..Default::default() };
    let gate = Gate::new(limits);
    let metrics = ConnectionMetrics::new(&prometheus::Registry::new(), "test", &["v1"]);
    let (started, peer) = (Instant::now(), SocketAddr::from(([127, 0, 0, 1], 5)));
    let mut held = Vec::new();
    for _ in 0..12 {
        held.push(admit(peer, &gate, &metrics).await.unwrap());
    }
    // Ten at once, then one each tenth of a second.
    assert!(started.elapsed() >= Duration::from_millis(190), "{:?}", started.elapsed());
    let turn = gate.turn(started);
    for _ in 0..100 {
        assert!(admit(peer, &gate, &metrics).await.is_none());
    }
    assert_eq!(gate.turn(started), turn + Duration::from_millis(100), "refused ones took turns");
}

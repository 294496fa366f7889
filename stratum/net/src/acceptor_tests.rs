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

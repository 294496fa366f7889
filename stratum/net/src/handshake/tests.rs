//! Real sockets against the V2 listener.

use super::*;
use crate::limits::Limits;
use prometheus::Registry;
use std::io::{Read, Write};
use std::time::Instant;
use stratum::v2::keys::{AuthoritySecret, CertificateError};
use stratum::v2::noise::{ACT2_BYTES, Authority, HandshakeError, Initiator};
use tokio::sync::mpsc;

const NOW: u32 = 1_790_000_000;

struct Bench {
    address: SocketAddr,
    incoming: mpsc::Receiver<Incoming>,
    registry: Registry,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
    _identity: watch::Sender<Arc<Identity>>,
}

fn authority(seed: u8) -> AuthoritySecret {
    AuthoritySecret::from_bytes([seed; 32]).unwrap()
}

impl Bench {
    fn new() -> Self {
        let key = StaticKey::new([3; 32], [4; 32]);
        let certificate = Certificate::sign(&authority(1), &key.public_x_only(), NOW - 60, NOW + 3_600);
        let (sender, identity) = watch::channel(Arc::new(Identity { key, certificate }));
        let registry = Registry::new();
        let metrics = ConnectionMetrics::new(&registry, "x", &["v2"]);
        let (entrance, incoming, _) = ShardEntrance::new();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let reception =
            Reception { identity, gate: Gate::new(Limits::default()), shards: vec![entrance], metrics };
        let thread = spawn(vec![listener], reception, stop.clone()).unwrap();
        Self { address, incoming, registry, stop, thread: Some(thread), _identity: sender }
    }

    fn connect(&self) -> std::net::TcpStream {
        let stream = std::net::TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Shakes hands as a client that trusts this authority.
    fn shake(
        &self,
        stream: &mut std::net::TcpStream,
        authority: Authority,
    ) -> Result<Transport, HandshakeError> {
        let (initiator, act1) = Initiator::new([7; 64], authority);
        stream.write_all(&act1).unwrap();
        let mut act2 = [0; ACT2_BYTES];
        stream.read_exact(&mut act2).unwrap();
        initiator.finish(&act2, NOW)
    }

    fn refused(&self, reason: &str) -> bool {
        crate::metrics::text(&self.registry).contains(&format!("x_refusals_total{{reason=\"{reason}\"}} 1"))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn a_client_and_the_shard_understand_each_other_after_the_handshake() {
    let mut bench = Bench::new();
    let mut stream = bench.connect();
    let mut client = bench.shake(&mut stream, Authority::Pinned(authority(1).public())).unwrap();
    let incoming = bench.incoming.blocking_recv().unwrap();
    let Wire::Sealed(mut server) = incoming.wire else { panic!("a V2 connection") };
    let mut sealed = Vec::new();
    client.seal.seal(&[1, 2, 3, 4, 0, 0], &[], &mut sealed).unwrap();
    assert_eq!(server.open.header(sealed.first_chunk().unwrap()).unwrap(), [1, 2, 3, 4, 0, 0]);
}

#[test]
fn n12_a_client_that_trusts_another_authority_says_nothing_more() {
    let bench = Bench::new();
    let expected = authority(2).public();
    let refused = bench.shake(&mut bench.connect(), Authority::Pinned(expected)).unwrap_err();
    assert!(matches!(refused, HandshakeError::Certificate(CertificateError::Signature { .. })), "{refused}");
    assert!(refused.to_string().contains(&expected.to_string()), "{refused}");
}

#[test]
fn n04_whoever_does_not_shake_hands_in_time_is_closed_and_others_are_served_meanwhile() {
    let mut bench = Bench::new();
    let mut slow: Vec<_> = (0..8).map(|_| bench.connect()).collect();
    for stream in &mut slow {
        stream.write_all(&[9]).unwrap();
    }
    let started = Instant::now();
    bench.shake(&mut bench.connect(), Authority::Unauthenticated).unwrap();
    assert!(bench.incoming.blocking_recv().is_some());
    assert!(started.elapsed() < HANDSHAKE_MAX, "the slow ones are still there");
    for stream in &mut slow {
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
    assert!(started.elapsed() >= HANDSHAKE_MAX / 2);
    assert!(bench.incoming.try_recv().is_err());
}

#[test]
fn n06_a_probe_that_says_nothing_is_no_failed_handshake() {
    let bench = Bench::new();
    drop(bench.connect());
    let mut half = bench.connect();
    half.write_all(&[1; 10]).unwrap();
    half.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(half.read(&mut [0]).unwrap_or(0), 0);
    // The half one alone is counted.
    assert!(bench.refused("no_handshake"));
}

#[tokio::test]
async fn n06_the_oldest_handshake_makes_room_and_finished_ones_do_not_count() {
    let registry = Registry::new();
    let metrics = ConnectionMetrics::new(&registry, "x", &["v2"]);
    let tasks = LocalSet::new();
    tasks
        .run_until(async {
            let mut under_way = VecDeque::new();
            let waiting = || tokio::task::spawn_local(std::future::pending::<()>());
            let oldest = waiting();
            under_way.push_back(oldest.abort_handle());
            let done = tokio::task::spawn_local(async {});
            under_way.push_back(done.abort_handle());
            done.await.unwrap();
            while under_way.len() < HANDSHAKES_MAX {
                under_way.push_back(waiting().abort_handle());
            }
            make_room(&mut under_way, &metrics);
            assert_eq!(under_way.len(), HANDSHAKES_MAX - 1, "the finished one is gone");
            under_way.push_back(waiting().abort_handle());
            make_room(&mut under_way, &metrics);
            assert!(oldest.await.unwrap_err().is_cancelled());
            assert!(crate::metrics::text(&registry).contains("x_refusals_total{reason=\"crowded\"} 1"));
        })
        .await;
}

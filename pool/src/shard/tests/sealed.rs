//! V2 connections, with our client at their other end.

use super::*;
use stratum::v2::client::{Client, Event, Kind, Request};
use stratum::v2::codec::{Str255, U256};
use stratum::v2::frame::HEADER_BYTES;
use stratum::v2::keys::{AuthoritySecret, Certificate, StaticKey};
use stratum::v2::noise::{Authority, Initiator, Sealer, Transport, respond};

struct Peer {
    key: PeerKey,
    client: Client,
    sealer: Sealer,
}

/// Both ends of a connection after its handshake.
fn transports() -> (Transport, Transport) {
    let authority = AuthoritySecret::from_bytes([1; 32]).unwrap();
    let key = StaticKey::new([2; 32], [3; 32]);
    let certificate = Certificate::sign(&authority, &key.public_x_only(), 0, u32::MAX);
    let (initiator, act1) = Initiator::new([4; 64], Authority::Unauthenticated);
    let (act2, server) = respond(&key, &certificate, [5; 64], &act1).unwrap();
    (initiator.finish(&act2, 1).unwrap(), server)
}

fn request(kind: Kind) -> Request {
    let user_identity = Str255::new(address(1).into_bytes()).unwrap();
    Request { kind, user_identity, hashes_per_s: 0.0, max_target: U256([0xff; 32]) }
}

impl Bench {
    /// A connection that is ready for channels.
    fn sealed(&mut self) -> Peer {
        let (client, server) = transports();
        let wire = Wire::Sealed(Box::new(server));
        let key = self.shard.open(wire, Rc::default(), self.now).unwrap();
        let settings = stratum::v2::client::Settings::new(Str255::default(), 0);
        let mut events = Vec::new();
        let opener = client.open;
        let client_end = Client::new(Arc::new(settings), opener, self.now, &mut events);
        let mut peer = Peer { key, client: client_end, sealer: client.seal };
        self.say(&mut peer, events);
        assert!(matches!(self.hear(&mut peer)[..], [Event::Ready { .. }]));
        peer
    }

    /// The number of a new channel, whose first job is read.
    fn channel(&mut self, peer: &mut Peer, kind: Kind) -> u32 {
        let mut events = Vec::new();
        peer.client.open(request(kind), self.now, &mut events).unwrap();
        self.say(peer, events);
        match self.hear(peer)[..] {
            [Event::Opened { channel, .. }, Event::Work { .. }] => channel,
            ref other => panic!("{other:?}"),
        }
    }

    /// Gives the shard what a client wants sent, in one read.
    fn say(&mut self, peer: &mut Peer, events: Vec<Event>) {
        let mut sealed = Vec::new();
        for event in events {
            let Event::Send(frame) = event else { panic!("{event:?}") };
            let (header, payload) = frame.split_first_chunk::<HEADER_BYTES>().unwrap();
            peer.sealer.seal(header, payload, &mut sealed).unwrap();
        }
        self.receive(peer.key, &sealed);
    }

    /// Gives a client what waits for it.
    fn hear(&mut self, peer: &mut Peer) -> Vec<Event> {
        let sealed = self.waiting(peer.key);
        let mut events = Vec::new();
        peer.client.receive(&sealed, self.now, &mut events).unwrap();
        events
    }
}

#[test]
fn mn_15_a_job_that_waits_for_a_channel_is_not_sent_once_that_is_closed() {
    for kind in [Kind::Standard, Kind::Extended { min_extranonce_size: 12 }] {
        let mut bench = Bench::new();
        let mut peer = bench.sealed();
        let (closed, other) = (bench.channel(&mut peer, kind), bench.channel(&mut peer, kind));
        bench.shard.follow(given(work()), bench.now);
        bench.shard.offer_work(peer.key, bench.now);
        let mut events = Vec::new();
        peer.client.close(closed, Str255::default(), &mut events).unwrap();
        bench.say(&mut peer, events);
        let heard = bench.hear(&mut peer);
        assert!(matches!(&heard[..], [Event::Work { job, .. }] if job.channel == other), "{heard:?}");
        assert_eq!(peer.client.ignored(), 0);
    }
}

#[test]
fn mn_07_requests_that_come_in_one_read_are_all_answered() {
    let mut bench = Bench::new();
    let mut peer = bench.sealed();
    let mut events = Vec::new();
    for kind in [Kind::Standard, Kind::Extended { min_extranonce_size: 8 }, Kind::Standard] {
        peer.client.open(request(kind), bench.now, &mut events).unwrap();
    }
    bench.say(&mut peer, events);
    let heard = bench.hear(&mut peer);
    let opened = heard.iter().filter(|event| matches!(event, Event::Opened { .. })).count();
    assert_eq!((opened, heard.len()), (3, 6), "{heard:?}");
}

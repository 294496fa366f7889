//! A V2 connection as a client has it: our client's protocol over a real, blocking socket.

use super::PATIENCE;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stratum::v2::client::{Client, Event, Job, Kind, Request, Settings};
use stratum::v2::codec::{Str255, U256};
use stratum::v2::frame::write_frame;
use stratum::v2::keys::AuthorityKey;
use stratum::v2::message::Wire;
use stratum::v2::noise::{ACT1_BYTES, ACT2_BYTES, Authority, HEADER_BYTES, Initiator, Sealer, Transport};
use stratum_net::clock::unix_s;

/// A connection that is set up.
pub struct V2Link {
    stream: TcpStream,
    client: Client,
    seal: Sealer,
    events: VecDeque<Event>,
}

/// The first act of a handshake, and who goes on with it.
pub fn initiate(authority: AuthorityKey) -> (Initiator, [u8; ACT1_BYTES]) {
    let mut ephemeral = [0; 64];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut ephemeral).unwrap();
    Initiator::new(ephemeral, Authority::Pinned(authority))
}

/// Shakes hands on a connection.
pub fn shake_hands(stream: &mut TcpStream, authority: AuthorityKey) -> io::Result<Transport> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let (initiator, act1) = initiate(authority);
    stream.write_all(&act1)?;
    let mut act2 = [0; ACT2_BYTES];
    stream.read_exact(&mut act2)?;
    initiator.finish(&act2, unix_s()).map_err(io::Error::other)
}

impl V2Link {
    /// Connects, shakes hands, agrees on how to work together.
    pub fn connect(server: SocketAddr, authority: AuthorityKey) -> Self {
        Self::over(TcpStream::connect(server).unwrap(), authority)
    }

    /// The same over a connection that is there.
    pub fn over(mut stream: TcpStream, authority: AuthorityKey) -> Self {
        stream.set_nodelay(true).unwrap();
        let Transport { seal, open } = shake_hands(&mut stream, authority).unwrap();
        let port = stream.peer_addr().unwrap().port();
        let settings = Arc::new(Settings::new(Str255::from_static("127.0.0.1"), port));
        let mut out = Vec::new();
        let client = Client::new(settings, open, Instant::now(), &mut out);
        let mut link = Self { stream, client, seal, events: VecDeque::new() };
        link.send(out);
        link.wait_for(|event| matches!(event, Event::Ready { .. }).then_some(()));
        link
    }

    /// Opens a channel that accepts any target; gives its id and its first job.
    pub fn open(&mut self, user: &str, kind: Kind) -> (u32, Arc<Job>) {
        let user_identity = Str255::new(user.as_bytes().to_vec()).unwrap();
        let request = Request { kind, user_identity, hashes_per_s: 0.0, max_target: U256([0xff; 32]) };
        self.act(|client, out| client.open(request, Instant::now(), out)).unwrap();
        let channel = self.wait_for(|event| match event {
            Event::Opened { channel, .. } => Some(*channel),
            Event::OpenRefused { code, .. } => panic!("no channel: {code}"),
            _ => None,
        });
        let job = self.wait_for(|event| match event {
            Event::Work { job, .. } if job.channel == channel => Some(job.clone()),
            _ => None,
        });
        (channel, job)
    }

    /// Lets the client do something, and sends what comes of it.
    pub fn act<T>(&mut self, act: impl FnOnce(&mut Client, &mut Vec<Event>) -> T) -> T {
        let mut out = Vec::new();
        let done = act(&mut self.client, &mut out);
        self.send(out);
        done
    }

    /// The next event that is there; without any, reads once, for at most this long.
    pub fn next(&mut self, patience: Duration) -> Option<Event> {
        if self.events.is_empty() {
            self.receive(patience);
        }
        self.events.pop_front()
    }

    /// Seals a message, whether or not it makes sense.
    pub fn seal<M: Wire>(&mut self, message: &M, sealed: &mut Vec<u8>) {
        let mut frame = Vec::new();
        write_frame(message, &mut frame);
        self.seal_frame(&frame, sealed);
    }

    fn seal_frame(&mut self, frame: &[u8], sealed: &mut Vec<u8>) {
        let (header, payload) = frame.split_first_chunk::<HEADER_BYTES>().unwrap();
        self.seal.seal(header, payload, sealed).unwrap();
    }

    /// The connection itself.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    fn wait_for<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(found) = self.next(PATIENCE).and_then(|event| wanted(&event)) {
                return found;
            }
            assert!(started.elapsed() < PATIENCE, "no answer in time");
        }
    }

    /// Sends what is to be sent, keeps the rest.
    fn send(&mut self, out: Vec<Event>) {
        let mut sealed = Vec::new();
        for event in out {
            match event {
                Event::Send(frame) => self.seal_frame(&frame, &mut sealed),
                event => self.events.push_back(event),
            }
        }
        self.stream.write_all(&sealed).unwrap();
    }

    fn receive(&mut self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = [0; 16 * 1024];
        let read = match self.stream.read(&mut buffer) {
            Ok(0) => panic!("the server has closed the connection"),
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return,
            Err(error) => panic!("reading from the server: {error}"),
        };
        self.act(|client, out| client.receive(&buffer[..read], Instant::now(), out)).unwrap();
    }
}

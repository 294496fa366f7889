//! The poller and its connections.

use crate::canned::{Asked, Canned};
use anyhow::Context;
use floor::frames::Frames;
use floor::link::{Link, SCRATCH_BYTES, lines};
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::time::{SystemTime, UNIX_EPOCH};
use stratum::v2::keys::{AuthoritySecret, Certificate, StaticKey};
use stratum::v2::noise::{ACT1_BYTES, Sealer, Transport, respond};

const V1: Token = Token(0);
const V2: Token = Token(1);
const INPUT: Token = Token(2);
const FIRST: usize = 3;
const EVENTS_MAX: usize = 1_024;
const CERTIFICATE_S: u32 = 86_400;

struct Connection {
    link: Link,
    state: State,
    /// Whether it is told of new jobs.
    works: bool,
}

enum State {
    V1,
    /// V2, before the handshake.
    Silent,
    V2(Box<(Frames, Sealer)>),
}

/// Who the server says that it is.
struct Identity {
    key: StaticKey,
    certificate: Certificate,
}

struct Server {
    poll: Poll,
    connections: Slab<Connection>,
    canned: Canned,
    identity: Identity,
    scratch: Vec<u8>,
    out: Vec<u8>,
}

/// Serves until it is killed.
///
/// # Errors
/// The machine gives no sockets.
#[expect(clippy::print_stdout, reason = "the URLs are what its caller waits for")]
pub fn run(coinbase_bytes: usize) -> anyhow::Result<()> {
    raise_file_limit();
    let authority = AuthoritySecret::from_bytes(rand::random()).context("no key")?;
    let key = StaticKey::new(rand::random(), rand::random());
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let now = u32::try_from(now).context("the clock is wrong")?;
    let certificate = Certificate::sign(&authority, &key.public_x_only(), now, now + CERTIFICATE_S);
    let poll = Poll::new()?;
    let mut listeners =
        [TcpListener::bind("127.0.0.1:0".parse()?)?, TcpListener::bind("127.0.0.1:0".parse()?)?];
    for (listener, token) in listeners.iter_mut().zip([V1, V2]) {
        poll.registry().register(listener, token, Interest::READABLE)?;
    }
    // What is no pipe cannot be waited for: then there are no new tips.
    let input = io::stdin().as_raw_fd();
    let _ = poll.registry().register(&mut SourceFd(&input), INPUT, Interest::READABLE);
    println!("stratum+tcp://{}", listeners[0].local_addr()?);
    println!("stratum2+tcp://{}/{}", listeners[1].local_addr()?, authority.public());
    let server = Server {
        poll,
        connections: Slab::new(),
        canned: Canned::new(coinbase_bytes),
        identity: Identity { key, certificate },
        scratch: vec![0; SCRATCH_BYTES],
        out: Vec::new(),
    };
    server.serve(&listeners)
}

impl Server {
    fn serve(mut self, listeners: &[TcpListener; 2]) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                match event.token() {
                    V1 => self.accept(&listeners[0], || State::V1)?,
                    V2 => self.accept(&listeners[1], || State::Silent)?,
                    INPUT => {
                        // Whoever started this is gone.
                        if io::stdin().read(&mut self.scratch)? == 0 {
                            return Ok(());
                        }
                        self.new_tip();
                    }
                    Token(token) => self.turn(token - FIRST, event.is_writable()),
                }
            }
        }
    }

    fn accept(&mut self, listener: &TcpListener, state: impl Fn() -> State) -> io::Result<()> {
        loop {
            let mut stream: TcpStream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let entry = self.connections.vacant_entry();
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(FIRST + entry.key()), interest)?;
            entry.insert(Connection { link: Link::new(stream), state: state(), works: false });
        }
    }

    fn turn(&mut self, index: usize, writable: bool) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        self.out.clear();
        let unsent = if writable { connection.link.writable() } else { Ok(()) };
        let turned = unsent
            .and_then(|()| connection.answer(&self.canned, &self.identity, &mut self.scratch, &mut self.out))
            .and_then(|()| connection.link.send(&self.out));
        if turned.is_err() {
            // Closing the socket takes it out of the poller.
            self.connections.remove(index);
        }
    }

    fn new_tip(&mut self) {
        self.canned.next_tip();
        for (_, connection) in self.connections.iter_mut().filter(|(_, connection)| connection.works) {
            // A connection that has ended is found out when it is read.
            let _ = match &mut connection.state {
                State::V1 => connection.link.send(self.canned.notify()),
                State::Silent => Ok(()),
                State::V2(session) => {
                    self.out.clear();
                    self.canned
                        .job(&mut session.1, &mut self.out)
                        .and_then(|()| connection.link.send(&self.out))
                }
            };
        }
    }
}

impl Connection {
    fn answer(
        &mut self,
        canned: &Canned,
        identity: &Identity,
        scratch: &mut [u8],
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let Self { link, state, works } = self;
        link.receive(scratch, |bytes| {
            let mut used = 0;
            if matches!(state, State::Silent) {
                let Some(act1) = bytes.first_chunk::<ACT1_BYTES>() else { return Ok(0) };
                let (act2, Transport { seal, open }) =
                    respond(&identity.key, &identity.certificate, rand::random(), act1)
                        .map_err(io::Error::other)?;
                out.extend_from_slice(&act2);
                *state = State::V2(Box::new((Frames::new(open), seal)));
                used = ACT1_BYTES;
            }
            let State::V2(session) = state else {
                return lines(bytes, |line| {
                    *works |= canned.answer_line(line, out)?;
                    Ok(())
                });
            };
            let (frames, sealer) = &mut **session;
            let mut asked = Asked::default();
            used += frames.take(&mut bytes[used..], |msg_type, payload| {
                *works |= canned.answer_frame((msg_type, payload), sealer, &mut asked, out)?;
                Ok(())
            })?;
            asked.answer(sealer, out)?;
            Ok(used)
        })
    }
}

fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    // If it stays as it is, connections beyond it are refused.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

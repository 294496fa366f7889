//! Everything over epoll: the poller and its connections.

use crate::session::{Host, NewJob, Session};
use crate::setup::Setup;
use floor::link::{Link, SCRATCH_BYTES};
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsRawFd;

const V1: Token = Token(0);
const V2: Token = Token(1);
const INPUT: Token = Token(2);
const FIRST: usize = 3;
const EVENTS_MAX: usize = 1_024;

struct Connection {
    link: Link,
    session: Session,
}

struct Server {
    poll: Poll,
    connections: Slab<Connection>,
    host: Host,
    scratch: Vec<u8>,
    out: Vec<u8>,
}

/// Serves until the input ends.
///
/// # Errors
/// The machine gives no sockets.
pub fn serve(setup: Setup) -> anyhow::Result<()> {
    let poll = Poll::new()?;
    let mut listeners = setup.listeners.map(TcpListener::from_std);
    for (listener, token) in listeners.iter_mut().zip([V1, V2]) {
        poll.registry().register(listener, token, Interest::READABLE)?;
    }
    // What is no pipe cannot be waited for: then there are no new tips.
    let _ = poll.registry().register(&mut SourceFd(&setup.input.as_raw_fd()), INPUT, Interest::READABLE);
    let server = Server {
        poll,
        connections: Slab::new(),
        host: setup.host,
        scratch: vec![0; SCRATCH_BYTES],
        out: Vec::new(),
    };
    server.serve(&listeners, setup.input)
}

impl Server {
    fn serve(mut self, listeners: &[TcpListener; 2], mut input: File) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                match event.token() {
                    V1 => self.accept(&listeners[0], Session::v1)?,
                    V2 => self.accept(&listeners[1], Session::v2)?,
                    INPUT => {
                        // Whoever started this is gone.
                        if input.read(&mut self.scratch)? == 0 {
                            return Ok(());
                        }
                        self.new_tip();
                    }
                    Token(token) => self.turn(token - FIRST, event.is_writable()),
                }
            }
        }
    }

    fn accept(&mut self, listener: &TcpListener, session: impl Fn() -> Session) -> io::Result<()> {
        loop {
            let mut stream: TcpStream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let entry = self.connections.vacant_entry();
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(FIRST + entry.key()), interest)?;
            entry.insert(Connection { link: Link::new(stream), session: session() });
        }
    }

    fn turn(&mut self, index: usize, writable: bool) {
        let Some(Connection { link, session }) = self.connections.get_mut(index) else { return };
        self.out.clear();
        let (host, out) = (&self.host, &mut self.out);
        let unsent = if writable { link.writable() } else { Ok(()) };
        let turned = unsent
            .and_then(|()| link.receive(&mut self.scratch, |bytes| session.answer(bytes, host, out)))
            .and_then(|()| link.send(&self.out));
        if turned.is_err() {
            // Closing the socket takes it out of the poller.
            self.connections.remove(index);
        }
    }

    fn new_tip(&mut self) {
        self.host.canned.next_tip();
        for (_, Connection { link, session }) in &mut self.connections {
            self.out.clear();
            // A connection that has ended is found out when it is read.
            let _ = match session.new_job(&self.host, &mut self.out) {
                Ok(NewJob::Line) => link.send(self.host.canned.notify()),
                Ok(NewJob::Frames) => link.send(&self.out),
                Ok(NewJob::None) => Ok(()),
                Err(error) => Err(error),
            };
        }
    }
}

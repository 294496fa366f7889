//! Everything over io_uring: the ring and its connections.
//!
//! The same answers as those of `server`, and the same number of bytes kept while nothing is cut in two. A connection
//! with something on its way in the kernel gets its next answers when that is gone.

use crate::session::{Host, NewJob, Session};
use crate::setup::Setup;
use anyhow::Context;
use floor::link::{Rest, SCRATCH_BYTES};
use std::fs::File;
use std::io::{self, Read};
use std::rc::Rc;
use uring::{Event, Ring, Setting};

/// Buffers are few and small, so that they stay in the processor's cache; what does not fit into one takes several.
const BUFFERS: u16 = 256;
const BUFFER_BYTES: usize = 4_096;
const CONNECTIONS_MAX: u64 = 65_536;

struct Connection {
    session: Session,
    rest: Rest,
    /// What waits for what is being sent.
    unsent: Vec<u8>,
    sending: bool,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Live,
    /// Shut down by us: its end is still to come.
    Leaving,
    /// To be closed when nothing is being sent.
    Ended,
}

struct Server {
    ring: Ring,
    /// By their slots.
    connections: Vec<Option<Connection>>,
    host: Host,
    scratch: Vec<u8>,
    out: Vec<u8>,
}

/// Serves until the input ends.
///
/// # Errors
/// The system refuses io_uring, or gives no sockets.
pub fn serve(setup: Setup, files: u64) -> anyhow::Result<()> {
    let slots = u32::try_from(files.min(CONNECTIONS_MAX))?;
    let setting = Setting { slots, buffers: BUFFERS, buffer_bytes: BUFFER_BYTES };
    let mut ring = Ring::new(&setting).context("the system refuses io_uring")?;
    for listener in setup.listeners {
        ring.accept(listener)?;
    }
    ring.watch(setup.input.try_clone()?.into())?;
    let server = Server {
        ring,
        connections: Vec::new(),
        host: setup.host,
        scratch: vec![0; SCRATCH_BYTES],
        out: Vec::new(),
    };
    server.serve(setup.input)
}

impl Server {
    fn serve(mut self, mut input: File) -> anyhow::Result<()> {
        loop {
            self.ring.turn()?;
            while let Some(event) = self.ring.event()? {
                match event {
                    Event::Accepted { listener, slot } => {
                        let session = if listener == 0 { Session::v1() } else { Session::v2() };
                        self.accepted(slot, session);
                    }
                    Event::Received { slot, bytes } => {
                        let connection = at(&mut self.connections, slot)?;
                        self.out.clear();
                        match connection.answer(bytes, &self.host, &mut self.scratch, &mut self.out) {
                            Ok(()) => connection.send(&mut self.ring, slot, &mut self.out)?,
                            Err(_) => connection.leave(&mut self.ring, slot)?,
                        }
                    }
                    Event::Sent { slot, whole } => self.sent(slot, whole)?,
                    Event::Ended { slot } => self.ended(slot)?,
                    Event::Readable => {
                        // Whoever started this is gone.
                        if input.read(&mut self.scratch)? == 0 {
                            return Ok(());
                        }
                        self.new_tip()?;
                    }
                }
            }
        }
    }

    fn accepted(&mut self, slot: u32, session: Session) {
        let index = slot as usize; // below CONNECTIONS_MAX
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, || None);
        }
        let (rest, unsent) = (Rest::default(), Vec::new());
        let connection = Connection { session, rest, unsent, sending: false, stage: Stage::Live };
        self.connections[index] = Some(connection);
    }

    fn sent(&mut self, slot: u32, whole: bool) -> io::Result<()> {
        let connection = at(&mut self.connections, slot)?;
        connection.sending = false;
        if connection.stage == Stage::Ended {
            return self.close(slot);
        }
        if !whole {
            return connection.leave(&mut self.ring, slot);
        }
        let mut unsent = std::mem::take(&mut connection.unsent);
        connection.send(&mut self.ring, slot, &mut unsent)
    }

    fn ended(&mut self, slot: u32) -> io::Result<()> {
        let connection = at(&mut self.connections, slot)?;
        if !connection.sending {
            return self.close(slot);
        }
        connection.leave(&mut self.ring, slot)?;
        connection.stage = Stage::Ended;
        Ok(())
    }

    fn close(&mut self, slot: u32) -> io::Result<()> {
        self.connections[slot as usize] = None;
        self.ring.close(slot)
    }

    fn new_tip(&mut self) -> io::Result<()> {
        self.host.canned.next_tip();
        let notify = Rc::clone(self.host.canned.notify());
        for (slot, connection) in (0..).zip(&mut self.connections) {
            let Some(connection) = connection.as_mut().filter(|connection| connection.stage == Stage::Live)
            else {
                continue;
            };
            self.out.clear();
            match connection.session.new_job(&self.host, &mut self.out) {
                Ok(NewJob::Line) if !connection.sending => {
                    connection.sending = true;
                    self.ring.send_shared(slot, &notify)?;
                }
                Ok(NewJob::Line) => connection.unsent.extend_from_slice(&notify),
                Ok(NewJob::Frames) => connection.send(&mut self.ring, slot, &mut self.out)?,
                Ok(NewJob::None) => {}
                Err(_) => connection.leave(&mut self.ring, slot)?,
            }
        }
        Ok(())
    }
}

impl Connection {
    fn answer(
        &mut self,
        bytes: &mut [u8],
        host: &Host,
        scratch: &mut [u8],
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let Self { session, rest, stage, .. } = self;
        match stage {
            Stage::Live => rest.receive(bytes, scratch, |bytes| session.answer(bytes, host, out)),
            Stage::Leaving | Stage::Ended => Ok(()),
        }
    }

    /// Sends after everything that was sent before. What is left in `out` is of no use.
    fn send(&mut self, ring: &mut Ring, slot: u32, out: &mut Vec<u8>) -> io::Result<()> {
        if out.is_empty() || self.stage != Stage::Live {
            return Ok(());
        }
        if self.sending {
            self.unsent.extend_from_slice(out);
            return Ok(());
        }
        self.sending = true;
        ring.send(slot, out)
    }

    fn leave(&mut self, ring: &mut Ring, slot: u32) -> io::Result<()> {
        if self.stage == Stage::Live {
            self.stage = Stage::Leaving;
            ring.shutdown(slot)?;
        }
        Ok(())
    }
}

fn at(connections: &mut [Option<Connection>], slot: u32) -> io::Result<&mut Connection> {
    let connection = connections.get_mut(slot as usize); // below CONNECTIONS_MAX
    connection.and_then(Option::as_mut).ok_or_else(|| io::ErrorKind::NotFound.into())
}

//! Sockets over io_uring: connections accepted, read and written with one call of the kernel for all that there is to
//! do.
//!
//! - One request accepts all connections of a listener, and one receives all that a connection ever says, into buffers
//!   that the kernel takes from a common stock.
//! - What is sent waits until [`Ring::turn`], which hands over all of it and waits for what comes.
//! - Connections have no file descriptor but a slot of the ring's own table.
//!
//! `kernel` holds all that is unsafe; here is what its results mean. One thread makes and uses a ring, and a ring is
//! never given back: it lives as long as its process. There is no protection against a hostile peer here, and nothing
//! of the servers uses it: it is there to measure what io_uring would change.
#![deny(unsafe_code, unsafe_op_in_unsafe_fn)]
#![deny(clippy::undocumented_unsafe_blocks)]

#[expect(unsafe_code, reason = "the kernel shares memory with this process")]
mod kernel;

use kernel::{Kernel, Sent};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::TcpListener;
use std::ops::Deref;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

/// Buffers that are kept for the next answers; after a new tip for all there would be too many.
const SPARE_MAX: usize = 1_024;

/// How large a ring is.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The most connections.
    pub slots: u32,
    /// Buffers to receive into, a power of two up to 4,096.
    pub buffers: u16,
    /// The size of each.
    pub buffer_bytes: usize,
}

/// To be sent.
#[derive(Debug)]
pub enum Bytes {
    /// To one connection.
    Own(Vec<u8>),
    /// To many.
    Shared(Rc<[u8]>),
}

/// What has happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// A connection has a slot now.
    Accepted {
        /// Which of the listeners.
        listener: usize,
        /// Where it is.
        slot: u32,
    },
    /// A connection has said something.
    Received {
        /// Which.
        slot: u32,
        /// What; the buffer is the caller's until the next event.
        bytes: &'a mut [u8],
    },
    /// What was to be sent is gone.
    Sent {
        /// To which connection.
        slot: u32,
        /// Whether all of it was sent; nothing more can be if not.
        whole: bool,
    },
    /// A connection says nothing any more. Its slot is not free before it is closed.
    Ended {
        /// Which.
        slot: u32,
    },
    /// The file that is watched can be read, or has ended.
    Readable,
}

/// What a request was for; with a number it is the tag that comes back with its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Accept,
    Receive,
    Send,
    Watch,
    Shutdown,
    /// Only failures have a result.
    Close,
}

/// Sockets, and what they wait for.
pub struct Ring {
    kernel: Kernel,
    listeners: Vec<TcpListener>,
    watched: Option<OwnedFd>,
    /// The buffer that the last event is in.
    lent: Option<u16>,
    spare: Vec<Vec<u8>>,
    /// Slots of connections that are being shut down, and whether they are to be closed then. The kernel shuts down in
    /// a thread of its own and looks the connection up there, when the slot could be another's.
    shutdowns: HashMap<u32, bool>,
}

/// Why this system has no io_uring for us, if it has none.
pub fn refused() -> Option<io::Error> {
    Ring::new(&Setting { slots: 1, buffers: 1, buffer_bytes: 1 }).err()
}

impl Ring {
    /// A ring of this thread.
    ///
    /// # Errors
    /// The system refuses io_uring, or is older than what is used of it (Linux 6.6).
    pub fn new(setting: &Setting) -> io::Result<Self> {
        let kernel = Kernel::new(setting)?;
        Ok(Self {
            kernel,
            listeners: Vec::new(),
            watched: None,
            lent: None,
            spare: Vec::new(),
            shutdowns: HashMap::new(),
        })
    }

    /// Accepts whoever comes; listeners are numbered from 0.
    ///
    /// # Errors
    /// The kernel takes nothing more.
    pub fn accept(&mut self, listener: TcpListener) -> io::Result<()> {
        let number = self.listeners.len() as u32; // a few
        self.kernel.accept(listener.as_raw_fd(), Kind::Accept.tag(number))?;
        self.listeners.push(listener);
        Ok(())
    }

    /// Tells when a file can be read. What cannot be waited for is never told of.
    ///
    /// # Errors
    /// The kernel takes nothing more.
    pub fn watch(&mut self, file: OwnedFd) -> io::Result<()> {
        self.kernel.watch(file.as_raw_fd(), Kind::Watch.tag(0))?;
        self.watched = Some(file);
        Ok(())
    }

    /// Sends, and leaves `out` empty. One send for each connection at a time, until [`Event::Sent`]: what the socket
    /// does not take at once follows later.
    ///
    /// # Errors
    /// The kernel takes nothing more.
    pub fn send(&mut self, slot: u32, out: &mut Vec<u8>) -> io::Result<()> {
        let empty = self.spare.pop().unwrap_or_default();
        self.kernel.send(slot, Bytes::Own(std::mem::replace(out, empty)), Kind::send_tag)
    }

    /// Sends what others are sent, too; otherwise like [`Self::send`].
    ///
    /// # Errors
    /// The kernel takes nothing more.
    pub fn send_shared(&mut self, slot: u32, bytes: &Rc<[u8]>) -> io::Result<()> {
        self.kernel.send(slot, Bytes::Shared(Rc::clone(bytes)), Kind::send_tag)
    }

    /// Lets a connection end; [`Event::Ended`] follows if it has not come yet.
    ///
    /// # Errors
    /// The kernel takes nothing more.
    pub fn shutdown(&mut self, slot: u32) -> io::Result<()> {
        self.shutdowns.insert(slot, false);
        self.kernel.shutdown(slot, Kind::Shutdown.tag(slot))
    }

    /// Frees the slot of a connection that has ended and to which nothing is being sent, as soon as it is shut down if
    /// that was asked for.
    ///
    /// # Errors
    /// The kernel takes nothing more.
    pub fn close(&mut self, slot: u32) -> io::Result<()> {
        if let Some(closes) = self.shutdowns.get_mut(&slot) {
            *closes = true;
            return Ok(());
        }
        self.kernel.close(slot, Kind::Close.tag(slot))
    }

    /// Hands over all there is to do, and waits until something happens.
    ///
    /// # Errors
    /// The kernel fails.
    pub fn turn(&mut self) -> io::Result<()> {
        self.take_back();
        self.kernel.turn()
    }

    /// What has happened up to the last turn, one after the other.
    ///
    /// # Errors
    /// No connection can be accepted, or the kernel takes nothing more.
    pub fn event(&mut self) -> io::Result<Option<Event<'_>>> {
        self.take_back();
        while let Some(entry) = self.kernel.result() {
            let (kind, number) = Kind::of(entry.user_data())?;
            let (result, flags) = (entry.result(), entry.flags());
            let goes_on = io_uring::cqueue::more(flags);
            match kind {
                Kind::Accept => {
                    let slot = u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))?;
                    let listener = number as usize; // a few
                    if !goes_on {
                        self.kernel.accept(self.listeners[listener].as_raw_fd(), entry.user_data())?;
                    }
                    self.kernel.receive(slot, Kind::Receive.tag(slot))?;
                    return Ok(Some(Event::Accepted { listener, slot }));
                }
                Kind::Receive => {
                    let id = io_uring::cqueue::buffer_select(flags);
                    if let (Ok(len @ 1..), Some(id)) = (usize::try_from(result), id) {
                        if !goes_on {
                            self.kernel.receive(number, entry.user_data())?;
                        }
                        self.lent = Some(id);
                        let bytes = self.kernel.buffers.lend(id, len);
                        return Ok(Some(Event::Received { slot: number, bytes }));
                    }
                    if result != -Errno::NOBUFS.raw_os_error() {
                        return Ok(Some(Event::Ended { slot: number }));
                    }
                    // All buffers were full: those before this result are back by now.
                    self.kernel.receive(number, entry.user_data())?;
                }
                Kind::Send => {
                    if let Sent::Ended { slot, whole, bytes } =
                        self.kernel.sent(number, result, Kind::send_tag)?
                    {
                        self.keep(bytes);
                        return Ok(Some(Event::Sent { slot, whole }));
                    }
                }
                Kind::Watch if result >= 0 => {
                    if let Some(file) = self.watched.as_ref().filter(|_| !goes_on) {
                        self.kernel.watch(file.as_raw_fd(), entry.user_data())?;
                    }
                    return Ok(Some(Event::Readable));
                }
                Kind::Shutdown => {
                    if self.shutdowns.remove(&number) == Some(true) {
                        self.close(number)?;
                    }
                }
                Kind::Watch | Kind::Close => {}
            }
        }
        Ok(None)
    }

    fn take_back(&mut self) {
        if let Some(id) = self.lent.take() {
            self.kernel.buffers.give(id);
        }
    }

    fn keep(&mut self, bytes: Bytes) {
        if let Bytes::Own(mut bytes) = bytes
            && self.spare.len() < SPARE_MAX
        {
            bytes.clear();
            self.spare.push(bytes);
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Accept, Self::Receive, Self::Send, Self::Watch, Self::Shutdown, Self::Close];

    fn tag(self, number: u32) -> u64 {
        (self as u64) << 32 | u64::from(number)
    }

    fn send_tag(number: u32) -> u64 {
        Self::Send.tag(number)
    }

    fn of(tag: u64) -> io::Result<(Self, u32)> {
        let kind = Self::ALL.get((tag >> 32) as usize).ok_or(io::ErrorKind::InvalidData)?; // six of them
        Ok((*kind, tag as u32)) // the lower half
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::thread;

    #[test]
    fn a_request_is_known_by_its_tag() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of(kind.tag(u32::MAX - 1)).unwrap(), (kind, u32::MAX - 1));
        }
        assert!(Kind::of(u64::MAX).is_err());
    }

    /// A peer that leaves while it is shut down: its slot goes to the next one, who must not be shut down for it.
    #[test]
    fn a_shutdown_never_reaches_the_next_connection_of_the_slot() {
        if let Some(error) = refused() {
            eprintln!("left out: this system refuses io_uring: {error}");
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let say = move |words: &[u8]| {
            let mut client = TcpStream::connect(address)?;
            client.write_all(words)?;
            Ok::<_, io::Error>(client)
        };
        let client = thread::spawn(move || {
            let rounds = (0..2_000).try_for_each(|_| {
                drop(say(b"leave")?);
                say(b"stay")?.read_exact(&mut [0; 4])
            });
            say(b"over").and(rounds)
        });
        let mut ring = Ring::new(&Setting { slots: 64, buffers: 4, buffer_bytes: 64 }).unwrap();
        ring.accept(listener).unwrap();
        let (mut sending, mut ended) = ([false; 64], [false; 64]);
        'serve: loop {
            ring.turn().unwrap();
            while let Some(event) = ring.event().unwrap() {
                match event {
                    Event::Accepted { .. } => {}
                    Event::Received { slot, bytes: [b'l', ..] } => ring.shutdown(slot).unwrap(),
                    Event::Received { slot, bytes: [b's', ..] } => {
                        sending[slot as usize] = true;
                        ring.send(slot, &mut b"stay".to_vec()).unwrap();
                    }
                    Event::Received { .. } => break 'serve,
                    Event::Sent { slot, .. } => {
                        sending[slot as usize] = false;
                        if ended[slot as usize] {
                            ended[slot as usize] = false;
                            ring.close(slot).unwrap();
                        }
                    }
                    Event::Ended { slot } if sending[slot as usize] => ended[slot as usize] = true,
                    Event::Ended { slot } => ring.close(slot).unwrap(),
                    Event::Readable => unreachable!("nothing is watched"),
                }
            }
        }
        client.join().unwrap().unwrap();
    }

    #[test]
    fn what_is_more_than_all_buffers_hold_comes_in_order() {
        if let Some(error) = refused() {
            eprintln!("left out: this system refuses io_uring: {error}");
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let sent: Vec<u8> = (0..200).collect();
        client.write_all(&sent).unwrap();
        let mut ring = Ring::new(&Setting { slots: 1, buffers: 2, buffer_bytes: 3 }).unwrap();
        ring.accept(listener).unwrap();
        let (mut received, mut gone, mut out) = (Vec::new(), false, b"goodbye".to_vec());
        while !gone {
            ring.turn().unwrap();
            while let Some(event) = ring.event().unwrap() {
                match event {
                    Event::Accepted { listener: 0, slot: 0 } => {}
                    Event::Received { slot: 0, bytes } => {
                        received.extend_from_slice(bytes);
                        if received.len() == sent.len() {
                            ring.send(0, &mut out).unwrap();
                        }
                    }
                    Event::Sent { slot: 0, whole: true } => ring.shutdown(0).unwrap(),
                    Event::Ended { slot: 0 } => gone = true,
                    other => panic!("{other:?}"),
                }
            }
        }
        ring.close(0).unwrap();
        assert_eq!(received, sent);
        assert!(out.is_empty());
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "goodbye");
    }
}

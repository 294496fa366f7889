//! One connection's life: bytes from the socket to its session, and what the session says back.

use crate::outbox::Outbox;
use crate::wake::Wake;
use socket2::SockRef;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, Read};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};
use stratum::allowance::{Allowance, Used};
use stratum::fault::Fault;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// Bytes read from one peer before the others get their turn.
pub const READ_BYTES_MAX: usize = 16 * 1024;
/// A peer that sends more than 256 KiB at once and then as much a second, which is ten times what a thousand channels
/// need, is read no faster (N08): some 4,000 shares a second, or 6,000 of the cheapest questions, which took 1.5 % of a
/// core. Each connection has this of its own; how many an address may have is a matter of [`crate::limits`].
const INPUT: Allowance = Allowance { at_once: 1 << 18, each: Duration::from_nanos(1_000_000_000 >> 18) };
/// A peer that takes nothing of what waits for it this long is closed.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// The owner of a shard's sessions, as the driver sees it. Called on the shard's own thread only.
pub trait Peers: 'static {
    /// Names one connection; never used again by another.
    type Key: Copy + 'static;

    /// Bytes came in.
    ///
    /// # Errors
    /// The connection is to be closed for this reason.
    fn receive(&mut self, key: Self::Key, bytes: &[u8], now: Instant) -> Result<(), Fault>;

    /// The session's deadline has passed.
    ///
    /// # Errors
    /// The connection is to be closed for this reason.
    fn tick(&mut self, key: Self::Key, now: Instant) -> Result<(), Fault>;

    /// When to tick next.
    fn deadline(&mut self, key: Self::Key) -> Instant;

    /// What waits for the peer.
    fn outbox(&mut self, key: Self::Key) -> &mut Outbox;

    /// Why the owner wants the connection closed, once it does.
    fn ended(&mut self, key: Self::Key) -> Option<Ending>;

    /// Whether the shard can take more input now. If not, the connection is woken when it can.
    fn may_read(&mut self, key: Self::Key) -> bool;
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The peer closed it, or the network did.
    Gone,
    /// The peer broke a rule or a deadline.
    Fault(Fault),
    /// The server stops, or has no work.
    Released,
    /// A session failed by a bug of ours.
    Panicked,
}

impl Ending {
    /// One of each kind.
    pub fn all() -> impl Iterator<Item = Ending> {
        [Self::Gone, Self::Released, Self::Panicked].into_iter().chain(Fault::ALL.map(Self::Fault))
    }

    /// Whether the peer broke the rules: with garbage, or more nonsense than is forgiven. Broken machines do that too,
    /// but none that are dead or slow, or that wait for us.
    pub fn is_hostile(self) -> bool {
        matches!(self, Self::Fault(Fault::Malformed(_) | Fault::Misbehaved(_)))
    }

    /// The reason as it stands in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Fault(fault) => fault.label(),
            Self::Released => "released",
            Self::Panicked => "panicked",
        }
    }
}

/// What a connection has waited for.
enum Event {
    /// Its owner has called, or its peer takes bytes again.
    Called,
    /// There are bytes, or the connection is broken.
    Readable(io::Result<()>),
    /// It is time.
    Due,
}

/// What a connection waits for beside its owner's call and the time.
struct Interests {
    bytes: bool,
    room: bool,
}

/// Waits for what comes first. The time is that of `sleep`.
async fn next_event(
    stream: &TcpStream,
    wake: &Wake,
    mut sleep: Pin<&mut Sleep>,
    interests: Interests,
) -> Event {
    poll_fn(|context| {
        if wake.poll_called(context).is_ready() {
            return Poll::Ready(Event::Called);
        }
        if interests.bytes
            && let Poll::Ready(ready) = stream.poll_read_ready(context)
        {
            return Poll::Ready(Event::Readable(ready));
        }
        if interests.room && stream.poll_write_ready(context).is_ready() {
            return Poll::Ready(Event::Called);
        }
        sleep.as_mut().poll(context).map(|()| Event::Due)
    })
    .await
}

/// Drives one connection until it ends. `wake` is called when the outbox has filled, when reading may
/// go on, or when the owner wants the connection closed.
pub async fn drive<P: Peers>(
    peers: Rc<RefCell<P>>,
    key: P::Key,
    stream: TcpStream,
    wake: Rc<Wake>,
    scratch: Rc<RefCell<Vec<u8>>>,
) -> Ending {
    let mut stuck_since: Option<Instant> = None;
    let mut input = Used::nothing(Instant::now());
    let mut sleep = pin!(tokio::time::sleep_until(Instant::now().into()));
    loop {
        match flush(&peers, key, &stream) {
            Ok(Flush::Done) => stuck_since = None,
            Ok(Flush::Progress) => stuck_since = Some(Instant::now()),
            Ok(Flush::Stuck) => {
                let since = *stuck_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= WRITE_DEADLINE {
                    return Ending::Fault(Fault::TooSlow);
                }
            }
            Err(_) => return Ending::Gone,
        }
        let ended = peers.borrow_mut().ended(key);
        if let Some(ending) = ended {
            return ending;
        }
        let may_read = peers.borrow_mut().may_read(key);
        let deadline = peers.borrow_mut().deadline(key);
        let read_at = input.free_at(&INPUT);
        let paced = read_at > Instant::now();
        let due = stuck_since
            .map(|since| since + WRITE_DEADLINE)
            .into_iter()
            .chain(paced.then_some(read_at))
            .fold(deadline, Instant::min);
        // Each share moves the deadline on. A timer that rings early costs less than one that is set for each share.
        if sleep.is_elapsed() || due < sleep.deadline().into_std() {
            sleep.as_mut().reset(due.into());
        }
        let interests = Interests { bytes: may_read && !paced, room: stuck_since.is_some() };
        match next_event(&stream, &wake, sleep.as_mut(), interests).await {
            Event::Called => {}
            Event::Readable(ready) => {
                let taken = match ready {
                    // Others of the shard have read since it was asked; what it can take is a bound.
                    Ok(()) if !peers.borrow_mut().may_read(key) => Ok(0),
                    Ok(()) => take(&peers, key, &stream, &scratch),
                    Err(_) => Err(Ending::Gone),
                };
                match taken {
                    Ok(read) => input.charge(read, &INPUT, Instant::now()),
                    Err(ending) => {
                        // The reason may have been put into words: one try to get them out.
                        let _ = flush(&peers, key, &stream);
                        return ending;
                    }
                }
            }
            Event::Due => {
                let now = Instant::now();
                let ticked = if now >= deadline { peers.borrow_mut().tick(key, now) } else { Ok(()) };
                if let Err(fault) = ticked {
                    let _ = flush(&peers, key, &stream);
                    return Ending::Fault(fault);
                }
            }
        }
    }
}

/// How far writing got.
enum Flush {
    /// Nothing waits.
    Done,
    /// Some of it was taken.
    Progress,
    /// Something waits and the peer takes nothing.
    Stuck,
}

fn flush<P: Peers>(peers: &RefCell<P>, key: P::Key, stream: &TcpStream) -> io::Result<Flush> {
    let mut peers = peers.borrow_mut();
    let outbox = peers.outbox(key);
    let mut progress = false;
    while !outbox.is_empty() {
        let mut slices = Vec::with_capacity(8);
        outbox.slices(&mut slices).map_err(io::Error::other)?;
        let written = match &slices[..] {
            // Nearly always: one answer, one sealed frame.
            [piece] => stream.try_write(piece),
            pieces => stream.try_write_vectored(pieces),
        };
        match written {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                outbox.written(written);
                progress = true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(if progress { Flush::Progress } else { Flush::Stuck });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Flush::Done)
}

/// Reads what is there, once, and hands it to the session; gives the number of bytes.
fn take<P: Peers>(
    peers: &RefCell<P>,
    key: P::Key,
    stream: &TcpStream,
    scratch: &RefCell<Vec<u8>>,
) -> Result<u32, Ending> {
    // One buffer per shard: no session holds one while it is idle.
    let mut buffer = scratch.borrow_mut();
    buffer.resize(READ_BYTES_MAX, 0);
    match read_once(stream, &mut buffer) {
        Ok(Some(0)) => Err(Ending::Gone),
        Ok(Some(read)) => {
            let received = peers.borrow_mut().receive(key, &buffer[..read], Instant::now());
            received.map(|()| read as u32).map_err(Ending::Fault) // at most READ_BYTES_MAX
        }
        Ok(None) => Ok(0),
        Err(_) => Err(Ending::Gone),
    }
}

/// Reads once; `None` if there is nothing.
///
/// What did not fill the buffer was all: the socket counts as read empty, as if it had said so itself. It would be asked
/// a second time for each share otherwise, only to say that.
fn read_once(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let mut taken = None;
    let asked = stream.try_io(Interest::READABLE, || {
        let read = (&*SockRef::from(stream)).read(buffer)?;
        taken = Some(read);
        if 0 < read && read < buffer.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match asked {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(taken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use tokio::task::{LocalSet, yield_now};

    /// Takes what two connections send, as long as it has room.
    struct Owner {
        room: usize,
        received: Vec<usize>,
        bytes: usize,
        outboxes: [Outbox; 2],
    }

    impl Owner {
        fn with_room(room: usize) -> Rc<RefCell<Self>> {
            let outboxes = [Outbox::default(), Outbox::default()];
            Rc::new(RefCell::new(Self { room, received: Vec::new(), bytes: 0, outboxes }))
        }
    }

    impl Peers for Owner {
        type Key = usize;

        fn receive(&mut self, key: usize, bytes: &[u8], _: Instant) -> Result<(), Fault> {
            self.received.push(key);
            self.bytes += bytes.len();
            Ok(())
        }

        fn tick(&mut self, _: usize, _: Instant) -> Result<(), Fault> {
            Ok(())
        }

        fn deadline(&mut self, _: usize) -> Instant {
            Instant::now() + Duration::from_secs(60)
        }

        fn outbox(&mut self, key: usize) -> &mut Outbox {
            &mut self.outboxes[key]
        }

        fn ended(&mut self, _: usize) -> Option<Ending> {
            None
        }

        fn may_read(&mut self, _: usize) -> bool {
            self.received.len() < self.room
        }
    }

    fn pair() -> (std::net::TcpStream, TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        (client, TcpStream::from_std(server).unwrap())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn connections_that_become_readable_together_stay_within_the_room_of_their_shard() {
        let owner = Owner::with_room(1);
        let wakes = [Rc::<Wake>::default(), Rc::<Wake>::default()];
        let tasks = LocalSet::new();
        let mut clients = Vec::new();
        for (key, wake) in wakes.iter().enumerate() {
            let (client, stream) = pair();
            clients.push(client);
            tasks.spawn_local(drive(owner.clone(), key, stream, wake.clone(), Rc::default()));
        }
        tasks
            .run_until(async {
                // Both have been asked and wait for bytes.
                for _ in 0..10 {
                    yield_now().await;
                }
                clients.iter_mut().for_each(|client| client.write_all(b"x").unwrap());
                while owner.borrow().received.is_empty() {
                    yield_now().await;
                }
                // Long enough for the other to do wrong.
                tokio::time::sleep(Duration::from_millis(50)).await;
                assert_eq!(owner.borrow().received.len(), 1);
                owner.borrow_mut().room = 2;
                wakes.iter().for_each(|wake| wake.call());
                while owner.borrow().received.len() < 2 {
                    yield_now().await;
                }
            })
            .await;
        let mut received = owner.borrow().received.clone();
        received.sort_unstable();
        assert_eq!(received, [0, 1]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn n08_a_peer_that_sends_without_end_is_read_no_faster_than_it_may() {
        let owner = Owner::with_room(usize::MAX);
        let (mut client, stream) = pair();
        let (wake, tasks) = (Rc::<Wake>::default(), LocalSet::new());
        let started = Instant::now();
        tasks.spawn_local(drive(owner.clone(), 0, stream, wake, Rc::default()));
        // Ends with an error when the other side is gone.
        let writer = std::thread::spawn(move || while client.write_all(&[b'x'; 4_096]).is_ok() {});
        let at_once = INPUT.at_once as usize;
        tasks
            .run_until(async {
                // What came at once was taken, and what came then is not held back for ever.
                while owner.borrow().bytes <= at_once + READ_BYTES_MAX {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            })
            .await;
        let (taken, forgiven) = (owner.borrow().bytes, started.elapsed().as_nanos() / INPUT.each.as_nanos());
        assert!(taken <= at_once + READ_BYTES_MAX + forgiven as usize, "{taken} bytes");
        drop(tasks);
        writer.join().unwrap();
    }
}

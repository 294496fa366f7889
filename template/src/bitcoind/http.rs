//! HTTP/1.1 POST over one kept connection: as much of HTTP as a node's RPC server speaks.
//!
//! Why not the transport that comes with the RPC crate: it repeats a request whose answer timed out,
//! counts its timeout per read, and a call in flight cannot be broken off.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Largest answer that is read: a full template is below 10 MB.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Longest header line and largest number of header lines of an answer.
const HEADER_LINE_BYTES_MAX: u64 = 8 << 10;
const HEADER_LINES_MAX: usize = 64;
/// A node on this machine or the local network accepts at once or not at all.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(2);

/// An HTTP answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// Breaks off the call in flight, from any thread, and refuses further ones.
#[derive(Debug, Clone, Default)]
pub struct Canceller(Arc<Mutex<Cancel>>);

#[derive(Debug, Default)]
struct Cancel {
    cancelled: bool,
    stream: Option<TcpStream>,
}

impl Canceller {
    /// Breaks off now and for ever.
    pub fn cancel(&self) {
        let mut state = self.lock();
        state.cancelled = true;
        Self::shut(&mut state);
    }

    /// Breaks off the call in flight; the next one goes out again.
    pub fn interrupt(&self) {
        Self::shut(&mut self.lock());
    }

    /// Whether [`Canceller::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.lock().cancelled
    }

    fn shut(state: &mut Cancel) {
        if let Some(stream) = state.stream.take() {
            // An error means that the socket is closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn watch(&self, stream: &TcpStream) -> io::Result<()> {
        let mut state = self.lock();
        if state.cancelled {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cancelled"));
        }
        state.stream = Some(stream.try_clone()?);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Cancel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection to a node, opened when needed and kept while it works.
#[derive(Debug)]
pub(super) struct Connection {
    address: String,
    timeout: Duration,
    canceller: Canceller,
    stream: Option<BufReader<TcpStream>>,
}

impl Connection {
    /// Prepares a connection to `host:port`; a whole call may take `timeout`.
    pub(super) fn new(address: String, timeout: Duration, canceller: Canceller) -> Self {
        Self { address, timeout, canceller, stream: None }
    }

    /// Sends a body to `path` and waits for the answer.
    pub(super) fn post(&mut self, path: &str, authorization: &str, body: &[u8]) -> io::Result<Answer> {
        let deadline = Instant::now() + self.timeout;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Authorization: {authorization}\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        let kept = self.stream.take();
        let reused = kept.is_some();
        let first = match kept {
            Some(stream) => exchange(stream, head.as_bytes(), body, deadline),
            None => exchange(self.connect()?, head.as_bytes(), body, deadline),
        };
        let (answer, stream) = match first {
            // The node closes idle connections: one try on a fresh one, but never after a timeout.
            Err(e) if reused && is_closed(&e) && !self.canceller.is_cancelled() => {
                exchange(self.connect()?, head.as_bytes(), body, deadline)?
            }
            other => other?,
        };
        self.stream = stream;
        Ok(answer)
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "host name has no address");
        for address in self.address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, self.timeout.min(CONNECT_TIMEOUT_MAX)) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    self.canceller.watch(&stream)?;
                    return Ok(BufReader::new(stream));
                }
                Err(e) => last = e,
            }
        }
        Err(last)
    }
}

/// Whether the peer had closed the connection before it began to answer.
fn is_closed(e: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(e.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof)
}

type Exchanged = (Answer, Option<BufReader<TcpStream>>);

/// One request and its answer; the stream comes back if it can carry another.
fn exchange(
    mut stream: BufReader<TcpStream>,
    head: &[u8],
    body: &[u8],
    deadline: Instant,
) -> io::Result<Exchanged> {
    stream.get_ref().set_write_timeout(Some(left(deadline)?))?;
    // Head and body in two writes: joining them would copy up to 8 MB of a block.
    stream.get_mut().write_all(head)?;
    stream.get_mut().write_all(body)?;
    let mut reader = Timed { stream: &mut stream, deadline };
    let status = status_code(&line(&mut reader)?)?;
    let mut length = None;
    let mut keep = true;
    for count in 0.. {
        let header = line(&mut reader)?.to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if count == HEADER_LINES_MAX {
            return Err(malformed("too many header lines"));
        }
        match header.split_once(':').map(|(name, value)| (name, value.trim())) {
            Some(("content-length", value)) => {
                length = Some(value.parse::<u64>().map_err(|_| malformed("content-length is no number"))?);
            }
            Some(("connection", "close")) => keep = false,
            Some(("transfer-encoding", _)) => return Err(malformed("transfer-encoding is not supported")),
            _ => {}
        }
    }
    if length.is_some_and(|n| n > ANSWER_BYTES_MAX) {
        return Err(malformed("answer is larger than 64 MiB"));
    }
    let mut answer = Vec::new();
    (&mut reader).take(length.unwrap_or(ANSWER_BYTES_MAX)).read_to_end(&mut answer)?;
    match length {
        // Not UnexpectedEof: the node has begun to answer, so this is not an idle connection closed.
        Some(n) if (answer.len() as u64) < n => Err(io::Error::other("answer was cut off")),
        Some(_) if keep => Ok((Answer { status, body: answer }, Some(stream))),
        _ => Ok((Answer { status, body: answer }, None)),
    }
}

fn status_code(line: &str) -> io::Result<u16> {
    line.strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| malformed("not an HTTP answer"))
}

fn line(reader: &mut Timed<'_>) -> io::Result<String> {
    let mut bytes = Vec::new();
    reader.take(HEADER_LINE_BYTES_MAX).read_until(b'\n', &mut bytes)?;
    match bytes.pop() {
        Some(b'\n') => Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned()),
        Some(_) => Err(malformed("header line is cut off or too long")),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A reader whose every read ends at one deadline, however slowly the bytes drip in.
struct Timed<'a> {
    stream: &'a mut BufReader<TcpStream>,
    deadline: Instant,
}

impl Timed<'_> {
    fn arm(&mut self) -> io::Result<()> {
        let left = left(self.deadline)?;
        self.stream.get_ref().set_read_timeout(Some(left))
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.arm()?;
        self.stream.read(buf)
    }
}

impl BufRead for Timed<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.arm()?;
        self.stream.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.stream.consume(amount);
    }
}

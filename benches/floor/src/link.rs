//! A socket without a buffer of its own while nothing is cut in two.

use mio::net::TcpStream;
use std::io::{self, ErrorKind, Read, Write};

/// The most that one read takes; also the longest message.
pub const SCRATCH_BYTES: usize = 64 * 1024;

/// A non-blocking connection. A poller that tells of changes only (mio's) is enough for it.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    /// The beginning of a message whose end has not come yet.
    rest: Vec<u8>,
    /// What the kernel did not take.
    unsent: Vec<u8>,
}

impl Link {
    /// Over a socket that is or will be connected.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, rest: Vec::new(), unsent: Vec::new() }
    }

    /// The socket.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Reads what is there. `take` sees it, after what it left the last time, and says how much it has used up.
    ///
    /// # Errors
    /// The connection has ended, or `take` ends it.
    ///
    /// # Panics
    /// If `scratch` is no longer than what is left of an unfinished message.
    pub fn receive(
        &mut self,
        scratch: &mut [u8],
        mut take: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        loop {
            let kept = self.rest.len();
            scratch[..kept].copy_from_slice(&self.rest);
            let read = match self.stream.read(&mut scratch[kept..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let used = take(&mut scratch[..kept + read])?;
            self.rest.clear();
            self.rest.extend_from_slice(&scratch[used..kept + read]);
            // A read that was not filled has taken all there was: the poller will tell of more.
            if kept + read < scratch.len() {
                return Ok(());
            }
            if used == 0 {
                return Err(ErrorKind::OutOfMemory.into());
            }
        }
    }

    /// Sends after everything that was sent before.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let sent = if self.unsent.is_empty() { self.write(bytes)? } else { 0 };
        self.unsent.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    /// The socket takes more.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn writable(&mut self) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let unsent = std::mem::take(&mut self.unsent);
        let sent = self.write(&unsent)?;
        self.unsent.extend_from_slice(&unsent[sent..]);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.stream.write(bytes) {
            Ok(sent) => Ok(sent),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// What is kept of bytes that somebody else has read: the beginning of a message whose end has not come yet.
#[derive(Debug, Default)]
pub struct Rest(Vec<u8>);

impl Rest {
    /// Shows `take` what has come, after what it left the last time; it says how much it has used up.
    ///
    /// # Errors
    /// `take` ends the connection, or a message is longer than `scratch`.
    pub fn receive(
        &mut self,
        came: &mut [u8],
        scratch: &mut [u8],
        take: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let kept = self.0.len();
        let bytes = if kept == 0 {
            came
        } else {
            let bytes = scratch.get_mut(..kept + came.len()).ok_or(ErrorKind::OutOfMemory)?;
            bytes[..kept].copy_from_slice(&self.0);
            bytes[kept..].copy_from_slice(came);
            bytes
        };
        let used = take(bytes)?;
        self.0.clear();
        self.0.extend_from_slice(&bytes[used..]);
        Ok(())
    }
}

/// Calls `each` with every complete line, without its end; says how many bytes they were.
///
/// # Errors
/// The first that `each` gives.
pub fn lines(bytes: &[u8], mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<usize> {
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', bytes) {
        each(&bytes[start..end])?;
        start = end + 1;
    }
    Ok(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_comes_in_pieces_is_seen_once_and_whole() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut other = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut link = Link::new(TcpStream::from_std(stream));
        let (mut scratch, mut seen) = (vec![0; 64], Vec::new());
        for piece in ["one\ntw", "o", "\nthr", "ee\n\n"] {
            other.write_all(piece.as_bytes()).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
            let take = |bytes: &mut [u8]| {
                lines(bytes, |line| {
                    seen.push(String::from_utf8(line.to_vec()).unwrap());
                    Ok(())
                })
            };
            link.receive(&mut scratch, take).unwrap();
        }
        assert_eq!(seen, ["one", "two", "three", ""]);
        drop(other);
        assert!(link.receive(&mut scratch, |_| Ok(0)).is_err());
    }

    #[test]
    fn a_line_that_somebody_else_has_read_in_pieces_is_seen_once_and_whole() {
        let (mut rest, mut scratch, mut seen) = (Rest::default(), vec![0; 16], Vec::new());
        for piece in ["one\ntw", "o", "\nthr", "ee\n\n"] {
            let take = |bytes: &mut [u8]| {
                lines(bytes, |line| {
                    seen.push(String::from_utf8(line.to_vec()).unwrap());
                    Ok(())
                })
            };
            rest.receive(&mut piece.as_bytes().to_vec(), &mut scratch, take).unwrap();
        }
        assert_eq!(seen, ["one", "two", "three", ""]);
        let endless = |rest: &mut Rest| rest.receive(&mut [b'a'; 10], &mut [0; 16], |_| Ok(0));
        let mut rest = Rest::default();
        endless(&mut rest).unwrap();
        assert_eq!(endless(&mut rest).unwrap_err().kind(), ErrorKind::OutOfMemory);
    }
}

//! Bytes that are no protocol, on connections that come back as often as they are closed.

use super::Done;
use super::source::Source;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

const BLOCK_BYTES: usize = 16 * 1024;
const BROKEN: &[&str] = &[
    "nonsense\n",
    "[]\n",
    "{\"id\":1,\"method\":7,\"params\":[]}\n",
    "{\"id\":1,\"method\":\"mining.submit\",\"params\":[1e999]}\n",
    "{\"id\":\"\\ud800\",\"method\":\"mining.ping\",\"params\":[]}\n",
    "{\"id\":1,\"method\":\"x\",\"params\":[[[[[[[[[[[[[[[[\n",
];

/// The connections.
#[derive(Debug)]
pub struct Garbage {
    streams: Vec<Option<TcpStream>>,
    /// What is said: the first connection says the first one, and so on.
    blocks: [Vec<u8>; 3],
    scratch: Vec<u8>,
}

impl Garbage {
    /// So many connections, none of them open yet.
    pub fn new(count: usize) -> Self {
        let random = (0..BLOCK_BYTES).map(|_| rand::random()).collect();
        let broken = BROKEN.iter().flat_map(|line| line.bytes()).cycle().take(BLOCK_BYTES).collect();
        Self {
            streams: (0..count).map(|_| None).collect(),
            blocks: [random, vec![b'x'; BLOCK_BYTES], broken],
            scratch: vec![0; BLOCK_BYTES],
        }
    }

    /// Says something on each connection that takes it. Says whether any did.
    pub fn turn(&mut self, source: &mut Source, done: &mut Done) -> bool {
        let mut busy = false;
        for (index, slot) in self.streams.iter_mut().enumerate() {
            let Some(stream) = slot else {
                *slot = source.connect().ok();
                *(if slot.is_some() { &mut done.begun } else { &mut done.failed }) += 1;
                busy |= slot.is_some();
                continue;
            };
            match say(stream, &self.blocks[index % self.blocks.len()], &mut self.scratch) {
                Ok(bytes) => {
                    busy |= bytes > 0;
                    done.bytes += bytes;
                }
                Err(_) => {
                    *slot = None;
                    done.ended += 1;
                    busy = true;
                }
            }
        }
        busy
    }
}

/// Says a block and hears what was answered, so that the server cannot complain of that.
fn say(mut stream: &TcpStream, block: &[u8], scratch: &mut [u8]) -> io::Result<u64> {
    let or_later = |result: io::Result<usize>| match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        other => other.map(Some),
    };
    let said = or_later(stream.write(block))?.unwrap_or(0);
    if or_later(stream.read(scratch))? == Some(0) {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(said as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_closed_comes_back() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut source = Source::new(listener.local_addr().unwrap(), None).unwrap();
        let (mut garbage, mut done) = (Garbage::new(1), Done::default());
        for round in 1..=2 {
            assert!(garbage.turn(&mut source, &mut done));
            let (mut accepted, _) = listener.accept().unwrap();
            while !garbage.turn(&mut source, &mut done) {}
            assert!(accepted.read(&mut [0; 64]).unwrap() > 0);
            drop(accepted);
            while done.ended < round {
                garbage.turn(&mut source, &mut done);
            }
        }
        assert_eq!((done.begun, done.failed), (2, 0));
        assert!(done.bytes > 0);
    }
}

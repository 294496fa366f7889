//! Connections that say one thing, wait for nothing and leave when others take their place.

use super::Done;
use super::source::Source;
use std::collections::VecDeque;
use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

/// Begun before the time is looked at again.
const AT_ONCE: u64 = 64;

/// Those that are open.
#[derive(Debug)]
pub struct Blind {
    words: fn() -> Vec<u8>,
    open: VecDeque<TcpStream>,
    open_max: usize,
    rate: Option<u32>,
    started: Instant,
    tried: u64,
}

impl Blind {
    /// Nobody yet; so many a second, if that is said.
    pub fn new(words: fn() -> Vec<u8>, open_max: usize, rate: Option<u32>) -> Self {
        Self { words, open: VecDeque::new(), open_max, rate, started: Instant::now(), tried: 0 }
    }

    /// Begins those that are due. Says whether there were any.
    pub fn turn(&mut self, source: &mut Source, done: &mut Done) -> bool {
        let due = self.due();
        for _ in 0..due {
            if self.open.len() >= self.open_max {
                self.open.pop_front();
            }
            let begun = source.connect().and_then(|mut stream| {
                // What the server's kernel has no room for cannot be written to yet.
                stream.write_all(&(self.words)())?;
                Ok(stream)
            });
            match begun {
                Ok(stream) => {
                    self.open.push_back(stream);
                    done.begun += 1;
                }
                Err(_) => done.failed += 1,
            }
        }
        self.tried += due;
        due > 0
    }

    fn due(&self) -> u64 {
        let Some(rate) = self.rate else { return AT_ONCE };
        let by_now = (self.started.elapsed().as_secs_f64() * f64::from(rate)) as u64; // far below 2^53
        (by_now - self.tried).min(AT_ONCE)
    }
}

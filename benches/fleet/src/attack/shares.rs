//! Sessions that begin as honest ones do, and then send worthless shares or never read again.

use super::Done;
use super::source::Source;
use crate::load::player::{Player, Speech};
use floor::link::{Link, SCRATCH_BYTES};
use mio::net::TcpStream;
use std::io;
use std::time::{Duration, Instant};

/// Shares that wait for their answers on each connection.
const DEPTH: usize = 256;

/// Those that do nothing but read cost next to nothing themselves.
const LISTEN_EVERY: Duration = Duration::from_millis(10);

/// What is done once there is work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Shares that are worth nothing, as fast as they are answered.
    Worthless,
    /// Nothing, not even reading.
    Deaf,
    /// Nothing but reading.
    Idle,
}

/// The sessions.
#[derive(Debug)]
pub struct Players {
    speech: Speech,
    user: String,
    manner: Manner,
    players: Vec<Option<Player>>,
    scratch: Vec<u8>,
    out: Vec<u8>,
}

impl Players {
    /// So many, none of them connected yet.
    pub fn new(speech: Speech, user: String, count: usize, manner: Manner) -> Self {
        let players = (0..count).map(|_| None).collect();
        Self { speech, user, manner, players, scratch: vec![0; SCRATCH_BYTES], out: Vec::new() }
    }

    /// Whether there is no more to come: of those who do nothing, all are there.
    pub fn stand(&self) -> bool {
        self.manner == Manner::Worthless
            || self.players.iter().all(|player| player.as_ref().is_some_and(Player::has_work))
    }

    /// Looks at each connection. Says whether anything has happened.
    pub fn turn(&mut self, source: &mut Source, done: &mut Done) -> bool {
        if self.manner == Manner::Idle && self.stand() {
            std::thread::sleep(LISTEN_EVERY);
        }
        let mut busy = false;
        for index in 0..self.players.len() {
            match &mut self.players[index] {
                None => {
                    let begun = match self.manner {
                        Manner::Worthless | Manner::Idle => source.connect(),
                        Manner::Deaf => source.connect_narrow(),
                    };
                    *(if begun.is_ok() { &mut done.begun } else { &mut done.failed }) += 1;
                    busy |= begun.is_ok();
                    self.players[index] = begun
                        .ok()
                        .map(|stream| Player::new(Link::new(TcpStream::from_std(stream)), Instant::now()));
                }
                Some(player) if self.manner == Manner::Deaf && player.has_work() => {}
                Some(_) => match self.look(index, done) {
                    Ok(happened) => busy |= happened,
                    Err(_) => {
                        self.players[index] = None;
                        done.ended += 1;
                        busy = true;
                    }
                },
            }
        }
        busy
    }

    fn look(&mut self, index: usize, done: &mut Done) -> io::Result<bool> {
        let Some(player) = &mut self.players[index] else { return Ok(false) };
        self.out.clear();
        let heard =
            player.turn((&self.speech, self.user.as_str()), true, &mut self.scratch, &mut self.out)?;
        let refused = heard.refused.len();
        (0..refused + heard.accepted as usize).for_each(|_| _ = player.answered());
        done.refused += refused as u64;
        if self.manner == Manner::Worthless && player.has_work() {
            while player.waiting() < DEPTH {
                player.submit_bad(&mut self.out)?;
            }
        }
        player.link.send(&self.out)?;
        Ok(!self.out.is_empty())
    }
}

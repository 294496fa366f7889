//! What one miner rolls: nonces within a turn, extranonce and version bits from turn to turn.

use crate::work::{Assignment, Share};
use stratum::target::Target;

/// Nonces tried before extranonce and version move on: few, so that all three are exercised.
const NONCES_PER_TURN: u64 = 1 << 20;

/// Walks through the work of one job.
#[derive(Debug)]
pub struct Roller {
    assignment: Assignment,
    /// Never goes back on a connection: the same work under a new job id would be a duplicate.
    turn: u64,
    next_nonce: u64,
    nonces_per_turn: u64,
    extranonce: Box<[u8]>,
    version: u32,
    header: [u8; 80],
    target: Target,
}

impl Roller {
    /// Starts at a turn; [`Roller::next_turn`] says where the next job's roller starts.
    pub fn new(assignment: Assignment, turn: u64) -> Self {
        // A small extranonce would come round again soon: then a turn is all nonces.
        let all = assignment.job.extranonce_size() < 4;
        let nonces_per_turn = if all { 1 << 32 } else { NONCES_PER_TURN };
        let mut roller = Self {
            target: assignment.job.target(),
            assignment,
            turn,
            next_nonce: 0,
            nonces_per_turn,
            extranonce: Box::default(),
            version: 0,
            header: [0; 80],
        };
        roller.begin_turn();
        roller
    }

    /// The first turn that this roller has not touched.
    pub fn next_turn(&self) -> u64 {
        self.turn + 1
    }

    /// Tries `hashes` headers and appends those that meet the job's target.
    pub fn scan(&mut self, hashes: u32, found: &mut Vec<Share>) {
        for _ in 0..hashes {
            if self.next_nonce == self.nonces_per_turn {
                self.turn += 1;
                self.begin_turn();
            }
            let nonce = self.next_nonce as u32; // a turn has at most 2^32 nonces
            self.next_nonce += 1;
            self.header[76..].copy_from_slice(&nonce.to_le_bytes());
            let job = &self.assignment.job;
            if self.target.is_met_by(&sha256d::sha256d(&self.header)) {
                found.push(Share {
                    job: job.clone(),
                    extranonce: self.extranonce.clone(),
                    ntime: job.ntime(),
                    nonce,
                    version: self.version,
                });
            }
        }
    }

    fn begin_turn(&mut self) {
        let job = &self.assignment.job;
        let mut extranonce = vec![0; job.extranonce_size()];
        for (to, from) in extranonce.iter_mut().zip(self.turn.to_le_bytes()) {
            *to = from;
        }
        let mask = self.assignment.version_mask;
        self.version = job.version() & !mask | deposit(self.turn, mask);
        self.header = job.header(&extranonce, job.ntime(), 0, self.version);
        self.extranonce = extranonce.into();
        self.next_nonce = 0;
    }
}

/// Spreads the low bits of `value` over the set bits of `mask`.
fn deposit(mut value: u64, mask: u32) -> u32 {
    let mut bits = 0;
    for at in (0..32).filter(|at| mask >> at & 1 == 1) {
        bits |= u32::from(value & 1 == 1) << at;
        value >>= 1;
    }
    bits
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::work::Job;
    use std::collections::HashSet;
    use std::time::Instant;
    use stratum::pot::Pot;
    use stratum::v1::client::{Client, Event, Settings};

    /// A job as a real session hands it out.
    pub(crate) fn job(pot: i8, extranonce2_size: usize) -> Job {
        let now = Instant::now();
        let settings = Settings { version_mask: None, ..Settings::new("user", "host") };
        let mut client = Client::new(settings, now);
        let mut events = Vec::new();
        client.start(now, &mut events);
        let difficulty = Pot::try_from(pot).unwrap().difficulty();
        let zeros = "00".repeat(32);
        let lines = format!(
            "{{\"id\":1,\"result\":[[],\"0a0b0c0d\",{extranonce2_size}],\"error\":null}}\n\
             {{\"id\":null,\"method\":\"mining.set_difficulty\",\"params\":[{difficulty:e}]}}\n\
             {{\"id\":null,\"method\":\"mining.notify\",\"params\":[\"1\",\"{zeros}\",\"01\",\"02\",[\"{zeros}\"],\"20000000\",\"1e0377ae\",\"4966bc61\",true]}}\n"
        );
        client.receive(lines.as_bytes(), now, &mut events).unwrap();
        match events.pop() {
            Some(Event::Job(job)) => Job::V1(job),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn shares_found_verify_and_never_repeat() {
        let job = job(-24, 8);
        let assignment = Assignment { job: job.clone(), version_mask: 0x1fff_e000 };
        let (mut found, mut headers) = (Vec::new(), HashSet::new());
        let mut roller = Roller::new(assignment.clone(), 0);
        roller.scan(20_000, &mut found);
        let next = roller.next_turn();
        Roller::new(assignment, next).scan(20_000, &mut found);
        // 40,000 hashes at 256 a share: about 156.
        assert!(found.len() > 50 && found.len() < 500, "{}", found.len());
        for share in found {
            let header = share.header();
            assert!(job.target().is_met_by(&sha256d::sha256d(&header)));
            assert!((share.version ^ job.version()) & !0x1fff_e000 == 0);
            assert!(headers.insert(header));
        }
    }

    #[test]
    fn every_hash_is_a_share_at_the_lowest_pot() {
        let mut found = Vec::new();
        Roller::new(Assignment { job: job(-32, 4), version_mask: 0 }, 5).scan(100, &mut found);
        assert!(found.len() >= 99, "T1 · 2^32 is a hair below 2^256");
        assert_eq!((&*found[0].extranonce, found[0].version), (&[5, 0, 0, 0][..], 0x2000_0000));
    }

    #[test]
    fn a_turn_changes_extranonce2_and_version_within_the_mask() {
        let mut roller = Roller::new(Assignment { job: job(60, 8), version_mask: 0x1fff_e000 }, 0);
        roller.next_nonce = NONCES_PER_TURN - 1;
        roller.scan(2, &mut Vec::new());
        assert_eq!((roller.turn, roller.next_nonce, roller.version), (1, 1, 0x2000_2000));
        assert_eq!(*roller.extranonce, [1, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn bits_are_spread_over_the_mask() {
        assert_eq!(deposit(0b1011, 0xf000_0000), 0xb000_0000);
        assert_eq!(deposit(u64::MAX, 0x1fff_e000), 0x1fff_e000);
        assert_eq!(deposit(u64::MAX, 0), 0);
    }
}

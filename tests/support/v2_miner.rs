//! A V2 miner with one channel: rust-bitcoin for the hashing.

use super::PATIENCE;
use super::v2_link::V2Link;
use bitcoin::hashes::{Hash, sha256d};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stratum::v2::client::{Event, Job, Kind, Share};
use stratum::v2::codec::Bytes32;
use stratum::v2::keys::AuthorityKey;

/// A connection of one miner.
pub struct V2Miner {
    link: V2Link,
    channel: u32,
    /// The newest job.
    pub job: Arc<Job>,
    /// The last share that was accepted.
    pub mined: Option<Share>,
    rolled: u64,
}

impl V2Miner {
    /// Shakes hands, opens a channel, waits for the first job.
    pub fn connect(server: SocketAddr, authority: AuthorityKey, user: &str, kind: Kind) -> Self {
        let mut link = V2Link::connect(server, authority);
        let (channel, job) = link.open(user, kind);
        Self { link, channel, job, mined: None, rolled: 0 }
    }

    /// Takes in whatever has arrived, without waiting for more.
    pub fn catch_up(&mut self) {
        while let Some(event) = self.link.next(Duration::from_millis(1)) {
            if let Event::Work { job, .. } = event {
                self.job = job;
            }
        }
    }

    /// Finds a share of the newest job and submits it; gives its hash in internal order, or why it was refused.
    pub fn mine_share(&mut self) -> Result<[u8; 32], String> {
        self.catch_up();
        let (share, hash) = self.find_share();
        self.submit(&share)?;
        self.mined = Some(share);
        Ok(hash)
    }

    /// Mines until a share is accepted; only a new tip may make one late. Gives its hash.
    pub fn mine_accepted_share(&mut self) -> [u8; 32] {
        for _ in 0..100 {
            match self.mine_share() {
                Ok(hash) => return hash,
                Err(code) => assert_eq!(code, "stale-share"),
            }
        }
        panic!("all shares are stale");
    }

    /// Submits a share; why it was refused, if it was.
    pub fn submit(&mut self, share: &Share) -> Result<(), String> {
        let submitted = self.link.act(|client, out| client.submit(share, out));
        let sequence = submitted.map_err(|error| error.to_string())?;
        let started = Instant::now();
        loop {
            match self.link.next(PATIENCE) {
                Some(Event::Accepted { last_sequence_number, .. }) if last_sequence_number == sequence => {
                    return Ok(());
                }
                Some(Event::Rejected { sequence_number, code, .. }) if sequence_number == sequence => {
                    return Err(code.to_string());
                }
                Some(Event::Work { job, .. }) => self.job = job,
                _ => {}
            }
            assert!(started.elapsed() < PATIENCE, "no verdict on channel {} in time", self.channel);
        }
    }

    /// Finds a share of the newest job; gives its hash in internal order too.
    pub fn find_share(&mut self) -> (Share, [u8; 32]) {
        let job = self.job.clone();
        loop {
            self.rolled += 1;
            let bytes = [[0; 24].as_slice(), &self.rolled.to_be_bytes()].concat();
            // A standard channel rolls nothing but version and nonce: these bits are free to all.
            let version = job.version | (self.rolled as u32 & 0xffff) << 13 & job.version_mask;
            let extranonce = Bytes32::new(&bytes[32 - job.extranonce_size..]).unwrap();
            let mut share = Share { job: job.clone(), extranonce, ntime: job.min_ntime, nonce: 0, version };
            let mut header = share.header();
            for nonce in 0..1_u32 << 20 {
                header[76..80].copy_from_slice(&nonce.to_le_bytes());
                let hash = sha256d::Hash::hash(&header).to_byte_array();
                if job.target.is_met_by(&hash) {
                    share.nonce = nonce;
                    return (share, hash);
                }
            }
        }
    }
}

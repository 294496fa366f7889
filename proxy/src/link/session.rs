//! A connection upstream while it stands: its accounts, their channels, and the socket's bytes.

use super::{JOBS_MAX, JOBS_PER_PERIOD_MAX, JOBS_PERIOD, SILENCE, UPDATE_EVERY};
use crate::forward::{Account, Waiting};
use bitcoin::BlockHash;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stratum::fault::Fault;
use stratum::v2::client::{Client, Event, Job, RequestId};
use stratum::v2::codec::U256;
use stratum_net::outbox::Outbox;
use tokio::net::TcpStream;

/// A share that upstream has not judged.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) sequence_number: u32,
    /// Who waits for it still.
    pub(super) waiting: Option<Waiting>,
    /// Of its header.
    pub(super) hash: BlockHash,
    pub(super) since: Instant,
}

/// The connection while it stands.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) outbox: Outbox,
    pub(super) ready: bool,
    /// Requests for channels that are not answered, with what was asked for.
    pub(super) opening: HashMap<RequestId, (Account, u16)>,
    /// What is asked for: less once upstream has refused so much.
    pub(super) extranonce_size: u16,
    /// Accounts for which a channel is still to be asked for, oldest first.
    pub(super) to_open: VecDeque<Account>,
    pub(super) accounts: HashMap<Account, Standing>,
    /// By upstream's names.
    pub(super) channels: HashMap<u32, Channel>,
    pub(super) update_at: Instant,
    /// When the last byte came.
    pub(super) heard: Instant,
}

/// What is known of an account.
pub(super) struct Standing {
    /// Hashes per second, by shard.
    pub(super) rates: Vec<f64>,
    pub(super) told_hashes_per_s: f64,
    /// Upstream's name of its channel, once it is open.
    pub(super) channel_id: Option<u32>,
}

pub(super) struct Channel {
    pub(super) account: Account,
    /// Newest last.
    pub(super) jobs: VecDeque<Arc<Job>>,
    /// Jobs so far in a period, and its start.
    recent: (u32, Instant),
    /// Oldest first.
    pub(super) sent: VecDeque<Sent>,
}

impl Session {
    /// Whether a channel was asked for, or will be.
    pub(super) fn knows(&self, account: &Account) -> bool {
        self.accounts.contains_key(account) || self.to_open.contains(account)
    }

    pub(super) fn opened(&mut self, request: RequestId, channel_id: u32) {
        let Some((account, _)) = self.opening.remove(&request) else { return };
        if let Some(standing) = self.accounts.get_mut(&account) {
            standing.channel_id = Some(channel_id);
        }
        let recent = (0, Instant::now());
        let channel = Channel { account, jobs: VecDeque::new(), recent, sent: VecDeque::new() };
        self.channels.insert(channel_id, channel);
    }

    /// Notes a job; whose it is.
    pub(super) fn work(&mut self, job: &Arc<Job>, now: Instant) -> Result<Option<Account>, String> {
        let Some(channel) = self.channels.get_mut(&job.channel) else { return Ok(None) };
        let (count, start) = &mut channel.recent;
        if now.saturating_duration_since(*start) >= JOBS_PERIOD {
            (*count, *start) = (0, now);
        }
        *count += 1;
        if *count > JOBS_PER_PERIOD_MAX {
            return Err(format!("it sends more than {JOBS_PER_PERIOD_MAX} jobs a minute"));
        }
        if channel.jobs.len() >= JOBS_MAX {
            channel.jobs.pop_front();
        }
        channel.jobs.push_back(job.clone());
        Ok(Some(channel.account.clone()))
    }

    /// Whether upstream says anything while shares wait.
    pub(super) fn listen(&self, now: Instant) -> Result<(), String> {
        let shares = self.channels.values().map(|channel| channel.sent.len()).sum::<usize>();
        let Some(oldest) =
            self.channels.values().flat_map(|channel| &channel.sent).map(|sent| sent.since).min()
        else {
            return Ok(());
        };
        let silent = now.saturating_duration_since(self.heard.max(oldest));
        if is_too_silent(shares, silent) {
            return Err(format!("it has said nothing for {} s while {shares} shares wait", silent.as_secs()));
        }
        Ok(())
    }

    /// Tells upstream of the machines of accounts that have become faster or slower by a tenth.
    pub(super) fn update(&mut self, now: Instant, out: &mut Vec<Event>) {
        if now < self.update_at {
            return;
        }
        self.update_at = now + UPDATE_EVERY;
        for standing in self.accounts.values_mut() {
            let Some(channel_id) = standing.channel_id else { continue };
            let (now_is, told) = (standing.rates.iter().sum::<f64>(), standing.told_hashes_per_s);
            if (now_is - told).abs() > 0.1 * told.max(now_is) {
                standing.told_hashes_per_s = now_is;
                // Its channel may have been closed: then there is nobody to tell.
                let _ = self.client.update(channel_id, now_is as f32, U256([0xff; 32]), out);
            }
        }
    }
}

fn is_too_silent(shares: usize, silent: Duration) -> bool {
    SILENCE.iter().any(|(many, long)| shares >= *many && silent >= *long)
}

/// Writes what waits; whether something is left.
pub(super) fn write(session: &mut Session, stream: &TcpStream) -> io::Result<bool> {
    while !session.outbox.is_empty() {
        let mut slices = Vec::with_capacity(8);
        session.outbox.slices(&mut slices).map_err(io::Error::other)?;
        match stream.try_write_vectored(&slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => session.outbox.written(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

pub(super) fn read(
    session: &mut Session,
    stream: &TcpStream,
    buffer: &mut [u8],
    out: &mut Vec<Event>,
) -> Result<(), String> {
    match stream.try_read(buffer) {
        Ok(0) => Err("it has closed the connection".to_owned()),
        Ok(read) => {
            session.heard = Instant::now();
            session.client.receive(&buffer[..read], session.heard, out).map_err(fault)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(gone(error)),
    }
}

pub(super) fn gone(error: io::Error) -> String {
    format!("the connection is gone: {error}")
}

pub(super) fn fault(fault: Fault) -> String {
    format!("it is at fault: {fault}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n18_many_unjudged_shares_make_silence_suspicious_soon_and_a_few_do_later() {
        let silent = |shares, seconds| is_too_silent(shares, Duration::from_secs(seconds));
        assert!(silent(32, 10) && !silent(32, 9));
        assert!(!silent(31, 119), "the batch of a slow pool may not be full");
        assert!(silent(1, 120) && silent(31, 120));
        assert!(!silent(0, 10_000), "where nothing was asked nothing is answered");
    }
}

//! A Stratum V2 session: a handshake, and then as many channels as were asked for, each a slot of its own.

use super::Learnt;
use crate::cli::{ChannelKind, Channels, Machine, Work};
use crate::connection::Shared;
use crate::work::{Assignment, Job, Share};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use stratum::v2::client::{self, Client, Event, Kind, OpenError, Request, RequestId, Settings};
use stratum::v2::codec::{Bytes32, Str255, U256};
use stratum::v2::frame::HEADER_BYTES;
use stratum::v2::noise::{ACT2_BYTES, Authority, EPHEMERAL_BYTES, Initiator, Sealer, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a machine without a cap says that it does, in hashes per second: one core's worth.
const UNCAPPED_HASHES_PER_S: f32 = 1e7;
/// Bytes of extranonce that a miner has to have: with nonce and version more than any core can roll.
const EXTRANONCE_BYTES_MIN: u16 = 4;

#[derive(Debug)]
pub struct Session {
    client: Client,
    sealer: Sealer,
    events: Vec<Event>,
    kind: Kind,
    user: Str255,
    hashes_per_s: f32,
    version_rolling: bool,
    /// How many channels there are to be.
    wanted: usize,
    /// Slots whose channel was asked for.
    asked: HashMap<RequestId, usize>,
    open: HashMap<u32, Slot>,
}

/// An open channel.
#[derive(Debug)]
struct Slot {
    number: usize,
    /// Shares that wait for their answers, by sequence number, oldest first.
    sent: VecDeque<(u32, u64)>,
}

impl Session {
    pub(super) async fn begin(
        stream: &mut TcpStream,
        authority: Authority,
        channels: Channels,
        machine: &Machine,
        shared: &Shared,
    ) -> Result<Self, String> {
        let Transport { seal, open } = shake_hands(stream, authority).await?;
        // "name/version" is how V1 says both in one.
        let (vendor, firmware) = machine.agent.split_once('/').unwrap_or((&machine.agent, ""));
        let settings = Settings {
            standard_jobs_only: false,
            version_rolling: shared.version_rolling,
            vendor: text(vendor)?,
            firmware: text(firmware)?,
            ..Settings::new(text(&shared.url.host)?, shared.url.port)
        };
        let mut events = Vec::new();
        let client = Client::new(Arc::new(settings), open, Instant::now(), &mut events);
        let kind = match channels.kind {
            ChannelKind::Standard => Kind::Standard,
            ChannelKind::Extended => Kind::Extended { min_extranonce_size: EXTRANONCE_BYTES_MIN },
        };
        Ok(Self {
            client,
            sealer: seal,
            events,
            kind,
            user: text(&machine.user)?,
            hashes_per_s: match machine.work {
                Work::Idle => 0.0,
                Work::Mine(rate) => rate.map_or(UNCAPPED_HASHES_PER_S, |rate| rate as f32), // about
            },
            version_rolling: shared.version_rolling,
            wanted: channels.count,
            asked: HashMap::new(),
            open: HashMap::new(),
        })
    }

    pub(super) fn receive(&mut self, bytes: &[u8], now: Instant) -> Result<(), String> {
        self.client.receive(bytes, now, &mut self.events).map_err(|fault| fault.to_string())
    }

    pub(super) fn deadline(&self) -> Instant {
        self.client.deadline()
    }

    pub(super) fn tick(&mut self, now: Instant) -> Result<(), String> {
        self.client.tick(now).map_err(|fault| fault.to_string())
    }

    pub(super) fn submit(&mut self, job: &Arc<client::Job>, share: &Share, tag: u64) -> Result<(), String> {
        let Share { ntime, nonce, version, .. } = *share;
        let extranonce = Bytes32::new(&share.extranonce).map_err(|error| error.to_string())?;
        let share = client::Share { job: job.clone(), extranonce, ntime, nonce, version };
        let sequence = self.client.submit(&share, &mut self.events).map_err(|error| error.to_string())?;
        if let Some(slot) = self.open.get_mut(&job.channel) {
            slot.sent.push_back((sequence, tag));
        }
        Ok(())
    }

    pub(super) fn is_live(&self, job: &client::Job) -> bool {
        self.client.is_live(job)
    }

    pub(super) fn learn(&mut self, now: Instant, out: &mut Vec<u8>) -> Vec<Learnt> {
        let mut learnt = Vec::new();
        // Some of them make new ones: requests for channels.
        while !self.events.is_empty() {
            for event in std::mem::take(&mut self.events) {
                self.event(event, now, out, &mut learnt);
            }
        }
        learnt
    }

    fn event(&mut self, event: Event, now: Instant, out: &mut Vec<u8>, learnt: &mut Vec<Learnt>) {
        match event {
            Event::Send(frame) => learnt.extend(self.seal(&frame, out).err().map(Learnt::Lost)),
            Event::Ready { .. } => learnt.extend(self.ask(now).err().map(Learnt::Lost)),
            Event::Opened { request, channel, .. } => {
                let number = self.asked.remove(&request).expect("the client answers our own requests only");
                self.open.insert(channel, Slot { number, sent: VecDeque::new() });
                match self.ask(now) {
                    Err(reason) => learnt.push(Learnt::Lost(reason)),
                    Ok(()) if self.open.len() == self.wanted => learnt.push(Learnt::Ready),
                    Ok(()) => {}
                }
            }
            Event::Work { job, .. } => {
                let slot = self.open.get(&job.channel).expect("work comes on open channels").number;
                let version_mask = if self.version_rolling { job.version_mask } else { 0 };
                learnt
                    .push(Learnt::Work { slot, assignment: Assignment { job: Job::V2(job), version_mask } });
            }
            Event::Accepted { channel, last_sequence_number, count, .. } => {
                self.accepted(channel, last_sequence_number, count, learnt);
            }
            Event::Rejected { channel, sequence_number, code } => {
                if let Some(tag) = self.answered(channel, sequence_number) {
                    learnt.push(Learnt::Answer { tag, result: Err(code.to_string()) });
                }
            }
            Event::SetupRefused { flags, code } => {
                learnt.push(Learnt::Say(format!("the server refused us: {code} (flags {flags:#x})")));
            }
            Event::OpenRefused { code, .. } => {
                learnt.push(Learnt::Lost(format!("the server refused a channel: {code}")));
            }
            Event::Closed { reason, .. } => {
                learnt.push(Learnt::Lost(format!("the server closed a channel: {reason}")));
            }
            Event::Reconnect { host: Some(host), .. } if host != self.host() => {
                learnt.push(Learnt::Say(format!("not going to foreign host {host}, which the server names")));
            }
            Event::Reconnect { port, .. } => {
                learnt.push(Learnt::Reconnect { port, wait: Duration::ZERO });
            }
            // They are in the jobs that come after them; and we update nothing.
            Event::Target { .. } | Event::Prefix { .. } | Event::UpdateRefused { .. } => {}
        }
    }

    fn host(&self) -> Str255 {
        self.client.settings().endpoint_host.clone()
    }

    fn seal(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let (header, payload) =
            frame.split_first_chunk::<HEADER_BYTES>().expect("a frame starts with its header");
        self.sealer.seal(header, payload, out).map_err(|error| error.to_string())
    }

    /// Asks for channels that are still missing, as many as may be asked for at once.
    fn ask(&mut self, now: Instant) -> Result<(), String> {
        while self.open.len() + self.asked.len() < self.wanted {
            let request = Request {
                kind: self.kind,
                user_identity: self.user.clone(),
                hashes_per_s: self.hashes_per_s,
                max_target: U256([0xff; 32]),
            };
            match self.client.open(request, now, &mut self.events) {
                Ok(id) => self.asked.insert(id, self.open.len() + self.asked.len()),
                Err(OpenError::TooManyPending) => return Ok(()),
                Err(error) => return Err(error.to_string()),
            };
        }
        Ok(())
    }

    /// All that wait up to this sequence number are acknowledged.
    fn accepted(&mut self, channel: u32, last: u32, count: u32, learnt: &mut Vec<Learnt>) {
        let Some(slot) = self.open.get_mut(&channel) else { return };
        let tags = cover(&mut slot.sent, last);
        let covered = tags.len();
        learnt.extend(tags.into_iter().map(|tag| Learnt::Answer { tag, result: Ok(()) }));
        if covered != count as usize {
            // Which ones it means cannot be told.
            learnt.push(Learnt::Lost(format!(
                "the server acknowledged {count} shares as if they were {covered}"
            )));
        }
    }

    fn answered(&mut self, channel: u32, sequence_number: u32) -> Option<u64> {
        let sent = &mut self.open.get_mut(&channel)?.sent;
        let at = sent.iter().position(|(sequence, _)| *sequence == sequence_number)?;
        sent.remove(at).map(|(_, tag)| tag)
    }
}

/// Takes off what an acknowledgement up to this sequence number covers; the answer are its tags.
fn cover(sent: &mut VecDeque<(u32, u64)>, last: u32) -> Vec<u64> {
    // Sequence numbers wrap, and far fewer than half of them are on their way.
    let covered = sent.iter().take_while(|(sequence, _)| last.wrapping_sub(*sequence) < 1 << 31).count();
    sent.drain(..covered).map(|(_, tag)| tag).collect()
}

async fn shake_hands(stream: &mut TcpStream, authority: Authority) -> Result<Transport, String> {
    let failed = |error: std::io::Error| format!("no handshake: {error}");
    let mut ephemeral = [0; EPHEMERAL_BYTES];
    rand::fill(&mut ephemeral);
    let (initiator, act1) = Initiator::new(ephemeral, authority);
    stream.write_all(&act1).await.map_err(failed)?;
    let mut act2 = [0; ACT2_BYTES];
    stream.read_exact(&mut act2).await.map_err(failed)?;
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now_unix_s = u32::try_from(since_epoch.as_secs()).unwrap_or(u32::MAX);
    initiator.finish(&act2, now_unix_s).map_err(|error| format!("no handshake: {error}"))
}

fn text(text: &str) -> Result<Str255, String> {
    Str255::new(text.as_bytes().to_vec()).map_err(|error| format!("\"{text}\" cannot be said: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mn_24_an_acknowledgement_covers_all_up_to_its_number_and_numbers_wrap() {
        let mut sent = VecDeque::from([(u32::MAX - 1, 10), (u32::MAX, 11), (1, 13), (2, 14)]);
        assert!(cover(&mut sent, u32::MAX - 2).is_empty());
        assert_eq!(cover(&mut sent, u32::MAX), [10, 11]);
        assert!(cover(&mut sent, 0).is_empty());
        assert_eq!(cover(&mut sent, 1), [13]);
        assert_eq!(sent, [(2, 14)]);
    }
}

//! A Stratum V1 session.

use super::Learnt;
use crate::cli::{Machine, Work};
use crate::connection::Shared;
use crate::work::{Assignment, Job, Share};
use std::sync::Arc;
use std::time::Instant;
use stratum::v1::client::{self, Client, Event, Settings};

#[derive(Debug)]
pub struct Session {
    client: Client,
    events: Vec<Event>,
}

impl Session {
    pub(super) fn new(machine: &Machine, shared: &Shared) -> Self {
        let now = Instant::now();
        let defaults = Settings::new(machine.user.clone(), shared.url.host.clone());
        let settings = Settings {
            password: machine.password.clone(),
            agent: machine.agent.clone(),
            version_mask: defaults.version_mask.filter(|_| shared.version_rolling),
            // Thousands of idle connections must not keep 32 jobs each.
            jobs_max: if machine.work == Work::Idle { 1 } else { defaults.jobs_max },
            ..defaults
        };
        let mut session = Self { client: Client::new(settings, now), events: Vec::new() };
        session.client.start(now, &mut session.events);
        session
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

    pub(super) fn submit(
        &mut self,
        job: &Arc<client::Job>,
        share: &Share,
        tag: u64,
        now: Instant,
    ) -> Result<(), String> {
        let Share { ntime, nonce, version, .. } = *share;
        let (job, extranonce2) = (job.clone(), share.extranonce.clone());
        let share = client::Share { job, extranonce2, ntime, nonce, version };
        self.client.submit(&share, tag, now, &mut self.events).map_err(|error| error.to_string())
    }

    pub(super) fn is_live(&self, job: &client::Job) -> bool {
        self.client.is_live(job)
    }

    pub(super) fn learn(&mut self, out: &mut Vec<u8>) -> Vec<Learnt> {
        let mut learnt = Vec::new();
        for event in std::mem::take(&mut self.events) {
            learnt.push(match event {
                Event::Send(bytes) => {
                    out.extend_from_slice(&bytes);
                    continue;
                }
                Event::Subscribed { .. } => continue,
                Event::Authorized => Learnt::Ready,
                Event::Job(job) => {
                    let version_mask = self.client.version_mask();
                    Learnt::Work { slot: 0, assignment: Assignment { job: Job::V1(job), version_mask } }
                }
                Event::VersionMask(mask) => Learnt::VersionMask(mask),
                Event::Answer { tag, result } => {
                    Learnt::Answer { tag, result: result.map_err(|refusal| refusal.to_string()) }
                }
                Event::Reconnect { port, wait } => Learnt::Reconnect { port, wait },
                Event::ReconnectRefused { host } => {
                    Learnt::Say(format!("not going to foreign host {host}, which the server names"))
                }
                Event::ShowMessage(message) => Learnt::Say(format!("the server says: {message}")),
            });
        }
        learnt
    }
}

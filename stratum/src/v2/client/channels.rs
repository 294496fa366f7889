//! The open channels of a connection and the groups that they are in.
//!
//! Some servers address a channel's first job to the channel and all later ones to its group, extended channels
//! included (SRI). Channels and groups share one number space (MN-03).

use super::FUTURE_JOBS_MAX;
use super::channel::Channel;
use super::event::{Event, Kind};
use super::job::{Draft, Tip};
use crate::fault::Fault;
use crate::target::Target;
use crate::v2::codec::{Bytes32, Str255};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

/// Every group has a member; every channel is in one group.
#[derive(Debug, Default)]
pub(super) struct Channels {
    channels: BTreeMap<u32, Channel>,
    groups: BTreeMap<u32, Group>,
    /// Messages to nobody.
    pub(super) ignored: u64,
}

/// What was told to a group; a channel may join in the middle.
#[derive(Debug, Default)]
struct Group {
    members: BTreeSet<u32>,
    /// Oldest first.
    futures: VecDeque<Draft>,
    tip: Option<Tip>,
}

impl Channels {
    pub(super) fn get(&self, id: u32) -> Option<&Channel> {
        self.channels.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Channel> {
        self.channels.get_mut(&id)
    }

    /// The channel that an answer is for; `None`, and counted, if it is not open.
    pub(super) fn answered(&mut self, id: u32) -> Option<&mut Channel> {
        let channel = self.channels.get_mut(&id);
        // We may just have closed it.
        self.ignored += u64::from(channel.is_none());
        channel
    }

    pub(super) fn insert(&mut self, channel: Channel) -> Result<(), Fault> {
        let (id, group) = (channel.id, channel.group);
        if self.channels.contains_key(&id) || self.groups.contains_key(&id) {
            return Err(Fault::Misbehaved("a channel id that is taken"));
        }
        self.channels.insert(id, channel);
        self.join(id, group)
    }

    fn join(&mut self, channel: u32, group: u32) -> Result<(), Fault> {
        if self.channels.contains_key(&group) {
            return Err(Fault::Misbehaved("a group id that is a channel's"));
        }
        self.groups.entry(group).or_default().members.insert(channel);
        Ok(())
    }

    fn leave(&mut self, channel: u32, group: u32) {
        if let Some(left) = self.groups.get_mut(&group) {
            left.members.remove(&channel);
            if left.members.is_empty() {
                self.groups.remove(&group);
            }
        }
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Channel> {
        let channel = self.channels.remove(&id)?;
        self.leave(id, channel.group);
        Some(channel)
    }

    /// Moves channels to a group.
    pub(super) fn regroup(&mut self, group: u32, ids: &[u32]) -> Result<(), Fault> {
        for id in ids {
            let Some(channel) = self.channels.get_mut(id) else {
                self.ignored += 1; // we may just have closed it
                continue;
            };
            let before = std::mem::replace(&mut channel.group, group);
            if before != group {
                self.leave(*id, before);
                self.join(*id, group)?;
            }
        }
        Ok(())
    }

    /// Closes a channel or all of a group (MN-17).
    pub(super) fn closed(&mut self, id: u32, reason: &Str255, out: &mut Vec<Event>) {
        let ids = self.addressed(id);
        self.ignored += u64::from(ids.is_empty());
        for channel in ids {
            self.remove(channel);
            out.push(Event::Closed { channel, reason: reason.clone() });
        }
    }

    pub(super) fn set_target(&mut self, id: u32, target: Target, out: &mut Vec<Event>) {
        let ids = self.addressed(id);
        self.ignored += u64::from(ids.is_empty());
        for id in ids {
            out.extend(self.channels.get_mut(&id).map(|channel| channel.set_target(target)));
        }
    }

    pub(super) fn set_prefix(&mut self, id: u32, prefix: Bytes32) -> Result<Option<Event>, Fault> {
        if self.groups.contains_key(&id) {
            return Err(Fault::Misbehaved("one extranonce prefix for all of a group"));
        }
        self.answered(id).map(|channel| channel.set_prefix(prefix)).transpose()
    }

    /// The channel, or all of the group.
    fn addressed(&self, id: u32) -> Vec<u32> {
        match self.groups.get(&id) {
            Some(group) => group.members.iter().copied().collect(),
            None => self.channels.contains_key(&id).then_some(id).into_iter().collect(),
        }
    }

    /// A job with its merkle root.
    pub(super) fn standard_job(
        &mut self,
        id: u32,
        draft: Draft,
        min_ntime: Option<u32>,
        now: Instant,
        out: &mut Vec<Event>,
    ) -> Result<(), Fault> {
        if self.groups.contains_key(&id) {
            return Err(Fault::Misbehaved("one merkle root for all of a group"));
        }
        let Some(channel) = self.answered(id) else { return Ok(()) };
        if channel.kind != Kind::Standard {
            return Err(Fault::Misbehaved("a standard job for an extended channel"));
        }
        job(channel, draft, min_ntime, now, out)
    }

    /// A job whose merkle root its channels compute.
    pub(super) fn extended_job(
        &mut self,
        id: u32,
        draft: Draft,
        min_ntime: Option<u32>,
        now: Instant,
        out: &mut Vec<Event>,
    ) -> Result<(), Fault> {
        let Some(group) = self.groups.get_mut(&id) else {
            let Some(channel) = self.answered(id) else { return Ok(()) };
            if channel.kind == Kind::Standard {
                return Err(Fault::Misbehaved("an extended job for a standard channel"));
            }
            return job(channel, draft, min_ntime, now, out);
        };
        if min_ntime.is_none() {
            group.keep(draft.clone());
        }
        for member in &group.members {
            let channel = self.channels.get_mut(member).expect("a member is an open channel");
            channel.follow(group.tip);
            // One that has just been opened was told of no block yet, and gets its first job by itself.
            if min_ntime.is_none() || channel.has_tip() {
                job(channel, draft.clone(), min_ntime, now, out)?;
            }
        }
        Ok(())
    }

    /// A new block, and the job that goes with it.
    pub(super) fn new_tip(
        &mut self,
        id: u32,
        job_id: u32,
        tip: Tip,
        now: Instant,
        out: &mut Vec<Event>,
    ) -> Result<(), Fault> {
        const UNKNOWN: Fault = Fault::Misbehaved("a new block with a job that was not sent");
        let Some(group) = self.groups.get_mut(&id) else {
            let Some(channel) = self.answered(id) else { return Ok(()) };
            let future = channel.take(job_id).ok_or(UNKNOWN)?;
            out.push(channel.activate(future, tip, now));
            return Ok(());
        };
        let draft = group.futures.iter().find(|draft| draft.id == job_id).cloned();
        group.futures.clear();
        group.tip = Some(tip);
        for member in &group.members {
            let channel = self.channels.get_mut(member).expect("a member is an open channel");
            // A channel that joined after the job was sent to the group can still compute it.
            let future = channel.take(job_id).or_else(|| draft.clone().map(|draft| channel.future(draft)));
            match future {
                Some(future) => out.push(channel.activate(future, tip, now)),
                // Just opened: its first job is on its way.
                None if !channel.has_tip() => {}
                // It would go on with work that is worth nothing.
                None => return Err(UNKNOWN),
            }
        }
        Ok(())
    }
}

impl Group {
    fn keep(&mut self, draft: Draft) {
        self.futures.retain(|future| future.id != draft.id);
        if self.futures.len() >= FUTURE_JOBS_MAX {
            self.futures.pop_front();
        }
        self.futures.push_back(draft);
    }
}

fn job(
    channel: &mut Channel,
    draft: Draft,
    min_ntime: Option<u32>,
    now: Instant,
    out: &mut Vec<Event>,
) -> Result<(), Fault> {
    match min_ntime {
        None => channel.keep(draft),
        Some(min_ntime) => out.push(channel.begin(draft, min_ntime, now)?),
    }
    Ok(())
}

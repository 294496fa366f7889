//! The one thread that decides which template is current.

use super::long_poll::LongPoll;
use super::{REFRESH, SourceEvent, SourceSettings, TEMPLATE_AGE_MAX, TIP_AGE_MAX, Wake, rivals};
use crate::bitcoind::ask::{self, AskError};
use crate::bitcoind::notify::Notify;
use crate::bitcoind::rpc::{Canceller, Purpose, Rpc, RpcError};
use crate::template::Template;
use bitcoin::BlockHash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant, SystemTime};
use stratum::job::TemplateId;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// The tip is asked for this often.
const TICK: Duration = Duration::from_secs(1);
/// Failures in a row after which the next node is tried.
const FAILURES_BEFORE_SWITCH: u32 = 3;
/// First wait after a failure: the next tick tries again.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// Longest wait between attempts at a node that fails. It is short: the question is tiny.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Wait after HTTP 403 or a node of the wrong chain: only a person can change it.
const BACKOFF_OPERATOR: Duration = Duration::from_secs(30);
/// Work this old gives way to a node that lags: soon nothing would be left of it but an end for all miners.
const OUTLIVED: Duration = Duration::from_secs(60);
const _: () = assert!(OUTLIVED.as_secs() < TEMPLATE_AGE_MAX.as_secs(), "before it expires");
/// How long to wait for a slow receiver before looking whether to end.
const NAP: Duration = Duration::from_millis(5);

/// One node: our connections to it, and how it has answered.
struct Link {
    tip: Rpc,
    template: Rpc,
    other: Rpc,
    /// Failures in a row.
    failures: u32,
    /// Left alone until then.
    rests_until: Instant,
    /// Whether its last answer was that of a wrong node.
    refused: bool,
    /// The failure that was told last; empty once it has answered well.
    told: String,
}

/// The template that is served.
struct Current {
    template: Arc<Template>,
    stand_in: bool,
    at: Instant,
}

/// The tip of the best chain as the node last told it.
struct KnownTip {
    /// Place of the node.
    node: usize,
    hash: BlockHash,
    height: u32,
    /// As [`ask::Header::work`].
    work: String,
    since: Instant,
    /// Whether its age has been complained about.
    old: bool,
}

/// How the node is doing.
#[derive(PartialEq, Eq)]
enum Health {
    /// Its chain is not checked yet: at start and after each failure (CH-04).
    Unchecked,
    Healthy,
    Degraded,
    Refused,
}

pub(super) struct Keeper {
    settings: SourceSettings,
    wake: SyncSender<Wake>,
    events: mpsc::Sender<SourceEvent>,
    stop: Canceller,
    links: Vec<Link>,
    place: Arc<AtomicUsize>,
    cancellers: Vec<Canceller>,
    generation: u64,
    feeds: Option<(LongPoll, Option<Notify>)>,
    health: Health,
    tip: Option<KnownTip>,
    current: Option<Current>,
    expired: bool,
    counter: u64,
}

impl Keeper {
    pub(super) fn new(
        settings: SourceSettings,
        wake: SyncSender<Wake>,
        events: mpsc::Sender<SourceEvent>,
        stop: Canceller,
    ) -> Self {
        let link = |node: &super::SourceNode| Link {
            tip: Rpc::new(&node.rpc, Purpose::Tip),
            template: Rpc::new(&node.rpc, Purpose::Template),
            other: Rpc::new(&node.rpc, Purpose::Other),
            failures: 0,
            rests_until: Instant::now(),
            refused: false,
            told: String::new(),
        };
        let links: Vec<Link> = settings.nodes.iter().map(link).collect();
        let of_link = |link: &Link| [&link.tip, &link.template, &link.other].map(Rpc::canceller);
        let mut cancellers: Vec<Canceller> = links.iter().flat_map(of_link).collect();
        let place = Arc::new(AtomicUsize::new(0));
        if links.len() > 1 {
            let watch = rivals::watch(&settings.nodes, Arc::clone(&place), wake.clone(), stop.clone());
            cancellers.extend(watch);
        }
        Self {
            settings,
            wake,
            events,
            stop,
            links,
            place,
            cancellers,
            generation: 0,
            feeds: None,
            health: Health::Unchecked,
            tip: None,
            current: None,
            expired: false,
            counter: 0,
        }
    }

    /// Breaks off every call of the keeper.
    pub(super) fn cancellers(&self) -> Vec<Canceller> {
        self.cancellers.clone()
    }

    pub(super) fn run(mut self, woken: &Receiver<Wake>) {
        self.tick();
        let mut next_tick = Instant::now() + TICK;
        while !self.stop.is_cancelled() {
            match woken.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(wake) => self.heed(wake),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= next_tick {
                self.tick();
                next_tick = Instant::now() + TICK;
            }
        }
    }

    fn heed(&mut self, wake: Wake) {
        match wake {
            Wake::Block => self.tick(),
            Wake::LongPoll(generation, answer) if generation == self.generation => {
                self.take_long_poll(answer);
            }
            // Of a poll that was ended meanwhile.
            Wake::LongPoll(..) => {}
            Wake::Rival(place) => self.take_rival(place),
            Wake::Behind(place, blocks) => self.take_behind(place, blocks),
            // The loop sees to it.
            Wake::Stop => {}
        }
    }

    /// Place of the node that is asked.
    fn place(&self) -> usize {
        self.place.load(Ordering::Relaxed)
    }

    fn link(&mut self) -> &mut Link {
        let place = self.place();
        &mut self.links[place]
    }

    /// Asks for the tip, and for a template if one is due.
    fn tick(&mut self) {
        if Instant::now() >= self.link().rests_until
            && let Err(e) = self.look()
        {
            self.fail(&e);
        }
        self.check_ages(Instant::now());
    }

    /// Takes back a template that is too old (GB-07), and tells of a tip that is (CH-03).
    fn check_ages(&mut self, now: Instant) {
        let age = |since: Instant| now.saturating_duration_since(since);
        let too_old = self.current.as_ref().is_some_and(|current| age(current.at) > TEMPLATE_AGE_MAX);
        if too_old && !self.expired {
            self.expired = true;
            self.emit(SourceEvent::Expired);
        }
        if let Some(tip) = self.tip.as_mut().filter(|tip| !tip.old && age(tip.since) > TIP_AGE_MAX) {
            tip.old = true;
            let (height, minutes) = (tip.height, TIP_AGE_MAX.as_secs() / 60);
            let text = format!(
                "no block for {minutes} minutes since height {height}: check that the node has peers and is in step with the network"
            );
            self.emit(SourceEvent::Alarm(text));
        }
    }

    fn look(&mut self) -> Result<(), AskError> {
        let network = self.settings.network;
        if self.health != Health::Healthy {
            ask::check_chain(&mut self.link().other, network)?;
        }
        let hash = ask::best_block(&mut self.link().tip)?;
        let place = self.place();
        if self.tip.as_ref().is_none_or(|tip| (tip.node, tip.hash) != (place, hash)) {
            self.new_tip(place, hash)?;
        }
        if self.health != Health::Healthy || self.is_due(hash) {
            let template = ask::template(&mut self.link().template, network, None)?;
            if !self.follows_tip(&template)? {
                // A block came between the two questions.
                return Ok(());
            }
            self.take(template);
        }
        self.succeed();
        Ok(())
    }

    /// Whether a template, whichever way it came, builds on the tip that was told: on nothing else is worked
    /// (GB-04). One that does and is not for the next height is the node's failure.
    fn follows_tip(&self, template: &Template) -> Result<bool, AskError> {
        let Some(tip) = self.tip.as_ref().filter(|tip| tip.hash == template.prev_hash()) else {
            return Ok(false);
        };
        if tip.height.checked_add(1) != Some(template.height()) {
            return Err(AskError::Height { template: template.height(), tip: tip.height });
        }
        Ok(true)
    }

    /// Whether a healthy node is to be asked for a template on `tip`.
    fn is_due(&self, tip: BlockHash) -> bool {
        self.current.as_ref().is_none_or(|current| {
            current.stand_in || current.at.elapsed() >= REFRESH || current.template.prev_hash() != tip
        })
    }

    /// Tells of a new tip, with empty work on it at once if that can be built.
    fn new_tip(&mut self, node: usize, hash: BlockHash) -> Result<(), AskError> {
        let header = ask::header(&mut self.link().other, hash)?;
        let known = self.tip.replace(self.judge_tip(node, hash, &header)?);
        if known.is_some_and(|known| known.hash == hash) {
            return Ok(());
        }
        self.emit(SourceEvent::NewTip { hash, height: header.height });
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = u32::try_from(now).unwrap_or(u32::MAX);
        let stand_in = self
            .current
            .as_ref()
            .and_then(|current| header.as_tip(hash).and_then(|tip| current.template.empty_on(&tip, now)));
        if let Some(template) = stand_in.filter(|_| self.health == Health::Healthy) {
            self.serve(template, true);
        }
        Ok(())
    }

    /// A node that takes over may lag, or have just begun to load the chain: while there is work on a better tip
    /// that another node told, its own is not believed. One node may well go back: it has seen why.
    fn judge_tip(&self, node: usize, hash: BlockHash, header: &ask::Header) -> Result<KnownTip, AskError> {
        let (height, work) = (header.height, header.work.clone());
        if let Some(known) = self.tip.as_ref().filter(|known| known.node != node && known.work > work)
            && self.current.as_ref().is_some_and(|current| current.at.elapsed() < OUTLIVED)
        {
            return Err(AskError::Behind { found: height, served: known.height });
        }
        let (since, old) = match &self.tip {
            Some(known) if known.hash == hash => (known.since, known.old),
            _ => (Instant::now(), false),
        };
        Ok(KnownTip { node, hash, height, work, since, old })
    }

    fn take_long_poll(&mut self, answer: Result<Box<Template>, AskError>) {
        match answer {
            Ok(template) => match self.follows_tip(&template) {
                Ok(true) if self.health == Health::Healthy => self.take(*template),
                // The next tick decides about the node.
                Ok(true) => {}
                // Ask for the tip, and for a template of it.
                Ok(false) => self.tick(),
                Err(e) => self.fail(&e),
            },
            Err(e) if e.is_wrong_chain() => self.fail(&e),
            // The tick asks the same node each second and decides about it.
            Err(e) => tracing::debug!(error = %e, "long poll failed"),
        }
    }

    fn take_rival(&mut self, place: usize) {
        if place != self.place() {
            tracing::error!(node = %self.settings.nodes[place].rpc.address, "another node has more work; switching to it");
            self.switch(place);
            self.link().rests_until = Instant::now();
            self.tick();
        }
    }

    fn take_behind(&mut self, place: usize, blocks: u32) {
        let node = &self.settings.nodes[place].rpc.address;
        let text = format!(
            "node {node} is {blocks} blocks behind another one: check that it has peers and is not stuck"
        );
        self.emit(SourceEvent::Alarm(text));
    }

    fn take(&mut self, template: Template) {
        let same = |current: &Current| !current.stand_in && same_work(&current.template, &template);
        match self.current.as_mut() {
            // Nothing new to mine: only its age and times change.
            Some(current) if same(current) && current.at.elapsed() < REFRESH && !self.expired => {}
            _ => self.serve(template, false),
        }
    }

    fn serve(&mut self, template: Template, stand_in: bool) {
        let template = Arc::new(template);
        self.current = Some(Current { template: Arc::clone(&template), stand_in, at: Instant::now() });
        self.expired = false;
        self.counter += 1;
        let id = TemplateId(u64::from(self.settings.epoch) << 48 | self.counter);
        self.emit(SourceEvent::Template { id, template, stand_in });
    }

    fn succeed(&mut self) {
        let link = self.link();
        (link.failures, link.refused) = (0, false);
        self.links.iter_mut().for_each(|link| link.told.clear());
        match std::mem::replace(&mut self.health, Health::Healthy) {
            Health::Healthy => {}
            Health::Unchecked => self.start_feeds(),
            Health::Degraded | Health::Refused => {
                self.emit(SourceEvent::Recovered);
                self.start_feeds();
            }
        }
    }

    /// Starts the long poll and announcements of the current node, and ends those before.
    fn start_feeds(&mut self) {
        self.feeds = None;
        self.generation += 1;
        let node = &self.settings.nodes[self.place()];
        let wake = self.wake.clone();
        let poll = LongPoll::start(&node.rpc, self.settings.network, self.generation, wake.clone());
        let notify = node.hash_block.clone().map(|endpoint| {
            Notify::start(endpoint, move || {
                // Full: the keeper is awake already.
                let _ = wake.try_send(Wake::Block);
            })
        });
        self.feeds = Some((poll, notify));
    }

    fn fail(&mut self, e: &AskError) {
        if self.stop.is_cancelled() {
            return;
        }
        let wrong = e.is_wrong_chain();
        let operator = wrong || matches!(e, AskError::Rpc(RpcError::Forbidden));
        let link = self.link();
        link.failures = link.failures.saturating_add(1);
        link.refused = wrong;
        let (failures, wait) =
            (link.failures, if operator { BACKOFF_OPERATOR } else { backoff(link.failures) });
        link.rests_until = Instant::now() + wait;
        // Another node may be the right one: only if there is none must miners leave.
        let refused = self.links.iter().all(|link| link.refused);
        let text = match self.links.len() {
            1 => e.to_string(),
            _ => format!("{}: {e}", self.settings.nodes[self.place()].rpc.address),
        };
        let health = if refused { Health::Refused } else { Health::Degraded };
        let worse = refused && self.health != health;
        let link = self.link();
        if link.told != text || worse {
            link.told.clone_from(&text);
            tracing::error!(reason = text, "no work from the node");
            let event = if refused { SourceEvent::Refused } else { SourceEvent::Degraded };
            self.emit(event(text));
        }
        self.health = health;
        if refused {
            // Nobody works on it any more, so the same template again is news once the node is the right one.
            self.current = None;
        }
        if operator || matches!(e, AskError::Behind { .. }) || failures >= FAILURES_BEFORE_SWITCH {
            self.try_another();
        }
    }

    /// Goes on to the node that rests for the shortest time, in the order of the settings from here on; stays if
    /// that is this one.
    fn try_another(&mut self) {
        let (place, count) = (self.place(), self.links.len());
        let from_the_next = (1..=count).map(|step| (place + step) % count);
        let now = Instant::now();
        let next = from_the_next.min_by_key(|place| self.links[*place].rests_until.max(now));
        let Some(next) = next.filter(|next| *next != place) else { return };
        tracing::error!(node = %self.settings.nodes[next].rpc.address, "trying the next node");
        self.switch(next);
    }

    fn switch(&mut self, place: usize) {
        self.place.store(place, Ordering::Relaxed);
        self.feeds = None;
        self.generation += 1;
        self.link().failures = 0;
        self.health = match self.health {
            Health::Healthy => Health::Unchecked,
            Health::Unchecked | Health::Degraded | Health::Refused => Health::Degraded,
        };
    }

    /// Waits for a slow receiver, but not beyond the end.
    fn emit(&self, event: SourceEvent) {
        let mut event = event;
        while !self.stop.is_cancelled() {
            match self.events.try_send(event) {
                Ok(()) | Err(TrySendError::Closed(_)) => return,
                Err(TrySendError::Full(back)) => event = back,
            }
            std::thread::sleep(NAP);
        }
    }
}

/// How long a node is left alone after so many failures in a row, whatever wakes us meanwhile (GB-06).
fn backoff(failures: u32) -> Duration {
    // Far beyond the longest wait and far from an overflow.
    let doublings = failures.saturating_sub(1).min(8);
    (BACKOFF_FIRST * (1 << doublings)).min(BACKOFF_MAX)
}

/// Whether two templates differ in nothing but their times.
fn same_work(a: &Template, b: &Template) -> bool {
    a.prev_hash() == b.prev_hash()
        && a.version() == b.version()
        && a.nbits() == b.nbits()
        && a.value() == b.value()
        && a.transaction_bytes() == b.transaction_bytes()
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;

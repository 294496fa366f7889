//! Decides which upstream is mined on: starts and ends the links, and shows the shards the work of the one that is used.

use crate::bridge::{self, Unusable};
use crate::choice::{Choice, Do};
use crate::forward::{ACCOUNTS_MAX, Account, Current, Judged, Route, WAITING_MAX, WorkSet};
use crate::health::Health;
use crate::journal::Journal;
use crate::link::{Link, News, Told, Upstream};
use crate::metrics::Metrics;
use bitcoin::BlockHash;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stratum::encoded::EncodedJob;
use stratum::extranonce::EXTRANONCE2_BYTES;
use stratum::v2::client::Job;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Without any upstream, machines keep the last work for so long; then they are let go, to their own backup.
pub const LAST_WORK_MAX: Duration = Duration::from_secs(120);
/// A connection that is let go lasts so long, for its last verdicts.
const LINGER: Duration = Duration::from_secs(5);
/// News of links that may wait.
const NEWS_WAITING_MAX: usize = 64;

/// Where the shards are, and what else links need.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// For verdicts, one for each shard.
    pub shards: Vec<mpsc::Sender<Judged>>,
    /// For people.
    pub health: Arc<Health>,
    /// For Prometheus.
    pub metrics: Metrics,
    /// For the owner's books, if there are any.
    pub journal: Option<Journal>,
}

/// Who decides. It lives as long as the process.
#[derive(Debug)]
pub struct Switchboard {
    upstreams: Vec<Upstream>,
    links: Vec<Option<Line>>,
    choice: Choice,
    /// The upstream whose work was shown last; [`Choice`] may have left it since.
    shown: Option<usize>,
    surroundings: Surroundings,
    show: watch::Sender<Current>,
    told: (mpsc::Sender<Told>, mpsc::Receiver<Told>),
    next_link: u32,
    next_work: u64,
    extranonce2_bytes: usize,
    /// Since when there is no upstream, while machines keep the last work.
    without_since: Option<Instant>,
}

/// A link, as seen from here.
#[derive(Debug)]
struct Line {
    route: Route,
    live: bool,
    /// Parent of the newest work.
    tip: Option<BlockHash>,
    accounts: HashMap<Account, Result<Offered, Arc<str>>>,
    /// Those of them that were refused, oldest first: names are made up easily, so the oldest are forgotten.
    refused: VecDeque<Account>,
    stop: CancellationToken,
}

/// An account's newest job, and what machines get for it.
#[derive(Debug)]
struct Offered {
    job: Arc<Job>,
    /// The same again as long as the job and the size of the extranonce are the same: so nobody gets it twice.
    local: Arc<EncodedJob>,
    extranonce2_bytes: usize,
}

impl Switchboard {
    /// Nothing is connected yet; work will be shown through `show`.
    pub fn new(upstreams: Vec<Upstream>, surroundings: Surroundings, show: watch::Sender<Current>) -> Self {
        Self {
            choice: Choice::new(upstreams.len()),
            shown: None,
            links: upstreams.iter().map(|_| None).collect(),
            upstreams,
            surroundings,
            show,
            told: mpsc::channel(NEWS_WAITING_MAX),
            next_link: 1,
            next_work: 1,
            extranonce2_bytes: EXTRANONCE2_BYTES,
            without_since: None,
        }
    }

    /// Works until `stop`. Then all links are ended.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            self.decide();
            let now = now();
            let last_work = self.without_since.map(|since| since + LAST_WORK_MAX);
            let deadline = self.choice.deadline(now).into_iter().chain(last_work).min();
            tokio::select! {
                () = stop.cancelled() => break,
                Some(told) = self.told.1.recv() => self.hear_all(told),
                () = sleep_until(deadline) => {}
            }
        }
        self.links.iter().flatten().for_each(|line| line.stop.cancel());
    }

    fn decide(&mut self) {
        let now = now();
        for todo in self.choice.decide(now) {
            match todo {
                Do::Connect(at) => self.connect(at),
                Do::LetGo(at) => self.let_go(at),
            }
        }
        if self.choice.used() != self.shown {
            self.shown = self.choice.used();
            match self.choice.used() {
                Some(at) => info!(upstream = %self.upstreams[at].server, "mining on this upstream"),
                None => error!("no upstream: machines keep the last work for a while"),
            }
            self.show_work();
        }
        match (self.choice.used(), self.without_since) {
            (None, None) if self.show.borrow().0.is_some() => self.without_since = Some(now),
            (None, Some(since)) if now.saturating_duration_since(since) >= LAST_WORK_MAX => {
                error!("no upstream for too long: machines are sent to their backup");
                self.without_since = None;
                self.show.send_replace(Current(None));
            }
            (Some(_), _) => self.without_since = None,
            (None, _) => {}
        }
        self.surroundings.health.used(self.choice.used(), self.show.borrow().0.is_some());
    }

    fn connect(&mut self, at: usize) {
        let number = self.next_link;
        self.next_link += 1;
        // Room for all that shards may wait for, so that no shard ever finds it full with what machines wait for.
        let (wishes, from_shards) = mpsc::channel(WAITING_MAX * self.surroundings.shards.len() * 2);
        let stop = CancellationToken::new();
        let link = Link {
            upstream: self.upstreams[at].clone(),
            place: at,
            journal: self.surroundings.journal.clone(),
            number,
            wishes: from_shards,
            told: self.told.0.clone(),
            shards: self.surroundings.shards.clone(),
            metrics: self.surroundings.metrics.clone(),
            stop: stop.clone(),
        };
        tokio::spawn(link.run());
        let route = Route { link: number, wishes };
        let (accounts, refused) = (HashMap::new(), VecDeque::new());
        self.links[at] = Some(Line { route, live: false, tip: None, accounts, refused, stop });
    }

    fn let_go(&mut self, at: usize) {
        if let Some(line) = self.links[at].take() {
            info!(upstream = %self.upstreams[at].server, "let go");
            // What is under way there is still judged.
            tokio::spawn(async move {
                tokio::time::sleep(LINGER).await;
                line.stop.cancel();
            });
        }
    }

    /// Takes all news that is there before the shards are shown anything: a new block brings one for each account.
    fn hear_all(&mut self, first: Told) {
        let mut show = self.hear(first);
        while let Ok(told) = self.told.1.try_recv() {
            show |= self.hear(told);
        }
        if show {
            self.show_work();
        }
    }

    /// Whether there is something to show.
    fn hear(&mut self, Told { link, news }: Told) -> bool {
        let is_it = |line: &Option<Line>| line.as_ref().is_some_and(|line| line.route.link == link);
        // One that was let go may still have had something to say.
        let Some(at) = self.links.iter().position(is_it) else { return false };
        let line = self.links[at].as_mut().expect("just found");
        match news {
            News::Ready => {}
            News::Work(account, job) => {
                line.tip = Some(job.prev_hash);
                match Offered::new(link, job, self.extranonce2_bytes) {
                    Ok(offered) => line.accounts.insert(account, Ok(offered)),
                    Err(unusable) => {
                        line.stop.cancel();
                        self.hear_end(at, &unusable.to_string());
                        return false;
                    }
                };
            }
            News::Refused(account, reason) => {
                let user = String::from_utf8_lossy(account.as_bytes());
                warn!(upstream = %self.upstreams[at].server, ?user, reason, "account refused");
                line.refuse(account, reason.into());
            }
            News::Ended(reason) => {
                self.hear_end(at, &reason);
                return false;
            }
        }
        if !std::mem::replace(&mut line.live, true) {
            self.surroundings.health.connected(at);
            self.choice.is_live(at, now());
        }
        self.choice.used() == Some(at)
    }

    fn hear_end(&mut self, at: usize, reason: &str) {
        warn!(upstream = %self.upstreams[at].server, reason, "upstream connection ended");
        self.surroundings.health.failed(at, reason);
        self.surroundings.metrics.upstream_ended();
        self.links[at] = None;
        self.choice.failed(at, rand::random(), now());
    }

    /// Shows the shards the newest work of the upstream that is used. Without one they keep what they have.
    fn show_work(&mut self) {
        let Some(line) = self.choice.used().and_then(|at| self.links[at].as_mut()) else { return };
        // Machines are told once how much they roll: it falls if it must, and never grows again.
        let sizes = line.accounts.values().flatten().map(|offered| offered.extranonce2_bytes);
        let bytes = sizes.min().unwrap_or(self.extranonce2_bytes).min(self.extranonce2_bytes);
        let link = line.route.link;
        for offered in line.accounts.values_mut().flatten() {
            if offered.extranonce2_bytes != bytes {
                *offered = Offered::new(link, offered.job.clone(), bytes).expect("it had room for more");
            }
        }
        let shown = |offered: &Offered| offered.local.clone();
        let accounts = line.accounts.iter();
        let accounts =
            accounts.map(|(account, job)| (account.clone(), job.as_ref().map(shown).map_err(Arc::clone)));
        let work = WorkSet {
            id: self.next_work,
            route: line.route.clone(),
            tip: line.tip,
            extranonce2_bytes: bytes,
            accounts: accounts.collect(),
        };
        if bytes < self.extranonce2_bytes {
            warn!(bytes, "upstream leaves less to be rolled: machines that roll more connect anew");
            self.extranonce2_bytes = bytes;
        }
        self.next_work += 1;
        self.show.send_replace(Current(Some(Arc::new(work))));
    }
}

impl Line {
    fn refuse(&mut self, account: Account, reason: Arc<str>) {
        if !matches!(self.accounts.insert(account.clone(), Err(reason)), Some(Err(_))) {
            self.refused.push_back(account);
        }
        if self.refused.len() > ACCOUNTS_MAX
            && let Some(oldest) = self.refused.pop_front()
            && matches!(self.accounts.get(&oldest), Some(Err(_)))
        {
            self.accounts.remove(&oldest);
        }
    }
}

impl Offered {
    /// With as much for machines to roll as upstream leaves, up to `bytes`.
    fn new(link: u32, job: Arc<Job>, bytes: usize) -> Result<Self, Unusable> {
        let extranonce2_bytes = bridge::extranonce2_bytes(job.extranonce_size)?.min(bytes);
        let local = bridge::local_job(link, &job, extranonce2_bytes)?;
        Ok(Self { job, local, extranonce2_bytes })
    }
}

/// By the runtime's clock, which a test can turn.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;

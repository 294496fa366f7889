//! Decides what is worked on: it hears of templates, tips, shares and blocks, and gives out work.
//!
//! A thread of its own with one mailbox: what it does may wait for disk or node, and nobody waits for it.

use crate::blocks::FoundBlocks;
use crate::books::Books;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::newest_window::NewestWindow;
use crate::work::{Current, Planner, Standing, WorkSet};
use bitcoin::BlockHash;
use share_accounting::entry::ChainEvent;
use share_accounting::ledger::Credits;
use share_accounting::settlement;
use share_accounting::{Accounting, Snapshot};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};
use stratum::class::SizeClass;
use stratum::payee::Payee;
use stratum_net::clock::unix_ms;
use template::source::{SourceEvent, TEMPLATE_AGE_MAX};
use template::submit::{Outcome, SubmitEvent};
use template::template::Template;
use tokio::sync::watch;
use tracing::{error, info, warn};

/// News that may wait; whoever brings more waits.
pub const NEWS_WAITING_MAX: usize = 256;
/// Payees that wait to be noted together; at the bound they are noted at once.
const PAYEES_WAITING_MAX: usize = 4_096;
/// Pause before a plan that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// What the director hears.
#[derive(Debug)]
pub enum News {
    /// From the nodes.
    Source(SourceEvent),
    /// A share solved a block: it is among the [`FoundBlocks`].
    Found,
    /// The share that solved a block is durable.
    Logged(BlockHash),
    /// What a node said about a block.
    Submitted(SubmitEvent),
    /// Shares are durable, and miners still have solo work.
    FirstShare,
    /// A share of this payee is durable, its connection's first.
    Payee(Arc<Payee>),
    /// The end.
    Stop,
}

/// What the director says about serving, once at start and whenever it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Serving {
    /// Nothing to give out yet.
    Waiting,
    /// Miners have work.
    Working,
    /// The node is the wrong one: the reason.
    Refused(String),
}

/// Where the director's decisions go.
#[derive(Debug)]
pub struct Outputs {
    /// For the shards.
    pub current: watch::Sender<Current>,
    /// Whether there is anything to serve.
    pub serving: watch::Sender<Serving>,
    /// Events for the share log.
    pub events: SyncSender<(u64, ChainEvent)>,
    /// For people.
    pub health: Arc<Health>,
    /// For Prometheus.
    pub metrics: Metrics,
}

/// What work is made from: the same again makes the same work again.
#[derive(Debug)]
struct Source {
    template: Arc<Template>,
    log_size: u64,
    ledger_block: BlockHash,
}

/// The one who decides what is worked on.
#[derive(Debug)]
pub struct Director {
    windows: NewestWindow,
    books: Books,
    found: FoundBlocks,
    planner: Planner,
    outputs: Outputs,
    template: Option<Arc<Template>>,
    /// What the work given out was made from.
    published: Option<Source>,
    /// Compact network target of the newest work.
    nbits: Option<u32>,
    retry_at: Option<Instant>,
    /// Since when plans have failed.
    failing_since: Option<Instant>,
    /// To be noted when nothing else is to be done.
    payees: Vec<Arc<Payee>>,
}

impl Director {
    /// A director without news yet.
    pub fn new(
        accounting: Accounting,
        books: Books,
        found: FoundBlocks,
        planner: Planner,
        outputs: Outputs,
    ) -> Self {
        Self {
            windows: NewestWindow::new(accounting),
            books,
            found,
            planner,
            outputs,
            template: None,
            published: None,
            nbits: None,
            retry_at: None,
            failing_since: None,
            payees: Vec::new(),
        }
    }

    /// Works until told to stop.
    pub fn run(mut self, mailbox: &Receiver<News>) {
        loop {
            let news = match mailbox.try_recv() {
                Ok(news) => Ok(news),
                Err(_) => self.wait(mailbox),
            };
            match news {
                Ok(News::Stop) | Err(RecvTimeoutError::Disconnected) => return self.finish(),
                Ok(news) => self.hear(news),
                Err(RecvTimeoutError::Timeout) => self.give_work(),
            }
        }
    }

    /// Does what can wait, then waits for news.
    fn wait(&mut self, mailbox: &Receiver<News>) -> Result<News, RecvTimeoutError> {
        self.note_payees();
        match self.retry_at {
            Some(at) => mailbox.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => mailbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn finish(&mut self) {
        self.take_found();
        self.note_payees();
    }

    fn note_payees(&mut self) {
        if !self.payees.is_empty() {
            self.books.note_payees(&std::mem::take(&mut self.payees), unix_ms());
        }
    }

    fn hear(&mut self, news: News) {
        self.take_found();
        match news {
            News::Source(event) => self.hear_source(event),
            News::Logged(hash) => self.books.logged(hash),
            News::Submitted(event) => self.hear_verdict(&event),
            News::FirstShare => {
                if self.outputs.current.borrow().work.as_ref().is_some_and(|work| work.is_solo()) {
                    // A window that was asked for before holds no share.
                    self.windows.ask_anew();
                    self.give_work();
                }
            }
            News::Payee(payee) => {
                self.payees.push(payee);
                if self.payees.len() >= PAYEES_WAITING_MAX {
                    self.note_payees();
                }
            }
            News::Found | News::Stop => {}
        }
    }

    /// Puts found blocks into the books.
    fn take_found(&mut self) {
        for block in self.found.take() {
            self.outputs.metrics.block_found();
            self.log(ChainEvent::BlockFound { hash: block.hash, height: block.height });
            self.books.found(block);
        }
    }

    fn hear_source(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::NewTip { hash, height } => {
                info!(height, %hash, "new tip");
                self.outputs.current.send_modify(|current| current.tip = Some(hash));
                self.log(ChainEvent::NewTip(hash));
            }
            SourceEvent::Template { template, .. } => {
                self.template = Some(template);
                self.give_work();
            }
            SourceEvent::Degraded(reason) => {
                error!(%reason, "the node gives no templates; miners keep the last one");
                self.outputs.health.trouble(Some(reason));
            }
            SourceEvent::Recovered => {
                info!("the node gives templates again");
                self.outputs.health.trouble(None);
            }
            SourceEvent::Expired => {
                error!("the last template is too old: miners are sent to their backup");
                self.take_work_away(Serving::Waiting);
            }
            SourceEvent::Refused(reason) => {
                error!(%reason, "this node is not mined on");
                self.outputs.health.trouble(Some(reason.clone()));
                self.take_work_away(Serving::Refused(reason));
            }
            SourceEvent::Alarm(text) => {
                error!(%text, "the node needs a look");
                self.outputs.metrics.alarm();
            }
        }
    }

    fn hear_verdict(&mut self, event: &SubmitEvent) {
        let SubmitEvent { hash, height, node, .. } = event;
        match &event.outcome {
            Outcome::Judged { verdict, words } => {
                self.outputs.metrics.block_judged(*verdict);
                if verdict.is_success() {
                    info!(height, %hash, %node, %verdict, %words, "block accepted");
                } else if verdict.is_final() {
                    error!(height, %hash, %node, %verdict, %words, "block refused by the node: its file is kept");
                } else {
                    warn!(height, %hash, %node, %words, "the node cannot judge the block yet");
                }
                if verdict.is_final() {
                    let events = self.books.judged(*hash, verdict.is_success());
                    events.into_iter().for_each(|event| self.log(event));
                }
            }
            Outcome::Retrying(reason) => {
                warn!(height, %hash, %node, %reason, "block not submitted yet, trying again")
            }
            // Told where it happened, with the block's note.
            Outcome::NotOnDisk(_) => {}
        }
    }

    fn take_work_away(&mut self, serving: Serving) {
        self.template = None;
        self.retry_at = None;
        self.outputs.health.no_work();
        self.set_work(None);
        self.outputs.serving.send_replace(serving);
    }

    /// Gives other work, or none, to the shards.
    fn set_work(&mut self, mut work: Option<Arc<WorkSet>>) {
        if work.is_none() {
            self.published = None;
        }
        self.outputs.current.send_modify(|current| std::mem::swap(&mut current.work, &mut work));
        if let Some(older) = work {
            self.log(ChainEvent::Superseded(older.id()));
        }
    }

    /// Plans on the current template and gives the work out; on failure the old work stays, and it is tried again.
    fn give_work(&mut self) {
        self.retry_at = None;
        let Some(template) = self.template.clone() else { return };
        match self.plan(&template) {
            Ok(work) => {
                let had_failed = self.failing_since.take().is_some();
                match work {
                    Some(work) => self.publish(&template, work),
                    None if had_failed => drop(self.outputs.health.trouble(None)),
                    None => {}
                }
            }
            Err(error) => self.plan_failed(&error.to_string(), Instant::now()),
        }
    }

    /// Miners keep the old work for as long as a template may be old; then they go to their backup.
    fn plan_failed(&mut self, reason: &str, now: Instant) {
        self.retry_at = Some(now + RETRY_PAUSE);
        if self.outputs.health.trouble(Some(reason.to_owned())) {
            error!(reason, "no new work; miners keep the old one");
        }
        let since = *self.failing_since.get_or_insert(now);
        if now.saturating_duration_since(since) > TEMPLATE_AGE_MAX
            && self.outputs.current.borrow().work.is_some()
        {
            error!(reason, "no new work for too long: miners are sent to their backup");
            self.outputs.health.no_work();
            self.set_work(None);
        }
    }

    /// Work on a template, unless that is what miners have already.
    fn plan(&mut self, template: &Arc<Template>) -> anyhow::Result<Option<WorkSet>> {
        // The template may build on a block that was found a moment ago.
        self.take_found();
        let (top, events) = self.books.at(template.prev_hash())?;
        events.into_iter().for_each(|event| self.log(event));
        let (Snapshot { log_size, log_root, weights, locked, moves, .. }, is_new) =
            self.windows.get(template.target().work(), Instant::now())?;
        let Credits { block: ledger_block, by_script } = self.books.credits(top, &moves)?;
        if !is_new {
            warn!(entries = log_size, "planning from a window that is not the newest: the share log is slow");
            self.retry_at = Some(Instant::now() + RETRY_PAUSE);
        }
        let is_out = |source: &Source| {
            Arc::ptr_eq(&source.template, template)
                && (source.log_size, source.ledger_block) == (log_size, ledger_block)
        };
        if self.published.as_ref().is_some_and(is_out) {
            return Ok(None);
        }
        let credits = settlement::payable(&by_script, &locked);
        let standing = Standing { log_size, log_root, weights, ledger_block, credits, moves };
        let work = self.planner.plan(template, &standing)?;
        self.published = Some(Source { template: template.clone(), log_size, ledger_block });
        Ok(Some(work))
    }

    fn publish(&mut self, template: &Template, work: WorkSet) {
        if self.nbits.replace(template.nbits()).is_some_and(|before| before != template.nbits()) {
            self.log(ChainEvent::Retarget { nbits: template.nbits() });
        }
        self.outputs.health.working(work.height(), Instant::now());
        for class in SizeClass::ALL {
            self.outputs.metrics.reserve(class, work.reserve_ratio(class));
        }
        self.set_work(Some(Arc::new(work)));
        self.outputs.serving.send_if_modified(|serving| {
            let changed = *serving != Serving::Working;
            *serving = Serving::Working;
            changed
        });
    }

    /// Puts an event into the share log. What happened to the chain can also be read from the chain, so
    /// nothing waits for it: with a disk that hangs, events are left out and work goes on.
    fn log(&self, event: ChainEvent) {
        if let Err(error) = self.outputs.events.try_send((unix_ms(), event)) {
            warn!(%error, "event not logged");
        }
    }
}

/// Writes events into the share log, one after the other, until the director has ended.
pub fn write_events(accounting: &Accounting, events: &Receiver<(u64, ChainEvent)>) {
    for (unix_ms, event) in events {
        if let Err(error) = accounting.event(unix_ms, event) {
            warn!(%error, ?event, "event not logged");
        }
    }
}

#[cfg(test)]
mod tests;

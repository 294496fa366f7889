//! The thread that asks pools' logs, and in which order.

use super::expected::Taken;
use super::{Failure, Log, LogAddress};
use crate::health::Health;
use crate::metrics::Metrics;
use share_accounting::publish::journal::{Fate, Line};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use stratum_net::clock::unix_ms;
use tracing::{error, warn};

/// Shares that wait to be taken over from the journal; further ones are not watched.
const WAITING_MAX: usize = 16_384;
/// No payee is asked for once a round has lasted so long; the next begins with it.
const ROUND_MAX: Duration = Duration::from_secs(60);
/// Failures in a row after which the others are left for the next round.
const FAILURES_MAX: usize = 3;

/// How long a start waits for the first question to be answered.
const FIRST_ANSWER: Duration = Duration::from_secs(1);

/// Who asks: a thread.
struct Keeper {
    logs: Logs,
    accepted: Receiver<(usize, Line)>,
    /// How often they are asked, while shares wait for their receipts.
    every: Duration,
    metrics: Metrics,
    health: Arc<Health>,
}

/// Logs by the numbers of their upstreams.
struct Logs(BTreeMap<usize, Log>);

/// Starts the thread for these upstreams: their numbers, folders and logs. It ends some time after the journal, which
/// gives the lines that it has written to the closure that comes back.
///
/// # Errors
/// A folder cannot be read, or holds what is not signed by the key.
pub fn start(
    logs: impl IntoIterator<Item = (usize, PathBuf, LogAddress)>,
    every: Duration,
    metrics: Metrics,
    health: Arc<Health>,
) -> anyhow::Result<impl FnMut(usize, Line) + Send + 'static> {
    let logs = logs.into_iter().map(|(upstream, folder, log)| Ok((upstream, Log::open(folder, log)?)));
    let logs: BTreeMap<usize, Log> = logs.collect::<anyhow::Result<_>>()?;
    let watched: Vec<_> = logs.keys().copied().collect();
    let (send, accepted) = sync_channel(WAITING_MAX);
    let counters = metrics.clone();
    let keeper = Keeper { logs: Logs(logs), accepted, every, metrics, health };
    let (asked, first) = sync_channel(1);
    thread::Builder::new().name("receipts".to_owned()).spawn(move || keeper.run(asked))?;
    // Shares from before the first answer are not watched.
    let _ = first.recv_timeout(FIRST_ANSWER);
    Ok(move |upstream, line: Line| expect(&send, &counters, &watched, upstream, line))
}

/// Hands on a line of the journal, if it is one that a receipt is owed for.
fn expect(
    send: &SyncSender<(usize, Line)>,
    metrics: &Metrics,
    watched: &[usize],
    upstream: usize,
    line: Line,
) {
    if line.fate == Fate::Accepted && watched.contains(&upstream) && send.try_send((upstream, line)).is_err()
    {
        metrics.receipts_unwatched(1);
    }
}

impl Keeper {
    fn run(mut self, asked: SyncSender<()>) {
        self.round();
        drop(asked);
        let mut next = Instant::now() + self.every;
        loop {
            match self.accepted.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok((upstream, line)) => self.logs.take(upstream, &line, &self.metrics),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    self.round();
                    next = Instant::now() + self.every;
                }
            }
        }
    }

    /// Asks each log. What is acknowledged meanwhile is taken between two questions.
    fn round(&mut self) {
        let Self { logs, accepted, metrics, health, .. } = self;
        for upstream in logs.numbers() {
            let mut round = Round::begin(logs.of(upstream));
            while let Some(payee) = round.next_payee() {
                round.ask(logs.of(upstream), &payee, metrics);
                while let Ok((upstream, line)) = accepted.try_recv() {
                    logs.take(upstream, &line, metrics);
                }
            }
            let log = logs.of(upstream);
            round.end(log);
            let wrong = log.missing.iter().chain(&log.trouble).chain(&log.alarm).cloned();
            health.receipts(upstream, wrong.chain(log.unwatched()).collect());
        }
        metrics.receipts_expected(logs.0.values().map(Log::expected).sum());
        metrics.uncosigned(logs.0.values().map(Log::uncosigned).max().unwrap_or_default());
    }
}

impl Logs {
    fn numbers(&self) -> Vec<usize> {
        self.0.keys().copied().collect()
    }

    fn of(&mut self, upstream: usize) -> &mut Log {
        self.0.get_mut(&upstream).expect("others are not asked for")
    }

    /// Takes a share that was acknowledged.
    fn take(&mut self, upstream: usize, line: &Line, metrics: &Metrics) {
        match self.of(upstream).expect(line) {
            Taken::Expected => {}
            Taken::Found { .. } => metrics.receipts_kept(1),
            Taken::Unwatched => metrics.receipts_unwatched(1),
        }
    }
}

/// One time round a log's payees.
pub(super) struct Round {
    until: Instant,
    payees: VecDeque<String>,
    failures: usize,
    failure: Option<Failure>,
}

impl Round {
    /// Asks for the log's head; then it is the payees' turn.
    pub fn begin(log: &mut Log) -> Self {
        let until = Instant::now() + ROUND_MAX;
        if log.is_false {
            return Self { until, payees: VecDeque::new(), failures: 0, failure: None };
        }
        if let Err(failure) = log.contact().and_then(|()| log.ask_witnesses()) {
            return Self { until, payees: VecDeque::new(), failures: FAILURES_MAX, failure: Some(failure) };
        }
        let waiting = log.payees.iter().filter(|(_, payee)| !payee.expected.is_empty());
        let (mut payees, mut before) = (VecDeque::new(), VecDeque::new());
        for (name, _) in waiting {
            if *name < log.first { &mut before } else { &mut payees }.push_back(name.clone());
        }
        payees.append(&mut before);
        Self { until, payees, failures: 0, failure: None }
    }

    pub fn next_payee(&mut self) -> Option<String> {
        (self.failures < FAILURES_MAX && Instant::now() < self.until).then(|| self.payees.pop_front())?
    }

    pub fn ask(&mut self, log: &mut Log, payee: &str, metrics: &Metrics) {
        match log.ask(payee, metrics) {
            Ok(()) => self.failures = 0,
            Err(failure) => {
                let is_lie = matches!(failure, Failure::TwoLogs { .. });
                self.failures = if is_lie { FAILURES_MAX } else { self.failures + 1 };
                self.failure = Some(failure);
            }
        }
    }

    /// Notes how it went.
    pub fn end(mut self, log: &mut Log) {
        log.first = self.payees.pop_front().unwrap_or_default();
        if let Some(failure @ Failure::TwoLogs { .. }) = &self.failure {
            error!(log = log.url, %failure, "the pool's log is a lie");
            log.is_false = true;
            log.payees.clear();
        }
        // Nobody takes back that a log is a lie.
        if !log.is_false || self.failure.is_some() {
            let failure = self.failure.map(|failure| format!("no receipts from {}: {failure}", log.url));
            let trouble = failure.or_else(|| log.waits_too_long());
            if let Some(reason) = trouble.as_ref().filter(|_| log.trouble.is_none()) {
                warn!(reason, "receipts have to wait");
            }
            log.trouble = trouble;
        }
        // Where nothing answers nobody can tell, and that is said already.
        let alarm = match log.is_silent {
            true => log.alarm.clone(),
            false => log.witnessed.alarm(unix_ms()),
        };
        if let Some(reason) = alarm.as_ref().filter(|_| log.alarm.is_none()) {
            error!(log = log.url, reason, "witnesses do not see this log");
        }
        log.alarm = alarm;
        log.folder.prune();
    }
}

//! How the pool is doing, kept by the parts that know and read by people and machines.

use crate::metrics::Metrics;
use serde::Serialize;
use share_accounting::Accounting;
use share_accounting::publish::Published;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What the parts report.
#[derive(Debug)]
pub struct Health {
    accounting: Accounting,
    published: Published,
    // Written a few times a minute, read on request: far from the share path.
    node: Mutex<Node>,
}

#[derive(Debug, Default)]
struct Node {
    /// Why miners get no new work.
    trouble: Option<String>,
    /// Why a block would be lost.
    rehearsal: Option<String>,
    work: Option<(u32, Instant)>,
}

/// The answer of /health.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether miners have work that pays.
    pub ok: bool,
    /// What is wrong, one sentence each.
    pub reasons: Vec<String>,
    /// Height of the block that miners work on.
    pub height: Option<u32>,
    /// Age of that work.
    pub template_age_s: Option<f64>,
    /// Entries in the share log.
    pub log_entries: u64,
}

impl Health {
    /// Nothing is known but the log.
    pub fn new(accounting: Accounting, published: Published) -> Self {
        Self { accounting, published, node: Mutex::default() }
    }

    /// Miners have new work.
    pub fn working(&self, height: u32, now: Instant) {
        let mut node = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        (node.trouble, node.work) = (None, Some((height, now)));
    }

    /// Why miners get no new work, if that is so; gives whether it is news.
    pub fn trouble(&self, reason: Option<String>) -> bool {
        let mut node = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        let news = node.trouble != reason;
        node.trouble = reason;
        news
    }

    /// Why a block would be lost, if that is so.
    pub fn rehearsed(&self, trouble: Option<String>) {
        self.node.lock().unwrap_or_else(PoisonError::into_inner).rehearsal = trouble;
    }

    /// Miners have no work any more.
    pub fn no_work(&self) {
        self.node.lock().unwrap_or_else(PoisonError::into_inner).work = None;
    }

    /// All of it at one glance.
    pub fn report(&self, now: Instant) -> Report {
        let node = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        let log = self.accounting.counters();
        let mut reasons: Vec<String> = node.trouble.iter().chain(&node.rehearsal).cloned().collect();
        if node.work.is_none() {
            reasons.push("miners have no work".to_owned());
        }
        if log.failing {
            reasons.push("the share log cannot be written".to_owned());
        }
        reasons.extend(self.published.refused().map(str::to_owned));
        Report {
            ok: reasons.is_empty(),
            reasons,
            height: node.work.map(|(height, _)| height),
            template_age_s: node.work.map(|(_, since)| now.saturating_duration_since(since).as_secs_f64()),
            log_entries: log.log_entries,
        }
    }

    /// Copies what only is known on request into the metrics.
    pub fn export(&self, metrics: &Metrics, now: Instant) {
        let report = self.report(now);
        let log = self.accounting.counters();
        let int = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        metrics.template_age_s.set(report.template_age_s.unwrap_or(f64::INFINITY));
        metrics.template_height.set(report.height.map_or(0, i64::from));
        metrics.log_entries.set(int(log.log_entries));
        metrics.log_commits.set(int(log.commits));
        metrics.log_failures.set(int(log.commits_failed));
        metrics.log_commit_seconds.set(Duration::from_nanos(log.commit_ns_total).as_secs_f64());
    }
}

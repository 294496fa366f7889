//! How the proxy is doing, kept by the switchboard and read by people and machines.

use crate::metrics::Metrics;
use crate::rates::Rates;
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};
use stratum_net::http::Pages;

/// What the switchboard reports.
#[derive(Debug)]
pub struct Health {
    names: Vec<String>,
    // Written a few times a minute, read on request: far from the share path.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    used: Option<usize>,
    has_work: bool,
    /// Why each upstream is away; `None` while it is not.
    trouble: Vec<Option<String>>,
    /// What is wrong with each one's receipts.
    receipts: Vec<Vec<String>>,
}

/// The answer of /health.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether machines mine for an upstream.
    pub ok: bool,
    /// What is wrong, one sentence each.
    pub reasons: Vec<String>,
    /// The upstream that is mined on.
    pub upstream: Option<String>,
    /// Machines that have work.
    pub machines: u64,
    /// Rate of all machines.
    pub hashes_per_s: f64,
}

impl Health {
    /// Nothing is connected. `upstreams` are as people know them.
    pub fn new(upstreams: Vec<String>) -> Self {
        let (trouble, receipts) = (vec![None; upstreams.len()], vec![Vec::new(); upstreams.len()]);
        let state = State { used: None, has_work: false, trouble, receipts };
        Self { names: upstreams, state: Mutex::new(state) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which upstream is mined on, and whether machines have work.
    pub fn used(&self, used: Option<usize>, has_work: bool) {
        let mut state = self.state();
        (state.used, state.has_work) = (used, has_work);
    }

    /// This upstream gives work.
    pub fn connected(&self, upstream: usize) {
        self.state().trouble[upstream] = None;
    }

    /// What is wrong with the receipts of this upstream, one sentence each.
    pub fn receipts(&self, upstream: usize, wrong: Vec<String>) {
        self.state().receipts[upstream] = wrong;
    }

    /// This upstream is away: why.
    pub fn failed(&self, upstream: usize, reason: &str) {
        self.state().trouble[upstream] = Some(reason.to_owned());
    }
}

/// Both pages; a handle.
#[derive(Debug, Clone)]
pub struct ProxyPages {
    /// How it is.
    pub health: Arc<Health>,
    /// How fast the machines are.
    pub rates: Rates,
    /// Counters.
    pub metrics: Metrics,
}

impl Pages for ProxyPages {
    type Report = Report;

    fn health(&self) -> (bool, Report) {
        let state = self.health.state();
        let mut reasons = Vec::new();
        match (state.used, state.has_work) {
            (Some(_), _) => {}
            (None, true) => reasons.push("no upstream: machines keep the last work for a while".to_owned()),
            (None, false) => reasons.push("no upstream: machines have no work".to_owned()),
        }
        // A better one that is away, or one that owes receipts, is worth a word here, and the machines mine.
        let ok = reasons.is_empty();
        for (name, trouble) in self.health.names.iter().zip(&state.trouble) {
            reasons.extend(trouble.as_ref().map(|why| format!("{name}: {why}")));
        }
        for (name, wrong) in self.health.names.iter().zip(&state.receipts) {
            reasons.extend(wrong.iter().map(|why| format!("{name}: {why}")));
        }
        let upstream = state.used.map(|at| self.health.names[at].clone());
        let (machines, hashes_per_s) = (self.rates.machines(), self.rates.hashes_per_s());
        (ok, Report { ok, reasons, upstream, machines, hashes_per_s })
    }

    fn metrics(&self) -> String {
        let used = self.health.state().used;
        self.metrics.text(&self.rates, used)
    }
}

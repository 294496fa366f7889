//! What the pool shows of itself on /health and /metrics.

use crate::health::{Health, Report};
use crate::metrics::Metrics;
use std::sync::Arc;
use std::time::Instant;
use stratum_net::http::Pages;

/// Both pages; a handle.
#[derive(Debug, Clone)]
pub struct PoolPages {
    /// How the pool is doing.
    pub health: Arc<Health>,
    /// Counters.
    pub metrics: Metrics,
}

impl Pages for PoolPages {
    type Report = Report;

    fn health(&self) -> (bool, Report) {
        let report = self.health.report(Instant::now());
        (report.ok, report)
    }

    fn metrics(&self) -> String {
        self.health.export(&self.metrics, Instant::now());
        self.metrics.text()
    }
}

//! Metrics that both servers have, and the text that Prometheus scrapes.

use crate::driver::Ending;
use crate::limits::Refusal;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

/// Registers a metric; names are constants, so a clash is a mistake in the program.
pub fn register<M: prometheus::core::Collector + Clone + 'static>(registry: &Registry, metric: M) -> M {
    registry.register(Box::new(metric.clone())).expect("each metric is registered once");
    metric
}

/// A counter with labels from a closed set.
pub fn counter(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let metric = IntCounterVec::new(Opts::new(name, help), labels).expect("a valid metric name");
    register(registry, metric)
}

/// A gauge with labels from a closed set.
pub fn gauge(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    let metric = IntGaugeVec::new(Opts::new(name, help), labels).expect("a valid metric name");
    register(registry, metric)
}

/// All metrics of a registry in Prometheus' text format.
pub fn text(registry: &Registry) -> String {
    let mut text = String::new();
    // Fails only for families without metrics, which `gather` leaves out.
    let _ = TextEncoder::new().encode_utf8(&registry.gather(), &mut text);
    text
}

/// What happens to connections.
#[derive(Debug, Clone)]
pub struct ConnectionMetrics {
    connections: IntGaugeVec,
    closes: IntCounterVec,
    refusals: IntCounterVec,
}

impl ConnectionMetrics {
    /// Registers them as `PREFIX_connections` and so on; `prefix` is `sluice_pool` or `sluice_proxy`.
    pub fn new(registry: &Registry, prefix: &str) -> Self {
        let name = |metric: &str| format!("{prefix}_{metric}");
        Self {
            connections: gauge(registry, &name("connections"), "Open connections.", &["protocol"]),
            closes: counter(registry, &name("closes_total"), "Closed connections by reason.", &["reason"]),
            refusals: counter(
                registry,
                &name("refusals_total"),
                "Connections refused by a limit.",
                &["reason"],
            ),
        }
    }

    /// A connection begins.
    pub fn opened(&self, protocol: &str) {
        self.connections.with_label_values(&[protocol]).inc();
    }

    /// A connection has ended.
    pub fn closed(&self, protocol: &str, ending: Ending) {
        self.connections.with_label_values(&[protocol]).dec();
        self.closes.with_label_values(&[ending.label()]).inc();
    }

    /// A connection was not taken.
    pub fn refused(&self, refusal: Refusal) {
        self.refusals.with_label_values(&[refusal.label()]).inc();
    }
}

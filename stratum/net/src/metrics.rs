//! Metrics that both servers have, and the text that Prometheus scrapes.

use crate::driver::Ending;
use crate::limits::Refusal;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};
use std::sync::Arc;
use std::time::Duration;

/// Registers a metric; names are constants, so a clash is a mistake in the program.
pub fn register<M: prometheus::core::Collector + Clone + 'static>(registry: &Registry, metric: M) -> M {
    registry.register(Box::new(metric.clone())).expect("each metric is registered once");
    metric
}

/// Counters of one family, one for each value of its label. Those of known values exist from the start, for
/// Prometheus sees no increase in a counter that appears with its first event. Counting takes no lock.
#[derive(Debug, Clone)]
pub struct Counters {
    family: IntCounterVec,
    ready: Arc<[(&'static str, IntCounter)]>,
}

impl Counters {
    /// Registers a family; `values` are those that its label may have.
    pub fn new(
        registry: &Registry,
        options: Opts,
        label: &str,
        values: impl IntoIterator<Item = &'static str>,
    ) -> Self {
        let family = IntCounterVec::new(options, &[label]).expect("a valid metric name");
        let family = register(registry, family);
        let ready = values.into_iter().map(|value| (value, family.with_label_values(&[value]))).collect();
        Self { family, ready }
    }

    /// Counts one event.
    pub fn inc(&self, value: &'static str) {
        self.add(value, 1);
    }

    /// Counts so many events.
    pub fn add(&self, value: &'static str, count: usize) {
        let count = count as u64; // usize fits u64
        match self.ready.iter().find(|(known, _)| *known == value) {
            Some((_, counter)) => counter.inc_by(count),
            None => self.family.with_label_values(&[value]).inc_by(count),
        }
    }
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
    closes: Counters,
    refusals: Counters,
}

impl ConnectionMetrics {
    /// Registers them as `PREFIX_connections` and so on; `prefix` is `sluice_pool` or `sluice_proxy`, and
    /// `protocols` are those served.
    pub fn new(registry: &Registry, prefix: &str, protocols: &[&str]) -> Self {
        let name = |metric: &str| format!("{prefix}_{metric}");
        let closes = Opts::new(name("closes_total"), "Closed connections by reason.");
        let refusals = Opts::new(name("refusals_total"), "Connections refused by a limit.");
        let connections = gauge(registry, &name("connections"), "Open connections.", &["protocol"]);
        protocols.iter().for_each(|protocol| connections.with_label_values(&[protocol]).set(0));
        Self {
            connections,
            closes: Counters::new(registry, closes, "reason", Ending::all().map(Ending::label)),
            refusals: Counters::new(registry, refusals, "reason", Refusal::ALL.map(Refusal::label)),
        }
    }

    /// A connection begins.
    pub fn opened(&self, protocol: &str) {
        self.connections.with_label_values(&[protocol]).inc();
    }

    /// A connection has ended.
    pub fn closed(&self, protocol: &str, ending: Ending) {
        self.connections.with_label_values(&[protocol]).dec();
        self.closes.inc(ending.label());
    }

    /// A connection was not taken.
    pub fn refused(&self, refusal: Refusal) {
        self.refusals.inc(refusal.label());
    }
}

/// What every shard does, in either server.
#[derive(Debug, Clone)]
pub struct ShardMetrics {
    /// What happens to connections.
    pub connections: ConnectionMetrics,
    session_panics: IntCounter,
    fan_out: Histogram,
}

impl ShardMetrics {
    /// Registers them; see [`ConnectionMetrics::new`].
    pub fn new(registry: &Registry, prefix: &str, protocols: &[&str]) -> Self {
        let name = |metric: &str| format!("{prefix}_{metric}");
        let panics = IntCounter::new(name("session_panics_total"), "Sessions that failed by a bug.");
        let fan_out = "Time to queue new work for a shard.";
        Self {
            connections: ConnectionMetrics::new(registry, prefix, protocols),
            session_panics: register(registry, panics.expect("a valid metric name")),
            fan_out: histogram(registry, &name("job_fanout_seconds"), fan_out, 1e-5),
        }
    }

    /// A shard has queued new work for all its miners.
    pub fn fanned_out(&self, took: Duration) {
        self.fan_out.observe(took.as_secs_f64());
    }

    /// A session failed by a bug of ours.
    pub fn session_panicked(&self) {
        self.session_panics.inc();
    }
}

/// A histogram whose buckets start at `first` seconds and grow fourfold.
pub fn histogram(registry: &Registry, name: &str, help: &str, first: f64) -> Histogram {
    let buckets =
        prometheus::exponential_buckets(first, 4.0, 10).expect("a positive start and a factor above one");
    let options = HistogramOpts::new(name, help).buckets(buckets);
    register(registry, Histogram::with_opts(options).expect("a valid metric name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_there_before_its_first_event() {
        let registry = Registry::new();
        let counters = Counters::new(&registry, Opts::new("x_total", "."), "result", ["good", "bad"]);
        assert!(text(&registry).contains("x_total{result=\"bad\"} 0\nx_total{result=\"good\"} 0\n"));
        counters.inc("bad");
        counters.inc("unforeseen");
        let text = text(&registry);
        for line in ["{result=\"bad\"} 1\n", "{result=\"good\"} 0\n", "{result=\"unforeseen\"} 1\n"] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn reasons_have_names_of_their_own() {
        let registry = Registry::new();
        let _ = ConnectionMetrics::new(&registry, "x", &["v1"]);
        let text = text(&registry);
        let families =
            [("x_closes_total{", Ending::all().count()), ("x_refusals_total{", Refusal::ALL.len())];
        for (family, count) in families {
            assert_eq!(text.matches(family).count(), count, "{text}");
        }
    }
}

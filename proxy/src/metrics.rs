//! What Prometheus scrapes. Labels come from closed sets only; machines and upstreams never appear in them.

use crate::rates::Rates;
use prometheus::{Gauge, IntCounter, IntGauge, Opts, Registry};
use std::iter::once;
use std::time::Duration;
use stratum::share::Reject;
use stratum_net::metrics::{Counters, ShardMetrics, gauge, register};

/// Counters and gauges of the proxy; a handle.
///
/// Every share that went upstream ends in one of `accepted`, `rejected` and `lost`, or waits still:
/// `sluice_proxy_forwarded_total` is the sum of `sluice_proxy_upstream_shares_total` and `sluice_proxy_upstream_waiting`.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Of what every shard does.
    pub shard: ShardMetrics,
    shares: Counters,
    forwarded: IntCounter,
    verdicts: Counters,
    unconfirmed: IntCounter,
    late: IntCounter,
    journal_left_out: IntCounter,
    receipts: Counters,
    receipts_expected: IntGauge,
    uncosigned: IntGauge,
    ended: IntCounter,
    waiting: IntGauge,
    machines: IntGauge,
    hashes_per_s: Gauge,
    upstream: IntGauge,
}

impl Metrics {
    /// Registers everything with a registry.
    pub fn new(registry: Registry) -> Self {
        let counter = |name: &str, help: &str| {
            register(&registry, IntCounter::new(name, help).expect("a valid metric name"))
        };
        let plain = |name: &str, help: &str| {
            register(&registry, IntGauge::new(name, help).expect("a valid metric name"))
        };
        let info = gauge(&registry, "sluice_proxy_build_info", "Version of the server.", &["version"]);
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Self {
            shard: ShardMetrics::new(&registry, "sluice_proxy", &["v1"]),
            shares: Counters::new(
                &registry,
                Opts::new("sluice_proxy_shares_total", "Machines' shares by answer.")
                    .const_label("protocol", "v1"),
                "result",
                once("accepted").chain(Reject::ALL.map(Reject::label)),
            ),
            forwarded: counter("sluice_proxy_forwarded_total", "Shares that went upstream."),
            verdicts: Counters::new(
                &registry,
                Opts::new(
                    "sluice_proxy_upstream_shares_total",
                    "Shares that went upstream, by what became of them.",
                ),
                "result",
                ["accepted", "rejected", "lost"],
            ),
            unconfirmed: counter(
                "sluice_proxy_unconfirmed_total",
                "Shares told to machines as accepted because upstream had said nothing for long.",
            ),
            late: counter(
                "sluice_proxy_late_total",
                "Shares good enough for upstream that came after a new block.",
            ),
            journal_left_out: counter(
                "sluice_proxy_journal_left_out_total",
                "Shares that are not in the journal because the disk could not take them.",
            ),
            receipts: Counters::new(
                &registry,
                Opts::new(
                    "sluice_proxy_receipts_total",
                    "Shares that upstream has acknowledged, by what was found of them in its log.",
                ),
                "result",
                ["kept", "missing", "unwatched"],
            ),
            receipts_expected: plain(
                "sluice_proxy_receipts_expected",
                "Acknowledged shares that wait to be found in the log.",
            ),
            uncosigned: plain(
                "sluice_proxy_log_uncosigned_seconds",
                "How long a head of a log has waited to be cosigned by enough of the owner's witnesses.",
            ),
            ended: counter("sluice_proxy_upstream_ends_total", "Connections upstream that ended or failed."),
            waiting: plain("sluice_proxy_upstream_waiting", "Shares that wait for upstream's verdict."),
            machines: plain("sluice_proxy_machines", "Machines that have work."),
            hashes_per_s: register(
                &registry,
                Gauge::new("sluice_proxy_hashes_per_second", "Rate of all machines, from their shares.")
                    .expect("a valid metric name"),
            ),
            upstream: plain("sluice_proxy_upstream", "Which upstream is mined on, 0 the best; -1: none."),
            registry,
        }
    }

    /// A machine was told about its share.
    pub fn answered(&self, answer: Result<(), Reject>) {
        self.shares.inc(answer.map_or_else(Reject::label, |()| "accepted"));
    }

    /// A share was to go upstream, and did or could not.
    pub fn forwarded(&self, sent: bool) {
        self.forwarded.inc();
        if sent {
            self.waiting.inc();
        } else {
            self.verdicts.inc("lost");
        }
    }

    /// Upstream has accepted a share.
    pub fn upstream_accepted(&self) {
        self.waiting.dec();
        self.verdicts.inc("accepted");
    }

    /// Upstream has rejected a share.
    pub fn upstream_rejected(&self) {
        self.waiting.dec();
        self.verdicts.inc("rejected");
    }

    /// A share on its way was lost with its connection.
    pub fn upstream_lost(&self) {
        self.waiting.dec();
        self.verdicts.inc("lost");
    }

    /// A machine was told that its share is accepted, though upstream has said nothing.
    pub fn upstream_unconfirmed(&self) {
        self.unconfirmed.inc();
    }

    /// A share came after a new block.
    pub fn late(&self) {
        self.late.inc();
    }

    /// A share is not in the journal.
    pub fn journal_left_out(&self) {
        self.journal_left_out.inc();
    }

    /// So many shares were found in the log.
    pub fn receipts_kept(&self, count: usize) {
        self.receipts.add("kept", count);
    }

    /// So many are not there.
    pub fn receipts_missing(&self, count: usize) {
        self.receipts.add("missing", count);
    }

    /// So many are not looked for.
    pub fn receipts_unwatched(&self, count: usize) {
        self.receipts.add("unwatched", count);
    }

    /// So many are waited for.
    pub fn receipts_expected(&self, count: usize) {
        self.receipts_expected.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A head has waited so long to be cosigned.
    pub fn uncosigned(&self, waits: Duration) {
        self.uncosigned.set(i64::try_from(waits.as_secs()).unwrap_or(i64::MAX));
    }

    /// A connection upstream ended.
    pub fn upstream_ended(&self) {
        self.ended.inc();
    }

    /// Everything in Prometheus' text format.
    pub fn text(&self, rates: &Rates, upstream: Option<usize>) -> String {
        self.machines.set(i64::try_from(rates.machines()).unwrap_or(i64::MAX));
        self.hashes_per_s.set(rates.hashes_per_s());
        self.upstream.set(upstream.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1));
        stratum_net::metrics::text(&self.registry)
    }
}

//! What Prometheus scrapes. Labels come from closed sets only; miners never appear in them.

use prometheus::{Gauge, GaugeVec, Histogram, IntCounter, IntGauge, Opts, Registry};
use std::iter::once;
use std::time::Duration;
use stratum::class::SizeClass;
use stratum::share::Reject;
use stratum_net::metrics::{Counters, ShardMetrics, gauge, histogram, register};
use template::submit::Verdict;

/// What miners speak.
const PROTOCOLS: [&str; 2] = ["v1", "v2"];

/// Counters and gauges of the pool; a handle.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Of what every shard does.
    pub shard: ShardMetrics,
    /// By protocol.
    shares: [(&'static str, Counters); 2],
    share_check: Histogram,
    blocks: Counters,
    alarms: IntCounter,
    reserve_ratio: GaugeVec,
    /// Witnesses that have cosigned the head that they were asked for last.
    pub witnesses: IntGauge,
    /// Age of the work that miners have, in seconds.
    pub template_age_s: Gauge,
    /// Height of the block that miners work on.
    pub template_height: IntGauge,
    /// Entries in the share log.
    pub log_entries: IntGauge,
    /// Commits of the share log that failed.
    pub log_failures: IntGauge,
    /// Commits of the share log.
    pub log_commits: IntGauge,
    /// Time spent in commits of the share log, in seconds.
    pub log_commit_seconds: Gauge,
}

impl Metrics {
    /// Registers everything with a registry.
    pub fn new(registry: Registry) -> Self {
        let plain = |name: &str, help: &str| IntGauge::new(name, help).expect("a valid metric name");
        let float = |name: &str, help: &str| Gauge::new(name, help).expect("a valid metric name");
        let alarms =
            IntCounter::new("sluice_pool_alarms_total", "What a person should look at: the log says what.");
        let reserve_ratio = Opts::new(
            "sluice_pool_reserve_ratio",
            "Part of the reward that the coinbase of a size class cannot pay and holds in reserve.",
        );
        let reserve_ratio = GaugeVec::new(reserve_ratio, &["class"]).expect("a valid metric name");
        let info = gauge(&registry, "sluice_pool_build_info", "Version of the server.", &["version"]);
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let witnesses = plain(
            "sluice_pool_witnesses",
            "Witnesses that have cosigned the head of the share log that they were asked for last.",
        );
        Self {
            witnesses: register(&registry, witnesses),
            shard: ShardMetrics::new(&registry, "sluice_pool", &PROTOCOLS),
            shares: PROTOCOLS.map(|protocol| (protocol, shares(&registry, protocol))),
            share_check: histogram(
                &registry,
                "sluice_pool_share_check_seconds",
                "Time to judge a share: that of those judged together, divided by their number.",
                1e-6,
            ),
            blocks: Counters::new(
                &registry,
                Opts::new("sluice_pool_blocks_total", "Solved blocks, and what each node said of them."),
                "result",
                once("found").chain(Verdict::ALL.map(Verdict::label)),
            ),
            alarms: register(&registry, alarms.expect("a valid metric name")),
            reserve_ratio: register(&registry, reserve_ratio),
            template_age_s: register(
                &registry,
                float("sluice_pool_template_age_seconds", "Age of current work."),
            ),
            template_height: register(
                &registry,
                plain("sluice_pool_template_height", "Height of current work."),
            ),
            log_entries: register(&registry, plain("sluice_pool_log_entries", "Entries in the share log.")),
            log_failures: register(
                &registry,
                plain("sluice_pool_log_failures", "Failed commits since start."),
            ),
            log_commits: register(&registry, plain("sluice_pool_log_commits", "Commits since start.")),
            log_commit_seconds: register(
                &registry,
                float("sluice_pool_log_commit_seconds", "Time in commits since start."),
            ),
            registry,
        }
    }

    /// So many shares were judged together, in this time.
    pub fn shares_checked(&self, shares: usize, took: Duration) {
        let each = took.as_secs_f64() / shares as f64; // a few hundred at most
        (0..shares).for_each(|_| self.share_check.observe(each));
    }

    /// A miner of this protocol was told about its share, or nobody was.
    pub fn share_answered(&self, protocol: Option<&'static str>, answer: Result<(), Reject>) {
        let result = answer.map_or_else(Reject::label, |()| "accepted");
        let (_, shares) = match protocol {
            Some(protocol) => self.shares.iter().find(|(known, _)| *known == protocol),
            None => None,
        }
        .unwrap_or(&self.shares[0]);
        shares.inc(result);
    }

    /// A block was found.
    pub fn block_found(&self) {
        self.blocks.inc("found");
    }

    /// A node has said what it thinks of a block.
    pub fn block_judged(&self, verdict: Verdict) {
        self.blocks.inc(verdict.label());
    }

    /// New work carries this part of the reward as credit.
    pub fn reserve(&self, class: SizeClass, ratio: f64) {
        self.reserve_ratio.with_label_values(&[&class.to_string()]).set(ratio);
    }

    /// A person should look at something (CH-03).
    pub fn alarm(&self) {
        self.alarms.inc();
    }

    /// Everything in Prometheus' text format.
    pub fn text(&self) -> String {
        stratum_net::metrics::text(&self.registry)
    }
}

/// Answers to the shares of a protocol.
fn shares(registry: &Registry, protocol: &'static str) -> Counters {
    let options =
        Opts::new("sluice_pool_shares_total", "Shares by answer.").const_label("protocol", protocol);
    Counters::new(registry, options, "result", once("accepted").chain(Reject::ALL.map(Reject::label)))
}

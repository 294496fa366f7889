//! Starts the parts, connects them, and stops them in order.

use crate::forward::{Current, WAITING_MAX};
use crate::health::{Health, ProxyPages};
use crate::journal::Journal;
use crate::link::Upstream;
use crate::metrics::Metrics;
use crate::rates::Rates;
use crate::receipts;
use crate::settings::Settings;
use crate::shard::Shard;
use crate::switchboard::{Surroundings, Switchboard};
use anyhow::{Context, bail};
use prometheus::Registry;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use stratum::v1;
use stratum::v1::server::Users;
use stratum_net::acceptor::{ShardEntrance, accept, listen};
use stratum_net::limits::Gate;
use stratum_net::serve::{self, Feeds};
use stratum_net::{shard, shutdown};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Time for the last lines of the journal.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// Serves until told to stop.
///
/// # Errors
/// What keeps the proxy from starting, or which part has died.
pub fn run(settings: Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(serve(settings));
    runtime.shutdown_background();
    outcome
}

async fn serve(mut settings: Settings) -> anyhow::Result<()> {
    settings.limits = settings.limits.within_open_files();
    let listeners = listen(&settings.v1_listen, "v1.listen")?;
    let http = listen(&[settings.http_listen], "http.listen")?.remove(0);
    let metrics = Metrics::new(Registry::new());
    let rates = Rates::new(settings.shards);
    let names = settings.upstreams.iter().map(|upstream| upstream.server.to_string());
    let health = Arc::new(Health::new(names.collect()));
    let stop = CancellationToken::new();
    tokio::spawn(shutdown::watch(stop.clone()));
    let pages = ProxyPages { health: health.clone(), rates: rates.clone(), metrics: metrics.clone() };
    tokio::spawn(stratum_net::http::serve(http, pages, axum::Router::new(), stop.clone()));

    let (show, current) = watch::channel(Current::default());
    let Shards { entrances, verdicts, threads } = start_shards(&settings, &rates, &metrics, &current, &stop)?;
    let (journal, written) = start_journal(&settings, &metrics, &health)?.unzip();
    let surroundings = Surroundings { shards: verdicts, health, metrics: metrics.clone(), journal };
    // Links outlive the shards: verdicts are waited for.
    let cut = CancellationToken::new();
    let switchboard = Switchboard::new(settings.upstreams.clone(), surroundings, show).run(cut.clone());
    let switchboard = tokio::spawn(switchboard);

    let gate = Gate::new(settings.limits.clone());
    for listener in listeners {
        info!(address = %listener.local_addr()?, "serving V1 machines");
        let metrics = metrics.shard.connections.clone();
        tokio::spawn(accept(listener, gate.clone(), entrances.clone(), metrics, stop.clone()));
    }
    let dead_part = || {
        let switchboard = switchboard.is_finished().then_some("switchboard");
        switchboard.or(threads.iter().any(JoinHandle::is_finished).then_some("shard"))
    };
    let died = shutdown::or_dead_part(&stop, dead_part).await;
    stop.cancel();
    let joined = tokio::task::spawn_blocking(|| threads.into_iter().for_each(|thread| drop(thread.join())));
    let ended = tokio::time::timeout(settings.shutdown_grace, joined).await.is_ok();
    cut.cancel();
    if let Some(written) = written {
        // The links hold the journal, until they have said what became of their last shares. One that lingers has none.
        let joined = tokio::task::spawn_blocking(move || written.join());
        let _ = tokio::time::timeout(LAST_MOMENT, joined).await;
    }
    match died {
        Some(part) => bail!("the {part} has failed: this is a bug, please report it with the lines above"),
        None if !ended => bail!("shares still waited for upstream's verdict when shutdown_grace_s was over"),
        None => {
            info!("stopped");
            Ok(())
        }
    }
}

/// The journal, if there is a place for it, and its thread. What it has written goes on to those who fetch receipts.
fn start_journal(
    settings: &Settings,
    metrics: &Metrics,
    health: &Arc<Health>,
) -> anyhow::Result<Option<(Journal, JoinHandle<()>)>> {
    let Some(dir) = &settings.data_dir else { return Ok(None) };
    fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let lock = File::create(dir.join("lock")).with_context(|| dir.display().to_string())?;
    lock.try_lock().with_context(|| format!("{} is in use by another proxy", dir.display()))?;
    let folder = |upstream: &Upstream| dir.join(format!("{}_{}", upstream.server.host, upstream.server.port));
    let folders: Vec<_> = settings.upstreams.iter().map(folder).collect();
    // A pool may be named twice, with each of its keys: it has one log, which is the first one's.
    let mut logs = BTreeMap::new();
    for (upstream, folder) in settings.upstreams.iter().zip(&folders) {
        if let Some(log) = &upstream.log {
            let first = folders.iter().position(|other| other == folder).expect("it is there itself");
            logs.entry(first).or_insert((folder.clone(), log.clone()));
        }
    }
    let logs = logs.into_iter().map(|(first, (folder, log))| (first, folder, log));
    let written = receipts::start(logs, settings.receipts_every, metrics.clone(), health.clone())?;
    Ok(Some(Journal::start(folders, lock, metrics.clone(), written)?))
}

struct Shards {
    entrances: Vec<ShardEntrance>,
    /// The way back to each.
    verdicts: Vec<mpsc::Sender<crate::forward::Judged>>,
    threads: Vec<JoinHandle<()>>,
}

fn start_shards(
    settings: &Settings,
    rates: &Rates,
    metrics: &Metrics,
    current: &watch::Receiver<Current>,
    stop: &CancellationToken,
) -> anyhow::Result<Shards> {
    let difficulty = &settings.difficulty;
    let session = Arc::new(v1::server::Settings {
        users: if settings.pass_users { Users::Accounts } else { Users::Anyone },
        pot_start: difficulty.start,
        pot_min: difficulty.min,
        pot_max: difficulty.max,
        shares_per_minute: f64::from(difficulty.shares_per_minute),
        version_mask: settings.version_mask,
        zero_bits_when_missing: settings.zero_bits_when_missing,
        idle: settings.idle_max,
        // The network is of no concern where anyone may be named.
        ..v1::server::Settings::new(bitcoin::Network::Bitcoin)
    });
    let mut shards = Shards { entrances: Vec::new(), verdicts: Vec::new(), threads: Vec::new() };
    for index in 0..settings.shards {
        let (entrance, incoming, load) = ShardEntrance::new();
        // Room for all that may wait, and for what one read brings before that is noticed.
        let (verdict, returns) = mpsc::channel(2 * WAITING_MAX);
        let mut current = current.clone();
        current.mark_changed();
        let feeds = Feeds { incoming, returns, current, load, stop: stop.clone() };
        let (session, metrics, rate) = (session.clone(), metrics.clone(), rates.of(index));
        let number = u8::try_from(index).context("at most 64 shards")?;
        shards.threads.push(shard::spawn(index, move || {
            serve::run(Shard::new(number, session, metrics, rate), feeds)
        })?);
        shards.entrances.push(entrance);
        shards.verdicts.push(verdict);
    }
    Ok(shards)
}

//! Starts the parts, connects them, and stops them in order.

use crate::aside::Aside;
use crate::blocks::{BlockSink, FoundBlocks};
use crate::books::Books;
use crate::books_pages::BooksPages;
use crate::director::{self, Director, NEWS_WAITING_MAX, News, Outputs, Serving};
use crate::doors::Doors;
use crate::health::Health;
use crate::http::PoolPages;
use crate::left_over::open_submitter;
use crate::log_pages::{self, LogPages};
use crate::metrics::Metrics;
use crate::moving::{self, MovePages};
use crate::publishing;
use crate::rate::ShareRate;
use crate::rehearsal::Rehearsal;
use crate::settings::Settings;
use crate::settler::Settler;
use crate::shard::{Exits, RETURNS_QUEUE_LEN, SessionSettings, Shard};
use crate::witnesses::Witnesses;
use crate::work::{Current, Planner, check_room};
use anyhow::{Context, anyhow, bail};
use prometheus::Registry;
use share_accounting::entry::{self, Params};
use share_accounting::ledger::Ledger;
use share_accounting::log::append::SEGMENT_BYTES_DEFAULT;
use share_accounting::publish::Published;
use share_accounting::{Accounting, AccountingThread};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use stratum::{v1, v2};
use stratum_net::acceptor::{ShardEntrance, listen};
use stratum_net::serve::{self, Feeds};
use stratum_net::{shard, shutdown};
use template::bitcoind::ask::{self, AskError};
use template::bitcoind::rpc::{self, Canceller, Purpose, Rpc};
use template::coinbase::CoinbaseStyle;
use template::source::{Source, SourceNode, SourceSettings};
use template::submit::Submitter;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Time for the parts behind the shards, however long those have taken.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// Serves until told to stop.
///
/// # Errors
/// What keeps the pool from starting, or which part has died.
pub fn run(settings: Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(serve(settings));
    // Dropping it would wait for ever for a shard that hangs on a disk.
    runtime.shutdown_background();
    outcome
}

async fn serve(mut settings: Settings) -> anyhow::Result<()> {
    settings.limits = settings.limits.within_open_files();
    let doors = Doors::open(&settings).await?;
    let http = listen(&[settings.http_listen], "http.listen")?.remove(0);
    let metrics = Metrics::new(Registry::new());
    let stop = CancellationToken::new();
    tokio::spawn(shutdown::watch(stop.clone()));
    let told = stop.clone();
    let stopping = tokio::spawn(async move {
        told.cancelled().await;
        Instant::now()
    });

    let mut core = Core::start(&settings, &metrics)?;
    let pages = PoolPages { health: core.health.clone(), metrics: metrics.clone() };
    let aside = Aside::default();
    let log = LogPages {
        published: core.published.clone(),
        accounting: core.accounting.clone(),
        network: settings.network,
        aside: aside.clone(),
    };
    let (accounting, network) = (core.accounting.clone(), settings.network);
    let moving = MovePages { network, accounting, aside: aside.clone() };
    let ledger = Ledger::open(&settings.data_dir.join("ledger.sqlite"))?;
    let books =
        BooksPages::new(settings.network, core.current.clone(), core.accounting.clone(), ledger, aside);
    let more = log_pages::routes(log).merge(books.routes()).merge(moving::routes(moving));
    tokio::spawn(stratum_net::http::serve(http, pages, more, stop.clone()));
    let outcome = match core.wait_for_work(&stop).await {
        Ok(true) => serve_miners(&settings, &core, doors, &metrics, &stop).await,
        Ok(false) => Ok(()),
        Err(refused) => Err(refused),
    };
    stop.cancel();
    let left = settings.shutdown_grace.saturating_sub(stopping.await?.elapsed()).max(LAST_MOMENT);
    // Beside the runtime, which listens for the second signal.
    let stopped = tokio::task::spawn_blocking(move || core.stop(left.saturating_sub(LAST_MOMENT)));
    if tokio::time::timeout(left, stopped).await.is_err() && outcome.is_ok() {
        bail!(
            "a disk or a node did not answer before shutdown_grace_s was over; what was acknowledged is safe"
        );
    }
    if outcome.is_ok() {
        info!("stopped");
    }
    outcome
}

/// Everything behind the miners: accounting, blocks, templates and the director.
struct Core {
    accounting: Accounting,
    accounting_thread: AccountingThread,
    published: Published,
    /// Ends with the accounting.
    publisher: JoinHandle<()>,
    submitter: Arc<Submitter>,
    found: FoundBlocks,
    source: Source,
    /// Brings the source's events to the director; ends with the source.
    feed: JoinHandle<()>,
    news: SyncSender<News>,
    director: JoinHandle<()>,
    events: JoinHandle<()>,
    current: watch::Receiver<Current>,
    serving: watch::Receiver<Serving>,
    health: Arc<Health>,
    rehearsal: JoinHandle<()>,
    /// Ends the rehearsal when dropped.
    rehearsing: SyncSender<()>,
    settler: JoinHandle<()>,
    /// Ends the settler when dropped.
    settling: SyncSender<()>,
    /// Nobody waits for it: a witness may take half a minute to answer.
    witnesses: JoinHandle<()>,
    /// Ends those who ask witnesses when dropped.
    witnessing: SyncSender<()>,
    /// Breaks off what the director, the rehearsal and the settler ask the nodes.
    questions: Vec<Canceller>,
}

impl Core {
    fn start(settings: &Settings, metrics: &Metrics) -> anyhow::Result<Self> {
        let dir = &settings.data_dir;
        make_data_dir(settings)?;
        let (accounting, accounting_thread) = Accounting::open(accounting_settings(settings))?;
        let (published, publisher) = publishing::start(settings, &accounting)?;
        let style = CoinbaseStyle::new(settings.site, accounting.epoch(), &settings.coinbase_text)?;
        check_room(&style, &settings.payout.params)?;
        let ledger = Ledger::open(&dir.join("ledger.sqlite"))?;
        let nodes: Vec<rpc::Node> = nodes(settings).into_iter().map(|node| node.rpc).collect();
        let headers: Vec<Rpc> = nodes.iter().map(|node| Rpc::new(node, Purpose::Other)).collect();
        let mut questions: Vec<Canceller> = headers.iter().map(Rpc::canceller).collect();
        let mut books = Books::new(ledger, headers);

        let (news, mailbox) = sync_channel(NEWS_WAITING_MAX);
        let submitter = open_submitter(dir, &nodes, &news, &accounting, &mut books)?;
        let (source, feed) = start_source(settings, accounting.epoch(), news.clone())?;
        let health = Arc::new(Health::new(accounting.clone(), published.clone()));
        let (events, for_log) = sync_channel(NEWS_WAITING_MAX);
        let (show, current) = watch::channel(Current::default());
        let (say_serving, serving) = watch::channel(Serving::Waiting);
        let outputs = Outputs {
            current: show,
            serving: say_serving,
            events,
            health: health.clone(),
            metrics: metrics.clone(),
        };
        let params = accounting_settings(settings).params;
        let planner =
            Planner::new(style, settings.network, params, accounting.epoch(), settings.rolled_bits());
        let found = FoundBlocks::default();
        let director = Director::new(accounting.clone(), books, found.clone(), planner, outputs);
        let director = thread("director", move || director.run(&mailbox))?;
        let log = accounting.clone();
        let events = thread("events", move || director::write_events(&log, &for_log))?;
        let (rehearsal, rehearsing, cancellers) =
            Rehearsal::new(settings.network, &nodes, current.clone(), health.clone());
        questions.extend(cancellers);
        let rehearsal = thread("rehearsal", move || rehearsal.run())?;
        let params = accounting_settings(settings).params;
        let (log, shown, watched) = (accounting.clone(), published.clone(), current.clone());
        let (settler, settling, canceller) =
            Settler::new(settings, params, &nodes[0], log, shown, watched, metrics.clone())?;
        questions.push(canceller);
        let settler = thread("settler", move || settler.run())?;
        let (witnesses, witnessing) = Witnesses::new(&settings.publish, published.clone(), metrics.clone());
        let witnesses = thread("witnesses", move || witnesses.run())?;
        let submitter = Arc::new(submitter);
        Ok(Self {
            accounting,
            accounting_thread,
            published,
            publisher,
            submitter,
            found,
            source,
            feed,
            news,
            director,
            events,
            current,
            serving,
            health,
            rehearsal,
            rehearsing,
            settler,
            settling,
            witnesses,
            witnessing,
            questions,
        })
    }

    /// Waits until there is work; `false` if told to stop before.
    async fn wait_for_work(&mut self, stop: &CancellationToken) -> anyhow::Result<bool> {
        let decided = self.serving.wait_for(|serving| *serving != Serving::Waiting);
        let serving = tokio::select! {
            () = stop.cancelled() => return Ok(false),
            serving = decided => serving.context("the director has ended")?.clone(),
        };
        match serving {
            Serving::Refused(reason) => Err(anyhow!(reason)),
            Serving::Working | Serving::Waiting => Ok(true),
        }
    }

    /// A part that has ended without being told to; the process must not go on without it.
    fn dead_part(&self) -> Option<&'static str> {
        if self.accounting_thread.is_finished() {
            Some("accounting")
        } else if self.publisher.is_finished() {
            Some("publisher")
        } else if self.director.is_finished() {
            Some("director")
        } else if self.events.is_finished() {
            Some("event writer")
        } else if self.submitter.is_finished() {
            Some("block submitter")
        } else if self.settler.is_finished() {
            Some("settler")
        } else if self.witnesses.is_finished() {
            Some("asker of witnesses")
        } else if self.feed.is_finished() {
            Some("template source")
        } else {
            None
        }
    }

    /// Ends the parts, those that others send to last.
    fn stop(self, grace: Duration) {
        self.source.stop();
        // The shards are gone: nobody else holds the submitter. What it says last still goes to the director.
        match Arc::try_unwrap(self.submitter) {
            Ok(submitter) => submitter.close(grace),
            Err(_) => warn!("a shard did not end in time: its blocks are submitted at the next start"),
        }
        self.questions.iter().for_each(Canceller::cancel);
        drop((self.rehearsing, self.settling, self.witnessing));
        let _ = self.news.send(News::Stop);
        for thread in [self.rehearsal, self.settler, self.director, self.events] {
            // A panic has been printed by its thread.
            let _ = thread.join();
        }
        let _ = self.accounting_thread.stop();
        let _ = self.publisher.join();
    }
}

/// The folder, before the first start only if not all nodes are of another network: its log could not be used for the right
/// one then. A node that cannot be asked now is asked later.
fn make_data_dir(settings: &Settings) -> anyhow::Result<()> {
    let dir = &settings.data_dir;
    if !dir.join("log").exists() {
        let ask =
            |node: SourceNode| ask::check_chain(&mut Rpc::new(&node.rpc, Purpose::Other), settings.network);
        let answers: Vec<_> = nodes(settings).into_iter().map(ask).collect();
        let is_wrong = |answer: &Result<(), AskError>| answer.as_ref().is_err_and(AskError::is_wrong_chain);
        if answers.iter().all(is_wrong) {
            answers.into_iter().collect::<Result<(), _>>()?;
        }
    }
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))
}

fn accounting_settings(settings: &Settings) -> share_accounting::Settings {
    let stale_credit_ms = settings.stale_credit.as_millis().try_into().unwrap_or(u32::MAX);
    share_accounting::Settings {
        dir: settings.data_dir.clone(),
        network: settings.network,
        params: Params {
            site: settings.site,
            span: settings.payout.span,
            stale_credit_ms,
            split: settings.payout.params.clone(),
            settlement_fee_bp: settings.settlement.fee_bp,
            settlement_at_least: if settings.settlement.fee_bp == 0 {
                0
            } else {
                settings.settlement.at_least_sats
            },
            witnesses: entry::Witnesses {
                needed: settings.publish.witnesses_needed,
                keys: settings.publish.witnesses.iter().map(|witness| witness.key.to_string()).collect(),
            }
            .if_needed(),
        },
        segment_bytes: SEGMENT_BYTES_DEFAULT,
    }
}

/// The nodes of the settings, as the template crate wants them.
pub fn nodes(settings: &Settings) -> Vec<SourceNode> {
    let node = |node: &crate::settings::Node| SourceNode {
        rpc: rpc::Node {
            address: node.rpc.clone(),
            credentials: node.credentials.clone(),
            timeouts: rpc::Timeouts::default(),
        },
        hash_block: node.zmq_hashblock.clone(),
    };
    settings.nodes.iter().map(node).collect()
}

fn start_source(
    settings: &Settings,
    epoch: u16,
    news: SyncSender<News>,
) -> anyhow::Result<(Source, JoinHandle<()>)> {
    let source = SourceSettings { nodes: nodes(settings), network: settings.network, epoch };
    let (mut events, source) = Source::start(source)?;
    let feed = thread("source", move || {
        while let Some(event) = events.blocking_recv() {
            if news.send(News::Source(event)).is_err() {
                return;
            }
        }
    })?;
    Ok((source, feed))
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run)
}

/// Serves miners until told to stop or a part dies.
async fn serve_miners(
    settings: &Settings,
    core: &Core,
    doors: Doors,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let exits = Exits {
        accounting: core.accounting.clone(),
        blocks: BlockSink::new(core.submitter.clone(), core.found.clone(), core.news.clone()),
        director: core.news.clone(),
        metrics: metrics.clone(),
    };
    let (entrances, shards) = start_shards(settings, &exits, &core.current, stop)?;
    drop(exits);
    let receiving = doors.receive(&settings.limits, entrances, &metrics.shard.connections, stop)?;
    let dead_part = || {
        let shard = shards.iter().any(JoinHandle::is_finished).then_some("shard");
        core.dead_part().or(shard).or(receiving.dead_part())
    };
    let died = shutdown::or_dead_part(stop, dead_part).await;
    stop.cancel();
    let ended = wait_for_shards(shards, settings.shutdown_grace).await;
    match died {
        Some(part) => bail!("the {part} has failed: this is a bug, please report it with the lines above"),
        None if !ended => bail!("shares were still on their way to the log when shutdown_grace_s was over"),
        None => Ok(()),
    }
}

type Shards = (Vec<ShardEntrance>, Vec<JoinHandle<()>>);

fn start_shards(
    settings: &Settings,
    exits: &Exits,
    current: &watch::Receiver<Current>,
    stop: &CancellationToken,
) -> anyhow::Result<Shards> {
    let v1 = Arc::new(v1::server::Settings {
        pot_start: settings.difficulty.start,
        pot_min: settings.difficulty.min,
        pot_max: settings.difficulty.max,
        shares_per_minute: f64::from(settings.difficulty.shares_per_minute),
        version_mask: settings.version_mask,
        zero_bits_when_missing: settings.zero_bits_when_missing,
        idle: settings.idle_max,
        ..v1::server::Settings::new(settings.network)
    });
    let v2 = Arc::new(v2::server::Settings {
        pot_start: settings.difficulty.start,
        pot_min: settings.difficulty.min,
        pot_max: settings.difficulty.max,
        shares_per_minute: f64::from(settings.difficulty.shares_per_minute),
        version_mask: settings.v2.version_mask,
        idle: settings.v2.idle_max,
        receipts: settings.v2.experimental_receipts,
        ..v2::server::Settings::new(settings.network)
    });
    let session = SessionSettings { v1, v2 };
    let stale_credit = settings.stale_credit;
    let difficulty = &settings.difficulty;
    let rate = ShareRate::new(difficulty.shares_per_minute, settings.credited_shares_per_s_max);
    let mut entrances = Vec::new();
    let mut threads = Vec::new();
    for index in 0..settings.shards {
        let (entrance, incoming, load) = ShardEntrance::new();
        let (to_shard, returns) = mpsc::channel(RETURNS_QUEUE_LEN);
        let mut current = current.clone();
        // What is there already is news to the shard, also that it has been taken away meanwhile.
        current.mark_changed();
        let feeds = Feeds { incoming, returns, current, load, stop: stop.clone() };
        let (session, rate, exits) = (session.clone(), rate.clone(), exits.clone());
        let number = u8::try_from(index).context("at most 64 shards")?;
        threads.push(shard::spawn(index, move || {
            serve::run(Shard::new(number, session, rate, stale_credit, exits, to_shard), feeds)
        })?);
        entrances.push(entrance);
    }
    Ok((entrances, threads))
}

/// Waits for the shards to answer what they have judged; `false` if the grace was too short.
async fn wait_for_shards(shards: Vec<JoinHandle<()>>, grace: Duration) -> bool {
    let joined = tokio::task::spawn_blocking(|| {
        for shard in shards {
            // A panic has been printed by its thread.
            let _ = shard.join();
        }
    });
    tokio::time::timeout(grace, joined).await.is_ok()
}

//! Starts all connections and hashing threads, reports, and stops them again.

use crate::acks::Acks;
use crate::cli::{Machine, RunArgs, Work};
use crate::connection::{self, FOUND_QUEUE_LEN, Pickaxe, Shared};
use crate::miner::{self, Lane};
use crate::report;
use anyhow::{Context, ensure};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use stratum_net::limits::raise_file_limit;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet};

const REPORT_EVERY: Duration = Duration::from_secs(5);
/// Files of its own beside its connections: standard streams, the runtime, acknowledged shares.
const OWN_FILES: u64 = 32;
/// Connections are opened in portions of this length.
const PORTION: Duration = Duration::from_millis(10);
/// How long shares on their way may wait for their answers at the end.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// Mines, or holds connections open, until the time is up or a signal comes.
///
/// # Errors
/// The machine cannot give what is needed: threads, signals, the file of acknowledged shares.
pub fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let machines = args.machines()?;
    let files = raise_file_limit().saturating_sub(OWN_FILES);
    ensure!(
        machines.len() as u64 <= files, // a length fits 64 bits
        "{} connections need as many open files, and only {files} are allowed: raise ulimit -Hn",
        machines.len()
    );
    let acks = args.acks.as_deref().map(|path| {
        Acks::open(path).with_context(|| format!("cannot open {} for acknowledged shares", path.display()))
    });
    let server = args.server()?;
    let (rolling, replay) = (!args.no_version_rolling, args.replay_accepted);
    let shared = Shared::new(args.url.clone(), server, rolling, replay, acks.transpose()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, mine(args, machines, Rc::new(shared)))
}

async fn mine(args: RunArgs, machines: Vec<Machine>, shared: Rc<Shared>) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let hashed = Arc::new(AtomicU64::new(0));
    let (pickaxes, threads) = hashing(&machines, shared.server.slots(), args.threads, &hashed)?;
    let (stop, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let opening = open(machines, pickaxes, args.connects_per_second, &shared, &stopped, &mut connections);
    tokio::select! {
        result = watch_over(args.for_seconds, &shared, &hashed) => result?,
        () = async { opening.await; std::future::pending().await } => {}
    }
    stop.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
        connections.shutdown().await;
    }
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a hashing thread has failed"))?;
    }
    let tally = shared.tally.borrow();
    let hashes = hashed.load(Ordering::Relaxed);
    show(&args, &tally, hashes, started.elapsed());
    let fine = if args.idle { tally.handshakes > 0 } else { tally.acknowledged > 0 };
    Ok(if fine && tally.replays_acknowledged == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::print_stdout, reason = "the summary is the result of the program")]
fn show(args: &RunArgs, tally: &crate::tally::Tally, hashes: u64, elapsed: Duration) {
    if args.json {
        println!("{}", report::json(tally, hashes, elapsed));
    } else {
        print!("{}", report::text(tally, hashes, elapsed));
    }
}

type Threads = Vec<std::thread::JoinHandle<()>>;

/// Starts the hashing threads and deals the miners out to them: one for each slot of each connection.
fn hashing(
    machines: &[Machine],
    slots: usize,
    threads: u32,
    hashed: &Arc<AtomicU64>,
) -> anyhow::Result<(Vec<Option<Pickaxe>>, Threads)> {
    let now = Instant::now();
    let mut lanes: Vec<Vec<Lane>> = (0..threads).map(|_| Vec::new()).collect();
    let mut pickaxes = Vec::with_capacity(machines.len());
    for (index, machine) in machines.iter().enumerate() {
        let Work::Mine(hashrate) = machine.work else {
            pickaxes.push(None);
            continue;
        };
        let (found_by, found) = mpsc::channel(FOUND_QUEUE_LEN);
        let mut work = Vec::with_capacity(slots);
        for slot in 0..slots {
            let (sender, seen) = watch::channel(None);
            let thread = (index * slots + slot) % lanes.len();
            lanes[thread].push(Lane::new(seen, found_by.clone(), hashrate, now));
            work.push(sender);
        }
        pickaxes.push(Some(Pickaxe { work, found }));
    }
    let mut handles = Vec::new();
    for lanes in lanes.into_iter().filter(|lanes| !lanes.is_empty()) {
        let hashed = hashed.clone();
        let thread = std::thread::Builder::new().name("hashing".to_owned());
        handles.push(thread.spawn(move || miner::run(lanes, &hashed))?);
    }
    Ok((pickaxes, handles))
}

/// Opens the connections, no more in a second than asked.
async fn open(
    machines: Vec<Machine>,
    pickaxes: Vec<Option<Pickaxe>>,
    per_second: u32,
    shared: &Rc<Shared>,
    stopped: &watch::Receiver<bool>,
    connections: &mut JoinSet<()>,
) {
    let started = Instant::now();
    for (index, (machine, pickaxe)) in machines.into_iter().zip(pickaxes).enumerate() {
        let due = Duration::from_secs(1) * u32::try_from(index).unwrap_or(u32::MAX) / per_second;
        if due > started.elapsed() + PORTION {
            tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
        }
        connections.spawn_local(connection::run(machine, index, shared.clone(), pickaxe, stopped.clone()));
    }
}

/// Reports every few seconds; returns when it is time to stop.
async fn watch_over(for_seconds: Option<u64>, shared: &Shared, hashed: &AtomicU64) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut every = tokio::time::interval_at(tokio::time::Instant::now() + REPORT_EVERY, REPORT_EVERY);
    let time_is_up = async {
        match for_seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(time_is_up);
    let mut before = 0;
    loop {
        tokio::select! {
            _ = every.tick() => {
                let now = hashed.load(Ordering::Relaxed);
                eprintln!("fleet: {}", report::line(&shared.tally.borrow(), (now - before) / REPORT_EVERY.as_secs()));
                before = now;
            }
            () = &mut time_is_up => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
        }
    }
}

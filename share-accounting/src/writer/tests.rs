use crate::accounting::{Accounting, Batch, CommitError, Snapshot, WindowError};
use crate::books::weights_at;
use crate::entry::{ChainEvent, Entry};
use crate::log::Reader;
use crate::publish::Logged;
use crate::testing::{Miner, NBITS, body, commit, payee, script, settings};
use std::path::Path;
use std::time::Duration;
use stratum::share::JudgedShare;
use stratum::target::{Target, Work};

/// Longer than any commit takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn network() -> Work {
    Target::from_nbits(NBITS).unwrap().work()
}

fn window(accounting: &Accounting, network: Work) -> Result<Snapshot, WindowError> {
    accounting.ask_window(network)?.wait(PATIENCE)
}

fn entries(dir: &Path) -> Vec<Entry> {
    Reader::open(&dir.join("log")).unwrap().map(|entry| entry.unwrap().1).collect()
}

#[test]
fn shares_are_durable_and_credited_once_their_owner_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (accounting, thread) = Accounting::open(settings(dir.path())).unwrap();
    assert_eq!(window(&accounting, network()).unwrap().total, Work(0));
    let (mut miner, job) = (Miner::new(), body(1));
    let shares = vec![
        miner.share(&job, &payee(1, "a"), -32, true),
        miner.share(&job, &payee(2, ""), -31, true),
        miner.share(&job, &payee(1, "b"), -32, false),
    ];
    let (result, returned) = commit(&accounting, shares.clone());
    // Params and epoch; payee, job and share; payee and share; payee and share.
    let at: Vec<_> = shares.iter().map(JudgedShare::hash).zip([4, 6, 8]).collect();
    assert_eq!((result, returned.len()), (Ok(at), 3));
    let snapshot = window(&accounting, network()).unwrap();
    assert_eq!(snapshot.weights, [(script(1), Work(1)), (script(2), shares[1].pot().work())].into());
    assert_eq!(snapshot.log_size, 2 + 3 + 1 + 3, "params, epoch; payees; job; shares");
    assert_eq!(
        weights_at(&dir.path().join("log"), snapshot.log_size, snapshot.window).unwrap(),
        snapshot.weights
    );
    thread.stop().unwrap();
    let logged = entries(dir.path());
    let shares: Vec<_> = logged
        .iter()
        .filter_map(|entry| match entry {
            Entry::Share(share) => Some((share.payee, share.credited, share.site)),
            _ => None,
        })
        .collect();
    assert_eq!(shares, [(0, true, 3), (1, true, 3), (2, false, 3)]);
    assert_eq!(logged.iter().filter(|entry| matches!(entry, Entry::Job(_))).count(), 1);
}

#[test]
fn every_start_has_a_later_epoch_and_the_same_window() {
    let dir = tempfile::tempdir().unwrap();
    let (mut miner, job) = (Miner::new(), body(1));
    let mut before = None;
    for start in 0..4 {
        let (accounting, thread) = Accounting::open(settings(dir.path())).unwrap();
        assert_eq!(accounting.epoch(), start);
        let snapshot = window(&accounting, network()).unwrap();
        if let Some(before) = before {
            assert_eq!(snapshot.weights, before);
        }
        commit(&accounting, vec![miner.share(&job, &payee(start as u8 % 2, "w"), -32, true)]).0.unwrap();
        before = Some(window(&accounting, network()).unwrap().weights);
        thread.stop().unwrap();
    }
    let payees = entries(dir.path()).iter().filter(|entry| matches!(entry, Entry::Payee(_))).count();
    assert_eq!(payees, 2, "a restart finds the indexes given before");
}

#[test]
fn after_the_stop_batches_are_given_back_and_the_directory_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let (accounting, thread) = Accounting::open(settings(dir.path())).unwrap();
    assert!(
        Accounting::open(settings(dir.path())).unwrap_err().to_string().contains("in use by another process")
    );
    thread.stop().unwrap();
    let batch = Batch { shares: vec![], done: Box::new(|_, _| panic!("given back instead")) };
    assert!(accounting.commit(batch).is_err());
    assert_eq!(accounting.event(1, ChainEvent::Retarget { nbits: 1 }), Err(CommitError::Stopped));
    Accounting::open(settings(dir.path())).unwrap().1.stop().unwrap();
}

/// Runs in a child on a file system of one megabyte of its own.
fn on_a_small_disk(dir: &Path) {
    let (accounting, thread) = Accounting::open(settings(dir)).unwrap();
    let (mut miner, job) = (Miner::new(), body(1));
    let worker = payee(1, "w");
    let mut good = 0;
    let mut batch = || vec![miner.share(&job, &worker, -32, true)];
    commit(&accounting, batch()).0.unwrap();
    good += 1;
    // Fill what is left, to the last byte.
    let ballast = dir.join("ballast");
    assert!(std::fs::write(&ballast, vec![1; 4 << 20]).is_err());
    let mut failed = 0;
    while failed < 5 {
        match commit(&accounting, batch()) {
            (Ok(_), _) => good += 1,
            (Err(error), shares) => {
                assert_eq!((error, shares.len()), (CommitError::LogUnavailable, 1));
                failed += 1;
            }
        }
    }
    let total = |accounting: &Accounting| window(accounting, network()).unwrap().total;
    assert_eq!(total(&accounting), Work(good), "what failed is not credited");
    std::fs::remove_file(&ballast).unwrap();
    while commit(&accounting, batch()).0.is_err() {
        std::thread::yield_now();
    }
    good += 1;
    assert_eq!(total(&accounting), Work(good));
    thread.stop().unwrap();
    let (accounting, thread) = Accounting::open(settings(dir)).unwrap();
    assert_eq!(total(&accounting), Work(good), "and after a restart neither");
    thread.stop().unwrap();
}

#[test]
fn d04_a_full_disk_fails_shares_and_recovers_without_a_restart() {
    const DIR: &str = "SLUICE_TEST_SMALL_DISK";
    if let Some(dir) = std::env::var_os(DIR) {
        return on_a_small_disk(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    // The test runs itself again where it may mount a file system that nobody else sees.
    let child = format!("mount -t tmpfs -o size=1m tmpfs \"${DIR}\" && exec \"$0\" --exact \"$1\"");
    let status = std::process::Command::new("unshare")
        .args(["-rm", "sh", "-c", &child])
        .arg(std::env::current_exe().unwrap())
        .arg("writer::tests::d04_a_full_disk_fails_shares_and_recovers_without_a_restart")
        .env(DIR, dir.path())
        .status()
        .expect("unshare (package util-linux) starts");
    assert!(status.success(), "needs a kernel that lets `unshare -rm` mount a tmpfs");
}

mod histories {
    use super::*;
    use bitcoin::ScriptBuf;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use stratum::pot::Pot;

    #[derive(Debug, Clone)]
    enum Step {
        Shares(Vec<(u8, i8, bool)>),
        Restart,
        Retarget(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        let share = (0_u8..4, -32_i8..-26, prop::bool::weighted(0.8));
        prop_oneof![
            6 => proptest::collection::vec(share, 1..8).prop_map(Step::Shares),
            1 => Just(Step::Restart),
            2 => (1_u32..400).prop_map(Step::Retarget),
        ]
    }

    proptest! {
        // Every commit is a real one, synchronised to disk.
        #![proptest_config(crate::testing::cases())]
        #[test]
        fn i10_i11_replay_equals_live_and_only_accepted_shares_weigh_over_random_histories_and_restarts(
            steps in proptest::collection::vec(step(), 1..20)
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut settings = settings(dir.path());
            settings.params.span = crate::window::Span::new(1, 1).unwrap();
            settings.segment_bytes = 2_000;
            let (mut accounting, mut thread) = Accounting::open(settings.clone()).unwrap();
            let (mut miner, job) = (Miner::new(), body(1));
            let mut work = Work(50);
            let mut accepted: BTreeMap<ScriptBuf, Work> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Shares(shares) => {
                        for (who, pot, _) in shares.iter().filter(|(_, _, credited)| *credited) {
                            let work = Pot::try_from(*pot).unwrap().work();
                            accepted.entry(payee(*who, "w").script.clone()).or_default().0 += work.0;
                        }
                        let shares = shares.into_iter()
                            .map(|(who, pot, credited)| miner.share(&job, &payee(who, "w"), pot, credited)).collect();
                        commit(&accounting, shares).0.unwrap();
                    }
                    Step::Retarget(to) => work = Work(to.into()),
                    Step::Restart => {
                        let live = window(&accounting, work).unwrap();
                        thread.stop().unwrap();
                        crate::checkpoint::tests::assert_same_without(&settings.log_dir(), settings.params.span);
                        (accounting, thread) = Accounting::open(settings.clone()).unwrap();
                        let replayed = window(&accounting, work).unwrap();
                        prop_assert_eq!(live.log_size + 1, replayed.log_size, "the epoch start");
                        prop_assert_eq!((live.weights, live.total), (replayed.weights, replayed.total));
                    }
                }
                let live = window(&accounting, work).unwrap();
                let again = weights_at(&settings.log_dir(), live.log_size, live.window).unwrap();
                prop_assert_eq!(again, live.weights);
                let all = weights_at(&settings.log_dir(), live.log_size, Work(u128::MAX)).unwrap();
                prop_assert_eq!(&all, &accepted);
            }
            thread.stop().unwrap();
        }
    }
}

#[test]
fn a_full_queue_gives_batches_back_and_what_waited_is_one_commit() {
    use crate::accounting::QUEUE_BATCHES_MAX;
    use std::sync::mpsc::sync_channel;
    let dir = tempfile::tempdir().unwrap();
    let (accounting, thread) = Accounting::open(settings(dir.path())).unwrap();
    let (mut miner, job) = (Miner::new(), body(1));
    // The thread is held inside the first batch's answer.
    let (entered, inside) = sync_channel(1);
    let (release, held) = sync_channel::<()>(1);
    let first = Batch {
        shares: vec![miner.share(&job, &payee(1, ""), -32, true)],
        done: Box::new(move |_, _| {
            entered.send(()).unwrap();
            held.recv().unwrap();
        }),
    };
    assert!(accounting.commit(first).is_ok());
    inside.recv().unwrap();
    let (told, outcomes) = sync_channel(QUEUE_BATCHES_MAX);
    let mut batch = || {
        let told = told.clone();
        let shares = vec![miner.share(&job, &payee(2, ""), -32, true)];
        let done = move |result: Result<&[Logged], _>, _| told.send(result.map(<[_]>::to_vec)).unwrap();
        let hash = shares[0].hash();
        (Batch { shares, done: Box::new(done) }, hash)
    };
    let mut hashes = Vec::new();
    for _ in 0..QUEUE_BATCHES_MAX {
        let (batch, hash) = batch();
        assert!(accounting.commit(batch).is_ok());
        hashes.push(hash);
    }
    assert_eq!(accounting.counters().queue_batches, QUEUE_BATCHES_MAX as u64);
    assert_eq!(accounting.commit(batch().0).unwrap_err().shares.len(), 1);
    release.send(()).unwrap();
    // Behind params, epoch, the first batch with its payee and job, and the payee of these. Each owner of the group is
    // told of its own.
    for (hash, entry) in hashes.into_iter().zip(6..) {
        assert_eq!(outcomes.recv().unwrap(), Ok(vec![(hash, entry)]));
    }
    let counters = accounting.counters();
    assert_eq!((counters.commits, counters.shares), (2, 1 + QUEUE_BATCHES_MAX as u64));
    thread.stop().unwrap();
}

#[test]
fn a_job_is_logged_once_however_many_came_and_went() {
    let dir = tempfile::tempdir().unwrap();
    let (accounting, thread) = Accounting::open(settings(dir.path())).unwrap();
    let mut miner = Miner::new();
    for template in 0..200 {
        let job = body(template);
        for _ in 0..2 {
            commit(&accounting, vec![miner.share(&job, &payee(1, ""), -32, true)]).0.unwrap();
        }
    }
    thread.stop().unwrap();
    let jobs: Vec<_> = entries(dir.path())
        .into_iter()
        .filter_map(|entry| match entry {
            Entry::Job(job) => Some(job.template.0),
            _ => None,
        })
        .collect();
    assert_eq!(jobs, (0..200).collect::<Vec<_>>());
}

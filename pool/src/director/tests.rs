use super::*;
use crate::testing::headers::StandIn;
use crate::testing::{self, MASK, given, script};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Network};
use prometheus::Registry;
use share_accounting::AccountingThread;
use share_accounting::ledger::Ledger;
use std::sync::mpsc::sync_channel;
use template::bitcoind::rpc::{Purpose, Rpc};

/// A director whose node is away, with solo work given out.
struct Bench {
    director: Director,
    accounting: Accounting,
    current: watch::Receiver<Current>,
    serving: watch::Receiver<Serving>,
    health: Arc<Health>,
    _events: Receiver<(u64, ChainEvent)>,
    _accounting: AccountingThread,
    /// Declared last: the folder outlives what writes to it.
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::on(None)
    }

    /// One whose node answers at an address.
    fn on(address: Option<&str>) -> Self {
        let (accounting, thread, dir) = testing::accounting();
        let mut away = testing::away(dir.path());
        if let Some(address) = address {
            away.address = address.to_owned();
            std::fs::write(&away.credentials, "user:word").unwrap();
        }
        let ledger = Ledger::open(&dir.path().join("ledger.sqlite")).unwrap();
        let books = Books::new(ledger, vec![Rpc::new(&away, Purpose::Other)]);
        let health = Arc::new(Health::new(accounting.clone(), testing::published(&accounting, dir.path())));
        let (current, shown) = watch::channel(given(testing::work()));
        let (serving, said) = watch::channel(Serving::Working);
        let (events, logged) = sync_channel(16);
        let outputs = Outputs {
            current,
            serving,
            events,
            health: health.clone(),
            metrics: Metrics::new(Registry::new()),
        };
        health.working(1, Instant::now());
        let planner = testing::planner(MASK);
        let director = Director::new(accounting.clone(), books, FoundBlocks::default(), planner, outputs);
        Self {
            director,
            accounting,
            current: shown,
            serving: said,
            health,
            _events: logged,
            _accounting: thread,
            _dir: dir,
        }
    }

    fn hear(&mut self, event: SourceEvent) {
        self.director.hear(News::Source(event));
    }

    fn has_work(&self) -> bool {
        self.current.borrow().work.is_some()
    }
}

#[test]
fn gb_07_a_new_tip_reaches_the_shards_before_there_is_work_on_it() {
    let mut bench = Bench::new();
    let hash = BlockHash::from_byte_array([7; 32]);
    bench.hear(SourceEvent::NewTip { hash, height: 2 });
    assert_eq!(bench.current.borrow().tip, Some(hash));
    assert!(bench.has_work());
}

#[test]
fn gb_07_a_template_that_expires_is_taken_back_and_a_node_in_trouble_is_not_enough() {
    let mut bench = Bench::new();
    bench.hear(SourceEvent::Degraded("the node is away".to_owned()));
    assert!(bench.has_work());
    assert_eq!(bench.health.report(Instant::now()).reasons, ["the node is away"]);
    bench.hear(SourceEvent::Expired);
    assert!(!bench.has_work());
    assert_eq!(*bench.serving.borrow(), Serving::Waiting);
    assert!(bench.health.report(Instant::now()).reasons.contains(&"miners have no work".to_owned()));
}

#[test]
fn ch_03_an_alarm_is_counted_and_work_goes_on() {
    let mut bench = Bench::new();
    bench.hear(SourceEvent::Alarm("no block for 60 minutes".to_owned()));
    assert!(bench.has_work() && bench.health.report(Instant::now()).ok);
    assert!(bench.director.outputs.metrics.text().contains("sluice_pool_alarms_total 1\n"));
}

#[test]
fn gb_02_a_node_that_turns_out_to_be_the_wrong_one_ends_all_work() {
    let mut bench = Bench::new();
    bench.hear(SourceEvent::Refused("this node follows another chain".to_owned()));
    assert!(!bench.has_work());
    assert_eq!(*bench.serving.borrow(), Serving::Refused("this node follows another chain".to_owned()));
    assert!(!bench.health.report(Instant::now()).ok);
}

#[test]
fn work_whose_plans_fail_stays_for_as_long_as_a_template_may_be_old() {
    let mut bench = Bench::new();
    // No node says which blocks are on its chain: there is no standing to plan on.
    let template = testing::template(0);
    bench.hear(SourceEvent::Template {
        id: given(testing::work()).work.unwrap().id(),
        template,
        stand_in: false,
    });
    assert!(bench.has_work());
    let failing_since = bench.director.failing_since.unwrap();
    assert!(bench.director.retry_at.is_some());
    bench.director.plan_failed("still away", failing_since + TEMPLATE_AGE_MAX);
    assert!(bench.has_work());
    bench.director.plan_failed("still away", failing_since + TEMPLATE_AGE_MAX + Duration::from_millis(1));
    assert!(!bench.has_work());
}

#[test]
fn payees_are_noted_when_nothing_else_is_to_be_done() {
    let mut bench = Bench::new();
    let address = bitcoin::Address::from_script(&script(1), Network::Regtest).unwrap();
    let payee = Payee::parse(&address.to_string(), Network::Regtest).unwrap();
    bench.director.hear(News::Payee(Arc::new(payee)));
    assert_eq!(bench.director.payees.len(), 1);
    let (stop, mailbox) = sync_channel(1);
    stop.send(News::Stop).unwrap();
    assert!(bench.director.wait(&mailbox).is_ok());
    assert!(bench.director.payees.is_empty());
}

#[test]
fn a_slow_log_makes_no_new_work_of_the_same_template_and_window() {
    let node = StandIn::start();
    let template = testing::template(0);
    node.view().follow(&[template.prev_hash()]);
    let mut bench = Bench::on(Some(&node.address));
    let id = |bench: &Bench| bench.current.borrow().work.as_ref().unwrap().id();
    let given = id(&bench);
    bench.hear(SourceEvent::Template { id: given, template, stand_in: false });
    let first = id(&bench);
    assert_eq!((bench.director.failing_since, bench.director.retry_at), (None, None));
    let planned = bench.current.has_changed().unwrap();
    assert!(planned);
    bench.current.mark_unchanged();
    // The window is asked for again and again, and miners are left alone.
    let release = testing::stall(&bench.accounting);
    for _ in 0..3 {
        bench.director.give_work();
        assert!(bench.director.retry_at.is_some());
    }
    drop(release);
    assert!(!bench.current.has_changed().unwrap());
    assert_eq!(id(&bench), first);
    // A plan that failed meanwhile, as on a full disk, is no trouble any more, though nothing is given out.
    bench.director.plan_failed("the ledger cannot be used", Instant::now());
    assert!(!bench.health.report(Instant::now()).ok);
    bench.director.give_work();
    assert!(bench.health.report(Instant::now()).ok);
    // Work that was taken away is given out again.
    bench.director.take_work_away(Serving::Waiting);
    bench.director.template = Some(testing::template(0));
    bench.director.give_work();
    assert!(bench.has_work());
}

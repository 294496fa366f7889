use super::*;
use crate::testing::{self, MASK, given, script};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Network};
use prometheus::Registry;
use share_accounting::AccountingThread;
use share_accounting::ledger::Ledger;
use std::sync::mpsc::sync_channel;
use template::bitcoind::rpc::{Purpose, Rpc};
use template::coinbase::CoinbaseStyle;

/// A director whose node is away, with solo work given out.
struct Bench {
    director: Director,
    current: watch::Receiver<Current>,
    serving: watch::Receiver<Serving>,
    health: Arc<Health>,
    _events: Receiver<ChainEvent>,
    _accounting: AccountingThread,
    /// Declared last: the folder outlives what writes to it.
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let (accounting, thread, dir) = testing::accounting();
        let away = testing::away(dir.path());
        let ledger = Ledger::open(&dir.path().join("ledger.sqlite")).unwrap();
        let books = Books::new(ledger, vec![Rpc::new(&away, Purpose::Other)]);
        let health = Arc::new(Health::new(accounting.clone()));
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
        let style = CoinbaseStyle::new(0, 0, "").unwrap();
        let planner = Planner::new(style, testing::split(), 0, MASK);
        let director = Director::new(accounting, books, FoundBlocks::default(), planner, outputs);
        Self {
            director,
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

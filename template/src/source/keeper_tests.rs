//! The keeper's decisions, with a node that says what a test wants and a clock that a test names.

use super::*;
use crate::bitcoind::rpc::Timeouts;
use crate::bitcoind::stand_in::{Reply, StandIn};
use crate::source::{SourceNode, WAKES_WAITING_MAX};
use crate::template::tests::answer_of;
use bitcoin::Network;
use bitcoin::hashes::Hash;
use serde_json::{Value, json};
use std::sync::mpsc::sync_channel;
use std::sync::{Condvar, Mutex};

const LONG: Duration = Duration::from_secs(60);

/// What the node says.
#[derive(Clone)]
struct Says {
    up: bool,
    network: Network,
    tip: BlockHash,
    height: u32,
    template: Value,
    /// Whether it ever answers a long poll.
    long_poll: bool,
    /// Long polls that have come.
    long_polls: u32,
}

/// What the node says, and the wish to be told when it says something else.
#[derive(Clone)]
struct Script(Arc<(Mutex<Says>, Condvar)>);

fn block(seed: u8) -> BlockHash {
    BlockHash::from_byte_array([seed; 32])
}

fn template_on(parent: BlockHash, height: u32) -> Value {
    let mut answer = answer_of(&[]);
    answer["previousblockhash"] = json!(parent);
    answer["height"] = json!(height);
    answer["signet_challenge"] = json!("51");
    answer["longpollid"] = json!(format!("{parent}{height}"));
    answer
}

impl Says {
    fn at(tip: BlockHash, height: u32) -> Self {
        let template = template_on(tip, height + 1);
        Self { up: true, network: Network::Signet, tip, height, template, long_poll: true, long_polls: 0 }
    }

    fn answer(&self, method: &str) -> Reply {
        if !self.up {
            return Reply::Status(503, "Work queue depth exceeded");
        }
        let answer = match method {
            "getblockchaininfo" => json!({"chain": self.network.to_core_arg()}),
            "getblockhash" => json!(bitcoin::constants::genesis_block(self.network).block_hash()),
            "getbestblockhash" => json!(self.tip),
            "getblockheader" => {
                let work = format!("{:064x}", self.height);
                json!({
                    "height": self.height, "bits": "207fffff", "mediantime": 1_296_688_602, "confirmations": 1,
                    "chainwork": work,
                })
            }
            "getblocktemplate" => self.template.clone(),
            other => panic!("{other}"),
        };
        Reply::Result(answer.to_string())
    }
}

impl Script {
    fn new(says: Says) -> Self {
        Self(Arc::new((Mutex::new(says), Condvar::new())))
    }

    fn say(&self, change: impl FnOnce(&mut Says)) {
        let (says, changed) = &*self.0;
        change(&mut says.lock().unwrap());
        changed.notify_all();
    }

    /// A long poll waits until there is another template than the one that the caller has.
    fn answer(&self, method: &str, params: &Value) -> Reply {
        let (says, changed) = &*self.0;
        let mut says = says.lock().unwrap();
        if let Some(id) = params[0].get("longpollid") {
            says.long_polls += 1;
            changed.notify_all();
            let nothing_new = |says: &mut Says| !says.long_poll || says.template["longpollid"] == *id;
            says = changed.wait_while(says, nothing_new).unwrap();
        }
        says.answer(method)
    }

    /// Waits until a long poll is under way, with the id of what the node has said so far.
    fn wait_for_long_poll(&self) {
        let (says, changed) = &*self.0;
        let none = |says: &mut Says| says.long_polls == 0;
        let waited = changed.wait_timeout_while(says.lock().unwrap(), LONG, none).unwrap();
        assert!(waited.0.long_polls > 0, "no long poll comes");
    }
}

fn stand_in(hash_block: Option<String>, says: Says) -> (StandIn, Script, SourceSettings) {
    let network = says.network;
    let script = Script::new(says);
    let answers = script.clone();
    let mut node = StandIn::start(move |method, params| answers.answer(method, params));
    // Nothing here is about time-outs.
    node.node.timeouts = Timeouts::default();
    let nodes = vec![SourceNode { rpc: node.node.clone(), hash_block }];
    (node, script, SourceSettings { nodes, network, epoch: 1 })
}

/// A keeper whose loop does not run: what it does, it does because of what a test hands to it.
struct Desk {
    script: Script,
    keeper: Keeper,
    events: mpsc::Receiver<SourceEvent>,
    woken: Receiver<Wake>,
    node: StandIn,
}

impl Desk {
    fn new(says: Says) -> Self {
        Self::announced_at(None, says)
    }

    fn announced_at(hash_block: Option<String>, says: Says) -> Self {
        let (node, script, settings) = stand_in(hash_block, says);
        let (wake, woken) = sync_channel(WAKES_WAITING_MAX);
        let (give, events) = mpsc::channel(64);
        let keeper = Keeper::new(settings, wake, give, Canceller::default());
        Self { script, keeper, events, woken, node }
    }

    /// A keeper that serves a template on block 1, and whose long poll waits for the next one.
    fn serving() -> Self {
        let mut desk = Self::new(Says::at(block(1), 100));
        assert_eq!(desk.tick(), ["tip 100", "work 101"]);
        assert_eq!(desk.hear_long_poll(), [""; 0]);
        desk
    }

    fn say(&self, change: impl FnOnce(&mut Says)) {
        self.script.say(change);
    }

    /// Heeds the next answer of the long poll, and nothing else.
    fn hear_long_poll(&mut self) -> Vec<String> {
        let wake = self.woken.recv_timeout(LONG).expect("the long poll is answered");
        assert!(matches!(wake, Wake::LongPoll(..)));
        self.keeper.heed(wake);
        self.told()
    }

    /// One tick, without the pause after a failure; what it has told, in short.
    fn tick(&mut self) -> Vec<String> {
        self.keeper.link().rests_until = Instant::now();
        self.keeper.tick();
        self.told()
    }

    fn told(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            told.push(in_short(event));
        }
        told
    }
}

fn in_short(event: SourceEvent) -> String {
    match event {
        SourceEvent::NewTip { height, .. } => format!("tip {height}"),
        SourceEvent::Template { template, stand_in: false, .. } => format!("work {}", template.height()),
        SourceEvent::Template { template, stand_in: true, .. } => format!("empty work {}", template.height()),
        SourceEvent::Degraded(_) => "degraded".into(),
        SourceEvent::Recovered => "recovered".into(),
        SourceEvent::Expired => "expired".into(),
        SourceEvent::Refused(why) => format!("refused: {why}"),
        SourceEvent::Alarm(why) => format!("alarm: {why}"),
    }
}

const MOMENT: Duration = Duration::from_millis(1);

#[test]
fn gb_07_a_template_is_kept_for_two_minutes_without_a_node_and_then_taken_back_once() {
    let mut desk = Desk::serving();
    desk.say(|says| says.up = false);
    assert_eq!(desk.tick(), ["degraded"]);
    assert_eq!(desk.tick(), [""; 0], "the same trouble is told once");
    let served = desk.keeper.current.as_ref().unwrap().at;
    desk.keeper.check_ages(served + TEMPLATE_AGE_MAX);
    assert_eq!(desk.told(), [""; 0]);
    desk.keeper.check_ages(served + TEMPLATE_AGE_MAX + MOMENT);
    assert_eq!(desk.told(), ["expired"]);
    desk.keeper.check_ages(served + 2 * TEMPLATE_AGE_MAX);
    assert_eq!(desk.told(), [""; 0]);
    // The very same work is served again when the node is back: nothing else has happened meanwhile.
    desk.say(|says| says.up = true);
    assert_eq!(desk.tick(), ["work 101", "recovered"]);
    let served = desk.keeper.current.as_ref().unwrap().at;
    desk.keeper.check_ages(served + TEMPLATE_AGE_MAX);
    assert_eq!(desk.told(), [""; 0]);
}

#[test]
fn gb_06_a_failing_node_is_asked_less_and_less_often() {
    let waits = [1, 2, 3, 4, 5, 100, u32::MAX].map(|failures| backoff(failures).as_millis());
    assert_eq!(waits, [500, 1_000, 2_000, 2_000, 2_000, 2_000, 2_000]);
    let mut desk = Desk::serving();
    desk.say(|says| says.up = false);
    for failures in 1..=5 {
        let before = Instant::now();
        desk.tick();
        assert_eq!(desk.keeper.link().failures, failures);
        assert!(desk.keeper.link().rests_until >= before + backoff(failures));
    }
    desk.say(|says| says.up = true);
    assert_eq!(desk.tick(), ["recovered"]);
    desk.say(|says| says.up = false);
    assert_eq!(desk.tick(), ["degraded"]);
    assert_eq!(desk.keeper.link().failures, 1, "one good answer ends the row");
}

#[test]
fn gb_06_nothing_makes_us_ask_a_node_that_is_left_alone() {
    let mut desk = Desk::serving();
    desk.script.wait_for_long_poll();
    desk.say(|says| *says = Says { long_poll: false, ..Says::at(block(2), 101) });
    desk.keeper.link().rests_until = Instant::now() + LONG;
    let calls = || desk.node.calls.lock().unwrap().len();
    let before = calls();
    desk.keeper.heed(Wake::Block);
    let elsewhere = template_on(block(2), 102).to_string();
    let elsewhere = Template::parse(elsewhere.as_bytes(), Network::Signet).unwrap();
    desk.keeper.heed(Wake::LongPoll(desk.keeper.generation, Ok(Box::new(elsewhere))));
    desk.keeper.tick();
    assert_eq!(calls(), before);
    assert_eq!(desk.told(), [""; 0]);
    assert_eq!(desk.tick(), ["tip 101", "empty work 102", "work 102"]);
}

#[test]
fn gb_06_a_node_that_only_a_person_can_change_is_left_alone_for_half_a_minute() {
    let mut desk = Desk::new(Says { network: Network::Regtest, ..Says::at(block(1), 100) });
    desk.keeper.settings.network = Network::Signet;
    let before = Instant::now();
    assert!(desk.tick()[0].starts_with("refused: "));
    assert!(desk.keeper.link().rests_until >= before + BACKOFF_OPERATOR);
}

#[test]
fn ch_03_an_hour_without_a_block_is_told_once_and_work_goes_on() {
    let mut desk = Desk::serving();
    for height in [100, 101] {
        let since = desk.keeper.tip.as_ref().unwrap().since;
        // Work is renewed all the while.
        desk.keeper.current.as_mut().unwrap().at = since + TIP_AGE_MAX;
        desk.keeper.check_ages(since + TIP_AGE_MAX);
        assert_eq!(desk.told(), [""; 0]);
        desk.keeper.check_ages(since + TIP_AGE_MAX + MOMENT);
        let told = desk.told();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with(&format!("alarm: no block for 60 minutes since height {height}:")),
            "{told:?}"
        );
        desk.keeper.check_ages(since + TIP_AGE_MAX + 2 * MOMENT);
        assert_eq!(desk.told(), [""; 0]);
        // The next block ends it.
        desk.say(|says| *says = Says::at(block(2), 101));
        if height == 100 {
            assert_eq!(desk.tick(), ["tip 101", "empty work 102", "work 102"]);
        }
    }
}

#[test]
fn gb_04_a_template_that_does_not_follow_the_tip_is_not_served() {
    let mut desk = Desk::serving();
    // A block came between the question for the tip and the one for the template.
    desk.say(|says| *says = Says { template: template_on(block(3), 103), ..Says::at(block(2), 101) });
    assert_eq!(desk.tick(), ["tip 101", "empty work 102"]);
    desk.say(|says| *says = Says::at(block(3), 102));
    assert_eq!(desk.tick(), ["tip 102", "empty work 103", "work 103"]);
    // The tip's child has the next height and no other.
    desk.say(|says| *says = Says { template: template_on(block(4), 106), ..Says::at(block(4), 103) });
    assert_eq!(desk.tick(), ["tip 103", "empty work 104", "degraded"]);
    desk.say(|says| says.template = template_on(block(4), 104));
    assert_eq!(desk.tick(), ["work 104", "recovered"]);
}

#[test]
fn gb_04_what_the_long_poll_brings_is_held_to_the_same_rule() {
    let mut desk = Desk::serving();
    for (failures, wrong) in [(1, 100), (2, 102), (3, 106)] {
        desk.say(|says| says.template = template_on(block(1), wrong));
        let told = desk.hear_long_poll();
        assert_eq!(told, ["degraded"], "height {wrong}");
        assert_eq!(desk.keeper.link().failures, failures);
        assert_eq!(desk.keeper.current.as_ref().unwrap().template.height(), 101);
    }
    desk.say(|says| says.template = template_on(block(1), 101));
    assert_eq!(desk.tick(), ["recovered"]);
}

#[test]
fn gb_04_work_on_an_old_tip_is_not_renewed_by_a_late_long_poll() {
    // No empty work can be made up here, and the node is a block further with each question.
    let mut desk = Desk::new(Says::at(block(1), 2_014));
    assert_eq!(desk.tick(), ["tip 2014", "work 2015"]);
    desk.say(|says| *says = Says { template: template_on(block(3), 2_017), ..Says::at(block(2), 2_015) });
    assert_eq!(desk.tick(), ["tip 2015"]);
    let mut late = template_on(block(1), 2_015);
    late["coinbasevalue"] = json!(1_000_000_000);
    let late = Template::parse(late.to_string().as_bytes(), Network::Signet).unwrap();
    desk.keeper.take_long_poll(Ok(Box::new(late)));
    assert_eq!(desk.told(), [""; 0]);
}

#[test]
fn gb_04_a_tip_of_the_largest_height_is_a_failure_and_no_panic() {
    let template = template_on(block(1), 7);
    let says = Says { template, height: u32::MAX, ..Says::at(block(1), 7) };
    assert_eq!(Desk::new(says).tick(), ["tip 4294967295", "degraded"]);
}

#[test]
fn ch_05_only_a_tip_that_our_node_has_is_built_on() {
    let mut desk = Desk::serving();
    // An announcement carries nothing that is believed: it only makes us ask.
    assert_eq!(desk.tick(), [""; 0]);
    let foreign = template_on(block(9), 500).to_string();
    let foreign = Template::parse(foreign.as_bytes(), Network::Signet).unwrap();
    desk.keeper.take_long_poll(Ok(Box::new(foreign)));
    assert_eq!(desk.told(), [""; 0]);
    assert_eq!(desk.keeper.current.as_ref().unwrap().template.prev_hash(), block(1));
}

#[test]
fn ch_01_full_work_follows_at_once_where_no_empty_work_can_be_made_up() {
    // The target may change behind height 2,015, so nobody but the node knows what comes next.
    let mut desk = Desk::new(Says::at(block(1), 2_014));
    assert_eq!(desk.tick(), ["tip 2014", "work 2015"]);
    desk.say(|says| *says = Says::at(block(2), 2_015));
    assert_eq!(desk.tick(), ["tip 2015", "work 2016"]);
    assert_eq!(desk.tick(), [""; 0]);
}

/// A keeper of two nodes; the first is asked first.
struct Pair {
    keeper: Keeper,
    events: mpsc::Receiver<SourceEvent>,
    scripts: [Script; 2],
    nodes: [StandIn; 2],
    _woken: Receiver<Wake>,
}

impl Pair {
    fn new(says: [Says; 2]) -> Self {
        let [(first, one, mut settings), (second, two, others)] = says.map(|says| stand_in(None, says));
        settings.nodes.extend(others.nodes);
        settings.network = Network::Signet;
        let (wake, woken) = sync_channel(WAKES_WAITING_MAX);
        let (give, events) = mpsc::channel(64);
        let stop = Canceller::default();
        let mut keeper = Keeper::new(settings, wake, give, stop);
        // The watch for rivals, behind three connections of each node, is not what is looked at here.
        keeper.cancellers().split_off(3 * keeper.links.len()).iter().for_each(Canceller::cancel);
        keeper.links.iter_mut().for_each(|link| link.rests_until = Instant::now());
        Self { keeper, events, scripts: [one, two], nodes: [first, second], _woken: woken }
    }

    /// Ticks without pauses, so many times; what was told, in short.
    fn tick(&mut self, times: u32) -> Vec<String> {
        for _ in 0..times {
            self.keeper.link().rests_until = Instant::now();
            self.keeper.tick();
        }
        let mut told = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            told.push(in_short(event));
        }
        told
    }
}

#[test]
fn one_wrong_node_of_two_ends_nothing() {
    let wrong = Says { network: Network::Regtest, ..Says::at(block(1), 100) };
    let mut pair = Pair::new([wrong.clone(), Says::at(block(1), 100)]);
    assert_eq!(pair.tick(2), ["degraded", "tip 100", "work 101", "recovered"]);
    // The good one goes away for a while: the wrong one is asked again and still ends nothing.
    pair.scripts[1].say(|says| says.up = false);
    assert_eq!(pair.tick(1), ["degraded"]);
    pair.keeper.switch(0);
    assert_eq!(pair.tick(1), ["degraded"]);
    assert_eq!(pair.keeper.current.as_ref().unwrap().template.height(), 101);
    // Only when each of them is wrong is there nothing left.
    pair.scripts[1].say(|says| *says = Says { up: true, ..wrong });
    let told = pair.tick(1);
    assert!(told.len() == 1 && told[0].starts_with("refused: "), "{told:?}");
    assert!(pair.keeper.current.is_none());
}

#[test]
fn a_node_that_takes_over_is_not_believed_while_it_lags_behind_work_that_is_good() {
    let mut pair = Pair::new([Says::at(block(5), 105), Says::at(block(3), 103)]);
    assert_eq!(pair.tick(1), ["tip 105", "work 106"]);
    pair.scripts[0].say(|says| says.up = false);
    assert_eq!(pair.tick(FAILURES_BEFORE_SWITCH), ["degraded"]);
    assert_eq!(pair.keeper.place(), 1);
    pair.keeper.links[0].rests_until = Instant::now();
    assert_eq!(pair.tick(1), ["degraded"]);
    assert_eq!(pair.keeper.place(), 0, "there is nothing to be had from it");
    pair.keeper.links[1].rests_until = Instant::now();
    // It has caught up.
    pair.scripts[1].say(|says| *says = Says::at(block(6), 106));
    assert_eq!(pair.tick(FAILURES_BEFORE_SWITCH + 1), ["tip 106", "work 107", "recovered"]);
    // And goes back by itself: a node that was believed is believed when it reorganises.
    pair.scripts[1].say(|says| *says = Says::at(block(7), 104));
    assert_eq!(pair.tick(1), ["tip 104", "empty work 105", "work 105"]);
}

#[test]
fn before_the_work_is_too_old_a_node_that_lags_takes_over() {
    let mut pair = Pair::new([Says::at(block(5), 105), Says::at(block(3), 103)]);
    pair.tick(1);
    pair.scripts[0].say(|says| says.up = false);
    pair.tick(FAILURES_BEFORE_SWITCH);
    let served = &mut pair.keeper.current.as_mut().unwrap().at;
    *served = served.checked_sub(OUTLIVED).unwrap();
    assert_eq!(pair.tick(1), ["tip 103", "work 104", "recovered"]);
}

#[test]
fn a_node_that_will_be_asked_soon_is_not_left_for_one_that_rests() {
    let wrong = Says { network: Network::Regtest, ..Says::at(block(1), 100) };
    let mut pair = Pair::new([wrong, Says::at(block(1), 100)]);
    assert_eq!(pair.tick(2), ["degraded", "tip 100", "work 101", "recovered"]);
    pair.scripts[1].say(|says| says.up = false);
    // The wrong one rests for half a minute, this one for a second or two.
    for _ in 0..2 * FAILURES_BEFORE_SWITCH {
        assert_eq!(pair.keeper.place(), 1);
        pair.tick(1);
    }
    pair.scripts[1].say(|says| says.up = true);
    assert_eq!(pair.tick(1), ["recovered"]);
}

#[test]
fn nodes_that_only_a_person_can_change_all_rest() {
    let wrong = || Says { network: Network::Regtest, ..Says::at(block(1), 100) };
    let mut pair = Pair::new([wrong(), wrong()]);
    let before = Instant::now();
    pair.keeper.tick();
    pair.keeper.tick();
    assert!(pair.keeper.links.iter().all(|link| link.rests_until >= before + BACKOFF_OPERATOR));
    let calls = |pair: &Pair| pair.nodes.iter().map(|node| node.calls.lock().unwrap().len()).sum::<usize>();
    let asked = calls(&pair);
    pair.keeper.tick();
    assert_eq!(calls(&pair), asked);
}

/// Where a new tip can become known in one way only.
#[path = "ways_tests.rs"]
mod ways;

//! The source of templates against real nodes: new tips, restarts, failover, reorganisations, the wrong chain.
#![expect(clippy::unwrap_used, reason = "a test stops at what must not happen")]

mod bitcoind;

use bitcoin::{BlockHash, Network};
use bitcoind::{Bitcoind, SINK_REGTEST, free_port};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use template::bitcoind::ask;
use template::bitcoind::notify::Notify;
use template::bitcoind::rpc::Purpose;
use template::chain::{BestChain, Place, Standing};
use template::source::{Source, SourceEvent, SourceNode, SourceSettings};
use tokio::sync::mpsc::Receiver;

fn settings(nodes: &[(&Bitcoind, Option<String>)]) -> SourceSettings {
    let nodes = nodes
        .iter()
        .map(|(node, hash_block)| SourceNode { rpc: node.node(), hash_block: hash_block.clone() });
    SourceSettings { nodes: nodes.collect(), network: Network::Regtest, epoch: 3 }
}

/// Events until one is what is waited for.
fn wait<T>(events: &mut Receiver<SourceEvent>, mut wanted: impl FnMut(&SourceEvent) -> Option<T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        loop {
            let event = tokio::time::timeout(Duration::from_secs(60), events.recv()).await;
            if let Some(found) = wanted(&event.expect("an event in time").expect("the source runs")) {
                return found;
            }
        }
    })
}

/// Waits for a full template on a parent.
fn full_on(events: &mut Receiver<SourceEvent>, parent: BlockHash) {
    wait(events, |event| match event {
        SourceEvent::Template { template, stand_in: false, id } if template.prev_hash() == parent => {
            assert_eq!(id.0 >> 48, 3);
            Some(())
        }
        _ => None,
    });
}

fn hash(value: &Value) -> BlockHash {
    value.as_str().unwrap().parse().unwrap()
}

fn generate(node: &Bitcoind, count: u32) -> BlockHash {
    hash(node.ask("generatetoaddress", json!([count, SINK_REGTEST])).as_array().unwrap().last().unwrap())
}

#[test]
fn ch_01_a_new_tip_gives_empty_work_first_and_full_work_then() {
    let endpoint = format!("tcp://127.0.0.1:{}", free_port());
    let node = Bitcoind::regtest(&[&format!("-zmqpubhashblock={endpoint}")]);
    let genesis = hash(&node.ask("getbestblockhash", json!([])));
    let (mut events, source) = Source::start(settings(&[(&node, Some(endpoint))])).unwrap();
    full_on(&mut events, genesis);
    for height in 1..=5 {
        let tip = generate(&node, 1);
        wait(&mut events, |event| match event {
            SourceEvent::NewTip { hash, height: told } if *hash == tip => {
                assert_eq!(*told, height);
                Some(())
            }
            SourceEvent::Template { template, .. } => {
                assert_ne!(template.prev_hash(), tip, "the tip is told before its work");
                None
            }
            _ => None,
        });
        wait(&mut events, |event| match event {
            SourceEvent::Template { template, stand_in, .. } => {
                assert!(*stand_in && template.prev_hash() == tip && template.transactions().is_empty());
                // What we made up is what the node says.
                let answer = node.ask("getblocktemplate", json!([{"rules": ["segwit"]}]));
                assert_eq!(answer["height"], json!(template.height()));
                assert_eq!(answer["mintime"], json!(template.mintime()));
                assert_eq!(answer["coinbasevalue"], json!(template.value()));
                assert_eq!(answer["bits"], json!(format!("{:08x}", template.nbits())));
                assert_eq!(answer["version"], json!(template.version()));
                Some(())
            }
            _ => None,
        });
        full_on(&mut events, tip);
    }
    let start = Instant::now();
    source.stop();
    // The long poll is still waiting at the node: ending must not wait for it.
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn gb_06_a_nodes_announcement_is_heard() {
    let endpoint = format!("tcp://127.0.0.1:{}", free_port());
    let node = Bitcoind::regtest(&[&format!("-zmqpubhashblock={endpoint}")]);
    let (tell, heard) = std::sync::mpsc::sync_channel(1);
    let _notify = Notify::start(endpoint, move || {
        let _ = tell.try_send(());
    });
    // The first word is that of the connection itself.
    heard.recv_timeout(Duration::from_secs(60)).unwrap();
    // A publisher says nothing to those whose subscription has not reached it yet.
    let announced = (0..60).any(|_| {
        generate(&node, 1);
        heard.recv_timeout(Duration::from_secs(1)).is_ok()
    });
    assert!(announced);
}

#[test]
fn gb_06_a_nodes_long_poll_is_answered_with_work_on_the_next_tip() {
    let node = Bitcoind::regtest(&[]);
    let tip = generate(&node, 1);
    let mut rpc = node.rpc(Purpose::LongPoll);
    let first = ask::template(&mut rpc, Network::Regtest, None).unwrap();
    assert_eq!(first.prev_hash(), tip);
    let id = first.long_poll_id().expect("the node can be waited for").to_owned();
    // One that looks at the id waits for the block; one that does not gives the old tip again.
    let waiting = std::thread::spawn(move || ask::template(&mut rpc, Network::Regtest, Some(&id)).unwrap());
    let under_way = || {
        let info = node.ask("getrpcinfo", json!([]));
        info["active_commands"].as_array().unwrap().iter().any(|call| call["method"] == "getblocktemplate")
    };
    while !under_way() && !waiting.is_finished() {
        std::thread::yield_now();
    }
    let tip = generate(&node, 1);
    assert_eq!(waiting.join().unwrap().prev_hash(), tip);
}

#[test]
fn gb_07_b02_a_restarted_node_with_a_new_cookie_is_used_again() {
    let mut node = Bitcoind::regtest(&[]);
    let tip = generate(&node, 3);
    let (mut events, _source) = Source::start(settings(&[(&node, None)])).unwrap();
    full_on(&mut events, tip);
    let cookie = std::fs::read(node.node().credentials).unwrap();
    node.ask("stop", json!([]));
    wait(&mut events, |event| matches!(event, SourceEvent::Degraded(_)).then_some(()));
    node.kill();
    node.restart();
    assert_ne!(std::fs::read(node.node().credentials).unwrap(), cookie);
    wait(&mut events, |event| matches!(event, SourceEvent::Recovered).then_some(()));
    let tip = generate(&node, 1);
    full_on(&mut events, tip);
}

#[test]
fn gb_07_a_dead_node_fails_over_to_the_next_one() {
    let mut first = Bitcoind::regtest(&[]);
    let second = Bitcoind::regtest(&[]);
    // As much work in both: one that lags is not believed at once.
    let on_first = generate(&first, 2);
    let on_second = generate(&second, 2);
    let (mut events, _source) = Source::start(settings(&[(&first, None), (&second, None)])).unwrap();
    full_on(&mut events, on_first);
    first.kill();
    full_on(&mut events, on_second);
}

#[test]
fn ch_03_the_node_with_most_work_gives_the_templates() {
    let first = Bitcoind::regtest(&[]);
    let second = Bitcoind::regtest(&[]);
    let on_first = generate(&first, 1);
    let (mut events, _source) = Source::start(settings(&[(&first, None), (&second, None)])).unwrap();
    full_on(&mut events, on_first);
    let on_second = generate(&second, 5);
    full_on(&mut events, on_second);
}

#[test]
fn ch_04_a_node_of_the_wrong_chain_is_refused() {
    let node = Bitcoind::signet();
    let (mut events, _source) = Source::start(settings(&[(&node, None)])).unwrap();
    wait(&mut events, |event| match event {
        SourceEvent::Refused(reason) => {
            assert!(reason.contains("`signet`") && reason.contains("regtest"), "{reason}");
            Some(())
        }
        SourceEvent::Template { .. } => panic!("work of the wrong chain"),
        _ => None,
    });
    let node = Bitcoind::regtest(&["-testactivationheight=blake2b@1"]);
    let (mut events, _source) = Source::start(settings(&[(&node, None)])).unwrap();
    wait(&mut events, |event| match event {
        SourceEvent::Refused(reason) => {
            assert_eq!(reason, "this node follows a chain that is not mined with SHA-256d");
            Some(())
        }
        SourceEvent::Template { .. } => panic!("work of the wrong chain"),
        _ => None,
    });
}

#[test]
fn ch_02_b05_a_block_that_leaves_the_chain_and_comes_back_is_followed() {
    let node = Bitcoind::regtest(&[]);
    let ours = generate(&node, 1);
    let mut rpc = node.rpc(Purpose::Other);
    let mut chain = BestChain::default();
    let mut follow = |tip: BlockHash| {
        chain
            .update(tip, |hash| {
                let header = ask::header(&mut rpc, hash)?;
                let parent = header.previousblockhash.unwrap_or(hash);
                Ok::<_, template::bitcoind::rpc::RpcError>(Place { height: header.height, parent })
            })
            .map(|left| (left, chain.standing(ours, 1)))
            .unwrap()
    };
    let old_tip = generate(&node, 2);
    assert_eq!(follow(old_tip), (vec![], Standing::Confirmed(3)));
    let (mut events, _source) = Source::start(settings(&[(&node, None)])).unwrap();
    full_on(&mut events, old_tip);
    node.ask("invalidateblock", json!([ours]));
    // Another address, so that the new blocks are others.
    let other = "bcrt1qqyqszqgpqyqszqgpqyqszqgpqyqszqgpvxat9t";
    let rival = node.try_ask("generatetoaddress", json!([2, other])).unwrap();
    let rival = hash(rival.as_array().unwrap().last().unwrap());
    full_on(&mut events, rival);
    let (left, standing) = follow(rival);
    assert_eq!((left.len(), left[0], standing), (3, old_tip, Standing::Orphaned));
    node.ask("reconsiderblock", json!([ours]));
    full_on(&mut events, old_tip);
    let (left, standing) = follow(old_tip);
    assert_eq!((left.len(), standing), (2, Standing::Confirmed(3)));
}

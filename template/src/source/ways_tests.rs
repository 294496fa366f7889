//! Each of the three ways to the news, alone (GB-06): in every test here the other two are dead, so that none can
//! cover for another that is broken.

use super::*;
use crate::source::Source;
use zeromq::{Endpoint, Socket, SocketRecv, SocketSend, XPubSocket, ZmqMessage};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// What a keeper that serves work tells of a new tip.
fn news_of(tip: u32) -> [String; 3] {
    [format!("tip {tip}"), format!("empty work {}", tip + 1), format!("work {}", tip + 1)]
}

#[test]
fn gb_06_the_poll_alone_finds_a_new_tip() {
    // The loop runs; no announcements, and a long poll that is never answered.
    let says = Says { long_poll: false, ..Says::at(block(1), 100) };
    let (_node, script, settings) = stand_in(None, says);
    let (mut events, _source) = Source::start(settings).unwrap();
    let runtime = runtime();
    let mut next = || {
        let event = runtime.block_on(async { tokio::time::timeout(LONG, events.recv()).await });
        in_short(event.expect("an event in time").expect("the source runs"))
    };
    assert_eq!([(); 2].map(|()| next()), ["tip 100", "work 101"]);
    // From here on the long poll is the one that stays without an answer. What it has brought before may still
    // wait for the keeper and make it look once more, but not three times.
    script.wait_for_long_poll();
    for (height, seed) in [(101, 2), (102, 3), (103, 4)] {
        script.say(|now| *now = Says { long_poll: false, ..Says::at(block(seed), height) });
        assert_eq!([(); 3].map(|()| next()), news_of(height));
    }
}

#[test]
fn gb_06_the_long_poll_alone_tells_of_a_new_tip() {
    // The loop does not run, so nobody polls; no announcements.
    let mut desk = Desk::serving();
    desk.script.wait_for_long_poll();
    for (height, seed) in [(101, 2), (102, 3)] {
        desk.say(|says| *says = Says::at(block(seed), height));
        assert_eq!(desk.hear_long_poll(), news_of(height));
    }
}

#[test]
fn gb_06_the_long_poll_alone_brings_newer_work_on_the_same_tip() {
    let mut desk = Desk::serving();
    desk.script.wait_for_long_poll();
    desk.say(|says| {
        says.template["coinbasevalue"] = json!(4_000_000_000_u64);
        says.template["longpollid"] = json!("with other transactions");
    });
    assert_eq!(desk.hear_long_poll(), ["work 101"]);
    assert_eq!(desk.keeper.current.as_ref().unwrap().template.value(), 4_000_000_000);
}

#[test]
fn gb_06_an_announcement_alone_tells_of_a_new_tip() {
    // The loop does not run, so nobody polls; a long poll that is never answered.
    let runtime = runtime();
    let mut publisher = XPubSocket::new();
    let endpoint: Endpoint = runtime.block_on(publisher.bind("tcp://127.0.0.1:0")).unwrap();
    let says = Says { long_poll: false, ..Says::at(block(1), 100) };
    let mut desk = Desk::announced_at(Some(endpoint.to_string()), says);
    assert_eq!(desk.tick(), ["tip 100", "work 101"]);
    let subscription: ZmqMessage =
        runtime.block_on(async { tokio::time::timeout(LONG, publisher.recv()).await.unwrap().unwrap() });
    assert_eq!(subscription.get(0).unwrap().as_ref(), b"\x01hashblock");
    // Both say first what they have found; after that only an announcement can be heard.
    let mut first = [0; 2].map(|_| desk.woken.recv_timeout(LONG).unwrap());
    first.sort_by_key(|wake| matches!(wake, Wake::Block));
    assert!(matches!(first, [Wake::LongPoll(..), Wake::Block]));
    for wake in first {
        desk.keeper.heed(wake);
    }
    assert_eq!(desk.told(), [""; 0]);
    desk.script.wait_for_long_poll();
    for (height, seed) in [(101, 2), (102, 3)] {
        desk.say(|says| *says = Says { long_poll: false, ..Says::at(block(seed), height) });
        let frames = [&b"hashblock"[..], &[seed; 32], &[0; 4]].map(bytes::Bytes::copy_from_slice);
        runtime.block_on(publisher.send(frames.to_vec().try_into().unwrap())).unwrap();
        let wake = desk.woken.recv_timeout(LONG).expect("the announcement is heard");
        assert!(matches!(wake, Wake::Block));
        desk.keeper.heed(wake);
        assert_eq!(desk.told(), news_of(height));
    }
}

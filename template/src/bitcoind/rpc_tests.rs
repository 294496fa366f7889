use super::*;
use crate::bitcoind::stand_in::{Reply, StandIn};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn call(stand_in: &StandIn) -> Result<u64, RpcError> {
    Rpc::new(&stand_in.node, Purpose::Other).ask("getblockcount", &json!([]))
}

#[test]
fn gb_07_each_kind_of_failure_is_told_apart() {
    let words = || "its own words".to_owned();
    let cases = [
        (Reply::Error(-8, "its own words"), RpcError::InvalidParameter(words())),
        (Reply::Error(-9, "its own words"), RpcError::NotConnected(words())),
        (Reply::Error(-10, "its own words"), RpcError::InitialDownload(words())),
        (Reply::Error(-22, "its own words"), RpcError::Undecodable(words())),
        (Reply::Error(-28, "its own words"), RpcError::WarmingUp(words())),
        (Reply::Error(-5, "its own words"), RpcError::Node { code: -5, message: words() }),
        (Reply::Status(403, ""), RpcError::Forbidden),
        (
            Reply::Status(503, "Work queue depth exceeded"),
            RpcError::WorkQueueFull("Work queue depth exceeded".into()),
        ),
        (Reply::Status(404, "no"), RpcError::Http(404)),
        (Reply::Silence, RpcError::Timeout),
        (Reply::Cut, RpcError::Connection("answer was cut off".into())),
    ];
    for (reply, expected) in cases {
        let stand_in = StandIn::start(move |_, _| reply.clone());
        assert_eq!(call(&stand_in), Err(expected));
        assert_eq!(stand_in.calls.lock().unwrap().len(), 1, "a call is never repeated by itself");
    }
    let stand_in = StandIn::start(|_, _| Reply::Close);
    assert!(matches!(call(&stand_in), Err(RpcError::Connection(_))));
    let stand_in = StandIn::start(|_, _| Reply::Result("\"seven\"".into()));
    assert!(matches!(call(&stand_in), Err(RpcError::Answer(_))));
    let stand_in = StandIn::start(|_, _| Reply::Status(200, "{"));
    assert!(matches!(call(&stand_in), Err(RpcError::Answer(_))));
    let stand_in = StandIn::start(|_, _| Reply::Status(401, ""));
    assert_eq!(call(&stand_in), Err(RpcError::Unauthorized(stand_in.node.credentials.clone())));
    std::fs::remove_file(&stand_in.node.credentials).unwrap();
    assert!(matches!(call(&stand_in), Err(RpcError::Credentials { .. })));
}

#[test]
fn b02_a_new_cookie_is_read_when_the_old_one_is_refused() {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    let stand_in = StandIn::start(move |_, _| match seen.fetch_add(1, Ordering::SeqCst) {
        1 => Reply::Status(401, ""),
        _ => Reply::Result("7".into()),
    });
    let mut rpc = Rpc::new(&stand_in.node, Purpose::Other);
    assert_eq!(rpc.ask::<u64>("a", &json!([])), Ok(7));
    std::fs::write(&stand_in.node.credentials, "__cookie__:second").unwrap();
    assert_eq!(rpc.ask::<u64>("b", &json!([])), Ok(7));
    let calls = stand_in.calls.lock().unwrap();
    let (first, second) = ("Basic X19jb29raWVfXzpmaXJzdA==", "Basic X19jb29raWVfXzpzZWNvbmQ=");
    let expected = [(first, "a"), (first, "b"), (second, "b")];
    assert_eq!(calls.iter().map(|(a, m)| (a.as_str(), m.as_str())).collect::<Vec<_>>(), expected);
}

#[test]
fn a_call_in_flight_can_be_broken_off() {
    let (called, was_called) = std::sync::mpsc::sync_channel(1);
    let mut stand_in = StandIn::start(move |_, _| {
        called.send(()).unwrap();
        Reply::Silence
    });
    stand_in.node.timeouts.long_poll = Duration::from_secs(600);
    let mut rpc = Rpc::new(&stand_in.node, Purpose::LongPoll);
    let canceller = rpc.canceller();
    let thread = std::thread::spawn(move || rpc.ask::<u64>("getblocktemplate", &json!([])));
    was_called.recv().unwrap();
    canceller.cancel();
    assert_eq!(thread.join().unwrap(), Err(RpcError::Cancelled));
}

#[test]
fn a_login_is_never_printed() {
    let stand_in = StandIn::start(|_, _| Reply::Result("7".into()));
    let mut rpc = Rpc::new(&stand_in.node, Purpose::Other);
    rpc.ask::<u64>("a", &json!([])).unwrap();
    let printed = format!("{rpc:?}");
    assert!(printed.contains("<hidden>"), "{printed}");
    assert!(!printed.contains("first") && !printed.contains("X19jb29raWVf"), "{printed}");
}

#[test]
fn base64_as_in_its_rfc() {
    for (text, expected) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
    {
        assert_eq!(base64(text.as_bytes()), expected);
    }
}

use super::*;
use crate::bitcoind::rpc::Purpose;
use crate::bitcoind::stand_in::{Reply, StandIn};
use std::sync::{Arc, Mutex};

#[test]
fn gb_01_a_template_is_asked_for_with_the_rules_of_its_network_and_what_we_can_do() {
    let can = json!(["coinbasevalue", "longpoll", "proposal", "workid"]);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let node = StandIn::start(move |method, params| {
        log.lock().unwrap().push((method.to_owned(), params.clone()));
        Reply::Error(-10, "catching up")
    });
    let mut rpc = Rpc::new(&node.node, Purpose::Template);
    let cases = [
        (Network::Regtest, None, json!([{"rules": ["segwit"], "capabilities": can}])),
        (Network::Signet, None, json!([{"rules": ["segwit", "signet"], "capabilities": can}])),
        (
            Network::Regtest,
            Some("abc1"),
            json!([{"rules": ["segwit"], "capabilities": can, "longpollid": "abc1"}]),
        ),
    ];
    for (network, long_poll_id, expected) in cases {
        assert!(template(&mut rpc, network, long_poll_id).is_err());
        assert_eq!(asked.lock().unwrap().pop(), Some(("getblocktemplate".to_owned(), expected)));
    }
}

//! A payee that wants to be paid at another address signs that with the old one's key, and is.

use super::export::assert_same_from_a_file;
use serde_json::{Value, json};
use sluice_tests::support::miner::Miner;
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{Pool, PoolBuilder, address};
use sluice_tests::support::wait_for;

fn new_address(node: &Node, kind: &str) -> String {
    node.call("getnewaddress", &[json!(""), json!(kind)]).as_str().unwrap().to_owned()
}

fn signed(pool: &Pool, node: &Node, from: &str, to: &str) -> String {
    let message = pool.http(&format!("/pool/move?from={from}&to={to}")).unwrap();
    assert!(message.contains(from) && message.contains(to), "{message}");
    let signature = node.call("signmessage", &[json!(from), json!(message)]);
    json!({"from": from, "to": to, "signature": signature}).to_string()
}

/// Addresses in a list of the pool's pages.
fn addresses(pool: &Pool, page: &str, list: &str) -> Vec<String> {
    let page: Value = serde_json::from_str(&pool.http(page).unwrap()).unwrap_or_default();
    let lines = page[list].as_array().cloned().unwrap_or_default();
    lines.iter().filter_map(|line| line["address"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_payee_moves_by_the_signature_of_its_wallet_and_is_paid_there_for_what_it_did_before() {
    let node = Node::regtest();
    node.call("createwallet", &[json!("miners")]);
    let pool = PoolBuilder::new(&node)
        .set("payout.window", "\"300\"")
        .set("payout.min_payout_sats", "100000")
        .set("difficulty.pot_start", "-32")
        .start();
    // Each kind of address of one key, as the wallet signs for it (BIP 322).
    let kinds = ["bech32", "bech32m", "p2sh-segwit", "legacy"];
    let old: Vec<_> = kinds.iter().map(|kind| new_address(&node, kind)).collect();
    let new: Vec<_> = kinds.iter().map(|_| new_address(&node, "bech32m")).collect();
    let stranger = address(1, node.network);
    let mut miners: Vec<_> =
        old.iter().chain([&stranger]).map(|user| Miner::connect(pool.v1(), user, "cgminer/4.12.0")).collect();
    for miner in &mut miners {
        (0..3).for_each(|_| drop(miner.mine_accepted_share()));
    }

    let requests: Vec<_> = old.iter().zip(&new).map(|(from, to)| signed(&pool, &node, from, to)).collect();
    // To a thief, with the signature for the new address.
    let stolen = requests[0].replace(&new[0], &stranger);
    assert_eq!(pool.post("/pool/move", &stolen).0, 400);
    let unknown = new_address(&node, "bech32");
    let (status, reason) = pool.post("/pool/move", &signed(&pool, &node, &unknown, &new[0]));
    assert_eq!((status, reason.as_str()), (400, "the old address has no share in the log\n"));
    for request in &requests {
        let (status, answer) = pool.post("/pool/move", request);
        assert_eq!(status, 200, "{answer}");
    }
    let (status, reason) = pool.post("/pool/move", &requests[0]);
    assert!(status == 400 && reason.contains("has moved to another one already"), "{reason}");
    // Nobody has to sign for that.
    let question = format!("/pool/move?from={}&to={stranger}", old[0]);
    assert!(pool.http_head(&question).unwrap().starts_with("HTTP/1.1 400"));

    // A new template, or half a minute, and the work pays them there; the machines have not been touched.
    node.generate(1, &address(99, node.network));
    wait_for("work that pays the new addresses", || {
        let paid = addresses(&pool, "/pool/plan", "outputs");
        (new.iter().all(|to| paid.contains(to)) && !old.iter().any(|from| paid.contains(from))).then_some(())
    });
    for miner in &mut miners {
        miner.catch_up();
        miner.mine_accepted_share();
    }
    let weighed = addresses(&pool, "/pool/window", "payees");
    assert!(new.iter().all(|to| weighed.contains(to)) && weighed.len() == 5, "{weighed:?}");
    wait_for("a block that pays them", || {
        miners[0].catch_up();
        (miners[0].mine_block().1["result"] == true).then_some(())
    });

    // After a restart it is the same.
    let pool = pool.kill().start();
    Miner::connect(pool.v1(), &old[1], "cgminer/4.12.0").mine_accepted_share();
    let (status, folder) = pool.stop();
    assert!(status.success());
    let answer = assert_same_from_a_file(&folder.data_dir().join("log"));
    assert_eq!((&answer["proven"], &answer["payees_moved"]), (&json!(true), &json!(4)), "{answer:#}");
}

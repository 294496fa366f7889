//! Jobs and their ids: what stays known, and for how long.

use super::*;
use crate::ring::JOBS_MAX;

#[test]
fn m14_only_the_exact_id_of_a_live_job_is_known() {
    let mut peer = Peer::mining();
    peer.work(&body_on(1));
    peer.actions.clear();
    for alias in [
        "",
        "0",
        "6f",
        "beef",
        "070",
        "+70",
        "0x70",
        " 70",
        "70 ",
        "7G",
        "ffffffffffffffff",
        "10000000000000070",
        "-1",
    ] {
        let mut params = share();
        params[1] = alias.into();
        assert_eq!(peer.refused("mining.submit", params).0, 21, "{alias}");
    }
    for known in ["70", "71"] {
        let mut params = share();
        params[1] = known.into();
        peer.submit(params);
    }
}

#[test]
fn v1_28_job_ids_are_never_reused_and_count_up_from_the_seed() {
    let mut peer = Peer::mining();
    let mut ids = std::collections::HashSet::from(["70".to_owned()]);
    for _ in 0..100 {
        peer.work(&body_on(1));
        let lines = peer.heard();
        assert!(ids.insert(lines[0]["params"][0].as_str().unwrap().to_owned()));
    }
}

#[test]
fn the_job_ring_keeps_thirty_two_and_drops_dead_parents() {
    let mut peer = Peer::mining();
    for _ in 1..JOBS_MAX {
        peer.work(&body_on(1));
    }
    peer.actions.clear();
    peer.accept(share());
    peer.work(&body_on(1));
    peer.actions.clear();
    assert_eq!(peer.refused("mining.submit", share()).0, 21);

    let mut peer = Peer::mining();
    peer.work(&body_on(2));
    peer.actions.clear();
    peer.now += seconds(120);
    peer.work(&body_on(2));
    peer.actions.clear();
    // A block for the previous parent would still be found; the judge calls the share stale.
    assert_eq!(peer.accept(share()).job.body.prev_hash, sample::prev_hash(1));
    peer.now += seconds(1);
    peer.work(&body_on(2));
    peer.actions.clear();
    assert_eq!(peer.refused("mining.submit", share()).0, 21);
}

#[test]
fn a_superseded_job_of_the_same_parent_stays_for_its_blocks() {
    let mut peer = Peer::mining();
    peer.work(&body_on(1));
    let superseded = peer.now;
    peer.now += seconds(600);
    peer.work(&body_on(1));
    peer.actions.clear();
    let (_, share) = peer.submit(share());
    assert_eq!(share.job.superseded_at, Some(superseded));
}

#[test]
fn v1_27_clean_jobs_means_a_new_parent_or_the_first_job_or_the_end_of_solo_work() {
    let mut peer = Peer::fresh();
    peer.ask("mining.subscribe", json!([]));
    peer.ask("mining.authorize", json!([ADDRESS]));
    let solo = |parent| {
        let mut body = sample::body(HARD_NBITS);
        body.prev_hash = sample::prev_hash(parent);
        let script = sample::payee().script.clone();
        body.payout = Arc::new(crate::job::Payout {
            outputs: Vec::new(),
            basis: crate::job::Basis::Solo { script, log_size: 0 },
        });
        sample::encoded(body)
    };
    for (encoded, clean) in [
        (solo(1), true),
        (solo(1), false),
        (body_on(1), true),
        (body_on(1), false),
        (body_on(2), true),
        (body_on(2), false),
        (body_on(1), true),
        (solo(1), true),
    ] {
        peer.work(&encoded);
        let lines = peer.heard();
        assert_eq!(lines.last().unwrap()["params"][8], clean);
    }
}

#[test]
fn cb_13_neither_another_address_nor_another_branch_rewrites_a_job_that_was_sent() {
    let mut peer = Peer::fresh();
    peer.ask("mining.subscribe", json!([]));
    peer.ask("mining.authorize", json!([user()]));
    let first = body_on(1);
    peer.work(&first);
    let sent = peer.heard();
    let coinbase_before = peer.accept(share()).job.body.coinbase.clone();
    assert_eq!(peer.refused("mining.authorize", json!([OTHER_ADDRESS])).0, 24);
    // Another branch of the chain, whose plan pays somebody else, and back to the first one.
    let mut body = sample::body(HARD_NBITS);
    body.prev_hash = sample::prev_hash(2);
    body.coinbase = sample::coinbase(sample::prev_hash(3).to_string().into_bytes().into());
    peer.work(&sample::encoded(body));
    peer.work(&body_on(1));
    peer.actions.clear();
    let (_, share) = peer.submit(share());
    assert!(Arc::ptr_eq(&share.job.body, first.body()));
    assert_eq!(share.job.body.coinbase, coinbase_before);
    // What is judged is what was sent.
    let notify = sent.last().unwrap();
    let coinb2 = notify["params"][3].as_str().unwrap();
    let tail: String = coinbase_before.tail().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(coinb2, tail);
}

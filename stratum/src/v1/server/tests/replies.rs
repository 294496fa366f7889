//! Replies: their order, and the code of each reject.

use super::*;

#[test]
fn i14_replies_leave_in_request_order_and_jobs_do_not_wait() {
    let mut peer = Peer::mining();
    let (first, _) = peer.submit(share());
    peer.say(json!({"id": 10, "method": "mining.ping"}));
    peer.say(json!({"id": 11, "method": "mining.submit", "params": []}));
    peer.work(&body_on(2));
    assert_eq!(methods(&peer.heard()), ["mining.notify"]);
    peer.answer(first, Err(Reject::AccountingUnavailable));
    let ids: Vec<_> = peer.heard().iter().map(|line| line["id"].clone()).collect();
    assert_eq!(ids, [9, 10, 11]);
}

#[test]
#[should_panic(expected = "answered once")]
fn a_ticket_cannot_be_answered_twice() {
    let mut peer = Peer::mining();
    let (ticket, _) = peer.submit(share());
    peer.answer(ticket, Ok(()));
    peer.answer(ticket, Ok(()));
}

#[test]
fn v1_40_every_reject_has_its_code_on_the_wire() {
    for (reject, code) in [
        (Reject::Malformed("x"), 20),
        (Reject::BadVersionBits, 20),
        (Reject::BadExtranonceSize, 20),
        (Reject::RefusedUpstream, 20),
        (Reject::LostUpstream, 20),
        (Reject::BadNtime, 20),
        (Reject::DuplicateSetFull, 20),
        (Reject::AccountingUnavailable, 20),
        (Reject::UnknownJob, 21),
        (Reject::Stale, 21),
        (Reject::Duplicate, 22),
        (Reject::LowDifficulty, 23),
        (Reject::Unauthorized, 24),
        (Reject::NotSubscribed, 25),
    ] {
        let mut peer = Peer::mining();
        let (ticket, _) = peer.submit(share());
        peer.answer(ticket, Err(reject));
        assert_eq!(peer.heard()[0]["error"], json!([code, reject.to_string(), null]));
    }
}

//! Answers to shares: errors at once, successes together.

use super::*;

fn hold(kind: Kind, count: usize) -> (Peer, Machine, Vec<Ticket>) {
    let (mut peer, mut machine) = Peer::mining(kind);
    let tickets = held(&mut peer, &mut machine, count);
    (peer, machine, tickets)
}

fn held(peer: &mut Peer, machine: &mut Machine, count: usize) -> Vec<Ticket> {
    peer.hold = true;
    for _ in 0..count {
        let roll = machine.hit();
        let submit = machine.submit(&roll);
        peer.say(submit);
    }
    assert_eq!(peer.heard(), []);
    peer.held.drain(..).map(|(ticket, _)| ticket).collect()
}

fn success(channel_id: u32, last: u32, count: u32, sum: u64) -> Message {
    SubmitSharesSuccess {
        channel_id,
        last_sequence_number: last,
        new_submits_accepted_count: count,
        new_shares_sum: sum,
    }
    .into()
}

#[test]
fn mn_24_what_became_durable_is_acknowledged_together_and_counted_once() {
    for kind in KINDS {
        let (mut peer, machine, tickets) = hold(kind, 7);
        let id = machine.channel;
        peer.answer(tickets[0], Ok(pot(3)));
        peer.answer(tickets[1], Ok(pot(3)));
        peer.answer(tickets[2], Ok(pot(5)));
        assert_eq!(peer.heard(), []);
        peer.flush();
        assert_eq!(peer.heard(), [success(id, 3, 3, 48)]);
        peer.flush();
        assert_eq!(peer.heard(), []);
        peer.answer(tickets[3], Ok(pot(0)));
        peer.flush();
        assert_eq!(peer.heard(), [success(id, 4, 1, 1)], "the counters restart");
        // Halves make a whole, and what is less than a whole is not carried over.
        peer.answer(tickets[4], Ok(pot(-1)));
        peer.answer(tickets[5], Ok(pot(-1)));
        peer.flush();
        peer.answer(tickets[6], Ok(pot(-1)));
        peer.flush();
        assert_eq!(peer.heard(), [success(id, 6, 2, 1), success(id, 7, 1, 0)]);
    }
}

#[test]
fn mn_24_each_channel_gets_one_success_per_flush() {
    let (mut peer, mut first) = Peer::mining(Kind::Standard);
    let mut second = peer.opened(Kind::Extended);
    let tickets =
        [held(&mut peer, &mut first, 2), held(&mut peer, &mut second, 1), held(&mut peer, &mut first, 1)]
            .concat();
    tickets.into_iter().for_each(|ticket| peer.answer(ticket, Ok(pot(0))));
    peer.flush();
    assert_eq!(peer.heard(), [success(first.channel, 3, 3, 3), success(second.channel, 1, 1, 1)]);
}

#[test]
fn mn_24_a_sum_beyond_64_bits_is_the_largest_there_is() {
    let (mut peer, machine, tickets) = hold(Kind::Standard, 2);
    peer.answer(tickets[0], Ok(Pot::MAX));
    peer.answer(tickets[1], Ok(Pot::MAX));
    peer.flush();
    assert_eq!(peer.heard(), [success(machine.channel, 2, 2, u64::MAX)]);
}

#[test]
fn mn_26_a_bad_share_is_refused_at_once_and_the_good_ones_around_it_are_still_counted() {
    let (mut peer, machine, tickets) = hold(Kind::Extended, 3);
    peer.answer(tickets[0], Ok(pot(0)));
    peer.answer(tickets[1], Err(Reject::LowDifficulty));
    let error = SubmitSharesError {
        channel_id: machine.channel,
        sequence_number: 2,
        error_code: text("difficulty-too-low"),
    };
    assert_eq!(peer.heard(), [error.into()], "before any flush");
    peer.answer(tickets[2], Ok(pot(0)));
    peer.flush();
    assert_eq!(peer.heard(), [success(machine.channel, 3, 2, 2)]);
}

#[test]
fn every_reject_has_its_code() {
    for reject in Reject::ALL {
        let expected = match reject {
            Reject::UnknownJob => "invalid-job-id",
            Reject::Stale => "stale-share",
            Reject::Duplicate => "duplicate-share",
            Reject::LowDifficulty => "difficulty-too-low",
            Reject::BadVersionBits => "invalid-non-rollable-version-bit",
            Reject::BadExtranonceSize => "bad-extranonce-size",
            Reject::AccountingUnavailable => "accounting-unavailable",
            Reject::DuplicateSetFull => "too-many-shares",
            Reject::RefusedUpstream
            | Reject::LostUpstream
            | Reject::Malformed(_)
            | Reject::Unauthorized
            | Reject::NotSubscribed
            | Reject::BadNtime => "invalid-share",
        };
        let (mut peer, machine, tickets) = hold(Kind::Standard, 1);
        peer.answer(tickets[0], Err(reject));
        let error =
            SubmitSharesError { channel_id: machine.channel, sequence_number: 1, error_code: text(expected) };
        assert_eq!(peer.heard(), [error.into()]);
    }
}

#[test]
fn mn_25_sequence_numbers_may_stand_still_or_fall() {
    let (mut peer, mut machine) = Peer::mining(Kind::Standard);
    for sequence in [5, 5, 3, u32::MAX, 0] {
        machine.sequence = sequence;
        let roll = machine.hit();
        let submit = machine.submit_as(Kind::Standard, sequence, &roll);
        assert_eq!(peer.ask(submit), success(machine.channel, sequence, 1, 0));
    }
}

#[test]
fn shares_for_no_channel_are_refused_and_too_many_of_them_close() {
    let (mut peer, mut stranger) = Peer::mining(Kind::Standard);
    stranger.channel = NOBODY;
    let roll = stranger.hit();
    let mut refused = 0;
    let fault = loop {
        let submit = stranger.submit(&roll);
        let said = peer.try_say(submit);
        assert_eq!(names(&peer.heard()), ["SubmitSharesError"], "the last one too");
        match said {
            Ok(()) => refused += 1,
            Err(fault) => break fault,
        }
    };
    assert_eq!((refused, fault.label()), (16, "misbehaved"));
}

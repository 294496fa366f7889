//! Which extensions are used, and what ours says.

use super::*;
use crate::v2::codec::Seq64K;
use crate::v2::extension::Receipts;
use crate::v2::message::negotiation::{RequestExtensionsError, RequestExtensionsSuccess};

/// Worker names behind shares, which we do not have.
const WORKERS: u16 = 0x0002;

fn offered() -> Settings {
    Settings { receipts: true, ..settings() }
}

fn numbers(numbers: &[u16]) -> Seq64K<u16> {
    Seq64K::new(numbers.to_vec()).unwrap()
}

fn frame(message: &impl Wire) -> Vec<u8> {
    let mut frame = Vec::new();
    write_frame(message, &mut frame);
    frame
}

/// The frame of a request.
fn request(extensions: &[u16]) -> Vec<u8> {
    frame(&RequestExtensions { request_id: 7, requested_extensions: numbers(extensions) })
}

fn success(extensions: &[u16]) -> Vec<u8> {
    frame(&RequestExtensionsSuccess { request_id: 7, supported_extensions: numbers(extensions) })
}

fn error(extensions: &[u16]) -> Vec<u8> {
    let (unsupported_extensions, required_extensions) = (numbers(extensions), numbers(&[]));
    frame(&RequestExtensionsError { request_id: 7, unsupported_extensions, required_extensions })
}

fn ask(peer: &mut Peer, extensions: &[u16]) -> Result<(), Fault> {
    let sealed = peer.sealed_frame(&request(extensions));
    peer.raw(&sealed)
}

/// Says what is accepted by its header, and takes what was sent beyond the table.
fn heard_beyond(peer: &mut Peer) -> Vec<Vec<u8>> {
    assert_eq!(peer.heard(), []);
    std::mem::take(&mut peer.beyond).iter().map(|frame| frame.to_vec()).collect()
}

/// A connection whose client is told where its shares are.
fn agreed() -> Peer {
    let mut peer = Peer::ready(offered());
    ask(&mut peer, &[RECEIPTS]).unwrap();
    assert_eq!(heard_beyond(&mut peer), [success(&[RECEIPTS])]);
    peer
}

/// Shares that wait to be answered.
fn held(peer: &mut Peer, machine: &mut Machine, count: usize) -> Vec<Ticket> {
    peer.hold = true;
    for _ in 0..count {
        let roll = machine.hit();
        let submit = machine.submit(&roll);
        peer.say(submit);
    }
    peer.held.drain(..).map(|(ticket, _)| ticket).collect()
}

/// The acknowledgements that were sent, and where they say that the shares are.
fn acknowledged(peer: &mut Peer) -> Vec<(u32, u32, Receipts)> {
    let read = |frame: Vec<u8>| {
        let header = Header::from_bytes(*frame.first_chunk().unwrap());
        let (msg_type, payload_bytes) = (SubmitSharesSuccess::TYPE, 20 + 17);
        // FR-09: the base message's, but for its length.
        assert_eq!(header, Header { extension_type: CORE, channel: true, msg_type, payload_bytes });
        assert_eq!(frame.len(), HEADER_BYTES + payload_bytes);
        let (own, behind) = frame[HEADER_BYTES..].split_at(SubmitSharesSuccess::PAYLOAD_BYTES_MAX);
        let success = SubmitSharesSuccess::decode(own).unwrap();
        let receipts = Receipts::find(behind).unwrap().expect("ours");
        (success.channel_id, success.new_submits_accepted_count, receipts)
    };
    heard_beyond(peer).into_iter().map(read).collect()
}

#[test]
fn ex_03_those_that_we_have_are_agreed_to_and_if_there_are_none_that_is_an_error() {
    let all = [NEGOTIATION, RECEIPTS];
    for (asked, answer) in [
        (&[RECEIPTS][..], success(&[RECEIPTS])),
        (&[WORKERS, RECEIPTS, 0x7fff], success(&[RECEIPTS])),
        (&[RECEIPTS, NEGOTIATION, RECEIPTS], success(&all)),
        (&[NEGOTIATION], success(&[NEGOTIATION])),
        (&[WORKERS], error(&[WORKERS])),
        (&[WORKERS, 0, WORKERS], error(&[WORKERS, 0, WORKERS])),
        (&[], error(&[])),
    ] {
        let mut peer = Peer::ready(offered());
        ask(&mut peer, asked).unwrap();
        assert_eq!(heard_beyond(&mut peer), [answer], "{asked:x?}");
    }
}

#[test]
fn ex_01_a_request_and_its_answers_are_written_as_the_specification_says() {
    assert_eq!(request(&[2, RECEIPTS]), [1, 0, 0, 8, 0, 0, 7, 0, 2, 0, 2, 0, 0x52, 0x53]);
    assert_eq!(success(&[RECEIPTS]), [1, 0, 1, 6, 0, 0, 7, 0, 1, 0, 0x52, 0x53]);
    assert_eq!(error(&[2]), [1, 0, 2, 8, 0, 0, 7, 0, 1, 0, 2, 0, 0, 0]);
}

#[test]
fn fr_04_who_offers_nothing_passes_over_the_question_and_says_nothing_new() {
    let mut peer = Peer::ready(settings());
    for count in [0, 1, 65, 643] {
        ask(&mut peer, &vec![RECEIPTS; count]).unwrap();
    }
    let mut machine = peer.opened(Kind::Standard);
    let roll = machine.hit();
    peer.accepted(&mut machine, &roll);
    assert!(peer.beyond.is_empty());
}

#[test]
fn cm_01_a_request_before_the_setup_closes_whatever_is_offered() {
    let mut peer = Peer::new(offered());
    assert_eq!(ask(&mut peer, &[RECEIPTS]), Err(Fault::Misbehaved("an extension before SetupConnection")));
    assert!(peer.beyond.is_empty());
}

#[test]
fn fr_12_sixty_four_extensions_are_answered_and_more_close_before_they_are_read() {
    let mut peer = Peer::ready(offered());
    let mut most = vec![WORKERS; EXTENSIONS_MAX];
    ask(&mut peer, &most).unwrap();
    assert_eq!(heard_beyond(&mut peer), [error(&most)]);
    most.push(RECEIPTS);
    let sealed = peer.sealed_frame(&request(&most)[..HEADER_BYTES]);
    assert_eq!(peer.raw(&sealed), Err(Fault::Malformed("payload is longer than its message allows")));
}

#[test]
fn n03_a_request_that_ends_early_closes_unanswered() {
    let whole = request(&[RECEIPTS, WORKERS]);
    let header = Header::from_bytes(*whole.first_chunk().unwrap());
    for payload_bytes in 0..header.payload_bytes {
        let mut peer = Peer::ready(offered());
        let payload = &whole[HEADER_BYTES..HEADER_BYTES + payload_bytes];
        let said = peer.frame(Header { payload_bytes, ..header }, payload);
        assert_eq!(said, Err(Fault::Malformed("payload ends early")), "{payload_bytes}");
        assert!(peer.beyond.is_empty());
    }
}

#[test]
fn fr_07_fr_11_what_a_client_does_not_say_in_the_negotiation_closes() {
    let header =
        |msg_type, channel| Header { extension_type: NEGOTIATION, channel, msg_type, payload_bytes: 4 };
    for (header, fault) in [
        (header(0, true), Fault::Malformed("wrong channel bit")),
        (header(1, false), Fault::Misbehaved("RequestExtensionsSuccess")),
        (header(2, false), Fault::Misbehaved("RequestExtensionsError")),
        (header(3, false), Fault::Malformed("unknown message type")),
        (header(0xff, true), Fault::Malformed("unknown message type")),
    ] {
        let mut peer = Peer::ready(offered());
        assert_eq!(peer.frame(header, &[0; 4]), Err(fault), "{header:?}");
    }
}

#[test]
fn fr_04_other_extensions_stay_unknown_and_ours_has_no_messages() {
    let mut peer = agreed();
    for extension_type in [WORKERS, RECEIPTS, 0x7fff] {
        for channel in [false, true] {
            let header = Header { extension_type, channel, msg_type: 0x1c, payload_bytes: 1_291 };
            peer.frame(header, &[7; 1_291]).unwrap();
        }
    }
    assert_eq!(heard_beyond(&mut peer), Vec::<Vec<u8>>::new());
}

#[test]
fn fr_09_fr_14_an_acknowledgement_says_from_which_entry_to_which_its_shares_are() {
    let mut peer = agreed();
    let mut machines = [peer.opened(Kind::Standard), peer.opened(Kind::Extended)];
    let [standard, extended] = &mut machines;
    let tickets = [held(&mut peer, standard, 3), held(&mut peer, extended, 2)].concat();
    // In the log there are others between them: 10 and 14 of one channel, 11 and 12 of the other.
    for (entry, ticket) in [(10, 0), (11, 3), (12, 4), (14, 1)] {
        peer.log_size = entry;
        peer.answer(tickets[ticket], Ok(pot(0)));
    }
    peer.flush();
    let [first, second] = machines.map(|machine| machine.channel);
    let at = |first, count| Receipts { first, count };
    assert_eq!(acknowledged(&mut peer), [(first, 2, at(10, 5)), (second, 2, at(11, 2))]);
    // Each acknowledgement starts anew.
    peer.log_size = 1 << 40;
    peer.answer(tickets[2], Ok(pot(0)));
    peer.flush();
    assert_eq!(acknowledged(&mut peer), [(first, 1, at(1 << 40, 1))]);
}

#[test]
fn ex_05_nothing_is_behind_an_acknowledgement_unless_the_last_answer_agreed_to_it() {
    let mut peer = Peer::ready(offered());
    let mut machine = peer.opened(Kind::Extended);
    for (asked, told) in [
        (None, false),
        (Some(&[WORKERS][..]), false),
        (Some(&[RECEIPTS]), true),
        (None, true),
        (Some(&[WORKERS, RECEIPTS]), true),
        (Some(&[NEGOTIATION]), false),
        (Some(&[RECEIPTS]), true),
        (Some(&[]), false),
    ] {
        if let Some(asked) = asked {
            ask(&mut peer, asked).unwrap();
            heard_beyond(&mut peer);
        }
        let ticket = held(&mut peer, &mut machine, 1)[0];
        peer.answer(ticket, Ok(pot(0)));
        peer.flush();
        let plain = names(&std::mem::take(&mut peer.heard));
        assert_eq!(plain == ["SubmitSharesSuccess"], !told, "{asked:x?}");
        assert_eq!(acknowledged(&mut peer).len(), usize::from(told), "{asked:x?}");
    }
}

#[test]
fn where_there_is_no_log_an_acknowledgement_says_nothing_of_one() {
    let mut peer = agreed();
    let mut machine = peer.opened(Kind::Standard);
    let ticket = held(&mut peer, &mut machine, 1)[0];
    let mut actions = Vec::new();
    peer.session.answer(ticket, Ok(Booked { pot: pot(0), entry: None }), &mut actions);
    peer.session.flush(&mut actions);
    peer.act(actions);
    assert_eq!(names(&peer.heard()), ["SubmitSharesSuccess"]);
}

#[test]
fn n03_requests_without_end_close_and_each_is_answered() {
    let mut peer = Peer::ready(offered());
    let mut asked = 0;
    let fault = loop {
        asked += 1;
        let said = ask(&mut peer, &[RECEIPTS]);
        assert_eq!(heard_beyond(&mut peer), [success(&[RECEIPTS])]);
        if let Err(fault) = said {
            break fault;
        }
    };
    assert_eq!((asked, fault), (17, Fault::Misbehaved("too many bad messages")));
}

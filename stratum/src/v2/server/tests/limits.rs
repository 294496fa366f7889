//! Deadlines, quotas and memory.

use super::*;
use crate::ring::JOBS_MAX;

#[test]
fn n04_cm_11_setup_and_the_first_channel_have_their_time() {
    let mut peer = Peer::new(settings());
    assert_eq!(peer.session.deadline(), peer.started + seconds(5));
    peer.now += Duration::from_millis(4_999);
    assert_eq!(peer.tick(), Ok(()));
    // Bytes that come one by one are no reason to wait longer.
    let sealed = peer.sealed(&setup().into());
    peer.raw(&sealed[..sealed.len() - 1]).unwrap();
    peer.now += Duration::from_millis(1);
    assert_eq!(peer.tick(), Err(Fault::TimedOut(Awaited::Setup)));

    let mut peer = Peer::ready(settings());
    assert_eq!(peer.session.deadline(), peer.started + seconds(15));
    // A refused request is no channel.
    peer.ask(OpenStandardMiningChannel { user_identity: text(""), ..standard() });
    peer.now += seconds(15);
    assert_eq!(peer.tick(), Err(Fault::TimedOut(Awaited::Channel)));
}

/// Ticks whenever it is due, until `end` or a fault.
fn wait(peer: &mut Peer, until: Duration) -> Result<(), Fault> {
    let end = peer.now + until;
    while peer.session.deadline() <= end {
        peer.now = peer.now.max(peer.session.deadline());
        peer.tick()?;
        assert!(peer.session.deadline() > peer.now, "no busy loop");
    }
    peer.now = end;
    peer.tick()
}

const IDLE: Duration = Duration::from_secs(15 * 60);

#[test]
fn n04_machines_that_send_no_share_are_closed() {
    let mut peer = Peer::ready(wide());
    let mut machine = peer.open(open_with(Kind::Extended, 1e12));
    wait(&mut peer, IDLE - seconds(1)).unwrap();
    peer.heard().iter().for_each(|message| machine.hear(message));
    let roll = machine.roll(machine.newest().id);
    let submit = machine.submit(&roll);
    peer.say(submit);
    wait(&mut peer, IDLE - seconds(1)).unwrap();
    assert_eq!(wait(&mut peer, seconds(1)), Err(Fault::TimedOut(Awaited::Share)));
}

#[test]
fn n04_mn_08_a_proxy_without_machines_is_not_closed_for_its_silence() {
    let mut peer = Peer::ready(wide());
    peer.opened(Kind::Extended);
    peer.opened(Kind::Standard);
    wait(&mut peer, 100 * IDLE).unwrap();
    peer.heard();
    // One with machines is waited for, from now on.
    let machine = peer.open(open_with(Kind::Extended, 1e12));
    wait(&mut peer, IDLE - seconds(1)).unwrap();
    peer.say(close(machine.channel));
    wait(&mut peer, 100 * IDLE).unwrap();
}

#[test]
fn n04_mn_08_machines_that_come_late_get_their_time() {
    let mut peer = Peer::ready(wide());
    let machine = peer.opened(Kind::Extended);
    wait(&mut peer, 10 * IDLE).unwrap();
    peer.say(update(machine.channel, 1e12, any_target()));
    wait(&mut peer, IDLE - seconds(1)).unwrap();
    assert_eq!(wait(&mut peer, seconds(1)), Err(Fault::TimedOut(Awaited::Share)));
}

#[test]
fn n04_a_connection_whose_last_channel_was_closed_has_time_to_open_another() {
    let mut peer = Peer::ready(wide());
    let machine = peer.opened(Kind::Extended);
    wait(&mut peer, 10 * IDLE).unwrap();
    peer.say(close(machine.channel));
    wait(&mut peer, IDLE - seconds(1)).unwrap();
    assert_eq!(wait(&mut peer, seconds(1)), Err(Fault::TimedOut(Awaited::Share)));
}

#[test]
fn n04_words_without_shares_do_not_keep_machines_alive() {
    let mut peer = Peer::ready(wide());
    let machine = peer.open(open_with(Kind::Extended, 1e12));
    for _ in 0..3 {
        wait(&mut peer, IDLE / 4).unwrap();
        peer.say(update(machine.channel, 1e12, any_target()));
        peer.say(close(NOBODY));
    }
    assert_eq!(wait(&mut peer, IDLE / 4), Err(Fault::TimedOut(Awaited::Share)));
}

#[test]
fn n09_a_connection_has_1024_channels_at_most_however_it_asks() {
    let mut peer = Peer::ready(settings());
    let mut stream = Vec::new();
    for _ in 0..CHANNELS_MAX + 3 {
        let request = standard().into();
        stream.extend(peer.sealed(&request));
    }
    // All in one read.
    peer.raw(&stream).unwrap();
    let heard = peer.heard();
    let count = |name| heard.iter().filter(|message| message.name() == name).count();
    assert_eq!(count("OpenStandardMiningChannelSuccess"), 1_024);
    assert_eq!(count("OpenMiningChannelError"), 3);
    assert_eq!(peer.session.prefixes().count(), 1_024);
    match peer.ask(standard()) {
        Message::OpenMiningChannelError(error) => {
            assert_eq!(error.error_code.to_string(), "too-many-channels");
        }
        other => panic!("{other:?}"),
    }
    peer.say(close(FIRST));
    peer.opened(Kind::Extended);
}

#[test]
fn n09_a_session_and_a_channel_take_as_many_bytes_as_stated() {
    assert!(size_of::<Session>() <= 320, "{}", size_of::<Session>());
    // A channel, its ring of jobs and its payee.
    let (channel, ring) = (size_of::<Channel>(), JOBS_MAX * size_of::<crate::ring::Sent>());
    assert!(channel <= 384, "{channel}");
    assert_eq!(ring, 1_536);
    assert!(CHANNELS_MAX * (channel + ring + 256) <= 2_300_000);
}

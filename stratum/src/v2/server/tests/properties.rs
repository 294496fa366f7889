//! Properties that hold for any input.

use super::*;
use std::collections::{HashMap, HashSet};

/// A conversation of everything a client may say.
fn conversation(peer: &mut Peer, machine: &mut Machine) -> Vec<u8> {
    let mut messages: Vec<Message> = vec![open(Kind::Standard), update(FIRST, 1e6, any_target()).into()];
    // A guess at the id of a channel that is asked for in the same breath.
    messages.extend([open(Kind::Extended), close(machine.channel + 2).into()]);
    for at in 0..12 {
        let roll = if at % 3 == 0 { machine.miss() } else { machine.hit() };
        messages.push(machine.submit(&roll));
    }
    messages.push(close(FIRST).into());
    messages.push(OpenExtendedMiningChannel { min_extranonce_size: 40, ..extended() }.into());
    let mut stream: Vec<u8> = messages.iter().flat_map(|message| peer.sealed(message)).collect();
    let header = Header { extension_type: 1, channel: false, msg_type: 0, payload_bytes: 0 };
    stream.extend(peer.sealed_frame(&header.to_bytes()));
    let roll = machine.hit();
    stream.extend(peer.sealed(&machine.submit_as(Kind::Extended, 99, &roll)));
    stream
}

/// One step of a client that does what comes to its mind.
#[derive(Debug, Clone)]
enum Step {
    Open(bool, f32, u16),
    Update(u8, f32, i8),
    Close(u8),
    CloseGroup(u32),
    Submit {
        channel: u8,
        job: u8,
        hit: bool,
        wrong_kind: bool,
        extranonce: Option<u8>,
        version: u32,
        late: i32,
    },
    Again(u8),
    Work(u8, bool),
    Pass(u32),
    Answer(u8),
    Flush,
    Extension(bool, u8),
}

fn rate() -> impl Strategy<Value = f32> {
    prop_oneof![Just(0.0), Just(1e3), Just(1e12), Just(f32::NAN), Just(-1.0), any::<f32>()]
}

fn step() -> impl Strategy<Value = Step> {
    let submit = (
        0_u8..6,
        any::<u8>(),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.05),
        prop::option::weighted(0.1, 0_u8..=32),
        prop_oneof![8 => Just(0), 1 => any::<u32>()],
        prop_oneof![8 => Just(0), 1 => any::<i32>()],
    );
    prop_oneof![
        3 => (any::<bool>(), rate(), 0_u16..15).prop_map(|(kind, rate, size)| Step::Open(kind, rate, size)),
        2 => (0_u8..6, rate(), -32_i8..60).prop_map(|(channel, rate, limit)| Step::Update(channel, rate, limit)),
        2 => (0_u8..7).prop_map(Step::Close),
        1 => (GROUP..=GROUPS).prop_map(Step::CloseGroup),
        10 => submit.prop_map(|(channel, job, hit, wrong_kind, extranonce, version, late)| Step::Submit {
            channel, job, hit, wrong_kind, extranonce, version, late
        }),
        3 => any::<u8>().prop_map(Step::Again),
        2 => (1_u8..4, any::<bool>()).prop_map(|(parent, easy)| Step::Work(parent, easy)),
        2 => (0_u32..40_000).prop_map(Step::Pass),
        4 => any::<u8>().prop_map(Step::Answer),
        2 => Just(Step::Flush),
        1 => (any::<bool>(), 0_u8..20).prop_map(|(channel, size)| Step::Extension(channel, size)),
    ]
}

/// What the client knows.
#[derive(Default)]
struct Client {
    machines: Vec<Machine>,
    closed: HashSet<u32>,
    /// Shares that were neither refused nor counted, by channel.
    open: HashMap<u32, HashSet<u32>>,
    sequence: u32,
    submits: Vec<Message>,
}

impl Client {
    fn machine(&mut self, which: u8) -> Option<&mut Machine> {
        let count = self.machines.len();
        (count > 0).then(|| &mut self.machines[usize::from(which) % count])
    }

    fn read(&mut self, heard: Vec<Message>) {
        for message in heard {
            let of_channel = match &message {
                Message::OpenStandardMiningChannelSuccess(_)
                | Message::OpenExtendedMiningChannelSuccess(_) => {
                    let machine = Machine::new(&message);
                    assert!(self.machines.iter().all(|known| known.channel != machine.channel));
                    self.machines.push(machine);
                    continue;
                }
                Message::SubmitSharesError(error) => {
                    let open = self.open.entry(error.channel_id).or_default();
                    assert!(open.remove(&error.sequence_number), "{error:?} answers nothing");
                    // Whoever asks about a closed channel is told that there is none.
                    assert!(
                        !self.closed.contains(&error.channel_id)
                            || error.error_code.to_string() == "invalid-channel-id"
                    );
                    continue;
                }
                Message::SubmitSharesSuccess(success) => {
                    let open = self.open.entry(success.channel_id).or_default();
                    assert!(open.contains(&success.last_sequence_number));
                    success.channel_id
                }
                Message::UpdateChannelError(_) | Message::OpenMiningChannelError(_) => continue,
                Message::NewMiningJob(job) => job.channel_id,
                Message::NewExtendedMiningJob(job) => job.channel_id,
                Message::SetNewPrevHash(parent) => parent.channel_id,
                Message::SetTarget(set) => set.channel_id,
                other => panic!("{other:?}"),
            };
            assert!(!self.closed.contains(&of_channel), "MN-15: {message:?}");
            self.machines.iter_mut().for_each(|machine| machine.hear(&message));
        }
    }
}

const LONG: Duration = Duration::from_secs(1 << 30);

/// A session, its client, and the shares of which the client was not told yet.
struct World {
    peer: Peer,
    client: Client,
    /// Durable and not acknowledged: channel and sequence number.
    durable: Vec<(u32, u32)>,
    tickets: HashMap<Ticket, (u32, u32)>,
}

impl World {
    fn new() -> Self {
        let settings = Settings { channels_max: 5, pot_start: pot(-31), channel: LONG, idle: LONG, ..wide() };
        let mut peer = Peer::ready(settings);
        peer.hold = true;
        Self { peer, client: Client::default(), durable: Vec::new(), tickets: HashMap::new() }
    }

    fn submit(&mut self, submit: Message) -> Result<(), Fault> {
        let (channel, sequence) = match &submit {
            Message::SubmitSharesStandard(submit) => (submit.channel_id, submit.sequence_number),
            Message::SubmitSharesExtended(submit) => (submit.channel_id, submit.sequence_number),
            other => panic!("{other:?}"),
        };
        self.client.open.entry(channel).or_default().insert(sequence);
        let before = self.peer.held.len();
        let said = self.peer.try_say(submit);
        if self.peer.held.len() > before {
            self.tickets.insert(self.peer.held[before].0, (channel, sequence));
        }
        said
    }

    /// A share, mined as far as that is quick.
    fn mine(&mut self, step: &Step) -> Result<(), Fault> {
        let Step::Submit { channel, job, hit, wrong_kind, extranonce, version, late } = *step else {
            return Ok(());
        };
        self.client.sequence += 1;
        let sequence = self.client.sequence;
        let Some(machine) = self.client.machine(channel) else { return Ok(()) };
        let id = machine.jobs[machine.jobs.len().saturating_sub(1 + usize::from(job) % 5)].id;
        let mut roll = machine.roll(id);
        if let Some(size) = extranonce {
            roll.extranonce.resize(usize::from(size), 1);
        }
        roll.version ^= version;
        roll.ntime = roll.ntime.wrapping_add_signed(late);
        // Only where some tries are enough.
        let target = machine.job(id).target;
        let quick = if hit { target >> 248 != Number::ZERO } else { target >> 255 == Number::ZERO };
        if quick && extranonce.is_none() {
            while machine.meets(&roll) != hit {
                roll.nonce = roll.nonce.wrapping_add(0x1_0000);
            }
        }
        let kind = match (machine.kind, wrong_kind) {
            (kind, false) => kind,
            (Kind::Standard, true) => Kind::Extended,
            (Kind::Extended, true) => Kind::Standard,
        };
        let submit = machine.submit_as(kind, sequence, &roll);
        self.client.submits.push(submit.clone());
        self.submit(submit)
    }

    fn step(&mut self, step: &Step) -> Result<(), Fault> {
        match *step {
            Step::Open(extended_kind, nominal_hash_rate, min_extranonce_size) => {
                let request = match extended_kind {
                    false => open_with(Kind::Standard, nominal_hash_rate),
                    true => {
                        OpenExtendedMiningChannel { nominal_hash_rate, min_extranonce_size, ..extended() }
                            .into()
                    }
                };
                self.peer.try_say(request)?;
            }
            Step::Update(channel, rate, limit) => {
                let channel = self.client.machine(channel).map_or(NOBODY, |machine| machine.channel);
                self.peer.try_say(update(channel, rate, pot(limit).target().into()))?;
            }
            Step::Close(which) => {
                let id = self.client.machine(which).map_or(NOBODY, |machine| machine.channel);
                self.close(id)?;
            }
            Step::CloseGroup(id) => self.close(id)?,
            Step::Submit { .. } => self.mine(step)?,
            Step::Again(which) => {
                let count = self.client.submits.len();
                if count > 0 {
                    self.client.sequence += 1;
                    let sequence = self.client.sequence;
                    let mut again = self.client.submits[usize::from(which) % count].clone();
                    match &mut again {
                        Message::SubmitSharesStandard(submit) => submit.sequence_number = sequence,
                        Message::SubmitSharesExtended(submit) => submit.sequence_number = sequence,
                        other => panic!("{other:?}"),
                    }
                    self.submit(again)?;
                }
            }
            Step::Work(parent, easy) => {
                self.peer.work(&body_on(parent, if easy { REGTEST_NBITS } else { HARD_NBITS }));
            }
            Step::Pass(ms) => {
                self.peer.now += Duration::from_millis(u64::from(ms));
                self.peer.tick()?;
            }
            Step::Answer(which) => {
                if !self.peer.held.is_empty() {
                    let at = usize::from(which) % self.peer.held.len();
                    self.answer(at);
                }
            }
            Step::Flush => self.flush(),
            Step::Extension(channel, size) => {
                let payload = vec![2; usize::from(size)];
                let header =
                    Header { extension_type: 2, channel, msg_type: 0x1b, payload_bytes: payload.len() };
                self.peer.frame(header, &payload)?;
            }
        }
        self.client.read(self.peer.heard());
        Ok(())
    }

    /// Closes a channel or a group.
    fn close(&mut self, id: u32) -> Result<(), Fault> {
        self.client.read(self.peer.heard());
        let gone = self.client.machines.iter().filter(|machine| machine.channel == id || machine.group == id);
        self.client.closed.extend(gone.map(|machine| machine.channel));
        self.peer.try_say(close(id))
    }

    fn answer(&mut self, at: usize) {
        let (ticket, share) = self.peer.held.remove(at);
        let answer = self.peer.judged(share);
        let (channel, sequence) = self.tickets[&ticket];
        if self.client.closed.contains(&channel) {
            self.client.open.entry(channel).or_default().remove(&sequence);
        } else if answer.is_ok() {
            self.durable.push((channel, sequence));
        }
        self.peer.answer(ticket, answer);
    }

    /// Every durable share of a live channel is in exactly one success.
    fn flush(&mut self) {
        self.client.read(self.peer.heard());
        self.peer.flush();
        let mut durable: HashMap<u32, Vec<u32>> = HashMap::new();
        for (channel, sequence) in std::mem::take(&mut self.durable) {
            if !self.client.closed.contains(&channel) {
                durable.entry(channel).or_default().push(sequence);
            } else {
                self.client.open.entry(channel).or_default().remove(&sequence);
            }
        }
        let heard = self.peer.heard();
        for message in &heard {
            let Message::SubmitSharesSuccess(success) = message else { panic!("{message:?}") };
            let counted = durable.remove(&success.channel_id).expect("one success per channel and flush");
            assert_eq!(success.new_submits_accepted_count as usize, counted.len());
            assert_eq!(counted.last(), Some(&success.last_sequence_number));
            let open = self.client.open.entry(success.channel_id).or_default();
            assert!(open.contains(&success.last_sequence_number));
            assert!(counted.iter().all(|sequence| open.remove(sequence)));
        }
        assert!(durable.is_empty(), "{durable:?} is not acknowledged");
    }

    fn finish(mut self) {
        while !self.peer.held.is_empty() {
            self.answer(0);
        }
        self.flush();
        for (channel, open) in &self.client.open {
            let left = self.client.closed.contains(channel) || open.is_empty();
            assert!(left, "{open:?} of channel {channel} were never answered");
        }
        let hashes: HashSet<_> = self.peer.credited.iter().map(JudgedShare::hash).collect();
        assert_eq!(hashes.len(), self.peer.credited.len(), "M01: no header is paid twice");
        let live = self.client.machines.len() - self.client.closed.len();
        assert_eq!(self.peer.session.prefixes().count(), live);
        assert_eq!(self.peer.closed.len(), self.client.closed.len());
    }
}

proptest! {
    #[test]
    fn any_split_of_the_bytes_gives_the_same_frames(sizes in proptest::collection::vec(1_usize..200, 1..40)) {
        let mut results = Vec::new();
        for cut in [false, true] {
            let (mut peer, _) = Peer::mining(Kind::Standard);
            let mut machine = peer.opened(Kind::Extended);
            let stream = conversation(&mut peer, &mut machine);
            let mut rest = &stream[..];
            let mut sizes = sizes.iter().cycle();
            while !rest.is_empty() {
                let size = if cut { *sizes.next().unwrap() } else { rest.len() };
                let (piece, left) = rest.split_at(size.min(rest.len()));
                peer.raw(piece).unwrap();
                rest = left;
            }
            prop_assert_eq!(peer.credited.len(), 9);
            results.push((peer.heard(), peer.refused, peer.closed));
        }
        prop_assert_eq!(&results[0].0, &results[1].0);
        prop_assert_eq!((&results[0].1, &results[0].2), (&results[1].1, &results[1].2));
    }

    #[test]
    fn whatever_a_client_does_no_share_stays_unanswered_and_no_closed_channel_hears_anything(
        steps in proptest::collection::vec(step(), 1..120)
    ) {
        let mut world = World::new();
        for step in &steps {
            if let Err(fault) = world.step(step) {
                // Only for too much nonsense: none of it is malformed.
                prop_assert_eq!(fault.label(), "misbehaved");
                world.client.read(world.peer.heard());
                break;
            }
        }
        world.finish();
    }

    #[test]
    fn mn_35_m06_m07_a_share_is_worth_what_its_job_was_announced_with(
        steps in proptest::collection::vec((0_u8..6, any::<prop::sample::Index>(), 0_u64..40), 1..60),
        kind in prop_oneof![Just(Kind::Standard), Just(Kind::Extended)],
    ) {
        let mut peer = Peer::ready(Settings { pot_start: Pot::MIN, ..wide() });
        let mut machine = peer.opened(kind);
        peer.hold = true;
        for (what, which, amount) in steps {
            peer.now += seconds(amount);
            match what {
                0 => peer.work(&body_on(1, HARD_NBITS)),
                1 => peer.say(update(machine.channel, 1.5_f32.powi(amount as i32), any_target())),
                2 => peer.say(update(machine.channel, 0.0, pot(amount as i8 - 32).target().into())),
                3 => peer.tick().unwrap(),
                _ => {
                    let id = which.get(&machine.jobs).id;
                    let roll = machine.roll(id);
                    let submit = machine.submit(&roll);
                    peer.say(submit);
                    // Jobs beyond the ring are stale; all others are judged by the target they were announced with.
                    if let Some((_, share)) = peer.held.pop() {
                        prop_assert_eq!(share.job.pot.target().value(), machine.job(id).target);
                        let met = machine.meets(&roll);
                        match peer.judged(share) {
                            Ok(pot) => prop_assert!(met && pot.target().value() == machine.job(id).target),
                            Err(Reject::LowDifficulty) => prop_assert!(!met),
                            Err(reject) => prop_assert_eq!(reject, Reject::Stale),
                        }
                    }
                }
            }
            // A target never comes without the job that it is for (the machine checks the rest).
            let heard = peer.heard();
            let spoken = names(&heard);
            for (at, name) in spoken.iter().enumerate() {
                prop_assert!(*name != "SetTarget" || spoken[at + 1].ends_with("MiningJob"));
            }
            heard.iter().for_each(|message| machine.hear(message));
        }
    }

    #[test]
    fn n03_no_frame_that_a_client_can_seal_is_a_panic(
        frames in proptest::collection::vec(
            (
                prop_oneof![4 => Just(CORE), 1 => Just(NEGOTIATION), 1 => any::<u16>()],
                any::<bool>(),
                prop_oneof![4 => 0x10_u8..0x26, 1 => 0_u8..3, 1 => any::<u8>()],
                proptest::collection::vec(any::<u8>(), 0..100),
            ),
            1..20,
        )
    ) {
        let mut peer = Peer::ready(Settings { receipts: true, ..settings() });
        peer.opened(Kind::Extended);
        for (extension_type, channel, msg_type, payload) in frames {
            let extension_type = extension_type & 0x7fff;
            let header = Header { extension_type, channel, msg_type, payload_bytes: payload.len() };
            if peer.frame(header, &payload).is_err() {
                break;
            }
        }
    }
}

//! Against our own server's session.

use super::*;
use crate::encoded::EncodedJob;
use crate::extranonce::Extranonce1;
use crate::sample;
use crate::session::{Action, Booked, JobMessage};
use crate::share::PendingShare;
use crate::v2::server;
use proptest::prelude::*;

/// A client and a session with the wire between them.
struct Pair {
    client: Client,
    session: server::Session,
    up: Sealer,
    down: Sealer,
    work: Arc<EncodedJob>,
    now: Instant,
    events: Vec<Event>,
    /// What the session wants judged.
    shares: Vec<(crate::session::Ticket, PendingShare)>,
    /// All that the client was sent, still sealed.
    sealed: Vec<u8>,
    channels: u8,
}

impl Pair {
    fn new(settings: Settings, work: Arc<EncodedJob>) -> Self {
        let (ours, theirs) = transports();
        let (now, mut events) = (Instant::now(), Vec::new());
        let client = Client::new(Arc::new(settings), ours.open, now, &mut events);
        let session =
            server::Session::new(Arc::new(server::Settings::new(bitcoin::Network::Signet)), theirs.open, now);
        let mut pair = Self {
            client,
            session,
            up: ours.seal,
            down: theirs.seal,
            work,
            now,
            events,
            shares: Vec::new(),
            sealed: Vec::new(),
            channels: 0,
        };
        pair.pump();
        pair
    }

    /// Carries frames to and fro until nobody has more to say; what the client learnt stays in `events`.
    fn pump(&mut self) {
        loop {
            let (frames, learnt): (Vec<_>, Vec<_>) =
                self.events.drain(..).partition(|event| matches!(event, Event::Send(_)));
            self.events = learnt;
            let mut sealed = Vec::new();
            for frame in &frames {
                let Event::Send(frame) = frame else { unreachable!("partitioned") };
                seal(&mut self.up, frame, &mut sealed);
            }
            if sealed.is_empty() {
                return;
            }
            let mut rest = &sealed[..];
            while !rest.is_empty() {
                let mut actions = Vec::new();
                self.session.receive(&mut rest, self.now, &mut actions).unwrap();
                self.act(actions);
            }
        }
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            let mut sealed = Vec::new();
            match action {
                Action::Send(frame) => seal(&mut self.down, &frame, &mut sealed),
                Action::Job(JobMessage::V2(job)) => {
                    job.frames(&mut Vec::new(), |frame| seal(&mut self.down, frame, &mut sealed));
                }
                Action::Share { ticket, share } => self.shares.push((ticket, share)),
                Action::Open(opening) => {
                    self.channels += 1;
                    let (prefix, work) = (Extranonce1([9, 8, 7, self.channels]), self.work.clone());
                    let mut next = Vec::new();
                    self.session.open(*opening, Some(prefix), Some(&work), self.now, &mut next);
                    self.act(next);
                }
                Action::Closed(_) | Action::Refused(_) => {}
                other => panic!("{other:?}"),
            }
            self.sealed.extend_from_slice(&sealed);
            self.client.receive(&sealed, self.now, &mut self.events).unwrap();
        }
    }

    fn open(&mut self, kind: Kind) -> Arc<Job> {
        let request = Request { user_identity: text(sample::ADDRESS), ..request(kind) };
        self.client.open(request, self.now, &mut self.events).unwrap();
        self.pump();
        let (job, clean) = works(&std::mem::take(&mut self.events)).pop().unwrap();
        assert!(clean, "a first job");
        job
    }

    fn new_work(&mut self, work: Arc<EncodedJob>) -> Vec<(Arc<Job>, bool)> {
        self.work = work.clone();
        for number in 0..self.channels {
            let mut actions = Vec::new();
            self.session.work(number.into(), &work, self.now, &mut actions);
            self.act(actions);
        }
        works(&std::mem::take(&mut self.events))
    }

    /// The header that our server judges for a share, which the client has sent.
    fn judged(&mut self, share: &Share) -> [u8; 80] {
        self.client.submit(share, &mut self.events).unwrap();
        self.pump();
        let (ticket, pending) = self.shares.pop().unwrap();
        let mut actions = Vec::new();
        let booked = Booked { pot: pending.job.pot, entry: None };
        self.session.answer(ticket, Ok(booked), &mut actions);
        self.session.flush(&mut actions);
        self.act(actions);
        pending.job.header(&pending.roll)
    }
}

fn standard_only() -> Settings {
    Settings { standard_jobs_only: true, ..settings() }
}

#[test]
fn shares_on_both_kinds_of_channel_are_acknowledged() {
    let mut pair = Pair::new(settings(), sample::encoded(sample::body(sample::HARD_NBITS)));
    let extended = pair.open(Kind::Extended { min_extranonce_size: 8 });
    let standard = pair.open(Kind::Standard);
    for job in [&extended, &standard] {
        for number in 0..2 {
            pair.judged(&share(job, number));
            let event = pair.events.pop();
            let expected = Event::Accepted {
                channel: job.channel,
                last_sequence_number: number,
                count: 1,
                difficulty_sum: 0,
            };
            assert_eq!(event, Some(expected));
            assert_eq!(pair.client.pending(job.channel), 0);
        }
    }
    let mut body = sample::body(sample::HARD_NBITS);
    body.prev_hash = sample::prev_hash(2);
    let works = pair.new_work(sample::encoded(body));
    assert!(works.len() == 2 && works.iter().all(|(_, clean)| *clean));
    assert!(!pair.client.is_live(&extended) && pair.client.is_live(&works[0].0));
    let works = pair.new_work(pair.work.clone());
    assert!(works.len() == 2 && works.iter().all(|(_, clean)| !clean));
}

#[test]
fn a_rejected_share_and_a_refused_channel_are_told() {
    let mut pair = Pair::new(standard_only(), sample::encoded(sample::body(sample::HARD_NBITS)));
    let job = pair.open(Kind::Standard);
    let foreign = Job { id: job.id.wrapping_add(500), ..Job::clone(&job) };
    pair.client.submit(&share(&Arc::new(foreign), 0), &mut pair.events).unwrap();
    pair.pump();
    let rejected = Event::Rejected { channel: job.channel, sequence_number: 0, code: text("invalid-job-id") };
    assert_eq!((pair.events.pop(), pair.client.pending(job.channel)), (Some(rejected), 0));
    let nobody = Request { user_identity: text("nobody"), ..request(Kind::Standard) };
    let asked = pair.client.open(nobody, pair.now, &mut pair.events).unwrap();
    pair.pump();
    let refused = Event::OpenRefused { request: asked, code: text("invalid-user-identity") };
    assert_eq!(pair.events.pop(), Some(refused));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_header_that_we_hash_is_the_one_that_the_server_judges(
        extranonce: [u8; 8], ntime in 0..7_000_u32, nonce: u32, bits: u32,
    ) {
        let mut pair = Pair::new(settings(), sample::encoded(sample::body(sample::HARD_NBITS)));
        for kind in [Kind::Extended { min_extranonce_size: 4 }, Kind::Standard] {
            let job = pair.open(kind);
            let extended = kind != Kind::Standard;
            let version = job.version ^ (bits & job.version_mask);
            let share = Share {
                job: job.clone(),
                extranonce: if extended { extranonce.into() } else { Bytes32::default() },
                ntime: job.min_ntime + ntime,
                nonce,
                version,
            };
            prop_assert_eq!(pair.judged(&share), share.header());
        }
    }

    #[test]
    fn any_split_of_the_bytes_gives_the_same_events(cuts in prop::collection::vec(1..400_usize, 1..40)) {
        let mut pair = Pair::new(settings(), sample::encoded(sample::body(sample::HARD_NBITS)));
        pair.sealed.clear();
        pair.open(Kind::Extended { min_extranonce_size: 4 });
        pair.new_work(sample::encoded(sample::body(sample::HARD_NBITS)));
        // The same bytes, to a client with the same keys that has heard nothing yet.
        let replay = |cuts: &[usize]| {
            let mut fresh = Pair::new(settings(), pair.work.clone());
            fresh.events.clear();
            fresh.client.open(request(Kind::Extended { min_extranonce_size: 4 }), fresh.now, &mut fresh.events).unwrap();
            fresh.events.clear();
            let (mut rest, mut at) = (&pair.sealed[..], 0);
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(cuts[at % cuts.len()].min(rest.len()));
                fresh.client.receive(piece, pair.now, &mut fresh.events).unwrap();
                (rest, at) = (later, at + 1);
            }
            fresh.events
        };
        let whole = replay(&[usize::MAX]);
        prop_assert!(works(&whole).len() == 2);
        prop_assert_eq!(replay(&cuts), whole);
    }
}

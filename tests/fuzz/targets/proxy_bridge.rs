//! The proxy's bridge between a hostile machine below and a hostile upstream above.
//!
//! The input is a sequence of steps: `<` and a line of the machine, or `>` and a plain frame of upstream, which is sealed
//! as upstream would. Whatever upstream sends as work is given to the machine; whatever the machine's share is worth, it
//! is sent upstream, and there it has to be the same header.
#![no_main]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Network};
use libfuzzer_sys::fuzz_target;
use proxy::bridge;
use stratum::encoded::EncodedJob;
use stratum::extranonce::Extranonce1;
use stratum::session::{Action, JobMessage, Ticket};
use stratum::share::{Judge, Outcome, PendingShare, Reject};
use stratum::v1::server;
use stratum::v2::client::{self, Client, Event, Job, Kind, Request};
use stratum::v2::codec::{Str255, U256};
use stratum::v2::frame::Header;
use stratum::v2::keys::{AuthoritySecret, Certificate, StaticKey};
use stratum::v2::noise::{Authority, Initiator, Sealer, Transport, respond};

/// The connection upstream, as jobs name it.
const LINK: u32 = 1;

fuzz_target!(|input: &[u8]| {
    let mut bridge = Bridge::new();
    let mut rest = input;
    while let Some((side, after)) = rest.split_first() {
        bridge.now += Duration::from_millis(500);
        let goes_on = if side & 1 == 0 {
            let end = after.iter().position(|byte| *byte == b'\n').map_or(after.len(), |at| at + 1);
            let (line, left) = after.split_at(end);
            rest = left;
            bridge.from_machine(line)
        } else {
            let Some((header, left)) = after.split_first_chunk() else { return };
            let announced = Header::from_bytes(*header);
            let (payload, left) = left.split_at(left.len().min(announced.payload_bytes));
            rest = left;
            bridge.from_upstream(Header { payload_bytes: payload.len(), ..announced }, payload)
        };
        if !goes_on {
            return;
        }
    }
});

struct Bridge {
    now: Instant,
    machine: server::Session,
    judge: Judge,
    client: Client,
    upstream: Sealer,
    jobs: Vec<Arc<Job>>,
    local: Option<Arc<EncodedJob>>,
}

impl Bridge {
    fn new() -> Self {
        let now = Instant::now();
        let (ours, theirs) = transports();
        let mut events = Vec::new();
        let settings = client::Settings::new(Str255::from_static("localhost"), 1);
        let client = Client::new(Arc::new(settings), ours.open, now, &mut events);
        let settings =
            server::Settings { users: server::Users::Anyone, ..server::Settings::new(Network::Bitcoin) };
        let machine = server::Session::new(Arc::new(settings), Extranonce1([0, 0, 0, 1]), 0, now);
        Self {
            now,
            machine: machine.with_extranonce2(bridge::EXTRANONCE2_BYTES_MIN),
            judge: Judge::new(Duration::ZERO),
            client,
            upstream: theirs.seal,
            jobs: Vec::new(),
            local: None,
        }
    }

    fn from_machine(&mut self, line: &[u8]) -> bool {
        let mut actions = Vec::new();
        let heard = self.machine.receive(line, self.now, &mut actions);
        self.act(actions);
        heard.is_ok()
    }

    fn from_upstream(&mut self, header: Header, payload: &[u8]) -> bool {
        let (mut sealed, mut events) = (Vec::new(), Vec::new());
        self.upstream.seal(&header.to_bytes(), payload, &mut sealed).expect("a few frames");
        let heard = self.client.receive(&sealed, self.now, &mut events);
        for event in events {
            match event {
                Event::Ready { .. } => {
                    let request = Request {
                        kind: Kind::Extended { min_extranonce_size: bridge::NEEDED_BYTES },
                        user_identity: Str255::from_static("user"),
                        hashes_per_s: 0.0,
                        max_target: U256([0xff; 32]),
                    };
                    let _ = self.client.open(request, self.now, &mut Vec::new());
                }
                Event::Work { job, .. } => self.work(job),
                _ => {}
            }
        }
        heard.is_ok()
    }

    fn work(&mut self, job: Arc<Job>) {
        let Ok(local) = bridge::local_job(LINK, &job, bridge::EXTRANONCE2_BYTES_MIN) else { return };
        self.judge.new_tip(job.prev_hash, self.now);
        self.jobs.push(job);
        let mut actions = Vec::new();
        self.machine.work(&local, self.now, &mut actions);
        self.local = Some(local);
        self.act(actions);
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            let mut next = Vec::new();
            match action {
                Action::Send(_) | Action::Refused(_) => {}
                Action::Job(JobMessage::V1(job)) => job.write_to(&mut Vec::new()),
                Action::NeedWork => {
                    if let Some(local) = &self.local {
                        self.machine.work(local, self.now, &mut next);
                    }
                }
                Action::Share { ticket, share } => self.share(Some(ticket), share, &mut next),
                Action::Unanswered(share) => self.share(None, share, &mut next),
                Action::Job(JobMessage::V2(_)) | Action::Open(_) | Action::Closed(_) => {
                    unreachable!("the machine speaks V1")
                }
            }
            self.act(next);
        }
    }

    fn share(&mut self, ticket: Option<Ticket>, share: PendingShare, next: &mut Vec<Action>) {
        let (roll, upstream) = (share.roll, bridge::upstream(&share.job.body));
        let judged = share.job.header(&roll);
        let verdict = self.judge.check(share, self.now, 1_800_000_000_000);
        // Sent whatever it is worth: the shard sends less.
        let sent = bridge::share(upstream, &roll, BlockHash::all_zeros(), None);
        if let Some(job) = self.jobs.iter().rev().find(|job| job.id == sent.job_id) {
            let share = client::Share {
                job: job.clone(),
                extranonce: sent.extranonce,
                ntime: sent.ntime,
                nonce: sent.nonce,
                version: sent.version,
            };
            // Names come again upstream's way; only the newest of a name is looked at here.
            if job.prev_hash.as_byte_array()[..] == judged[4..36] && self.is_newest(job) {
                assert_eq!(share.header(), judged, "upstream judges the header that we judged");
            }
            let _ = self.client.submit(&share, &mut Vec::new());
        }
        let answer = match verdict.outcome {
            Outcome::Accepted(_) => Ok(()),
            Outcome::Stale(_) => Err(Reject::Stale),
            Outcome::RefusedBlock(_, reject) | Outcome::Rejected(reject) => Err(reject),
        };
        if let Some(ticket) = ticket {
            self.machine.answer(ticket, answer);
            self.machine.flush(next);
        }
    }

    /// Whether no other job has had the same name.
    fn is_newest(&self, job: &Job) -> bool {
        self.jobs.iter().filter(|other| other.id == job.id).count() == 1
    }
}

fn transports() -> (Transport, Transport) {
    let authority = AuthoritySecret::from_bytes([1; 32]).expect("1 is below the curve's order");
    let key = StaticKey::new([2; 32], [3; 32]);
    let certificate = Certificate::sign(&authority, &key.public_x_only(), 0, 1);
    let (initiator, act1) = Initiator::new([4; 64], Authority::Unauthenticated);
    let (act2, server) = respond(&key, &certificate, [5; 64], &act1).expect("every act 1 is answered");
    (initiator.finish(&act2, 0).expect("an unchanged handshake"), server)
}

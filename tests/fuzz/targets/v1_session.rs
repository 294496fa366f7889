//! A miner's side of a V1 connection, one line after the other, against the session and the real judge.
//!
//! Every line takes a second; a line that begins with `~` takes five minutes and goes to nobody.
#![no_main]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::{Amount, BlockHash, Network, ScriptBuf, TxOut};
use libfuzzer_sys::fuzz_target;
use stratum::class::SizeClass;
use stratum::encoded::EncodedJob;
use stratum::extranonce::Extranonce1;
use stratum::job::{Basis, Payout, TemplateId};
use stratum::session::{Action, JobMessage};
use stratum::share::{Judge, Outcome, PendingShare, Reject};
use stratum::v1::server::{Session, Settings};
use template::assemble::job_body;
use template::coinbase::CoinbaseStyle;
use template::template::Template;

const TEMPLATE: &[u8] = include_bytes!("../seeds/template_json/transactions.json");

fuzz_target!(|input: &[u8]| {
    let mut now = Instant::now();
    let mut server = Server::new(now);
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        let mut actions = Vec::new();
        let idle = line.starts_with(b"~");
        now += Duration::from_secs(if idle { 300 } else { 1 });
        let fed = if idle { Ok(()) } else { server.session.receive(line, now, &mut actions) };
        server.act(now, actions);
        let mut actions = Vec::new();
        let due = now >= server.session.deadline();
        let ticked = fed.and_then(|()| if due { server.session.tick(now, &mut actions) } else { Ok(()) });
        server.act(now, actions);
        if ticked.is_err() {
            return;
        }
    }
});

struct Server {
    session: Session,
    judge: Judge,
    work: Arc<EncodedJob>,
    /// Headers that were paid.
    credited: HashSet<BlockHash>,
}

impl Server {
    fn new(now: Instant) -> Self {
        let work = work();
        let mut judge = Judge::new(Duration::ZERO);
        judge.new_tip(work.body().prev_hash, now);
        let settings = Arc::new(Settings::new(Network::Regtest));
        let session = Session::new(settings, Extranonce1([0, 0, 0, 1]), 0, now);
        Self { session, judge, work, credited: HashSet::new() }
    }

    /// Does what the server would do, and checks what goes out.
    fn act(&mut self, now: Instant, actions: Vec<Action>) {
        let mut left = actions;
        while !left.is_empty() {
            let mut next = Vec::new();
            for action in left {
                match action {
                    Action::Send(lines) => check_lines(&lines),
                    Action::Job(JobMessage::V1(job)) => {
                        let mut pieces = Vec::new();
                        job.write_to(&mut pieces);
                        check_lines(&pieces.concat());
                    }
                    Action::Share { ticket, share } => {
                        let answer = self.judged(share, now);
                        self.session.answer(ticket, answer);
                        self.session.flush(&mut next);
                    }
                    Action::NeedWork => self.session.work(&self.work, now, &mut next),
                    Action::Unanswered(share) => drop(self.judged(share, now)),
                    Action::Refused(_) => {}
                    Action::Job(JobMessage::V2(_)) | Action::Open(_) | Action::Closed(_) => {
                        unreachable!("this is V1")
                    }
                }
            }
            left = next;
        }
    }

    /// However a share is spelled, and through whichever of its jobs it comes, a header is paid once.
    fn judged(&mut self, share: PendingShare, now: Instant) -> Result<(), Reject> {
        match self.judge.check(share, now, 1_800_000_000_000).outcome {
            Outcome::Accepted(share) => {
                assert!(self.credited.insert(share.hash()), "{} is credited twice", share.hash());
                Ok(())
            }
            Outcome::Stale(_) => Err(Reject::Stale),
            Outcome::RefusedBlock(_, reject) | Outcome::Rejected(reject) => Err(reject),
        }
    }
}

/// Whatever a miner sends, it gets whole lines, each a JSON object.
fn check_lines(bytes: &[u8]) {
    assert_eq!(bytes.last(), Some(&b'\n'));
    for line in bytes[..bytes.len() - 1].split(|byte| *byte == b'\n') {
        let value: serde_json::Value = serde_json::from_slice(line).expect("a line is JSON");
        assert!(value.is_object());
    }
}

fn work() -> Arc<EncodedJob> {
    let template = Template::parse(TEMPLATE, Network::Regtest).expect("a node made it");
    let style = CoinbaseStyle::new(1, 2, "").expect("no text fits");
    let script = ScriptBuf::from_bytes(vec![0x51]);
    let outputs = vec![TxOut { value: Amount::from_sat(template.value()), script_pubkey: script.clone() }];
    let payout = Arc::new(Payout { outputs, basis: Basis::Solo { script, log_size: 0 } });
    let body = job_body(TemplateId(1), &template, &style, SizeClass::default(), 100, payout);
    Arc::new(EncodedJob::new(Arc::new(body.expect("one short output fits"))))
}

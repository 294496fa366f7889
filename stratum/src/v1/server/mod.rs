//! A V1 connection as the server sees it: bytes, jobs, verdicts and time in; actions out.
//!
//! - [`Session`] decides; [`reply`] keeps replies in order; [`workers`] says who may submit;
//!   `submit`, `configure` and `hint` read parameters
//!
//! A machine mines once it is subscribed *and* authorized, in either order; before that nothing but
//! replies is sent: cpuminer takes the first line for the answer to its subscribe, cgminer the next
//! line for the answer to its configure, and the next one that is no method for its authorize.

mod configure;
mod hint;
pub mod reply;
mod settings;
mod submit;
pub mod workers;

pub use settings::{Settings, Users, VERSION_MASK};

use super::encode::{JobMessage, push_hex};
use super::line::Lines;
use super::message::{Id, Message, Request, code, method};
use super::submit_line::{Submit, SubmitLine};
use crate::class::SizeClass;
use crate::encoded::EncodedJob;
use crate::extranonce::{EXTRANONCE1_BYTES, EXTRANONCE2_BYTES, Extranonce1};
use crate::fault::{Awaited, Fault};
use crate::job::Roll;
use crate::patience::Patience;
use crate::payee::WorkerName;
use crate::pot::Pot;
use crate::ring::{Announcement, JobRing};
use crate::session::{self, Action, Miner, Ticket};
use crate::share::{PendingShare, Reject};
use crate::vardiff::Vardiff;
use reply::Replies;
use serde_json::Value;
use std::sync::Arc;
use std::time::Instant;
use workers::Workers;

/// Hints about difficulty that take effect after the first job, each at the price of a new job.
const HINTS_MAX: u8 = 4;

/// One V1 connection.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    prefix: Extranonce1,
    /// What the machine rolls behind it: at most [`EXTRANONCE2_BYTES`].
    extranonce2_bytes: usize,
    lines: Lines,
    replies: Replies,
    patience: Patience,
    opened: Instant,
    /// When the machine could start to work or sent its last share; `None` before that.
    active: Option<Instant>,
    heard: bool,
    /// Set by `mining.subscribe`.
    client: Option<Client>,
    /// Filled by `mining.authorize`; empty until then.
    workers: Workers,
    /// Version bits that may be rolled, if that was agreed.
    mask: Option<u32>,
    jobs: JobRing,
    /// What the newest job was made from.
    newest: Option<Arc<EncodedJob>>,
    pot: Pot,
    /// Set by `minimum-difficulty`.
    floor: Option<Pot>,
    hints_left: u8,
    vardiff: Vardiff,
}

/// The machine's software.
#[derive(Debug)]
struct Client {
    agent: WorkerName,
    class: SizeClass,
}

impl Session {
    /// A connection that was just accepted. `prefix` is its alone; its job ids count up from
    /// `first_job`, which should differ between connections.
    pub fn new(settings: Arc<Settings>, prefix: Extranonce1, first_job: u32, now: Instant) -> Self {
        Self {
            prefix,
            extranonce2_bytes: EXTRANONCE2_BYTES,
            lines: Lines::new(settings.line_bytes_max),
            replies: Replies::default(),
            patience: Patience::new(now),
            opened: now,
            active: None,
            heard: false,
            client: None,
            workers: Workers::default(),
            mask: None,
            jobs: JobRing::new(first_job),
            newest: None,
            pot: settings.pot_start,
            floor: None,
            hints_left: HINTS_MAX,
            vardiff: Vardiff::new(settings.shares_per_minute, now),
            settings,
        }
    }

    /// Has the machine roll fewer bytes than [`EXTRANONCE2_BYTES`]: upstream leaves no more. To be called before its
    /// first bytes are received.
    ///
    /// # Panics
    /// If they are more, or none.
    pub fn with_extranonce2(self, extranonce2_bytes: usize) -> Self {
        assert!((1..=EXTRANONCE2_BYTES).contains(&extranonce2_bytes), "1 to {EXTRANONCE2_BYTES} bytes");
        Self { extranonce2_bytes, ..self }
    }

    /// Takes bytes as they come, cut anywhere.
    ///
    /// # Errors
    /// The connection is to be closed once the actions are done.
    pub fn receive(&mut self, mut bytes: &[u8], now: Instant, out: &mut Vec<Action>) -> Result<(), Fault> {
        self.heard |= !bytes.is_empty();
        let outcome = loop {
            match self.lines.next(&mut bytes) {
                Ok(None) => break Ok(()),
                Ok(Some(line)) => {
                    if let Err(fault) = self.line(&line, now, out) {
                        break Err(fault);
                    }
                }
                Err(_) => break Err(Fault::Malformed("line too long")),
            }
        };
        self.replies.flush(out);
        outcome
    }

    /// New work for this connection; ignored until the session has asked for it.
    pub fn work(&mut self, encoded: &Arc<EncodedJob>, now: Instant, out: &mut Vec<Action>) {
        let (Some(payee), Some(_)) = (self.workers.any(), &self.client) else { return };
        self.pot = self.within(self.pot, encoded);
        let tag = payee.tag;
        let body = encoded.body();
        let Announcement { id, clean, pot_changed } =
            self.jobs.send(body, tag, self.pot, self.mask.unwrap_or(0), now);
        self.newest = Some(encoded.clone());
        if pot_changed {
            self.vardiff.restart(now);
        }
        self.replies.flush(out);
        let difficulty = pot_changed.then_some(self.pot);
        let mark = body.coinbase.mark(tag, self.pot);
        let message = JobMessage { difficulty, id, encoded: encoded.clone(), mark, clean };
        out.push(Action::Job(session::JobMessage::V1(message)));
    }

    /// Steers the connection to another number of shares per minute from here on; what was measured stays.
    pub fn aim(&mut self, shares_per_minute: f64) {
        self.vardiff.aim(shares_per_minute);
    }

    /// The answer to a share: its rejection, or that it is durable. [`Session::flush`] sends what it leads to.
    ///
    /// # Panics
    /// If the ticket was answered before.
    pub fn answer(&mut self, ticket: Ticket, answer: Result<(), Reject>) {
        self.replies.answer(ticket, answer);
    }

    /// Sends the answers that wait for no earlier one.
    pub fn flush(&mut self, out: &mut Vec<Action>) {
        self.replies.flush(out);
    }

    /// To be called when [`Session::deadline`] has come; earlier calls do nothing.
    ///
    /// # Errors
    /// The machine did not do in time what it has to do.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Action>) -> Result<(), Fault> {
        let (until, awaited) = self.awaited();
        if now >= until {
            return Err(Fault::TimedOut(awaited));
        }
        self.retarget(now, out);
        Ok(())
    }

    /// When to call [`Session::tick`] next.
    pub fn deadline(&self) -> Instant {
        let (until, _) = self.awaited();
        match self.vardiff.deadline() {
            Some(silence) if self.newest.is_some() => until.min(silence),
            _ => until,
        }
    }

    /// Who mines here, once there is one: subscribed and authorized.
    pub fn miner(&self) -> Option<Miner<'_>> {
        let (payee, client) = (self.workers.any()?, self.client.as_ref()?);
        let extranonce_bytes = EXTRANONCE1_BYTES + self.extranonce2_bytes;
        Some(Miner { payee, class: client.class, hashes_per_s: self.hashes_per_s(), extranonce_bytes })
    }

    /// The machine's software, escaped; empty if it did not say.
    pub fn agent(&self) -> &str {
        self.client.as_ref().map_or("", |client| client.agent.as_str())
    }

    /// The connection's part of the extranonce.
    pub fn prefix(&self) -> Extranonce1 {
        self.prefix
    }

    /// Difficulty of the newest job, or of the first one to come.
    pub fn pot(&self) -> Pot {
        self.pot
    }

    /// Roughly what the machine does; 0 before its first share.
    fn hashes_per_s(&self) -> f64 {
        if self.vardiff.has_seen_shares() { self.vardiff.hashes_per_s(self.pot) } else { 0.0 }
    }

    fn awaited(&self) -> (Instant, Awaited) {
        let settings = &self.settings;
        match self.active {
            Some(since) => (since + settings.idle, Awaited::Share),
            None if !self.heard => (self.opened + settings.first_bytes, Awaited::FirstBytes),
            None if self.client.is_none() => (self.opened + settings.subscribe, Awaited::Subscribe),
            None => (self.opened + settings.authorize, Awaited::Authorize),
        }
    }

    fn line(&mut self, line: &[u8], now: Instant, out: &mut Vec<Action>) -> Result<(), Fault> {
        if let Some(SubmitLine { id, submit }) = SubmitLine::recognise(line) {
            return self.submit(Some(id), Ok(submit), now, out);
        }
        match Message::parse(line) {
            Ok(Message::Request(request)) => self.request(request, now, out),
            // We ask nothing that needs an answer, yet some firmware answers notifications (V1-06).
            Ok(Message::Response(_)) => Ok(()),
            // Without a readable id nobody is answered: machines that tell answers by their order would
            // take one with the id null for the answer to something else. Nor is it the end yet: one
            // damaged line is no reason to take a machine's work away. `patience` closes at the 17th
            // (N02), and the deadlines whoever never says anything readable.
            Err(unreadable) => {
                self.replies.push(reply::error(unreadable.id.as_ref(), code::OTHER, unreadable.why))?;
                self.patience.bad(now)
            }
        }
    }

    fn request(&mut self, request: Request<'_>, now: Instant, out: &mut Vec<Action>) -> Result<(), Fault> {
        let name = &*request.method;
        if name == method::SUBMIT {
            let texts = submit::texts(request.params);
            let submit = texts.as_ref().map_err(|reject| *reject).and_then(Submit::of);
            return self.submit(request.id, submit, now, out);
        }
        let id = request.id.as_ref();
        let Ok(params) = request.params.list() else {
            self.replies.push(reply::error(id, code::OTHER, "parameters are unreadable"))?;
            return self.patience.bad(now);
        };
        let mining = self.active.is_some();
        let mut hinted = None;
        let lines = match name {
            method::SUBSCRIBE => {
                self.subscribe(&params);
                reply::result(id, self.subscription())
            }
            method::AUTHORIZE => match self.authorize(&params) {
                Ok(()) => reply::result(id, true),
                Err(why) => reply::error(id, code::UNAUTHORIZED, why),
            },
            method::CONFIGURE => return self.configure(&request, &params, now, out),
            method::EXTRANONCE_SUBSCRIBE => reply::result(id, true),
            method::PING => reply::result(id, "\"pong\""),
            method::GET_VERSION => reply::result(id, concat!("\"sluice/", env!("CARGO_PKG_VERSION"), "\"")),
            method::PONG | method::SHOW_MESSAGE => String::new(),
            method::GET_TRANSACTIONS | method::MULTI_VERSION | method::CAPABILITIES => {
                reply::error(id, code::OTHER, "not offered here")
            }
            method::SUGGEST_TARGET => {
                hinted = hint::target(params.first());
                reply::result(id, true)
            }
            name => match name.strip_prefix(method::SUGGEST_DIFFICULTY) {
                Some(rest) => {
                    let in_params = || hint::difficulty(params.first());
                    hinted = if rest.is_empty() { in_params() } else { hint::in_method_name(rest) };
                    reply::result(id, true)
                }
                None => {
                    self.replies.push(reply::error(id, code::OTHER, "unknown method"))?;
                    return self.patience.unknown(now);
                }
            },
        };
        self.replies.push(lines)?;
        if let Some(pot) = hinted {
            self.hint(pot, now, out);
        }
        if !mining && self.client.is_some() && self.workers.any().is_some() {
            self.active = Some(now);
            // Some firmware needs the mask again, but not before it is authorized (V1-33).
            self.replies.push(self.mask_line())?;
            self.replies.flush(out);
            out.push(Action::NeedWork);
        }
        Ok(())
    }

    fn subscribe(&mut self, params: &[Value]) {
        // Again: the same answer, nothing new is allocated (V1-20).
        self.client.get_or_insert_with(|| {
            let agent = params.first().and_then(Value::as_str).unwrap_or_default();
            Client { agent: WorkerName::escaped(agent), class: SizeClass::for_agent(agent) }
        });
    }

    /// The result of `mining.subscribe`.
    fn subscription(&self) -> String {
        let mut prefix = String::new();
        push_hex(&mut prefix, &self.prefix.0);
        let [difficulty, notify] = [method::SET_DIFFICULTY, method::NOTIFY];
        let bytes = self.extranonce2_bytes;
        format!(r#"[[["{difficulty}","{prefix}"],["{notify}","{prefix}"]],"{prefix}",{bytes}]"#)
    }

    fn authorize(&mut self, params: &[Value]) -> Result<(), String> {
        let user = params.first().and_then(Value::as_str).unwrap_or_default();
        self.workers
            .authorize(user, self.settings.users, self.settings.workers_max)
            .map_err(|refusal| refusal.to_string())?;
        if self.active.is_none()
            && let Some(pot) = params.get(1).and_then(Value::as_str).and_then(hint::in_password)
        {
            self.pot = pot.max(self.settings.pot_min).min(self.settings.pot_max);
        }
        Ok(())
    }

    fn configure(
        &mut self,
        request: &Request<'_>,
        params: &[Value],
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        let configured = configure::configure(params, self.settings.version_mask);
        self.mask = configured.mask.unwrap_or(self.mask);
        let mut lines = reply::result(request.id.as_ref(), configured.answer);
        if self.active.is_some() && configured.mask.is_some() {
            lines.push_str(&self.mask_line());
        }
        self.replies.push(lines)?;
        if let Some(floor) = configured.floor {
            self.floor = floor;
            self.go_to(self.pot, now, out);
        }
        Ok(())
    }

    fn mask_line(&self) -> String {
        self.mask.map_or_else(String::new, |mask| {
            format!(
                "{{\"id\":null,\"method\":\"{}\",\"params\":[\"{mask:08x}\"]}}\n",
                method::SET_VERSION_MASK
            )
        })
    }

    /// A wish for a difficulty. Once shares have come, measuring knows better.
    fn hint(&mut self, pot: Pot, now: Instant, out: &mut Vec<Action>) {
        if self.newest.is_none() {
            self.pot = pot.max(self.settings.pot_min).min(self.settings.pot_max);
        } else if !self.vardiff.has_seen_shares() && self.hints_left > 0 && self.go_to(pot, now, out) {
            self.hints_left -= 1;
        }
    }

    fn submit(
        &mut self,
        id: Option<Id>,
        submit: Result<Submit<'_>, Reject>,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        match submit.and_then(|submit| self.share(submit)) {
            Ok(share) => {
                self.active = Some(now);
                self.vardiff.observe(share.job.pot, self.pot, now);
                match self.replies.wait(id) {
                    Ok(ticket) => out.push(Action::Share { ticket, share }),
                    Err(fault) => {
                        out.push(Action::Unanswered(share));
                        return Err(fault);
                    }
                }
            }
            Err(reject) => {
                self.vardiff.observe(self.pot, self.pot, now);
                self.replies.push(reply::error(id.as_ref(), code::of(reject), reject))?;
                out.push(Action::Refused(reject));
            }
        }
        self.retarget(now, out);
        Ok(())
    }

    /// Steps 1 to 4 of the judgement, and the policy that only the session knows (steps 7 and 8).
    fn share(&self, submit: Submit<'_>) -> Result<PendingShare, Reject> {
        if self.client.is_none() {
            return Err(Reject::NotSubscribed);
        }
        let sent = submit::job_id(submit.job).and_then(|id| self.jobs.find(id)).ok_or(Reject::UnknownJob)?;
        let rolled = submit.decode(self.extranonce2_bytes)?;
        let worker = self.workers.find(submit.user).ok_or(Reject::Unauthorized);
        // All workers of a connection have one payee, whose tag is in its jobs.
        let payee = worker.ok().or(self.workers.any()).cloned().ok_or(Reject::Unauthorized)?;
        let (version, allowed) =
            submit::version(sent, self.mask, rolled.version_bits, self.settings.zero_bits_when_missing);
        let roll = Roll {
            extranonce1: self.prefix,
            extranonce2: rolled.extranonce2,
            ntime: rolled.ntime,
            nonce: rolled.nonce,
            version,
        };
        let allowed = worker.and(allowed);
        Ok(PendingShare::new(sent.id, sent.job.clone(), roll, payee).under(allowed))
    }

    fn retarget(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(newest) = &self.newest else { return };
        let bounds = self.within(Pot::MIN, newest)..=self.within(Pot::MAX, newest);
        if let Some(pot) = self.vardiff.retarget(now, self.pot, bounds) {
            self.go_to(pot, now, out);
        }
    }

    /// Makes `pot`, or what the bounds leave of it, the connection's difficulty: with a new job if one
    /// was sent before. Whether it changed.
    fn go_to(&mut self, pot: Pot, now: Instant, out: &mut Vec<Action>) -> bool {
        let Some(newest) = self.newest.clone() else { return false };
        let changed = self.within(pot, &newest) != self.pot;
        if changed {
            self.pot = pot;
            self.work(&newest, now, out);
        }
        changed
    }

    /// Clamps a pot: the network target outranks the operator, and the operator the machine.
    fn within(&self, pot: Pot, encoded: &EncodedJob) -> Pot {
        let floor = self.floor.unwrap_or(Pot::MIN).min(self.settings.pot_max);
        pot.max(floor).max(self.settings.pot_min).min(self.settings.pot_max).min(encoded.pot_max())
    }
}

#[cfg(test)]
mod tests;

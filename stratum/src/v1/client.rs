//! The client's side of a Stratum V1 connection: what a miner, or a proxy towards its pool, does.
//!
//! - `upstream`: lines of an upstream, read liberally; `difficulty`: floats to exact targets
//! - `job`: a job and the header that is hashed for it
//! - `settings`, `event`: what goes in, and what comes out
//!
//! The order is configure, subscribe, authorize, each after the answer to the one before: some servers
//! lose pipelined requests. An upstream is no friend: whatever it sends is bounded, and what makes no
//! sense is a [`Fault`], upon which the caller closes and goes elsewhere.

mod difficulty;
mod event;
mod job;
mod settings;
mod upstream;

pub use event::{Event, Fault, Share, SubmitError};
pub use job::{BRANCHES_MAX, COINBASE_PART_BYTES_MAX, JOB_ID_BYTES_MAX, Job};
pub use settings::Settings;
pub use upstream::{Refusal, TEXT_BYTES_MAX};

use super::line::Lines;
use super::message::{extension, method};
use bitcoin::hex::DisplayHex;
use job::Terms;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use upstream::{Message, hex, hex_u32, items, number, printable, text};

/// Most requests that may wait for their answer; [`Client::submit`] refuses more.
pub const PENDING_MAX: usize = 4_096;
/// Most jobs kept; the oldest falls out.
pub const JOBS_MAX: usize = 32;
/// Longest extranonce1 taken, in bytes.
pub const EXTRANONCE1_BYTES_MAX: usize = 32;
/// Largest extranonce2 taken, in bytes: no pool in the field asks for more.
pub const EXTRANONCE2_BYTES_MAX: usize = 16;

/// A session with an upstream.
#[derive(Debug)]
pub struct Client {
    settings: Settings,
    lines: Lines,
    state: State,
    /// In force for the next job.
    difficulty: f64,
    /// Agreed by `mining.configure`.
    version_mask: Option<u32>,
    next_id: u64,
    /// Oldest first; ids grow.
    pending: VecDeque<Pending>,
    /// Oldest first.
    jobs: VecDeque<Arc<Job>>,
    started: Instant,
    heard: Instant,
    ignored: u64,
}

#[derive(Debug)]
enum State {
    /// No extranonce yet: no job can be hashed.
    Opening,
    /// Jobs are taken, shares not yet sent.
    Subscribed(Prefix),
    /// All is said.
    Authorized(Prefix),
}

#[derive(Debug, Clone)]
struct Prefix {
    extranonce1: Box<[u8]>,
    extranonce2_size: usize,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    id: u64,
    request: Request,
    since: Instant,
}

#[derive(Debug, Clone, Copy)]
enum Request {
    Configure,
    Subscribe,
    Authorize,
    ExtranonceSubscribe,
    Submit { tag: u64 },
}

impl Request {
    fn method(self) -> &'static str {
        match self {
            Self::Configure => method::CONFIGURE,
            Self::Subscribe => method::SUBSCRIBE,
            Self::Authorize => method::AUTHORIZE,
            Self::ExtranonceSubscribe => method::EXTRANONCE_SUBSCRIBE,
            Self::Submit { .. } => method::SUBMIT,
        }
    }
}

impl Client {
    /// A session whose connection has just been made.
    ///
    /// # Panics
    /// If `jobs_max` is not 1…[`JOBS_MAX`].
    pub fn new(settings: Settings, now: Instant) -> Self {
        assert!((1..=JOBS_MAX).contains(&settings.jobs_max), "jobs_max is 1 to {JOBS_MAX}");
        Self {
            lines: Lines::new(settings.line_bytes_max),
            settings,
            state: State::Opening,
            difficulty: 1.0, // what a pool means that never says it
            version_mask: None,
            next_id: 1,
            pending: VecDeque::new(),
            jobs: VecDeque::new(),
            started: now,
            heard: now,
            ignored: 0,
        }
    }

    /// Says the first words; to be called once.
    pub fn start(&mut self, now: Instant, out: &mut Vec<Event>) {
        match self.settings.version_mask {
            Some(mask) => {
                let parameters = json!({
                    extension::VERSION_ROLLING_MASK: format!("{mask:08x}"),
                    extension::VERSION_ROLLING_MIN_BIT_COUNT: 2,
                });
                self.request(
                    Request::Configure,
                    &json!([[extension::VERSION_ROLLING], parameters]),
                    now,
                    out,
                );
            }
            None => self.subscribe(now, out),
        }
    }

    /// Takes bytes of the upstream, cut anywhere.
    ///
    /// # Errors
    /// The connection is to be closed; events already in `out` hold all the same.
    pub fn receive(&mut self, mut bytes: &[u8], now: Instant, out: &mut Vec<Event>) -> Result<(), Fault> {
        while let Some(line) = self.lines.next(&mut bytes)? {
            self.line(&line, now, out)?;
        }
        Ok(())
    }

    /// Sends a share; the upstream's judgement comes as [`Event::Answer`] with the same tag.
    ///
    /// Shares of jobs that are no longer live are sent too: one that looks like a block is worth it.
    ///
    /// # Errors
    /// Nothing was sent, and the session goes on.
    pub fn submit(
        &mut self,
        share: &Share,
        tag: u64,
        now: Instant,
        out: &mut Vec<Event>,
    ) -> Result<(), SubmitError> {
        if !matches!(self.state, State::Authorized(_)) {
            return Err(SubmitError::NotAuthorized);
        }
        if self.pending.len() >= PENDING_MAX {
            return Err(SubmitError::TooManyPending);
        }
        let mask = self.version_mask();
        if (share.version ^ share.job.version) & !mask != 0 {
            return Err(SubmitError::VersionOutsideMask { version: share.version, mask });
        }
        let extranonce2 = share.extranonce2.to_lower_hex_string();
        let (ntime, nonce) = (format!("{:08x}", share.ntime), format!("{:08x}", share.nonce));
        let (user, job) = (&self.settings.user, &share.job.id);
        let params = match self.version_mask {
            None => json!([user, job, extranonce2, ntime, nonce]),
            Some(mask) => {
                json!([user, job, extranonce2, ntime, nonce, format!("{:08x}", share.version & mask)])
            }
        };
        self.request(Request::Submit { tag }, &params, now, out);
        Ok(())
    }

    /// Whether a share for the job may still earn credit, as far as the upstream has told.
    pub fn is_live(&self, job: &Job) -> bool {
        self.jobs.iter().any(|live| live.id == job.id)
    }

    /// Version bits that may be rolled now; 0 if none.
    pub fn version_mask(&self) -> u32 {
        self.version_mask.unwrap_or(0)
    }

    /// Requests that wait for their answer.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Answers to nothing we asked and notifications we do not know, so far.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// When [`Client::tick`] is due at the latest.
    pub fn deadline(&self) -> Instant {
        let silence = self.heard + self.settings.silence_max;
        let answer = self.pending.front().map(|oldest| oldest.since + self.settings.answer_max);
        let handshake = match self.state {
            State::Authorized(_) => None,
            State::Opening | State::Subscribed(_) => Some(self.started + self.settings.handshake_max),
        };
        [answer, handshake].into_iter().flatten().fold(silence, Instant::min)
    }

    /// Looks at the clock.
    ///
    /// # Errors
    /// [`Fault::TooSlow`] names what the upstream did not do in time.
    pub fn tick(&mut self, now: Instant) -> Result<(), Fault> {
        let settings = &self.settings;
        if !matches!(self.state, State::Authorized(_)) && now >= self.started + settings.handshake_max {
            return Err(Fault::TooSlow("handshake"));
        }
        if self.pending.front().is_some_and(|oldest| now >= oldest.since + settings.answer_max) {
            return Err(Fault::TooSlow("answer"));
        }
        if now >= self.heard + settings.silence_max { Err(Fault::TooSlow("silence")) } else { Ok(()) }
    }

    fn request(&mut self, request: Request, params: &serde_json::Value, now: Instant, out: &mut Vec<Event>) {
        let (id, method) = (self.next_id, request.method());
        self.next_id += 1;
        self.pending.push_back(Pending { id, request, since: now });
        out.push(Event::Send(
            format!("{{\"id\":{id},\"method\":\"{method}\",\"params\":{params}}}\n").into(),
        ));
    }

    fn subscribe(&mut self, now: Instant, out: &mut Vec<Event>) {
        self.request(Request::Subscribe, &json!([self.settings.agent]), now, out);
    }

    fn line(&mut self, line: &[u8], now: Instant, out: &mut Vec<Event>) -> Result<(), Fault> {
        self.heard = now;
        match Message::parse(line).ok_or(Fault::Malformed("line"))? {
            Message::Call { method, id, params } => self.call(&method, id, params, out),
            Message::Response { id, outcome } => {
                let at = id.and_then(|id| self.pending.binary_search_by_key(&id, |p| p.id).ok());
                match at.and_then(|at| self.pending.remove(at)) {
                    Some(answered) => self.response(answered.request, outcome, now, out),
                    None => {
                        self.ignored += 1;
                        Ok(())
                    }
                }
            }
        }
    }

    fn response(
        &mut self,
        request: Request,
        outcome: Result<&RawValue, Refusal>,
        now: Instant,
        out: &mut Vec<Event>,
    ) -> Result<(), Fault> {
        match (request, outcome) {
            (Request::Configure, outcome) => {
                // A pool that knows no `mining.configure` rolls no versions: go on without (VR-09).
                self.version_mask = outcome.ok().and_then(agreed_mask).map(|mask| mask & self.asked_mask());
                out.extend(self.version_mask.map(Event::VersionMask));
                self.subscribe(now, out);
            }
            (Request::Subscribe, Ok(result)) => {
                let prefix = match items(result, 8).as_deref() {
                    Some([_, extranonce1, size, ..]) => Prefix::parse(extranonce1, size),
                    _ => None,
                };
                let prefix = prefix.ok_or(Fault::Malformed("answer to mining.subscribe"))?;
                out.push(prefix.event());
                self.state = State::Subscribed(prefix);
                let params = json!([self.settings.user, self.settings.password]);
                self.request(Request::Authorize, &params, now, out);
            }
            (Request::Authorize, Ok(_)) => {
                // Authorize is sent once, upon the answer to subscribe: there is a prefix.
                if let State::Subscribed(prefix) = std::mem::replace(&mut self.state, State::Opening) {
                    self.state = State::Authorized(prefix);
                }
                out.push(Event::Authorized);
                if self.settings.extranonce_subscribe {
                    self.request(Request::ExtranonceSubscribe, &json!([]), now, out);
                }
            }
            (Request::Subscribe | Request::Authorize, Err(refusal)) => {
                return Err(Fault::Refused { method: request.method(), refusal });
            }
            // Whether the pool will change our extranonce or not: we can take it.
            (Request::ExtranonceSubscribe, _) => {}
            (Request::Submit { tag }, outcome) => {
                out.push(Event::Answer { tag, result: outcome.map(|_| ()) });
            }
        }
        Ok(())
    }

    fn asked_mask(&self) -> u32 {
        self.settings.version_mask.unwrap_or(0)
    }

    fn call(
        &mut self,
        method: &str,
        id: Option<&RawValue>,
        params: &RawValue,
        out: &mut Vec<Event>,
    ) -> Result<(), Fault> {
        match method {
            method::NOTIFY => self.notify(params, out)?,
            method::SET_DIFFICULTY => {
                let difficulty = first(params).and_then(number);
                self.difficulty = difficulty
                    .filter(|difficulty| difficulty::target_of(*difficulty).is_some())
                    .ok_or(Fault::Malformed("difficulty"))?;
            }
            method::SET_EXTRANONCE => self.set_extranonce(params, out)?,
            method::SET_VERSION_MASK => self.set_version_mask(params, out)?,
            method::RECONNECT => out.push(self.reconnect(params)?),
            method::SHOW_MESSAGE => {
                let message = first(params).and_then(text).unwrap_or_default();
                out.push(Event::ShowMessage(printable(&message)));
            }
            method::GET_VERSION => reply(id, &json!(self.settings.agent).to_string(), "null", out),
            method::PING => reply(id, "\"pong\"", "null", out),
            _ => {
                self.ignored += 1;
                reply(id, "null", "[20,\"unknown method\",null]", out);
            }
        }
        Ok(())
    }

    fn notify(&mut self, params: &RawValue, out: &mut Vec<Event>) -> Result<(), Fault> {
        let (State::Subscribed(prefix) | State::Authorized(prefix)) = &self.state else {
            return Err(Fault::TooEarly("a job"));
        };
        let terms = Terms {
            extranonce1: prefix.extranonce1.clone(),
            extranonce2_size: prefix.extranonce2_size,
            difficulty: self.difficulty,
            target: difficulty::target_of(self.difficulty).ok_or(Fault::Malformed("difficulty"))?,
        };
        let job = Arc::new(Job::parse(params, terms)?);
        if job.clean {
            self.jobs.clear();
        }
        // The same id again replaces the job: an answer could not tell the two apart.
        self.jobs.retain(|known| known.id != job.id);
        if self.jobs.len() >= self.settings.jobs_max {
            self.jobs.pop_front();
        }
        self.jobs.push_back(job.clone());
        out.push(Event::Job(job));
        Ok(())
    }

    fn set_extranonce(&mut self, params: &RawValue, out: &mut Vec<Event>) -> Result<(), Fault> {
        let prefix = match items(params, 8).as_deref() {
            Some([extranonce1, size, ..]) => Prefix::parse(extranonce1, size),
            _ => None,
        };
        let fresh = prefix.ok_or(Fault::Malformed(method::SET_EXTRANONCE))?;
        let (State::Subscribed(prefix) | State::Authorized(prefix)) = &mut self.state else {
            return Err(Fault::TooEarly(method::SET_EXTRANONCE));
        };
        out.push(fresh.event());
        *prefix = fresh;
        Ok(())
    }

    fn set_version_mask(&mut self, params: &RawValue, out: &mut Vec<Event>) -> Result<(), Fault> {
        let mask = first(params).and_then(hex_u32).ok_or(Fault::Malformed("version mask"))?;
        let mask = mask & self.asked_mask();
        match &mut self.version_mask {
            Some(agreed) => {
                *agreed = mask;
                out.push(Event::VersionMask(mask));
            }
            // Without an agreement it means nothing (V1-33).
            None => self.ignored += 1,
        }
        Ok(())
    }

    /// `[host, port, wait]`, each of them optional; port and wait come as numbers or strings.
    fn reconnect(&self, params: &RawValue) -> Result<Event, Fault> {
        let params = items(params, 8).unwrap_or_default();
        let whole = |raw: &RawValue| raw.get().trim_matches('"').parse::<u16>().ok();
        let host = params.first().and_then(|host| text(host)).unwrap_or_default();
        if !host.is_empty() && !host.eq_ignore_ascii_case(&self.settings.host) {
            return Ok(Event::ReconnectRefused { host: printable(&host) });
        }
        let named = params.get(1).map(|raw| whole(raw).filter(|port| *port != 0));
        let port = named.map(|port| port.ok_or(Fault::Malformed(method::RECONNECT))).transpose()?;
        let wait = params.get(2).and_then(|raw| whole(raw)).unwrap_or(0);
        Ok(Event::Reconnect { port, wait: Duration::from_secs(wait.into()) })
    }
}

impl Prefix {
    fn parse(extranonce1: &RawValue, size: &RawValue) -> Option<Self> {
        let extranonce1 = hex(extranonce1, EXTRANONCE1_BYTES_MAX)?.into();
        let extranonce2_size = number(size).filter(|size| (1..=EXTRANONCE2_BYTES_MAX).contains(size))?;
        Some(Self { extranonce1, extranonce2_size })
    }

    fn event(&self) -> Event {
        Event::Subscribed { extranonce1: self.extranonce1.clone(), extranonce2_size: self.extranonce2_size }
    }
}

/// The mask in an answer to `mining.configure`; `None` unless rolling was granted with a mask.
fn agreed_mask(result: &RawValue) -> Option<u32> {
    #[derive(Deserialize)]
    struct Configured<'a> {
        /// `true`, `false` or an error string.
        #[serde(borrow, rename = "version-rolling")]
        version_rolling: &'a RawValue,
        #[serde(borrow, rename = "version-rolling.mask")]
        mask: Cow<'a, str>,
    }
    let configured: Configured<'_> = serde_json::from_str(result.get()).ok()?;
    // Some pools leave out leading zeros.
    let mask = u32::from_str_radix(&configured.mask, 16).ok()?;
    (configured.version_rolling.get() == "true").then_some(mask)
}

fn first(params: &RawValue) -> Option<&RawValue> {
    items(params, 8)?.first().copied()
}

/// Answers a request of the upstream; a notification (without an id) gets no answer.
fn reply(id: Option<&RawValue>, result: &str, error: &str, out: &mut Vec<Event>) {
    if let Some(id) = id {
        let line = format!("{{\"id\":{},\"result\":{result},\"error\":{error}}}\n", id.get());
        out.push(Event::Send(line.into()));
    }
}

#[cfg(test)]
mod tests;

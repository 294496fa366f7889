//! One connection upstream, from its first packet to its end: a channel for each account, their work, and the verdicts
//! on our shares.

mod session;

use self::session::{Channel, Sent, Session, Standing, fault, gone, read, write};
use crate::bridge::{NEEDED_BYTES, WANTED_BYTES};
use crate::forward::{ACCOUNTS_MAX, Account, Judged, Share, Waiting, Wish, reject};
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::receipts::LogAddress;
use share_accounting::publish::journal::{Fate, Line};
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stratum::share::Reject;
use stratum::v2::client::{self, Client, Event, Job, Kind, OPENS_MAX, Request, RequestId, Settings};
use stratum::v2::codec::{Str255, U256};
use stratum::v2::error_code;
use stratum_net::clock::unix_ms;
use stratum_net::outbound::{self, Server};
use stratum_net::outbox::Outbox;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// From the first packet to a complete handshake.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// From there to the first job, or until accounts may be opened.
const READY_WITHIN: Duration = Duration::from_secs(5);
/// How often upstream is told of other machines, at most (MN-12).
const UPDATE_EVERY: Duration = Duration::from_secs(1);
/// A share that upstream has said nothing of for this long is told to its machine as accepted: the reference pool
/// acknowledges in batches, of which the last may never fill.
const CONFIRM_WITHIN: Duration = Duration::from_secs(10);
/// Jobs whose shares are sent.
const JOBS_MAX: usize = 32;
/// Without a byte for this long while shares wait for their verdicts, upstream is taken for dead: so many shares make
/// any batch full, and a single one may wait for the batch of a slow pool.
const SILENCE: [(usize, Duration); 2] = [(32, Duration::from_secs(10)), (1, Duration::from_secs(120))];
/// Jobs of a channel within [`JOBS_PERIOD`]; more are a flood, which machines are spared (N19).
const JOBS_PER_PERIOD_MAX: u32 = 120;
const JOBS_PERIOD: Duration = Duration::from_secs(60);
/// Upstream has to take what we send.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// Why a connection ends that has done no wrong.
const NOT_NEEDED: &str = "not needed any more";
/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// What is known of an upstream before it is connected.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Where it is.
    pub server: Server,
    /// Who is paid, as that pool writes it; `None` if machines say so themselves.
    pub user: Option<Str255>,
    /// Where it publishes its share log, if it does.
    pub log: Option<LogAddress>,
}

/// What a link tells.
#[derive(Debug)]
pub struct Told {
    /// Which link; see [`Link::number`].
    pub link: u32,
    /// What.
    pub news: News,
}

/// What a link tells of.
#[derive(Debug)]
pub enum News {
    /// Accounts may be opened: nothing of work yet.
    Ready,
    /// The machines of this account work on this from now on.
    Work(Account, Arc<Job>),
    /// Upstream opens no channel for this account: why.
    Refused(Account, String),
    /// The connection has ended, or there never was one: why. Nothing comes after this.
    Ended(String),
}

/// A connection upstream.
#[derive(Debug)]
pub struct Link {
    /// Where to.
    pub upstream: Upstream,
    /// Its place among the upstreams.
    pub place: usize,
    /// What has become of each share, if that is written down.
    pub journal: Option<Journal>,
    /// Names the connection; no other has this number.
    pub number: u32,
    /// What shards want.
    pub wishes: mpsc::Receiver<Wish>,
    /// Who is told.
    pub told: mpsc::Sender<Told>,
    /// The shards, for verdicts: each has room for all that it may wait for.
    pub shards: Vec<mpsc::Sender<Judged>>,
    /// Counters.
    pub metrics: Metrics,
    /// The end.
    pub stop: CancellationToken,
}

impl Link {
    /// Connects and works until the connection ends or `stop`.
    pub async fn run(mut self) {
        let ended = self.work().await.unwrap_err();
        // What waits in the queue will not be sent.
        self.wishes.close();
        while let Ok(wish) = self.wishes.try_recv() {
            if let Wish::Share(share) = wish {
                self.lose(share.waiting);
            }
        }
        self.tell(News::Ended(ended)).await;
    }

    async fn tell(&self, news: News) {
        // Nobody listens while the process ends.
        let _ = self.told.send(Told { link: self.number, news }).await;
    }

    /// `Err` is the reason for the end.
    async fn work(&mut self) -> Result<Infallible, String> {
        let server = &self.upstream.server;
        let stop = self.stop.clone();
        let connected = tokio::select! {
            () = stop.cancelled() => return Err(NOT_NEEDED.to_owned()),
            connected = outbound::connect(server, CONNECT_WITHIN) => connected,
        };
        let (stream, transport) = connected.map_err(|error| error.to_string())?;
        debug!(upstream = %server, "handshake done");
        let host = Str255::new(server.host.clone()).unwrap_or_default();
        let settings =
            Settings { vendor: Str255::from_static("sluice-proxy"), ..Settings::new(host, server.port) };
        let now = Instant::now();
        let mut events = Vec::new();
        let client = Client::new(Arc::new(settings), transport.open, now, &mut events);
        let mut session = Session {
            client,
            outbox: Outbox::sealed(transport.seal),
            ready: false,
            opening: HashMap::new(),
            extranonce_size: WANTED_BYTES,
            to_open: VecDeque::new(),
            accounts: HashMap::new(),
            channels: HashMap::new(),
            update_at: now,
            heard: now,
        };
        let ended = self.drive(&mut session, &stream, events).await;
        for Channel { account, sent, .. } in session.channels.into_values() {
            self.lose_all(&account, sent);
        }
        ended
    }

    async fn drive(
        &mut self,
        session: &mut Session,
        stream: &TcpStream,
        events: Vec<Event>,
    ) -> Result<Infallible, String> {
        let stop = self.stop.clone();
        let ready_until = Instant::now() + READY_WITHIN;
        let mut buffer = vec![0; READ_BYTES];
        let mut stuck_since: Option<Instant> = None;
        self.take(session, events, Instant::now()).await?;
        loop {
            let waits = write(session, stream).map_err(gone)?;
            stuck_since = waits.then(|| stuck_since.unwrap_or_else(Instant::now));
            let now = Instant::now();
            if now >= ready_until && !self.is_live(session) {
                return Err(format!("no work within {} s", READY_WITHIN.as_secs()));
            }
            if stuck_since.is_some_and(|since| now.saturating_duration_since(since) >= WRITE_WITHIN) {
                return Err("it does not read what we send".to_owned());
            }
            session.client.tick(now).map_err(fault)?;
            session.listen(now)?;
            self.confirm(session, now);
            let mut events = Vec::new();
            self.open_waiting(session, now, &mut events)?;
            session.update(now, &mut events);
            self.take(session, events, now).await?;
            let due = session.client.deadline().min(now + UPDATE_EVERY);
            let mut events = Vec::new();
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(NOT_NEEDED.to_owned()),
                ready = stream.readable() => {
                    ready.map_err(gone)?;
                    let read = read(session, stream, &mut buffer, &mut events);
                    // What was understood before the end holds.
                    self.take(session, events, Instant::now()).await?;
                    read?;
                }
                Some(wish) = self.wishes.recv(), if session.ready => {
                    self.fulfil(session, wish, &mut events).await;
                    self.take(session, events, Instant::now()).await?;
                }
                _ = stream.writable(), if stuck_since.is_some() => {}
                () = tokio::time::sleep_until(due.into()) => {}
            }
        }
    }

    /// Whether machines can be given work: at once if the settings name the account, else when they name it.
    fn is_live(&self, session: &Session) -> bool {
        match self.upstream.user {
            Some(_) => session.channels.values().any(|channel| !channel.jobs.is_empty()),
            None => session.ready,
        }
    }

    /// Does what the client wants done.
    async fn take(&mut self, session: &mut Session, events: Vec<Event>, now: Instant) -> Result<(), String> {
        let mut events = VecDeque::from(events);
        while let Some(event) = events.pop_front() {
            let mut more = Vec::new();
            match event {
                Event::Send(frame) => session.outbox.send(frame).map_err(|error| error.to_string())?,
                Event::Ready { .. } => {
                    session.ready = true;
                    match self.upstream.user {
                        Some(_) => self.open(session, Account::new(), now, &mut more)?,
                        None => self.tell(News::Ready).await,
                    }
                }
                Event::SetupRefused { flags, code } => {
                    return Err(format!("it refuses the connection: {code} (flags {flags:#x})"));
                }
                Event::OpenRefused { request, code } => {
                    self.refused(session, request, &code, now, &mut more).await?;
                }
                Event::Opened { request, channel, .. } => session.opened(request, channel),
                Event::Work { job, .. } => {
                    if let Some(account) = session.work(&job, now)? {
                        self.tell(News::Work(account, job)).await;
                    }
                }
                Event::Accepted { channel, last_sequence_number, .. } => {
                    self.accepted(session, channel, last_sequence_number);
                }
                Event::Rejected { channel, sequence_number, code } => {
                    self.rejected(session, channel, sequence_number, &code);
                }
                Event::UpdateRefused { code, .. } => {
                    debug!(upstream = %self.upstream.server, %code, "told of our machines, it refuses");
                }
                Event::Closed { channel, reason } => self.closed(session, channel, &reason).await?,
                // Only ever to the same place, whatever host it names: that lever has been pulled by thieves (N12).
                Event::Reconnect { .. } => return Err("it asks us to connect again".to_owned()),
                Event::Target { .. } | Event::Prefix { .. } => {}
            }
            for event in more.into_iter().rev() {
                events.push_front(event);
            }
        }
        Ok(())
    }

    async fn fulfil(&mut self, session: &mut Session, wish: Wish, out: &mut Vec<Event>) {
        match wish {
            Wish::Share(share) => self.submit(session, share, out),
            Wish::Open(account) if session.knows(&account) => {}
            Wish::Open(account) if session.accounts.len() + session.to_open.len() >= ACCOUNTS_MAX => {
                let why = format!("{ACCOUNTS_MAX} accounts are mined for already");
                self.tell(News::Refused(account, why)).await;
            }
            Wish::Open(account) => session.to_open.push_back(account),
            Wish::Rate { shard, account, hashes_per_s } => {
                if let Some(standing) = session.accounts.get_mut(&account) {
                    standing.rates[shard] = hashes_per_s;
                }
            }
        }
    }

    /// Asks for the channels of accounts that wait, as many at once as the client lets wait for their answers.
    fn open_waiting(&self, session: &mut Session, now: Instant, out: &mut Vec<Event>) -> Result<(), String> {
        while session.opening.len() < OPENS_MAX
            && let Some(account) = session.to_open.pop_front()
        {
            self.open(session, account, now, out)?;
        }
        Ok(())
    }

    fn open(
        &self,
        session: &mut Session,
        account: Account,
        now: Instant,
        out: &mut Vec<Event>,
    ) -> Result<(), String> {
        let min_extranonce_size = session.extranonce_size;
        let named = || Str255::new(account.as_bytes().to_vec()).expect("the session takes no longer names");
        let standing = session.accounts.entry(account.clone()).or_insert_with(|| Standing {
            rates: vec![0.0; self.shards.len()],
            told_hashes_per_s: 0.0,
            channel_id: None,
        });
        standing.told_hashes_per_s = standing.rates.iter().sum();
        let request = Request {
            kind: Kind::Extended { min_extranonce_size },
            user_identity: self.upstream.user.clone().unwrap_or_else(named),
            hashes_per_s: standing.told_hashes_per_s as f32, // about right is enough
            max_target: U256([0xff; 32]),
        };
        let request = session.client.open(request, now, out).map_err(|error| error.to_string())?;
        session.opening.insert(request, (account, min_extranonce_size));
        Ok(())
    }

    /// A channel with less to be rolled will do, if that was why.
    async fn refused(
        &self,
        session: &mut Session,
        request: RequestId,
        code: &Str255,
        now: Instant,
        out: &mut Vec<Event>,
    ) -> Result<(), String> {
        let Some((account, asked)) = session.opening.remove(&request) else { return Ok(()) };
        let too_large = code.as_bytes() == error_code::MIN_EXTRANONCE_SIZE_TOO_LARGE.as_str().as_bytes();
        if too_large && asked == WANTED_BYTES {
            session.extranonce_size = NEEDED_BYTES;
            return self.open(session, account, now, out);
        }
        match &self.upstream.user {
            Some(user) => Err(format!("it opens no channel for {user}: {code}")),
            None => {
                // It takes no place from those that are mined for.
                session.accounts.remove(&account);
                self.tell(News::Refused(account, format!("upstream opens no channel: {code}"))).await;
                Ok(())
            }
        }
    }

    async fn closed(&self, session: &mut Session, channel: u32, reason: &Str255) -> Result<(), String> {
        let Some(channel) = session.channels.remove(&channel) else { return Ok(()) };
        self.lose_all(&channel.account, channel.sent);
        match self.upstream.user {
            Some(_) => Err(format!("it has closed the channel: {reason}")),
            None => {
                session.accounts.remove(&channel.account);
                let why = format!("upstream has closed the channel: {reason}");
                self.tell(News::Refused(channel.account, why)).await;
                Ok(())
            }
        }
    }

    fn submit(&mut self, session: &mut Session, share: Share, out: &mut Vec<Event>) {
        let Share { channel_id, job_id, extranonce, ntime, nonce, version, hash, waiting } = share;
        let sent = session.channels.get_mut(&channel_id).and_then(|channel| {
            let job = channel.jobs.iter().rev().find(|job| job.id == job_id)?.clone();
            let share = client::Share { job, extranonce, ntime, nonce, version };
            match session.client.submit(&share, out) {
                Ok(sequence_number) => {
                    channel.sent.push_back(Sent { sequence_number, waiting, hash, since: Instant::now() });
                    Some(())
                }
                Err(error) => {
                    debug!(upstream = %self.upstream.server, %error, "a share was not sent");
                    None
                }
            }
        });
        if sent.is_none() {
            self.lose(waiting);
        }
    }

    /// All shares up to this one are accepted, but for those that were rejected.
    fn accepted(&self, session: &mut Session, channel: u32, last: u32) {
        let Some(Channel { account, sent, .. }) = session.channels.get_mut(&channel) else { return };
        let covered = |sent: &Sent| last.wrapping_sub(sent.sequence_number) < u32::MAX / 2;
        while let Some(sent) = sent.pop_front_if(|sent| covered(sent)) {
            self.verdict(sent.waiting, Ok(()));
            self.metrics.upstream_accepted();
            self.note(account, &sent, Fate::Accepted);
        }
    }

    fn rejected(&self, session: &mut Session, channel: u32, sequence_number: u32, code: &Str255) {
        let Some(Channel { account, sent, .. }) = session.channels.get_mut(&channel) else { return };
        let at = sent.iter().position(|sent| sent.sequence_number == sequence_number);
        if let Some(sent) = at.and_then(|at| sent.remove(at)) {
            debug!(upstream = %self.upstream.server, %code, "share rejected upstream");
            self.verdict(sent.waiting, Err(reject(code)));
            self.metrics.upstream_rejected();
            self.note(account, &sent, Fate::Rejected { code: code.to_string() });
        }
    }

    /// Machines are not kept waiting for batches that do not fill.
    fn confirm(&self, session: &mut Session, now: Instant) {
        for sent in session.channels.values_mut().flat_map(|channel| &mut channel.sent) {
            if now.saturating_duration_since(sent.since) >= CONFIRM_WITHIN
                && let Some(waiting) = sent.waiting.take()
            {
                self.verdict(Some(waiting), Ok(()));
                self.metrics.upstream_unconfirmed();
            }
        }
    }

    /// The shares of a channel that has ended.
    fn lose_all(&self, account: &Account, sent: impl IntoIterator<Item = Sent>) {
        for sent in sent {
            self.lose(sent.waiting);
            self.note(account, &sent, Fate::Lost);
        }
    }

    /// Writes down what has become of a share that was sent.
    fn note(&self, account: &Account, sent: &Sent, fate: Fate) {
        let Some(journal) = &self.journal else { return };
        let user = self.upstream.user.as_ref().map_or(account.as_bytes(), |user| user.as_bytes());
        let user = String::from_utf8_lossy(user).into_owned();
        journal.note(self.place, Line { at: unix_ms(), user, hash: sent.hash, fate });
    }

    /// A share will not be judged upstream.
    fn lose(&self, waiting: Option<Waiting>) {
        self.metrics.upstream_lost();
        self.verdict(waiting, Err(Reject::LostUpstream));
    }

    fn verdict(&self, waiting: Option<Waiting>, verdict: Result<(), Reject>) {
        let Some(waiting) = waiting else { return };
        // A shard that is gone needs no word, and one that is there has room for all it waits for.
        if let Err(mpsc::error::TrySendError::Full(judged)) =
            self.shards[waiting.shard].try_send(Judged { waiting, verdict })
        {
            panic!("a shard has no room for {judged:?}");
        }
    }
}

//! Has witnesses cosign the heads of the share log (c2sp.org/tlog-witness): who sees their word sees the log that
//! everybody is shown.
//!
//! All of them are asked for the same head at once, every ten seconds if it is a new one. Nobody waits for them.

use crate::metrics::Metrics;
use crate::settings::Publish;
use share_accounting::publish::cosign::{Request, WitnessVerifier, gathered};
use share_accounting::publish::{Head, Published};
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;
use stratum_net::fetch;
use tracing::{info, warn};

/// How often a new head is looked for.
const EVERY: Duration = Duration::from_secs(10);
/// Longest answer of a witness, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// A witness that says that it has cosigned something else is asked again with that, once.
const TRIES: usize = 2;

/// A witness: where it listens, and its key.
#[derive(Debug, Clone)]
pub struct Witness {
    /// Below it is `add-checkpoint`.
    pub url: String,
    /// What its cosignatures are checked with.
    pub key: WitnessVerifier,
}

/// Who asks: a thread.
pub struct Witnesses {
    witnesses: Vec<Asked>,
    /// So many make a head one to be shown.
    needed: usize,
    published: Published,
    metrics: Metrics,
    /// Its other end is dropped when the pool stops.
    stop: Receiver<()>,
}

/// A witness, as seen from here.
struct Asked {
    witness: Witness,
    /// Entries under the head that it has cosigned last, as far as is known.
    old_size: u64,
    /// What was said of it last.
    told: Option<String>,
}

impl Witnesses {
    /// Comes with what ends it when dropped.
    pub fn new(settings: &Publish, published: Published, metrics: Metrics) -> (Self, SyncSender<()>) {
        let (running, stop) = sync_channel(1);
        let asked = |witness: &Witness| Asked { witness: witness.clone(), old_size: 0, told: None };
        let witnesses = settings.witnesses.iter().map(asked).collect();
        let needed = usize::from(settings.witnesses_needed).max(1);
        (Self { witnesses, needed, published, metrics, stop }, running)
    }

    /// Works until told to stop.
    pub fn run(mut self) {
        let mut cosigned = None;
        while self.stop.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            let Ok((head, note)) = self.published.checkpoint() else { continue };
            if !self.witnesses.is_empty() && cosigned != Some(head) && self.round(head, &note) {
                cosigned = Some(head);
            }
        }
    }

    /// Whether enough have cosigned this head.
    fn round(&mut self, head: Head, note: &str) -> bool {
        let published = &self.published;
        let answers: Vec<_> = thread::scope(|scope| {
            let ask = |asked| {
                let ask = move || Asked::ask(asked, published, head, note);
                thread::Builder::new().name("witness".to_owned()).spawn_scoped(scope, ask)
            };
            let asking: Vec<_> = self.witnesses.iter_mut().map(ask).collect();
            let answer = |asking: io::Result<ScopedJoinHandle<'_, Result<String, String>>>| {
                let asking = asking.map_err(|error| format!("cannot start a thread: {error}"))?;
                asking.join().unwrap_or_else(|_| Err("it panics".to_owned()))
            };
            asking.into_iter().map(answer).collect()
        });
        let lines: Vec<_> = answers.iter().map(|answer| answer.as_deref().unwrap_or_default()).collect();
        let keys = self.witnesses.iter().map(|asked| &asked.witness.key);
        let (cosigned, count) = gathered(note, keys.zip(lines));
        for (asked, answer) in self.witnesses.iter_mut().zip(answers) {
            asked.tell(answer.err());
        }
        self.metrics.witnesses.set(i64::try_from(count).unwrap_or(i64::MAX));
        let is_enough = count >= self.needed;
        if is_enough {
            self.published.cosigned_is(cosigned);
        }
        is_enough
    }
}

/// As much of it as belongs into a log.
fn shortened(answer: &str) -> String {
    answer.trim().chars().take(200).collect()
}

impl Asked {
    /// The lines that it answers.
    fn ask(&mut self, published: &Published, head: Head, note: &str) -> Result<String, String> {
        let address = format!("{}/add-checkpoint", self.witness.url.trim_end_matches('/'));
        for _ in 0..TRIES {
            let proof = match self.old_size {
                0 => Vec::new(),
                size if size == head.size => Vec::new(),
                size => published.consistency(size, head.size).map_err(|error| error.to_string())?,
            };
            let request = Request { old_size: self.old_size, proof, checkpoint: note.to_owned() };
            let (status, answer) = fetch::post(&address, &request.text(), ANSWER_BYTES_MAX)
                .map_err(|error| error.to_string())?;
            let answer = String::from_utf8_lossy(&answer);
            match status {
                200 => {
                    self.old_size = head.size;
                    let (_, count) = gathered(note, [(&self.witness.key, &*answer)]);
                    let answer = answer.into_owned();
                    return if count == 1 {
                        Ok(answer)
                    } else {
                        Err("what it answers is not its cosignature".to_owned())
                    };
                }
                409 => {
                    let size: u64 = answer
                        .trim()
                        .parse()
                        .map_err(|_| format!("it answers 409: {}", shortened(&answer)))?;
                    if size > head.size {
                        return Err(format!("it has cosigned {size} entries, and there are {}", head.size));
                    }
                    self.old_size = size;
                }
                _ => return Err(format!("{address} answers {status}: {}", shortened(&answer))),
            }
        }
        Err("it names another size each time".to_owned())
    }

    /// Says so once.
    fn tell(&mut self, failure: Option<String>) {
        let witness = self.witness.key.name();
        match &failure {
            Some(reason) if self.told.is_none() => warn!(witness, reason, "a witness does not cosign"),
            None if self.told.is_some() => info!(witness, "the witness cosigns again"),
            _ => {}
        }
        self.told = failure;
    }
}

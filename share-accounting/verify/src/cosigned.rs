//! What witnesses have said of the log: a head with their cosignatures, kept beside what was fetched.

use crate::holder::Holder;
use crate::kept::{SignedLie, write};
use share_accounting::entry::Params;
use share_accounting::publish::Head;
use share_accounting::publish::cosign::{Cosigned, WitnessVerifier};
use share_accounting::publish::key::LogVerifier;
use std::path::Path;
use std::time::SystemTime;

/// A witness's word is that of the head's time if the two are no further apart, in seconds: a day.
const AGE_MAX_S: u64 = 86_400;

/// What is known of witnesses.
#[derive(Debug, Default)]
pub struct Witnessed {
    /// Entries under the head that they have cosigned.
    pub size: u64,
    /// Who has, by its name, and when, Unix seconds.
    pub by: Vec<(String, u64)>,
    /// So many of so many the rules of the log want, if these are known.
    pub needed: Option<(usize, usize)>,
    /// Of these, so many have.
    pub of_the_rules: usize,
    /// Those that were asked for and have not.
    pub absent: Vec<String>,
    /// Why a cosigned head could not be looked at.
    pub trouble: Option<String>,
}

/// Who has to cosign.
pub struct Asked<'a> {
    /// By the log, if its rules were read.
    pub rules: Option<&'a Params>,
    /// By whoever asks.
    pub wanted: &'a [WitnessVerifier],
}

impl Witnessed {
    /// Whether all have that have to.
    pub fn is_enough(&self) -> bool {
        self.absent.is_empty() && self.needed.is_none_or(|(needed, _)| self.of_the_rules >= needed)
    }
}

/// Who has cosigned a head of this log. What was `fetched` is kept in the folder if it is a head of the log at hand; else
/// the one that is kept with it counts.
///
/// # Errors
/// [`SignedLie`] if what was fetched is signed by the log, and of another one than that at hand; or it cannot be kept.
pub fn check(
    dir: &Path,
    fetched: Option<anyhow::Result<Option<Vec<u8>>>>,
    log: &impl Holder,
    verifier: &LogVerifier,
    asked: &Asked<'_>,
) -> anyhow::Result<Witnessed> {
    let path = dir.join("cosigned");
    let mut witnessed = Witnessed::default();
    let kept = log.cosigned().and_then(|note| Some((verifier.head(&note).ok()?.0, note)));
    let mut found = kept.filter(|(head, _)| is_of(log, head).unwrap_or(false));
    match fetched {
        Some(Ok(Some(note))) => match verifier.head(&note) {
            Ok((head, _)) if head.size > log.size() => {
                witnessed.trouble =
                    Some("the server's cosigned head is newer than the one it shows".to_owned());
            }
            Ok((head, _)) => match is_of(log, &head) {
                Err(error) => witnessed.trouble = Some(format!("the server's cosigned head: {error:#}")),
                Ok(true) => {
                    write(&path, &note)?;
                    found = Some((head, note));
                }
                Ok(false) => {
                    let other = dir.join("cosigned.other");
                    write(&other, &note)?;
                    let (kept, now) =
                        (dir.join("checkpoint").display().to_string(), other.display().to_string());
                    return Err(SignedLie::TwoLogs { size: head.size, kept, now }.into());
                }
            },
            Err(error) => witnessed.trouble = Some(format!("the server's cosigned head: {error}")),
        },
        Some(Err(error)) => witnessed.trouble = Some(format!("{error:#}")),
        Some(Ok(None)) | None => {}
    }
    if let Some((head, note)) = found {
        witnessed.size = head.size;
        witnessed.count(&note, log.kept_at()?, asked);
    } else {
        witnessed.count(&[], SystemTime::UNIX_EPOCH, asked);
    }
    Ok(witnessed)
}

/// Whether the log at hand begins with what is under a head.
fn is_of(log: &impl Holder, head: &Head) -> anyhow::Result<bool> {
    Ok(head.size <= log.size() && log.roots(&[head.size].into())?[&head.size] == head.root)
}

impl Witnessed {
    /// Counts those whose word is as old as the head at hand.
    fn count(&mut self, note: &[u8], kept_at: SystemTime, asked: &Asked<'_>) {
        let rules = asked.rules.map(|params| params.witnesses.clone());
        self.needed = rules.as_ref().map(|rules| (rules.needed.into(), rules.keys.len()));
        let keys = rules.map(|rules| rules.keys).unwrap_or_default();
        let kept_at = kept_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let is_of_the_time = |cosigned: &Cosigned| cosigned.unix_s.abs_diff(kept_at) <= AGE_MAX_S;
        let cosigned = |witness: &WitnessVerifier| witness.cosigned(note).filter(is_of_the_time);
        let mut good: Vec<WitnessVerifier> = Vec::new();
        // One key is one witness, whatever names it has.
        for witness in keys.iter().filter_map(|key| key.parse::<WitnessVerifier>().ok()) {
            if let Some(Cosigned { unix_s }) = cosigned(&witness)
                && !good.iter().any(|known| known.has_key_of(&witness))
            {
                self.by.push((witness.name().to_owned(), unix_s));
                good.push(witness);
            }
        }
        self.of_the_rules = good.len();
        for witness in asked.wanted {
            match cosigned(witness) {
                None => self.absent.push(witness.name().to_owned()),
                Some(Cosigned { unix_s }) if !good.contains(witness) => {
                    self.by.push((witness.name().to_owned(), unix_s));
                }
                Some(_) => {}
            }
        }
    }
}

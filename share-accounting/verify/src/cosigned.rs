//! What witnesses have said of the log: a head with their cosignatures, kept beside the copy.

use crate::fetch::fetch_if_there;
use crate::kept::{SignedLie, write};
use crate::mirror::Mirror;
use anyhow::Context;
use share_accounting::entry::Params;
use share_accounting::publish::cosign::{Cosigned, WitnessVerifier};
use share_accounting::publish::key::LogVerifier;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// What is known of witnesses.
#[derive(Debug, Default)]
pub struct Witnessed {
    /// Entries under the head that they have cosigned.
    pub size: u64,
    /// Who has, by its name, and when, Unix seconds.
    pub by: Vec<(String, u64)>,
    /// So many of so many the rules of the log want.
    pub needed: (usize, usize),
    /// Of these, so many have.
    pub of_the_rules: usize,
    /// Those that were asked for and have not.
    pub absent: Vec<String>,
}

impl Witnessed {
    /// Whether all have that have to.
    pub fn is_enough(&self) -> bool {
        self.absent.is_empty() && self.of_the_rules >= self.needed.0
    }
}

/// Brings the cosigned head into the folder.
///
/// # Errors
/// The server does not answer.
pub fn fetch(dir: &Path, url: &str) -> anyhow::Result<()> {
    match fetch_if_there(url, "cosigned")? {
        Some(note) => write(&dir.join("cosigned"), &note),
        None => Ok(()),
    }
}

/// Who has cosigned a head of this log: of those that the rules name, and of those that are `wanted`.
///
/// # Errors
/// [`SignedLie`] if the cosigned head is of another log than the copy; or it cannot be read.
pub fn check(
    dir: &Path,
    mirror: &Mirror,
    verifier: &LogVerifier,
    params: Option<&Params>,
    wanted: &[WitnessVerifier],
) -> anyhow::Result<Witnessed> {
    let rules = params.map(|params| params.witnesses.clone()).unwrap_or_default();
    let of_the_rules: Vec<WitnessVerifier> = rules.keys.iter().filter_map(|key| key.parse().ok()).collect();
    let path = dir.join("cosigned");
    let note = match fs::read(&path) {
        Ok(note) => note,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let mut witnessed = Witnessed { needed: (rules.needed.into(), rules.keys.len()), ..Witnessed::default() };
    if !note.is_empty() {
        let (head, _) = verifier.head(&note).with_context(|| path.display().to_string())?;
        anyhow::ensure!(head.size <= mirror.head().size, "{} is newer than the copy", path.display());
        if mirror.roots(&[head.size].into())?[&head.size] != head.root {
            let (kept, now) = (dir.join("checkpoint").display().to_string(), path.display().to_string());
            return Err(SignedLie::TwoLogs { size: head.size, kept, now }.into());
        }
        witnessed.size = head.size;
    }
    let cosigned = |witness: &WitnessVerifier| witness.cosigned(&note);
    let mut seen = Vec::new();
    for (witness, is_rule) in
        of_the_rules.iter().map(|one| (one, true)).chain(wanted.iter().map(|one| (one, false)))
    {
        match cosigned(witness) {
            Some(Cosigned { unix_s }) => {
                witnessed.of_the_rules += usize::from(is_rule);
                if !seen.contains(&witness) {
                    seen.push(witness);
                    witnessed.by.push((witness.name().to_owned(), unix_s));
                }
            }
            None if !is_rule => witnessed.absent.push(witness.name().to_owned()),
            None => {}
        }
    }
    Ok(witnessed)
}

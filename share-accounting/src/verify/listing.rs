//! Each share of a log with what other entries say of it: for those who want to look at shares, not to judge them.

use super::jobs::Jobs;
use super::shares::header_hash;
use crate::entry::{Entry, Share};
use bitcoin::{BlockHash, Script, ScriptBuf};
use stratum::payee::PayeeTag;

/// What shares refer to, so far. Memory: all scripts, and jobs until an hour after they were replaced.
#[derive(Debug, Default)]
pub struct Listing {
    jobs: Jobs,
    /// By payee index.
    scripts: Vec<ScriptBuf>,
}

/// A share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<'a> {
    /// What its entry says.
    pub share: &'a Share,
    /// Where its money goes, if its payee is registered.
    pub script: Option<&'a Script>,
    /// Hash of its header, if it can be built: its job is there, and not replaced for an hour.
    pub hash: Option<BlockHash>,
}

impl Listing {
    /// Takes the next entry of a log, from the first one on.
    pub fn take<'a>(&'a mut self, index: u64, entry: &'a Entry) -> Option<Listed<'a>> {
        match entry {
            Entry::Share(share) => {
                let script = self.scripts.get(share.payee as usize).map(ScriptBuf::as_script); // u32 fits usize
                let hash = script.and_then(|script| header_hash(share, PayeeTag::of(script), &mut self.jobs));
                return Some(Listed { share, script, hash });
            }
            // What is none has no shares that can be hashed.
            Entry::Job(job) => drop(self.jobs.add(index, job)),
            Entry::Payee(payee) if payee.index as usize == self.scripts.len() => {
                self.scripts.push(payee.script.clone());
            }
            Entry::Chain(chain) => self.jobs.note(chain),
            Entry::Payee(_) | Entry::Params(_) | Entry::Settlement(_) | Entry::Move(_) => {}
        }
        None
    }
}

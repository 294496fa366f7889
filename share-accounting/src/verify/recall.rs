//! Shares that an earlier process has logged, hashed again: so that they can be asked for by hash.

use super::jobs::Jobs;
use super::shares::header_hash;
use crate::entry::{JobEntry, Share};
use bitcoin::BlockHash;
use std::collections::HashSet;
use stratum::payee::PayeeTag;

/// Jobs that are kept: some kilobytes each. Shares that follow each other are of few.
const JOBS_MAX: usize = if cfg!(test) { 2 } else { 1_024 };

/// Hashes shares whose jobs are looked up as they are needed.
#[derive(Debug)]
pub(crate) struct Recall<'a> {
    /// By payee index.
    tags: &'a [PayeeTag],
    jobs: Jobs,
    /// Those that were looked up.
    known: HashSet<u64>,
}

impl<'a> Recall<'a> {
    pub fn new(tags: &'a [PayeeTag]) -> Self {
        Self { tags, jobs: Jobs::default(), known: HashSet::new() }
    }

    /// The hash of a share's header, if its payee is known and `job` gives the job of an index of the log.
    pub fn hash(
        &mut self,
        share: &Share,
        job: impl FnOnce(u64) -> Option<Box<JobEntry>>,
    ) -> Option<BlockHash> {
        let tag = *self.tags.get(share.payee as usize)?; // u32 fits usize
        if !self.known.contains(&share.job) {
            if self.known.len() == JOBS_MAX {
                *self = Self::new(self.tags);
            }
            self.known.insert(share.job);
            self.jobs.add(share.job, &*job(share.job)?).ok()?;
        }
        header_hash(share, tag, &mut self.jobs)
    }
}

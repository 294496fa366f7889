//! What shares a log ended with when its process began: they can be asked for by hash like those that come after.

use super::{HASHES_MAX, Logged, NoAnswer, Signed};
use crate::entry::{Entry, JobEntry};
use crate::verify::recall::Recall;
use stratum::payee::PayeeTag;

/// The shares among the newest [`HASHES_MAX`] entries, oldest first; fewer once `is_over`. A share takes some microseconds.
///
/// # Errors
/// The published files cannot be read.
pub(super) fn newest_shares(
    signed: &Signed,
    tags: &[PayeeTag],
    is_over: impl Fn() -> bool,
) -> Result<Vec<Logged>, NoAnswer> {
    let mut recall = Recall::new(tags);
    let mut next = signed.head.size.saturating_sub(HASHES_MAX as u64); // usize fits u64
    let mut shares = Vec::new();
    while next < signed.head.size && !is_over() {
        for entry in signed.entries_from(next)? {
            if let Ok((Entry::Share(share), _)) = Entry::decode(&entry) {
                let hash = recall.hash(&share, |index| job(signed, index));
                shares.extend(hash.map(|hash| (hash, next)));
            }
            next += 1;
        }
    }
    Ok(shares)
}

fn job(signed: &Signed, index: u64) -> Option<Box<JobEntry>> {
    let entry = signed.entries_from(index).ok()?.swap_remove(0);
    match Entry::decode(&entry) {
        Ok((Entry::Job(job), _)) => Some(job),
        _ => None,
    }
}

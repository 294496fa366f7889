//! Shares of receipts, hashed again: whether what a log holds is the very work that was done for it.

use super::jobs::Jobs;
use super::shares::header_hash;
use crate::entry::{Entry, Share};
use crate::publish::receipt::Receipts;
use bitcoin::{BlockHash, Script};
use stratum::payee::PayeeTag;

/// A share that a log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipted {
    /// What its entry says.
    pub share: Share,
    /// Hash of its header, if its job is among the receipts, too.
    pub hash: Option<BlockHash>,
}

/// The shares of receipts, as work of this payee. The hash stands for everything: payee, difficulty, job and what the job
/// commits to.
pub fn shares(receipts: &Receipts, script: &Script) -> Vec<Receipted> {
    let (mut jobs, mut shares, tag) = (Jobs::default(), Vec::new(), PayeeTag::of(script));
    for receipt in &receipts.receipts {
        match Entry::decode(&receipt.entry) {
            // On what is no job nothing can be hashed.
            Ok((Entry::Job(job), _)) => drop(jobs.add(receipt.index, &job)),
            Ok((Entry::Share(share), _)) => shares.push(share),
            _ => {}
        }
    }
    let hashed = |share: Share| Receipted { hash: header_hash(&share, tag, &mut jobs), share };
    shares.into_iter().map(hashed).collect()
}

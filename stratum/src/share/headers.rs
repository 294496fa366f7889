//! From shares to the hashes of their headers, as many side by side as the processor takes.

use super::PendingShare;
use crate::extranonce::{Extranonce1, Extranonce2};
use crate::hasher::SecretState;
use crate::job::{Filling, JobId};
use sha256d::{Header, Midstate};
use std::collections::HashMap;

/// What was hashed last for a miner. Many machines roll the header for a while before they roll the coinbase, and on
/// V2 standard channels nothing else is ever rolled: then the way from the coinbase up to the root, 41 of 44
/// compressions with 12 siblings, has been gone already.
#[derive(Debug, Clone, Copy)]
struct Last {
    job: JobId,
    extranonce2: Extranonce2,
    root: [u8; 32],
    version: u32,
    midstate: Midstate,
}

/// Hashes headers. What it works with is kept, so that a share allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Headers {
    /// By the miners' prefixes.
    last: HashMap<Extranonce1, Last, SecretState>,
    headers: Vec<Header>,
    hashes: Vec<[u8; 32]>,
    /// Of shares whose root is not known: their place, what stands in the gap of their coinbase, and the root.
    rootless: Vec<usize>,
    fillings: Vec<Filling>,
    roots: Vec<[u8; 32]>,
}

impl Headers {
    /// Hashes the header of each share, for [`Headers::hashed`].
    pub(super) fn hash(&mut self, shares: &[PendingShare]) {
        self.write_headers(shares);
        self.hashes.resize(shares.len(), [0; 32]);
        sha256d::header_hashes(&mut self.headers, &mut self.hashes);
        self.remember(shares);
    }

    /// The headers and their hashes, in the order of the shares.
    pub(super) fn hashed(&self) -> impl Iterator<Item = (&[u8; 80], &[u8; 32])> {
        self.headers.iter().map(|header| &header.bytes).zip(&self.hashes)
    }

    /// Forgets a miner: its prefix may be given to another, whose jobs may have the same names.
    pub(super) fn forget(&mut self, prefix: Extranonce1) {
        self.last.remove(&prefix);
    }

    fn write_headers(&mut self, shares: &[PendingShare]) {
        self.headers.clear();
        self.rootless.clear();
        self.fillings.clear();
        for (place, PendingShare { id, job, roll, .. }) in shares.iter().enumerate() {
            let last = self.last.get(&roll.extranonce1);
            let last = last.filter(|last| (last.job, last.extranonce2) == (*id, roll.extranonce2));
            if last.is_none() {
                self.rootless.push(place);
                self.fillings.push(job.filling(roll.extranonce1, &roll.extranonce2));
            }
            let midstate = last.filter(|last| last.version == roll.version).map(|last| last.midstate);
            let root = last.map_or([0; 32], |last| last.root);
            self.headers.push(Header { bytes: job.header_over(&root, roll), midstate });
        }
        let Self { rootless, fillings, roots, headers, .. } = self;
        roots.resize(rootless.len(), [0; 32]);
        sha256d::merkle_roots(
            rootless.len(),
            |number| shares[rootless[number]].job.leaf(&fillings[number]),
            roots,
        );
        for (place, root) in rootless.iter().zip(roots) {
            let PendingShare { job, roll, .. } = &shares[*place];
            headers[*place].bytes = job.header_over(root, roll);
        }
    }

    fn remember(&mut self, shares: &[PendingShare]) {
        for (PendingShare { id, roll, .. }, Header { bytes, midstate }) in shares.iter().zip(&self.headers) {
            let root = bytes[36..68].try_into().expect("32 bytes");
            let midstate = midstate.expect("hashing has filled it in");
            let last =
                Last { job: *id, extranonce2: roll.extranonce2, root, version: roll.version, midstate };
            self.last.insert(roll.extranonce1, last);
        }
    }
}

//! A receipt with its job says what was hashed, to who has nothing else of the log.

use super::*;
use crate::publish::receipt::{Receipt, Receipts};
use crate::verify::listing::Listing;
use crate::verify::receipted;

/// Receipts of these entries. Paths are somebody else's concern.
fn receipts(entries: &[Entry], indexes: impl IntoIterator<Item = usize>) -> Receipts {
    let receipt = |at: usize| {
        let mut entry = Vec::new();
        entries[at].encode(&mut entry);
        Receipt { index: at as u64, entry, path: Vec::new() }
    };
    let receipts = indexes.into_iter().map(receipt).collect();
    Receipts { checkpoint: String::new(), receipts, next: 0 }
}

#[test]
fn a_share_and_its_job_give_the_hash_that_the_whole_log_gives() {
    let (entries, _) = honest_log();
    let mut listing = Listing::default();
    let mut seen = 0;
    for (at, entry) in entries.iter().enumerate() {
        let Some(listed) = listing.take(at as u64, entry) else { continue };
        let (script, hash) = (listed.script.unwrap().to_owned(), listed.hash);
        let job = listed.share.job as usize;
        let hashed = |entries: &[Entry], indexes: &[usize], script: &ScriptBuf| {
            let shares = receipted::shares(&receipts(entries, indexes.iter().copied()), script);
            assert_eq!(shares.len(), 1);
            shares[0].hash
        };
        assert!(hash.is_some());
        assert_eq!(hashed(&entries, &[job, at], &script), hash);
        assert_eq!(hashed(&entries, &[at, job], &script), hash, "in any order");
        assert_eq!(hashed(&entries, &[at], &script), None);
        assert_ne!(hashed(&entries, &[job, at], &super::script(99)), hash, "of another payee");
        let mut other = entries.clone();
        share(&mut other, at).pot = Pot::try_from(POT + 1).unwrap();
        assert_ne!(hashed(&other, &[job, at], &script), hash, "at another difficulty");
        seen += 1;
    }
    assert!(seen > 20);
}

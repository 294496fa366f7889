//! What a log ended with before a restart is found by hash after it, as what comes then.

use super::*;
use crate::entry::Encoded;
use crate::log::Log;
use crate::log::append::LogSettings;
use crate::publish::key::LogKey;
use crate::publish::{self, Head, Places, Teller};
use crate::verify::listing::Listing;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn shares_from_before_a_restart_are_found_by_hash() {
    let (entries, _) = honest_log();
    let dir = tempfile::tempdir().unwrap();
    let [log_dir, files, last_head] = ["log", "published", "log.head"].map(|name| dir.path().join(name));
    let settings =
        LogSettings { dir: log_dir.clone(), network: Network::Regtest, site: 1, segment_bytes: 3_000 };
    let mut log = Log::open(settings, |_, _| {}).unwrap();
    let (mut listing, mut logged, mut tags) = (Listing::default(), Vec::new(), Vec::new());
    for (index, entry) in (0..).zip(&entries) {
        let mut encoded = Encoded::default();
        encoded.push(entry);
        log.commit(&encoded, 0).unwrap();
        if let Entry::Payee(payee) = entry {
            tags.push(PayeeTag::of(&payee.script));
        }
        if let Some(listed) = listing.take(index, entry) {
            logged.push((listed.hash.unwrap(), index));
        }
    }
    let jobs = entries.iter().filter(|entry| matches!(entry, Entry::Job(_))).count();
    assert!(jobs > 2 && tags.len() > 1, "{jobs} jobs are more than are kept, {} payees", tags.len());

    let teller = Teller::new(tags);
    let places = Places { log: &log_dir, files: &files, last_head: &last_head };
    let key = LogKey::generate("test.example/log").0;
    let (published, publisher) = publish::start(places, key, teller.listener()).unwrap();
    teller.tell(Head { size: log.size(), root: log.root() }, []);
    let late = Instant::now() + Duration::from_secs(60);
    for (hash, index) in &logged {
        while published.find(hash) != Some(*index) {
            assert!(Instant::now() < late, "{hash} is not found");
            thread::sleep(Duration::from_millis(1));
        }
    }
    drop(teller);
    publisher.join().unwrap();
}

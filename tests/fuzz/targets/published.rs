//! What a verifier reads of a pool that may lie: paths, bundles, checkpoints and receipts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use share_accounting::publish::key::{LogKey, LogVerifier};
use share_accounting::publish::receipt::Receipts;
use share_accounting::publish::tiles::{Place, split_bundle};
use std::sync::LazyLock;

static VERIFIER: LazyLock<LogVerifier> = LazyLock::new(|| {
    LogVerifier::parse(LogKey::generate("fuzz.example/log").0.public()).expect("its own key")
});

fuzz_target!(|data: &[u8]| {
    if let Ok(entries) = split_bundle(data) {
        let again: Vec<u8> =
            entries.iter().flat_map(|entry| [&(entry.len() as u16).to_be_bytes(), *entry].concat()).collect();
        assert_eq!(again, data);
    }
    assert!(VERIFIER.head(data).is_err(), "nobody has signed that");
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(place) = Place::parse(text) {
        assert_eq!(place.path(), text);
    }
    if let Ok(receipts) = serde_json::from_str::<Receipts>(text) {
        assert!(receipts.head(&VERIFIER).is_err(), "nobody has signed that");
        let text = serde_json::to_string(&receipts).expect("numbers, strings and lists");
        assert_eq!(serde_json::from_str::<Receipts>(&text).expect("as it was written"), receipts);
    }
    let _ = LogVerifier::parse(text);
});

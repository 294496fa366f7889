//! Files that somebody has altered, or made up.

use super::super::columns::Row;
use super::super::pages::check;
use super::*;
use parquet::basic::Encoding;
use parquet::column::page::Page;
use share_accounting::tree::TreeHash;
use std::panic;

const ABOUT: About = About { network: Network::Regtest, log_id: None, checkpoint: None, cosigned: None };

/// A row as `export` makes it, at an index.
fn row(listing: &mut Listing, index: u64, entry: &Entry) -> Row {
    match listing.take(index, entry) {
        Some(listed) => Row::of_share(index, &listed),
        None => Row::of_other(index, entry),
    }
}

fn rows(entries: &[Entry]) -> Vec<Row> {
    let mut listing = Listing::default();
    (0..).zip(entries).map(|(index, entry)| row(&mut listing, index, entry)).collect()
}

fn write_rows(out: &Path, rows: &[Row], about: &About) {
    let mut writer = begin(out, about).unwrap();
    write_group(&mut writer, rows).unwrap();
    writer.into_inner().unwrap();
}

/// What is said of a file of these rows.
fn checked(rows: &[Row]) -> Result<TreeHash, String> {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("log.parquet");
    write_rows(&out, rows, &ABOUT);
    Exported::open(&out).and_then(|file| file.check()).map_err(|error| format!("{error:#}"))
}

#[test]
fn what_is_altered_is_not_under_the_head_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = entries(300);
    let verifier = copy(dir.path(), &log);
    let note = fs::read_to_string(dir.path().join("checkpoint")).unwrap();
    let about = About { checkpoint: Some(note), ..ABOUT };
    let out = dir.path().join("log.parquet");
    let opened = |rows: &[Row]| {
        write_rows(&out, rows, &about);
        Mirror::open(&out, None, &verifier).map(drop).map_err(|error| format!("{error:#}"))
    };
    assert_eq!(opened(&rows(&log)), Ok(()));
    let not_whole = |rows: &[Row]| {
        let error = opened(rows).unwrap_err();
        assert!(error.ends_with("are not those of its signed head"), "{error}");
    };
    not_whole(&rows(&log[..302]));
    log.push(log[302].clone());
    not_whole(&rows(&log));
    log.pop();
    let Entry::Share(share) = &mut log[200] else { panic!("no share") };
    share.credited = !share.credited;
    not_whole(&rows(&log));
}

#[test]
fn a_row_that_is_dropped_moved_hidden_or_not_what_it_shows_is_found() {
    let log = entries(300);
    let expected = checked(&rows(&log)).unwrap();
    let wrong = |rows: &[Row], words: &str| {
        let error = checked(rows).unwrap_err();
        assert!(error.contains(words), "{error}");
    };
    let mut dropped = rows(&log);
    dropped.remove(150);
    wrong(&dropped, "row 150 is no entry of that index");
    let mut moved = rows(&log);
    moved.swap(10, 11);
    wrong(&moved, "row 10 is no entry of that index");
    // A share that is in no table of shares.
    let mut hidden = rows(&log);
    hidden[20] = Row::of_other(20, &log[20]);
    wrong(&hidden, "row 20 is no entry of that index");
    // What people look at is of another share.
    let mut altered = log.clone();
    let Entry::Share(share) = &mut altered[20] else { panic!("no share") };
    share.nonce ^= 1;
    let mut listing = Listing::default();
    let mut shown: Vec<_> = (0..).zip(&log).map(|(index, entry)| row(&mut listing, index, entry)).collect();
    shown[20] = Row::showing(row(&mut listing, 20, &altered[20]), &shown[20]);
    wrong(&shown, "entry 20 has another header_hash");
    assert!(checked(&rows(&altered)).unwrap() != expected);
    wrong(&[], "");
}

#[test]
fn whatever_the_bytes_are_a_file_is_refused_or_read() {
    let dir = tempfile::tempdir().unwrap();
    let verifier = copy(dir.path(), &entries(300));
    let (whole, out) = (dir.path().join("log.parquet"), dir.path().join("damaged.parquet"));
    let args = ExportArgs {
        dir: dir.path().to_owned(),
        out: whole.clone(),
        key: Some(verifier.clone()),
        newest: false,
    };
    export(&args).unwrap();
    let head = Mirror::open(&whole, None, &verifier).unwrap().head();
    let good = fs::read(whole).unwrap();
    let (mut refused, mut read) = (0, 0);
    let mut try_bytes = |bytes: &[u8]| {
        fs::write(&out, bytes).unwrap();
        match Mirror::open(&out, None, &verifier) {
            Err(_) => refused += 1,
            // In what a tool makes of a footer, or in what is said twice.
            Ok(mirror) => {
                assert_eq!(mirror.head(), head);
                read += 1;
            }
        }
        // Who asks for no head gets an answer, too.
        if let Ok(file) = Exported::open(&out) {
            let _ = file.check();
        }
    };
    // The library panics over some of them, and each time would say so at length.
    panic::set_hook(Box::new(|_| {}));
    let step = if std::env::var_os("SLUICE_LONG").is_some() { 7 } else { 601 };
    for at in (0..good.len()).step_by(step) {
        let mut damaged = good.clone();
        for byte in [damaged[at] ^ (1 << (at % 8)), 0xff, 0] {
            damaged[at] = byte;
            try_bytes(&damaged);
        }
    }
    // Footers and page headers are the densest.
    for at in (good.len().saturating_sub(4_000)..good.len()).step_by(1 + step / 23) {
        let mut damaged = good.clone();
        damaged[at] ^= 1 << (at % 7);
        try_bytes(&damaged);
    }
    for length in (0..good.len()).step_by(step * 7) {
        try_bytes(&good[..length]);
        // Without its middle.
        try_bytes(&[&good[..length / 2], &good[good.len() - length / 2..]].concat());
    }
    drop(panic::take_hook());
    println!("{refused} refused, {read} read");
    assert!(refused > 100);
}

#[test]
fn no_page_reserves_more_than_it_holds() {
    let dictionary = |num_values, encoding| Page::DictionaryPage {
        buf: vec![0; 400].into(),
        num_values,
        encoding,
        is_sorted: false,
    };
    assert!(check(&dictionary(100, Encoding::PLAIN)).is_ok());
    assert!(check(&dictionary(101, Encoding::PLAIN)).is_err());
    assert!(check(&dictionary(u32::MAX, Encoding::PLAIN_DICTIONARY)).is_err());
    assert!(check(&dictionary(1, Encoding::RLE)).is_err());
    let data = |num_values, encoding, def_level_encoding| Page::DataPage {
        buf: vec![0; 400].into(),
        num_values,
        encoding,
        def_level_encoding,
        rep_level_encoding: Encoding::RLE,
        statistics: None,
    };
    assert!(check(&data(GROUP_ROWS as u32, Encoding::PLAIN, Encoding::RLE)).is_ok());
    assert!(check(&data(GROUP_ROWS as u32 + 1, Encoding::PLAIN, Encoding::RLE)).is_err());
    assert!(check(&data(1, Encoding::DELTA_BYTE_ARRAY, Encoding::RLE)).is_err());
    assert!(check(&data(1, Encoding::PLAIN, Encoding::PLAIN)).is_err());
}

use super::append::{AppendError, LogSettings, SEGMENT_BYTES_DEFAULT};
use super::reader::segment_path;
use super::segment::{Position, SegmentHeader, recover_bytes};
use super::*;
use crate::entry::{ChainEntry, ChainEvent, Encoded, Entry};
use crate::tree::{Tree, TreeHash, leaves};
use bitcoin::Network;
use proptest::prelude::*;
use std::fs;
use std::process::Command;

fn entry(n: u64) -> Entry {
    Entry::Chain(ChainEntry { unix_ms: n, event: ChainEvent::Retarget { nbits: 7 } })
}

fn encoded(n: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    entry(n).encode(&mut bytes);
    bytes
}

fn settings(dir: &Path) -> LogSettings {
    LogSettings {
        dir: dir.to_owned(),
        network: Network::Signet,
        site: 1,
        segment_bytes: SEGMENT_BYTES_DEFAULT,
    }
}

fn open(dir: &Path) -> Result<(Log, Vec<u64>), LogError> {
    open_with(settings(dir))
}

/// Opens the log; the times in its entries tell which they are.
fn open_with(settings: LogSettings) -> Result<(Log, Vec<u64>), LogError> {
    let mut seen = Vec::new();
    let log = Log::open(settings, |index, entry| {
        assert_eq!(index, seen.len() as u64);
        let Entry::Chain(chain) = entry else { panic!("only chain entries were written") };
        seen.push(chain.unix_ms);
    })?;
    assert_eq!(log.root(), root(&seen), "the tree stands for the entries that were replayed");
    Ok((log, seen))
}

/// The root over entries with these times, from their bytes.
fn root(numbers: &[u64]) -> TreeHash {
    let entries: Vec<_> = numbers.iter().map(|n| encoded(*n)).collect();
    let entries: Vec<_> = entries.iter().map(Vec::as_slice).collect();
    leaves(&entries).into_iter().collect::<Tree>().root()
}

fn commit(log: &mut Log, numbers: impl IntoIterator<Item = u64>) -> Result<(), AppendError> {
    let mut entries = Encoded::default();
    numbers.into_iter().for_each(|n| entries.push(&entry(n)));
    log.commit(&entries, 0)
}

fn read(dir: &Path) -> Result<Vec<u64>, LogError> {
    let entries: Result<Vec<_>, _> = Reader::open(dir)?.collect();
    Ok(entries?.into_iter().map(|(index, _)| index).collect())
}

/// A log of one segment with three commits of 2, 1 and 3 entries, as bytes.
fn three_commits() -> (Vec<u8>, [usize; 4]) {
    let dir = tempfile::tempdir().unwrap();
    let path = segment_path(dir.path(), 0);
    let (mut log, _) = open(dir.path()).unwrap();
    let mut ends = [0; 4];
    let size = || fs::metadata(&path).unwrap().len() as usize;
    ends[0] = size();
    for (at, numbers) in [(1, 0..2), (2, 2..3), (3, 3..6)] {
        commit(&mut log, numbers).unwrap();
        ends[at] = size();
    }
    (fs::read(&path).unwrap(), ends)
}

/// Entries in the first `blocks` blocks.
fn entries_in(blocks: usize) -> Vec<u64> {
    (0..[0, 2, 3, 6][blocks]).collect()
}

#[test]
fn d03_cut_at_every_byte_the_log_opens_with_its_whole_commits_and_goes_on() {
    let (bytes, ends) = three_commits();
    for cut in 0..=bytes.len() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(segment_path(dir.path(), 0), &bytes[..cut]).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
        let (mut log, seen) = open(dir.path()).unwrap();
        assert_eq!(seen, entries_in(whole), "cut at {cut}");
        commit(&mut log, [seen.len() as u64]).unwrap();
        let written = log.root();
        drop(log);
        let (log, again) = open(dir.path()).unwrap();
        assert_eq!((again.len(), log.root()), (seen.len() + 1, written), "cut at {cut}");
    }
}

#[test]
fn d03_every_flipped_bit_is_refused_or_cuts_the_last_commit_only() {
    let (bytes, ends) = three_commits();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match recover_bytes(&flipped) {
            Ok(recovered) => {
                assert!(bit / 8 >= ends[2], "a bit of commit 1 or 2 went unnoticed: {bit}");
                assert_eq!(recovered.entries.len(), 3);
                assert_eq!(recovered.intact_bytes, ends[2]);
            }
            Err((offset, what)) => {
                assert!(bit / 8 < ends[2], "bit {bit}");
                let damaged = ends[..2].iter().rfind(|end| **end <= bit / 8);
                let expected =
                    damaged.map_or((0, Corruption::SegmentHeader), |end| (*end, Corruption::Block));
                assert_eq!((offset, what), expected, "bit {bit}");
            }
        }
    }
}

#[test]
fn d03_damage_with_valid_blocks_behind_refuses_and_names_the_place() {
    let (mut bytes, ends) = three_commits();
    bytes[ends[1] + 80] ^= 1;
    let dir = tempfile::tempdir().unwrap();
    fs::write(segment_path(dir.path(), 0), &bytes).unwrap();
    let error = open(dir.path()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("share log segment 0 is corrupt at offset {}", ends[1])), "{error}");
    assert!(
        matches!(read(dir.path()), Err(LogError::Corrupt { segment: 0, .. })),
        "readers never stop silently"
    );
    // A whole block missing is no better.
    bytes.drain(ends[1]..ends[2]);
    fs::write(segment_path(dir.path(), 0), &bytes).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, LogError::Corrupt { what: Corruption::OutOfOrder, .. }), "{error}");
}

#[test]
fn segments_roll_by_size_and_a_missing_or_damaged_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let small = LogSettings { segment_bytes: 200, ..settings(dir.path()) };
    let (mut log, _) = open_with(small.clone()).unwrap();
    for n in 0..20 {
        commit(&mut log, [n]).unwrap();
    }
    drop(log);
    assert_eq!(read(dir.path()).unwrap().len(), 20);
    assert_eq!(open_with(small).unwrap().1, (0..20).collect::<Vec<_>>());
    let second = segment_path(dir.path(), 2);
    let bytes = fs::read(&second).unwrap();
    // Cutting a sealed segment is no torn tail: what the next one names is gone.
    fs::write(&second, &bytes[..bytes.len() - 1]).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(
        matches!(error, LogError::Corrupt { segment: 2, what: Corruption::LastBlockMissing, .. }),
        "{error}"
    );
    fs::remove_file(&second).unwrap();
    assert!(matches!(open(dir.path()).unwrap_err(), LogError::Missing(2)));
}

#[test]
fn d04_what_an_abandoned_segment_holds_behind_the_committed_block_is_ignored() {
    let (bytes, ends) = three_commits();
    let dir = tempfile::tempdir().unwrap();
    fs::write(segment_path(dir.path(), 0), &bytes).unwrap();
    // The third commit reached the disk, but its sync failed: the next segment goes on behind the second.
    let first = SegmentHeader::decode(&bytes).unwrap();
    let third = ends[2];
    let last: [u8; 32] = bytes[third + 32..third + 64].try_into().unwrap();
    let header = SegmentHeader { number: 1, start: Position { index: 3, last }, ..first };
    fs::write(segment_path(dir.path(), 1), header.encode()).unwrap();
    let (mut log, seen) = open(dir.path()).unwrap();
    assert_eq!(seen, [0, 1, 2]);
    commit(&mut log, [33]).unwrap();
    let mut followed = Vec::new();
    let mut follower = Follower::new(dir.path(), 2).unwrap();
    let visit = |entries: &[&[u8]]| {
        followed.extend(entries.iter().map(|entry| entry.to_vec()));
        true
    };
    follower.follow(log.size(), visit).unwrap();
    assert_eq!(followed, [encoded(2), encoded(33)]);
    drop(log);
    assert_eq!(open(dir.path()).unwrap().1, [0, 1, 2, 33]);
    // A segment whose header a crash has torn was never committed to.
    fs::write(segment_path(dir.path(), 2), &header.encode()[..50]).unwrap();
    assert_eq!(read(dir.path()).unwrap().len(), 4);
    assert_eq!(open(dir.path()).unwrap().1, [0, 1, 2, 33]);
    assert!(!segment_path(dir.path(), 2).exists());
}

#[test]
fn a_first_segment_that_begins_behind_other_entries_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, _) = three_commits();
    let mut header = SegmentHeader::decode(&bytes).unwrap();
    header.start.index = 5;
    fs::write(segment_path(dir.path(), 0), header.encode()).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, LogError::Corrupt { segment: 0, offset: 0, what: Corruption::Unchained }));
}

#[test]
fn a_directory_serves_one_process_and_one_network() {
    let dir = tempfile::tempdir().unwrap();
    let held = open(dir.path()).unwrap();
    assert!(matches!(open(dir.path()).unwrap_err(), LogError::Locked(_)));
    drop(held);
    let other = LogSettings { network: Network::Bitcoin, ..settings(dir.path()) };
    assert!(matches!(open_with(other).unwrap_err(), LogError::WrongNetwork { .. }));
}

/// Runs in a child whose files may not grow beyond a few KiB.
fn with_a_file_size_limit(dir: &Path) {
    let (mut log, _) = open(dir).unwrap();
    let (mut failed, mut next) = (0, 0);
    while failed < 3 {
        match commit(&mut log, next..next + 10) {
            Ok(()) => next += 10,
            Err(AppendError::Io { action: "write", .. }) => failed += 1,
            Err(other) => panic!("{other}"),
        }
        assert_eq!(log.size(), next);
        assert_eq!(log.root(), root(&(0..next).collect::<Vec<_>>()), "what failed is not in the tree");
    }
    commit(&mut log, next..next + 1).unwrap();
    drop(log);
    assert_eq!(open(dir).unwrap().1, (0..=next).collect::<Vec<_>>());
    assert!(segment_path(dir, 3).exists());
}

#[test]
fn d04_a_failed_write_goes_on_in_a_new_segment() {
    const DIR: &str = "SLUICE_TEST_SMALL_FILES";
    if let Some(dir) = std::env::var_os(DIR) {
        return with_a_file_size_limit(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new("sh")
        // The signal is ignored, so that the kernel answers EFBIG as it would ENOSPC: in mid-write.
        .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" --exact \"$1\""])
        .arg(std::env::current_exe().unwrap())
        .arg("log::tests::d04_a_failed_write_goes_on_in_a_new_segment")
        .env(DIR, dir.path())
        // Not straight to ours, which may be a file: it would be limited too.
        .output()
        .unwrap();
    assert!(child.status.success(), "{}{}", child.stdout.escape_ascii(), child.stderr.escape_ascii());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_recover_without_a_panic(tail in proptest::collection::vec(any::<u8>(), 0..600), keep in 0_usize..600) {
        let (bytes, _) = three_commits();
        let mixed = [&bytes[..keep.min(bytes.len())], &tail].concat();
        if let Ok(recovered) = recover_bytes(&mixed) {
            prop_assert!(recovered.intact_bytes <= mixed.len());
        }
        let _ = recover_bytes(&tail);
    }
}

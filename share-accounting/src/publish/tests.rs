use super::key::CheckpointError;
use super::*;
use crate::entry::{ChainEntry, ChainEvent, Encoded, Entry};
use crate::log::Log;
use crate::log::append::LogSettings;
use crate::tree::{Tree, leaves};
use bitcoin::Network;
use proptest::prelude::*;
use std::time::Instant;
use tempfile::TempDir;
use tlog_tiles::check_tree;

/// A log that is published.
struct Site {
    dir: TempDir,
    log: Log,
    teller: Teller,
    key: (LogKey, String),
    published: Published,
    publisher: JoinHandle<()>,
}

fn entry(n: u64) -> Entry {
    Entry::Chain(ChainEntry { unix_ms: n, event: ChainEvent::Retarget { nbits: 7 } })
}

fn bytes(n: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    entry(n).encode(&mut bytes);
    bytes
}

fn root(numbers: std::ops::Range<u64>) -> TreeHash {
    let entries: Vec<_> = numbers.map(bytes).collect();
    let entries: Vec<_> = entries.iter().map(Vec::as_slice).collect();
    leaves(&entries).into_iter().collect::<Tree>().root()
}

fn open_log(dir: &Path) -> Log {
    let settings =
        LogSettings { dir: dir.join("log"), network: Network::Signet, site: 1, segment_bytes: 3_000 };
    Log::open(settings, |_, _| {}).unwrap()
}

impl Site {
    fn new() -> Self {
        Self::over(tempfile::tempdir().unwrap(), LogKey::generate("test.example/log"))
    }

    fn over(dir: TempDir, key: (LogKey, String)) -> Self {
        let log = open_log(dir.path());
        let teller = Teller::new(Vec::new());
        let heads = teller.listener();
        let [log_dir, files, last_head] = ["log", "published", "log.head"].map(|name| dir.path().join(name));
        let places = Places { log: &log_dir, files: &files, last_head: &last_head };
        let (published, publisher) = start(places, key.0.clone(), heads).unwrap();
        let site = Self { dir, log, teller, key, published, publisher };
        site.tell([]);
        site
    }

    fn tell(&self, logged: impl IntoIterator<Item = Logged>) {
        self.teller.tell(Head { size: self.log.size(), root: self.log.root() }, logged);
    }

    /// Adds a commit of so many entries.
    fn commit(&mut self, count: u64) {
        let mut entries = Encoded::default();
        (self.log.size()..self.log.size() + count).for_each(|n| entries.push(&entry(n)));
        self.log.commit(&entries, 0).unwrap();
        self.tell([]);
    }

    /// The signed head, once it has come up to the log.
    fn head(&self) -> (Head, String) {
        let late = Instant::now() + Duration::from_secs(60);
        loop {
            match self.published.checkpoint() {
                Ok((head, note)) if head.size == self.log.size() => return (head, note),
                _ => assert!(Instant::now() < late, "nothing is published"),
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn stop(self) -> (TempDir, (LogKey, String)) {
        let Self { dir, log, teller, key, publisher, .. } = self;
        drop((log, teller));
        publisher.join().unwrap();
        (dir, key)
    }
}

fn hashes(path: Vec<TreeHash>) -> Vec<tlog_tiles::Hash> {
    path.into_iter().map(tlog_tiles::Hash).collect()
}

#[test]
fn a_path_names_one_place() {
    let paths = [
        ("tile/0/000", Row::Level(0), 0, 256),
        ("tile/2/x001/x234/067", Row::Level(2), 1_234_067, 256),
        ("tile/entries/x018/x446/x744/x073/x709/x551/615.p/17", Row::Entries, u64::MAX, 17),
        ("tile/63/999.p/1", Row::Level(63), 999, 1),
    ];
    for (path, row, number, width) in paths {
        let place = Place { row, number, width };
        assert_eq!((place.path().as_str(), Place::parse(path)), (path, Some(place)));
    }
    for other in [
        "tile/0/0",
        "tile/0/x000/001",
        "tile/00/000",
        "tile/0/001/002",
        "tile/0/x001",
        "tile/0/000.p/256",
        "tile/0/000.p/0",
        "tile/0/000.p/+1",
        "tile/256/000",
        "tile/entries/x018/x446/x744/x073/x709/x551/616",
        "tile/../../000",
        "tile//000",
        "checkpoint",
        "",
    ] {
        assert_eq!(Place::parse(other), None, "{other}");
    }
}

#[test]
fn each_commit_is_signed_and_everything_under_it_is_there() {
    let mut site = Site::new();
    let verifier = site.key.0.verifier();
    // Over the edges of bundles, of segments, and of a tile of the second level.
    for count in [1, 1, 200, 53, 1, 1, 254, 1_000, 64_500] {
        site.commit(count);
        let (head, note) = site.head();
        assert_eq!(head, Head { size: site.log.size(), root: root(0..site.log.size()) });
        assert_eq!(verifier.head(note.as_bytes()).unwrap(), (head, Network::Signet));
        let size = head.size;
        for index in [0, size / 2, size.saturating_sub(257), size - 1] {
            let receipts = site.published.receipt(index).unwrap();
            assert_eq!(receipts.receipts[0].entry, bytes(index));
            assert_eq!(receipts.head(&verifier).unwrap(), head);
            let root = tlog_tiles::Hash(head.root);
            let older = tlog_tiles::Hash(self::root(0..index + 1));
            let proof = hashes(site.published.consistency(index + 1, size).unwrap());
            check_tree(&proof, size, root, index + 1, older).unwrap();
        }
        assert!(matches!(site.published.receipt(size), Err(NoAnswer::NotThere(_))));
        assert!(matches!(site.published.inclusion(0, size + 1), Err(NoAnswer::NotThere(_))));
        assert!(matches!(site.published.consistency(1, size + 1), Err(NoAnswer::NotThere(_))));
    }
    assert!(matches!(site.published.consistency(0, 1), Err(NoAnswer::NotThere(_))));
    site.stop();
}

/// As another implementation reads it: from the files alone.
#[test]
fn the_files_are_those_of_the_specification() {
    let mut site = Site::new();
    site.commit(256 * 3 + 5);
    let (head, _) = site.head();
    let read = |row, number, width| site.published.file(&Place { row, number, width });
    let entries: Vec<Vec<u8>> = (0..4)
        .flat_map(|number| {
            let bundle = read(Row::Entries, number, if number < 3 { 256 } else { 5 }).unwrap();
            split_bundle(&bundle).unwrap().into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(entries, (0..head.size).map(bytes).collect::<Vec<_>>());
    let all: Vec<_> = entries.iter().map(Vec::as_slice).collect();
    let of_entries = leaves(&all);
    assert_eq!(read(Row::Level(0), 2, 256).unwrap(), of_entries[512..768].as_flattened());
    assert_eq!(read(Row::Level(0), 3, 5).unwrap(), of_entries[768..].as_flattened());
    let roots: Vec<_> =
        of_entries[..768].chunks(256).map(|leaves| leaves.iter().copied().collect::<Tree>().root()).collect();
    assert_eq!(read(Row::Level(1), 0, 3).unwrap(), roots.as_flattened());
    // An older reader asks for less of what has become more.
    assert_eq!(read(Row::Level(0), 1, 7).unwrap(), of_entries[256..263].as_flattened());
    assert_eq!(split_bundle(&read(Row::Entries, 1, 7).unwrap()).unwrap(), all[256..263]);
    for (row, number, width) in [
        (Row::Level(0), 3, 6),
        (Row::Level(0), 3, 256),
        (Row::Level(0), 4, 1),
        (Row::Level(1), 0, 4),
        (Row::Level(2), 0, 1),
        (Row::Level(255), 0, 1),
        (Row::Entries, 3, 6),
        (Row::Entries, u64::MAX, 1),
    ] {
        assert!(matches!(read(row, number, width), Err(NoAnswer::NotThere(_))), "{row:?} {number}");
    }
    let full = site.dir.path().join("published/tile/0/002");
    assert_eq!(std::fs::read(full).unwrap(), of_entries[512..768].as_flattened());
    site.stop();
}

#[test]
fn after_a_restart_it_goes_on_and_what_is_damaged_is_written_anew() {
    let mut site = Site::new();
    site.commit(256 * 257 + 10);
    let (before, _) = site.head();
    let (dir, key) = site.stop();
    let key = (LogKey::parse(&key.1).unwrap(), key.1);
    let files = dir.path().join("published/tile");
    let restart = |dir, key: &(LogKey, String)| {
        let mut site = Site::over(dir, (LogKey::parse(&key.1).unwrap(), key.1.clone()));
        site.commit(3);
        let (head, _) = site.head();
        assert_eq!(head.root, root(0..head.size));
        let receipts = site.published.receipt(1_000).unwrap().receipts;
        assert_eq!(receipts[0].entry, bytes(1_000));
        site.stop().0
    };
    let dir = restart(dir, &key);
    // Cut off, of another log, and gone: a leaf's, an inner one, entries.
    std::fs::write(files.join("0/200"), [0; 31]).unwrap();
    let dir = restart(dir, &key);
    std::fs::write(files.join("0/100"), [7; 256 * 32]).unwrap();
    let dir = restart(dir, &key);
    std::fs::remove_file(files.join("1/000")).unwrap();
    let dir = restart(dir, &key);
    assert!(files.join("1/000").exists(), "a tile is made again from those below");
    std::fs::remove_dir_all(&files).unwrap();
    let dir = restart(dir, &key);
    assert!(open_log(dir.path()).size() > before.size);
}

#[test]
fn what_stands_on_disk_behind_the_signed_head_is_not_given_out() {
    let mut site = Site::new();
    site.commit(600);
    site.head();
    let files = site.dir.path().join("published/tile");
    for unsigned in ["0/002", "entries/002"] {
        std::fs::write(files.join(unsigned), [7; 256 * 32]).unwrap();
    }
    for (row, number, width) in
        [(Row::Level(0), 2, 256), (Row::Level(0), 2, 89), (Row::Entries, 2, 89), (Row::Level(0), 3, 1)]
    {
        let read = site.published.file(&Place { row, number, width });
        assert!(matches!(read, Err(NoAnswer::NotThere(_))), "{row:?} {number} {width}");
    }
    assert!(site.published.file(&Place { row: Row::Level(0), number: 2, width: 88 }).is_ok());
    site.stop();
}

#[test]
fn what_cannot_be_written_is_published_later() {
    let mut site = Site::new();
    site.commit(100);
    site.head();
    // A file where the folder should be: neither written nor put right.
    let files = site.dir.path().join("published");
    std::fs::remove_dir_all(&files).unwrap();
    std::fs::write(&files, "").unwrap();
    site.commit(200);
    site.commit(10);
    thread::sleep(Duration::from_millis(50));
    assert_eq!(site.published.checkpoint().unwrap().0.size, 100, "nothing is signed that is not there");
    assert_eq!(site.published.receipt(99).unwrap().receipts[0].entry, bytes(99), "and what was signed stays");
    std::fs::remove_file(&files).unwrap();
    let (head, _) = site.head();
    assert_eq!(head, Head { size: 310, root: root(0..310) });
    assert_eq!(site.published.receipt(255).unwrap().receipts[0].entry, bytes(255));
    site.stop();
}

#[test]
fn shares_are_found_by_hash_as_long_as_they_are_among_the_newest() {
    let mut hashes = Hashes::default();
    let hash = |n: u64| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        BlockHash::from_byte_array(bytes)
    };
    hashes.add((0..HASHES_MAX as u64 + 10).map(|n| (hash(n), n)));
    let find = |hashes: &Hashes, n| hashes.indexes.get(&short(&hash(n))).copied();
    assert_eq!([find(&hashes, 9), find(&hashes, 10)], [None, Some(10)]);
    assert_eq!(find(&hashes, HASHES_MAX as u64 + 9), Some(HASHES_MAX as u64 + 9));
    // Older ones take what room newer ones leave, and go first.
    let mut hashes = Hashes::default();
    let last = HASHES_MAX as u64 + 4;
    hashes.add((5..last).map(|n| (hash(n), n)));
    hashes.add_older((0..7).map(|n| (hash(n), n)).collect());
    assert_eq!([find(&hashes, 3), find(&hashes, 4), find(&hashes, 5)], [None, Some(4), Some(5)]);
    hashes.add([(hash(last), last)]);
    assert_eq!([find(&hashes, 4), find(&hashes, 5), find(&hashes, last)], [None, Some(5), Some(last)]);
    let mut site = Site::new();
    site.commit(1);
    site.tell([(hash(5), 0)]);
    let late = Instant::now() + Duration::from_secs(60);
    while site.published.find(&hash(5)) != Some(0) {
        assert!(Instant::now() < late);
    }
    assert_eq!(site.published.find(&hash(6)), None);
    site.stop();
}

#[test]
fn a_receipt_is_kept_as_text_and_says_nothing_once_altered() {
    let mut site = Site::new();
    site.commit(700);
    site.head();
    let verifier = site.key.0.verifier();
    let receipts = site.published.receipt(600).unwrap();
    let text = serde_json::to_string(&receipts).unwrap();
    let kept: Receipts = serde_json::from_str(&text).unwrap();
    assert_eq!((&kept, kept.head(&verifier).unwrap().size), (&receipts, 700));
    let alter = |change: fn(&mut Receipts)| {
        let mut altered = receipts.clone();
        change(&mut altered);
        altered.head(&verifier).unwrap_err().to_string()
    };
    for no_path in [
        alter(|altered| altered.receipts[0].entry[0] ^= 1),
        alter(|altered| altered.receipts[0].path[3][0] ^= 1),
        alter(|altered| altered.receipts[0].path.truncate(3)),
        alter(|altered| altered.receipts[0].path.push([0; 32])),
    ] {
        assert_eq!(no_path, "its path does not lead from entry 600 to the signed head");
    }
    assert!(alter(|altered| altered.receipts[0].index = 601).contains("entry 601"));
    assert!(alter(|altered| altered.receipts[0].index = u64::MAX).contains(&u64::MAX.to_string()));
    let unsigned = alter(|altered| altered.checkpoint = altered.checkpoint.replace("\n700\n", "\n701\n"));
    assert_eq!(unsigned, "its checkpoint: it is not signed with the log's key");
    for wrong in
        ["{}", &text.replace("\"path\":[\"", "\"path\":[\"0"), &text.replace("\"entry\":\"", "\"entry\":\"x")]
    {
        assert!(serde_json::from_str::<Receipts>(wrong).is_err(), "{wrong}");
    }
    site.stop();
}

#[test]
fn a_checkpoint_of_another_key_log_or_head_is_not_believed() {
    let (key, text) = LogKey::generate("test.example/log");
    let verifier = key.verifier();
    let head = Head { size: 7, root: [3; 32] };
    let note = key.sign(&head, Network::Testnet4);
    assert_eq!(verifier.head(note.as_bytes()).unwrap(), (head, Network::Testnet4));
    assert_eq!(LogKey::parse(&text).unwrap().sign(&head, Network::Testnet4), note);
    let (other, other_text) = LogKey::generate("test.example/log");
    assert!(matches!(
        verifier.head(other.sign(&head, Network::Signet).as_bytes()),
        Err(CheckpointError::NotSigned)
    ));
    let bigger = note.replace("\n7\n", "\n8\n");
    assert!(matches!(verifier.head(bigger.as_bytes()), Err(CheckpointError::NotSigned)));
    assert!(matches!(verifier.head(b"7"), Err(CheckpointError::Malformed)));
    let mixed = [text.lines().next().unwrap(), other_text.lines().nth(1).unwrap()].join("\n");
    for wrong in ["", "x\ny", &mixed, text.lines().next().unwrap()] {
        assert!(LogKey::parse(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Commits of any sizes, and a follower that begins anywhere, sees each entry once.
    #[test]
    fn a_follower_sees_what_was_committed(
        commits in prop::collection::vec(1_u64..40, 1..20),
        from in 0_u64..400,
        caught_up in 0_usize..20,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open_log(dir.path());
        let mut ends = vec![0];
        for count in &commits {
            let mut entries = Encoded::default();
            (log.size()..log.size() + count).for_each(|n| entries.push(&entry(n)));
            log.commit(&entries, 0).unwrap();
            ends.push(log.size());
        }
        let mut seen = Vec::new();
        let mut follower = Follower::new(&dir.path().join("log"), from).unwrap();
        for end in [ends[caught_up.min(commits.len())], log.size()] {
            let visit = |entries: &[&[u8]]| {
                seen.extend(entries.iter().map(|entry| entry.to_vec()));
                true
            };
            follower.follow(end, visit).unwrap();
        }
        prop_assert_eq!(seen, (from..log.size()).map(bytes).collect::<Vec<_>>());
    }
}

/// A head is refused for a log; says why.
fn refused(site: &Site) -> String {
    let late = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(reason) = site.published.refused() {
            return reason.to_owned();
        }
        assert!(Instant::now() < late, "it is signed");
        thread::sleep(Duration::from_millis(1));
    }
}

fn copy_log(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[test]
fn a_log_that_does_not_go_on_from_what_was_signed_is_not_signed_with_the_same_key() {
    let mut site = Site::new();
    site.commit(300);
    site.head();
    let (dir, key) = site.stop();
    let (log, backup) = (dir.path().join("log"), dir.path().join("backup"));
    copy_log(&log, &backup);
    let mut site = Site::over(dir, key);
    site.commit(50);
    site.head();
    let (dir, key) = site.stop();
    copy_log(&backup, &log);
    // Shorter, also when it has grown; and longer, but with other entries.
    let mut site = Site::over(dir, key);
    assert!(refused(&site).contains("from the head of 350 entries"), "{:?}", site.published.refused());
    site.commit(1);
    assert!(matches!(site.published.checkpoint(), Err(NoAnswer::NotThere(_))));
    let (dir, key) = site.stop();
    let mut other = open_log(dir.path());
    let mut entries = Encoded::default();
    (0..60).for_each(|n| entries.push(&entry(n)));
    other.commit(&entries, 0).unwrap();
    drop(other);
    let site = Site::over(dir, key);
    refused(&site);
    let (dir, _) = site.stop();
    // Under another key it is another log.
    let site = Site::over(dir, LogKey::generate("other.example/log"));
    assert_eq!(site.head().0.size, 361);
}

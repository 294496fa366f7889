use super::files::write;
use super::*;
use crate::accounting::{Accounting, OpenError};
use crate::books::{Books, replay, window_hint};
use crate::entry::{
    ChainEntry, ChainEvent, Encoded, Entry, Extranonce, Params, PayeeEntry, Reserve, Settlement, Share,
    WorkerTag,
};
use crate::journal::Journal;
use crate::log::append::LogSettings;
use crate::log::segment::{Origin, Position, SegmentHeader};
use crate::log::{Corruption, Log, LogError, Reader};
use crate::recovery::{Recovered, recover};
use crate::testing::{Miner, SIGNERS, body, cases, commit, moved, params, payee, script, settings};
use crate::tree::{Tree, TreeHash};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Network, OutPoint, ScriptBuf, Txid};
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use stratum::pot::Pot;

const SITE: u16 = 3;

fn span() -> Span {
    Span::new(3, 1).unwrap()
}

/// Network difficulties of 2, 512 and 131,072 hashes.
const NBITS: [u32; 3] = [0x207f_ffff, 0x1f7f_ffff, 0x1e7f_ffff];

/// What may come next; what the books do not take is left out.
#[derive(Debug, Clone)]
enum Step {
    Payee(u8),
    Shares { payee: u8, pot: i8, count: u8, credited: bool },
    Retarget(usize),
    Rules(u16),
    Epoch(u16),
    Move { from: u8, to: u8 },
    Settle { to: u8, sats: u64, outputs: u8 },
    Paid { settlement: usize, block: u8 },
    Withdrawn(usize),
    Failed { settlement: usize, spent: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let shares = (any::<u8>(), -32_i8..-22, 1_u8..20, prop::bool::weighted(0.8));
    prop_oneof![
        3 => (0_u8..9).prop_map(Step::Payee),
        9 => shares.prop_map(|(payee, pot, count, credited)| Step::Shares { payee, pot, count, credited }),
        1 => (0..NBITS.len()).prop_map(Step::Retarget),
        1 => (1_u16..900).prop_map(Step::Rules),
        1 => any::<u16>().prop_map(Step::Epoch),
        1 => (SIGNERS, 0_u8..9).prop_map(|(from, to)| Step::Move { from, to }),
        3 => (0_u8..9, 6_000_u64..90_000, 1_u8..4)
            .prop_map(|(to, sats, outputs)| Step::Settle { to, sats, outputs }),
        3 => (0_usize..6, any::<u8>()).prop_map(|(settlement, block)| Step::Paid { settlement, block }),
        1 => (0_usize..6).prop_map(Step::Withdrawn),
        1 => (0_usize..6, any::<u8>()).prop_map(|(settlement, spent)| Step::Failed { settlement, spent }),
    ]
}

/// Entries that follow one another, and what they add up to.
struct History {
    entries: Vec<Entry>,
    books: Books,
}

impl History {
    fn new() -> Self {
        let mut history = Self { entries: Vec::new(), books: Books::new(Network::Regtest, Work(u128::MAX)) };
        // Shares name the first entry as their job, which the books do not look at.
        history.push(Entry::Params(params().into()));
        history
    }

    fn of(steps: &[Step]) -> Self {
        let mut history = Self::new();
        steps.iter().for_each(|step| history.step(step));
        history
    }

    fn push(&mut self, entry: Entry) {
        if take(&mut self.books, &entry) {
            self.entries.push(entry);
        }
    }

    fn step(&mut self, step: &Step) {
        let settlement = |nth: usize| {
            let nth = self.books.settlements.all().keys().nth(nth);
            nth.copied().unwrap_or_default()
        };
        let event = |event| Entry::Chain(ChainEntry { unix_ms: 7, event });
        let block_and_txid = |n| (BlockHash::from_byte_array([n; 32]), Txid::from_byte_array([n; 32]));
        let entry = match *step {
            Step::Payee(to) => {
                let index = u32::try_from(self.books.registry.len()).unwrap();
                let mut worker = [to; 16];
                worker[..4].copy_from_slice(&index.to_le_bytes());
                Entry::Payee(PayeeEntry { index, worker: WorkerTag(worker), script: script(to) })
            }
            Step::Shares { payee, pot, count, credited } => {
                return (0..count).for_each(|_| self.share(payee.into(), pot, credited));
            }
            Step::Retarget(nth) => event(ChainEvent::Retarget { nbits: NBITS[nth] }),
            Step::Rules(settlement_fee_bp) => Entry::Params(Params { settlement_fee_bp, ..params() }.into()),
            Step::Epoch(epoch) => event(ChainEvent::EpochStart { epoch }),
            Step::Move { from, to } => Entry::Move(moved([1; 16], from, script(to)).into()),
            Step::Settle { to, sats, outputs } => {
                let output = |vout| Reserve {
                    outpoint: OutPoint { txid: Txid::from_byte_array([to % 4; 32]), vout },
                    sats: 100_000,
                };
                let reserve = (0..outputs.into()).map(output).collect();
                let matured = BlockHash::all_zeros();
                let credits = vec![(script(to), sats)];
                Entry::Settlement(
                    Settlement { matured, ledger_block: matured, fee: 0, credits, reserve }.into(),
                )
            }
            Step::Paid { settlement: nth, block } => {
                let (block, txid) = block_and_txid(block);
                event(ChainEvent::SettlementPaid { settlement: settlement(nth), block, txid })
            }
            Step::Withdrawn(nth) => event(ChainEvent::SettlementWithdrawn { settlement: settlement(nth) }),
            Step::Failed { settlement: nth, spent } => {
                event(ChainEvent::SettlementFailed { settlement: settlement(nth), spent: spent.into() })
            }
        };
        self.push(entry);
    }

    fn share(&mut self, payee: u32, pot: i8, credited: bool) {
        let Some(payees) = u32::try_from(self.books.registry.len()).ok().filter(|payees| *payees > 0) else {
            return;
        };
        let mut share = Share {
            pot: Pot::try_from(pot).unwrap(),
            site: SITE,
            payee: payee % payees,
            job: 0,
            ntime: 1,
            nonce: 2,
            version: 3,
            extranonce: Extranonce::new(&[]).unwrap(),
            credited,
            block_candidate: false,
            received_unix_ms: 4,
            total_work: Work(0),
        };
        share.total_work = Work(self.books.total_work.0 + share.credited_work().0);
        self.push(Entry::Share(share));
    }
}

/// As a replay takes entries; `false` if the books do not.
fn take(books: &mut Books, entry: &Entry) -> bool {
    let taken = books.apply(books.size, entry).is_ok();
    if taken && let Some(window) = window_hint(entry, span()) {
        let _ = books.window.resize(window);
    }
    taken
}

fn replayed(entries: &[Entry]) -> Books {
    let mut books = Books::new(Network::Regtest, Work(u128::MAX));
    assert!(entries.iter().all(|entry| take(&mut books, entry)));
    books
}

fn tree(entries: &[Entry]) -> Tree {
    let mut encoded = Encoded::default();
    entries.iter().for_each(|entry| encoded.push(entry));
    encoded.leaves().into_iter().collect()
}

/// A start at which these are all entries before.
fn start(entries: &[Entry], books: &Books) -> Start {
    let start = Position { index: books.size, last: [5; 32] };
    let work = books.total_work.0;
    let header = SegmentHeader { network: Network::Regtest, number: 4, log_id: [6; 16], start, work };
    let origin = (!entries.is_empty()).then_some(Origin { site: SITE, epoch: 9, sequence: 8 });
    Start { header, tree: tree(entries), origin }
}

fn written(entries: &[Entry], books: &Books) -> Vec<u8> {
    let mut bytes = Vec::new();
    Checkpoint::new(start(entries, books), span(), books.copy()).write_to(&mut bytes).unwrap();
    bytes
}

fn loaded(bytes: &[u8]) -> Result<(Books, Start), Unusable> {
    let (head, rest) = Head::read(bytes, bytes.len() as u64)?;
    head.books(rest)
}

proptest! {
    #![proptest_config(cases())]
    #[test]
    fn books_that_were_written_and_read_are_those_of_a_replay_and_go_on_like_them(
        steps in proptest::collection::vec(step(), 0..120), cut in 0.0..1.0_f64, sizes in any::<[u32; 3]>()
    ) {
        let History { entries, books: all } = History::of(&steps);
        let cut = (entries.len() as f64 * cut) as usize; // a place among them
        let (before, behind) = entries.split_at(cut);
        let mut live = replayed(before);
        let (mut books, at) = loaded(&written(before, &live)).unwrap();
        prop_assert_eq!(&at, &start(before, &live));
        prop_assert_eq!(&books, &live);
        prop_assert_eq!(&books, &replayed(before), "writing changes nothing");
        for entry in behind {
            prop_assert!(take(&mut live, entry) && take(&mut books, entry));
        }
        prop_assert_eq!(&books, &live);
        prop_assert_eq!(&books, &all);
        for size in sizes {
            let same = books.window.resize(Work(size.into())) == live.window.resize(Work(size.into()));
            prop_assert!(same);
            prop_assert_eq!(books.weights(), live.weights());
        }
        let mut tree = at.tree;
        let mut encoded = Encoded::default();
        behind.iter().for_each(|entry| encoded.push(entry));
        tree.extend(encoded.leaves());
        prop_assert_eq!(tree.root(), self::tree(&entries).root());
    }
}

/// Settlements in each state, shares that have left the window, more payees than scripts.
fn eventful() -> Vec<Step> {
    let mut steps: Vec<_> = (0..12).map(|n| Step::Payee(n % 5)).collect();
    steps.extend([Step::Epoch(0), Step::Retarget(1)]);
    let shares = |payee: u8| Step::Shares {
        payee,
        pot: -32 + (payee % 9) as i8,
        count: payee % 4 + 1,
        credited: !payee.is_multiple_of(5),
    };
    steps.extend((0..60).map(shares));
    for (nth, to) in (0_usize..).zip([0, 1, 2, 3, 5]) {
        steps.push(Step::Settle { to, sats: 10_000 + nth as u64, outputs: 2 });
        steps.extend(match nth {
            0 => vec![Step::Paid { settlement: 0, block: 1 }, Step::Paid { settlement: 0, block: 2 }],
            1 => vec![Step::Withdrawn(1)],
            2 => vec![Step::Paid { settlement: 2, block: 4 }, Step::Failed { settlement: 2, spent: 0b10 }],
            _ => vec![Step::Rules(300), Step::Failed { settlement: 3, spent: 0b01 }],
        });
        steps.extend((0..9).map(shares));
    }
    steps
}

#[test]
fn the_eventful_history_has_all_that_a_checkpoint_holds() {
    let History { books, .. } = History::of(&eventful());
    let states: Vec<_> = books.settlements.all().values().map(|made| made.state.label()).collect();
    assert_eq!(states, ["paid", "withdrawn", "failed", "failed", "open"]);
    assert!(!books.settlements.locked().is_empty());
    assert!(books.window.kept().0.dropped && books.registry.scripts() < 12);
}

#[test]
fn every_byte_that_is_wrong_or_missing_makes_it_unusable() {
    let History { entries, books } = History::of(&eventful());
    let bytes = written(&entries, &books);
    let contents = check(&bytes).unwrap();
    assert_eq!((contents.payees, contents.total), (12, books.window.total()));
    for at in 0..bytes.len() {
        for flip in [1, 0x80, 0xff] {
            let mut wrong = bytes.clone();
            wrong[at] ^= flip;
            assert!(check(&wrong).is_err(), "byte {at}");
        }
        assert!(check(&bytes[..at]).is_err(), "cut at {at}");
    }
    assert!(check(&[&bytes[..], &[0]].concat()).is_err());
}

/// The same bytes with a checksum that is right.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - CRC_BYTES;
    let crc = crc32c::crc32c(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn what_a_wrong_checksum_would_have_shown_is_seen_without_it_or_does_no_harm() {
    let History { entries, books } = History::of(&eventful());
    let bytes = written(&entries, &books);
    for at in 0..bytes.len() - CRC_BYTES {
        for flip in [1, 0x80, 0xff] {
            let mut wrong = bytes.clone();
            wrong[at] ^= flip;
            if let Ok((mut books, _)) = loaded(&sealed(wrong)) {
                // Nothing follows from it that a panic could come of.
                assert!(books.window.total() <= books.total_work);
                books.window.append(0, Pot::MIN);
                let _ = books.window.resize(Work(1 << 40));
                let _ = books.weights();
            }
        }
    }
    // What jobs commit to cannot be changed so.
    let wrong = |at: usize| {
        let mut wrong = bytes.clone();
        wrong[at] ^= 1;
        loaded(&sealed(wrong)).unwrap_err().to_string()
    };
    assert_eq!(wrong(119), "its tree root is wrong");
    assert_eq!(wrong(HEAD_BYTES), "its tree root is wrong");
    assert_eq!(wrong(151), "its weights root is wrong");
    assert_eq!(
        wrong(bytes.len() - CRC_BYTES - 8),
        "its weights root is wrong",
        "the payee of the newest share"
    );
}

/// Writes entries as a log, `per_commit` in each block.
fn log_of(dir: &Path, entries: &[Entry], per_commit: usize, segment_bytes: u64) {
    add(dir, entries, 0, per_commit, segment_bytes);
}

/// Adds the entries from an index on.
fn add(dir: &Path, entries: &[Entry], from: usize, per_commit: usize, segment_bytes: u64) {
    let (before, entries) = entries.split_at(from);
    let mut log = Log::open(log_settings(dir, segment_bytes), |_, _| {}).unwrap();
    let mut books = replayed(before);
    for entries in entries.chunks(per_commit) {
        let mut encoded = Encoded::default();
        entries.iter().for_each(|entry| encoded.push(entry));
        log.commit(&encoded, books.total_work.0).unwrap();
        assert!(entries.iter().all(|entry| take(&mut books, entry)));
    }
}

fn log_settings(dir: &Path, segment_bytes: u64) -> LogSettings {
    LogSettings { dir: dir.to_owned(), network: Network::Regtest, site: SITE, segment_bytes }
}

fn recovered(dir: &Path) -> Result<Recovered, OpenError> {
    recover(log_settings(dir, 1_000), span())
}

/// After what ran has stopped: a start with its checkpoints and one without come to the same. Gives the number of the
/// segment that the former reads first.
pub(crate) fn assert_same_without(dir: &Path, span: Span) -> u32 {
    let plain = without_checkpoints(dir);
    let [with, without] = [dir, plain.path()].map(|dir| recover(log_settings(dir, 1_000), span).unwrap());
    assert_eq!(without.read_from, 0);
    assert_eq!((with.log.size(), with.log.root()), (without.log.size(), without.log.root()));
    let (with_books, mut books) = (with.books, without.books);
    // A window that runs goes by what it is asked for, a replay by what the log says of jobs.
    let window = with_books.window.size();
    if !books.window.resize(window) {
        books.window = replay(plain.path(), books.size, window).unwrap().window;
    }
    assert_eq!(with_books.weights(), books.weights());
    books.window = with_books.window.clone();
    assert_eq!(with_books, books);
    with.read_from
}

fn refused(dir: &Path) -> OpenError {
    recovered(dir).map(|_| ()).expect_err("the log is wrong")
}

/// What a start makes of the log.
fn state(dir: &Path) -> (Books, TreeHash, u32) {
    let Recovered { log, books, read_from, .. } = recovered(dir).unwrap();
    assert_eq!(log.size(), books.size);
    (books, log.root(), read_from)
}

/// Starts, and writes the checkpoint that such a start finds missing; gives the number of its segment.
fn make_checkpoint(dir: &Path) -> u32 {
    let checkpoint = recovered(dir).unwrap().missing.expect("the newest segment is not the first");
    write(dir, &checkpoint).unwrap();
    checkpoint.segment()
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
    }
    to
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = all.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    files.sort();
    files
}

fn without_checkpoints(dir: &Path) -> tempfile::TempDir {
    let copy = copy(dir);
    files(copy.path(), "books").iter().for_each(|path| fs::remove_file(path).unwrap());
    copy
}

#[test]
fn a_start_from_a_checkpoint_has_the_books_and_roots_of_one_without() {
    let History { entries, .. } = History::of(&eventful());
    for per_commit in [1, 2, 7, 50] {
        let dir = tempfile::tempdir().unwrap();
        log_of(dir.path(), &entries, per_commit, 1_000);
        let segment = make_checkpoint(dir.path());
        assert_eq!(assert_same_without(dir.path(), span()), segment);
        assert!(recovered(dir.path()).unwrap().missing.is_none(), "it is there");
    }
}

/// Whatever was cut off, a commit comes behind what is left.
fn assert_goes_on(dir: &Path, entry: &Entry) {
    let dir = copy(dir);
    let Recovered { mut log, books, .. } = recovered(dir.path()).unwrap();
    let mut encoded = Encoded::default();
    encoded.push(entry);
    log.commit(&encoded, books.total_work.0).unwrap();
    drop(log);
    assert_eq!(state(dir.path()).0.size, books.size + 1);
    assert_same_without(dir.path(), span());
}

#[test]
fn i10_cut_at_every_byte_of_the_newest_segment_a_checkpoint_changes_nothing() {
    let History { entries, .. } = History::of(&eventful());
    // In one log the newest segment holds one block, in the other several.
    for (per_commit, segment_bytes) in [(5, 300), (2, 500)] {
        let dir = tempfile::tempdir().unwrap();
        log_of(dir.path(), &entries[..entries.len() - 5], per_commit, segment_bytes);
        make_checkpoint(dir.path());
        let plain = without_checkpoints(dir.path());
        let newest = files(dir.path(), "seg").pop().unwrap();
        let checkpoint = newest.with_extension("books");
        let (bytes, written) = (fs::read(&newest).unwrap(), fs::read(&checkpoint).unwrap());
        let mut read_from = Vec::new();
        for cut in 0..=bytes.len() {
            fs::write(&newest, &bytes[..cut]).unwrap();
            fs::write(plain.path().join(newest.file_name().unwrap()), &bytes[..cut]).unwrap();
            fs::write(&checkpoint, &written).unwrap();
            let (with, without) = (state(dir.path()), state(plain.path()));
            assert_eq!((&with.0, with.1, 0), (&without.0, without.1, without.2), "cut at {cut}");
            read_from.push(with.2);
            if cut % 32 == 0 {
                assert_goes_on(dir.path(), &entries[0]);
            }
        }
        assert_eq!(
            read_from.iter().filter(|from| **from == 0).count(),
            96,
            "while the segment has no header"
        );
        assert_eq!(read_from.last(), Some(&(files(dir.path(), "seg").len() as u32 - 1)));
    }
}

#[test]
fn a_file_that_is_damaged_or_of_another_log_is_removed_and_an_earlier_one_used() {
    let History { entries, .. } = History::of(&eventful());
    let dir = tempfile::tempdir().unwrap();
    let half = entries.len() / 2;
    log_of(dir.path(), &entries[..half], 2, 1_000);
    let earlier = make_checkpoint(dir.path());
    add(dir.path(), &entries, half, 1, 1_000);
    let newest = make_checkpoint(dir.path());
    assert!(earlier < newest);
    let [old, new] = files(dir.path(), "books").try_into().unwrap();
    let bytes = fs::read(&new).unwrap();
    for at in (0..bytes.len()).step_by(37) {
        let mut wrong = bytes.clone();
        wrong[at] ^= 4;
        fs::write(&new, wrong).unwrap();
        assert_eq!(assert_same_without(dir.path(), span()), earlier);
        assert!(!new.exists(), "byte {at}");
    }
    for cut in [0, 1, HEAD_BYTES, bytes.len() - 1] {
        fs::write(&new, &bytes[..cut]).unwrap();
        assert_eq!(assert_same_without(dir.path(), span()), earlier);
    }
    // Under another number, even if that is there: the segment's header is another one.
    fs::rename(&old, &new).unwrap();
    assert_eq!(assert_same_without(dir.path(), span()), 0);
    assert!(files(dir.path(), "books").is_empty());
    // The same entries in another log.
    let other = tempfile::tempdir().unwrap();
    log_of(other.path(), &entries, 2, 1_000);
    make_checkpoint(other.path());
    let foreign = files(other.path(), "books").pop().unwrap();
    fs::copy(&foreign, dir.path().join(foreign.file_name().unwrap())).unwrap();
    assert_eq!(assert_same_without(dir.path(), span()), 0);
    // And what was being written when a crash came.
    fs::write(new.with_extension("new"), &bytes).unwrap();
    assert_eq!(assert_same_without(dir.path(), span()), 0);
    assert!(files(dir.path(), "new").is_empty());
}

#[test]
fn a_checkpoint_of_a_segment_that_is_not_there_is_removed() {
    let History { entries, .. } = History::of(&eventful());
    let dir = tempfile::tempdir().unwrap();
    log_of(dir.path(), &entries, 3, 1_000);
    let segment = make_checkpoint(dir.path());
    // As if an older copy of the log had been put back.
    fs::remove_file(files(dir.path(), "seg").pop().unwrap()).unwrap();
    assert_eq!(assert_same_without(dir.path(), span()), 0);
    assert!(files(dir.path(), "books").is_empty());
    assert_eq!(make_checkpoint(dir.path()), segment - 1);
}

#[test]
fn what_is_read_is_checked_as_ever_and_every_segment_must_be_there() {
    let History { entries, .. } = History::of(&eventful());
    let dir = tempfile::tempdir().unwrap();
    let half = entries.len() / 2;
    log_of(dir.path(), &entries[..half], 2, 1_000);
    add(dir.path(), &entries, half, 20, 1 << 20);
    let newest = make_checkpoint(dir.path());
    let segments = files(dir.path(), "seg");
    let bytes = fs::read(&segments[newest as usize]).unwrap();
    let mut wrong = bytes.clone();
    wrong[100] ^= 1;
    fs::write(&segments[newest as usize], wrong).unwrap();
    let corrupt = |error, number, at| match error {
        OpenError::Log(LogError::Corrupt { segment, offset, .. }) => (segment, offset) == (number, at),
        _ => false,
    };
    assert!(corrupt(refused(dir.path()), newest, 96));
    fs::write(&segments[newest as usize], bytes).unwrap();
    // An earlier one is read by others alone; but its header is looked at.
    let middle = &segments[newest as usize - 1];
    let bytes = fs::read(middle).unwrap();
    let mut wrong = bytes.clone();
    wrong[100] ^= 1;
    fs::write(middle, wrong).unwrap();
    assert_eq!(state(dir.path()).2, newest);
    assert!(Reader::open(dir.path()).unwrap().any(|entry| entry.is_err()));
    let mut wrong = bytes.clone();
    wrong[50] ^= 1;
    fs::write(middle, wrong).unwrap();
    assert!(corrupt(refused(dir.path()), newest - 1, 0));
    // One that is whole, but begins behind the next one.
    let mut header = SegmentHeader::decode(&bytes).unwrap();
    header.start.index += 1_000;
    fs::write(middle, header.encode()).unwrap();
    let error = refused(dir.path());
    let unchained = LogError::Corrupt { segment: newest, offset: 0, what: Corruption::Unchained };
    assert_eq!(error.to_string(), unchained.to_string());
    fs::remove_file(middle).unwrap();
    let missing = refused(dir.path());
    assert!(matches!(missing, OpenError::Log(LogError::Missing(number)) if number == newest - 1));
}

#[test]
fn a_window_of_another_span_or_beyond_what_was_kept_is_read_from_the_first_entry() {
    let mut history = History::of(&eventful());
    (0..400).for_each(|nth| history.share(nth, -24, true));
    let dir = tempfile::tempdir().unwrap();
    log_of(dir.path(), &history.entries, 5, 1_000);
    let newest = make_checkpoint(dir.path());
    let before = state(dir.path());
    assert!(before.0.window.kept().0.dropped && before.2 == newest);
    let other = Span::new(4, 1).unwrap();
    let Recovered { books, read_from, missing, .. } =
        recover(log_settings(dir.path(), 1_000), other).unwrap();
    assert_eq!((books.window.size(), read_from), (Work(4 * 512), 0));
    assert_eq!(missing.map(|checkpoint| checkpoint.segment()), Some(newest), "of the new span");
    // The network's difficulty rises 256-fold at once, as it cannot.
    let mut log = recovered(dir.path()).unwrap().log;
    let mut encoded = Encoded::default();
    encoded.push(&Entry::Chain(ChainEntry { unix_ms: 1, event: ChainEvent::Retarget { nbits: NBITS[2] } }));
    log.commit(&encoded, before.0.total_work.0).unwrap();
    drop(log);
    let Recovered { books, .. } = recovered(dir.path()).unwrap();
    assert_eq!(books.window.total(), books.total_work.min(Work(3 << 17)));
    assert!(books.window.total() > before.0.window.total());
    let plain = without_checkpoints(dir.path());
    assert_eq!(recovered(plain.path()).unwrap().books.weights(), books.weights());
}

mod running {
    use super::*;
    use std::time::{Duration, Instant};

    /// Commits until the log has so many segments more.
    fn fill(accounting: &Accounting, log: &Path, segments: usize) {
        let (mut miner, job) = (Miner::new(), body(1));
        let wanted = files(log, "seg").len() + segments;
        let mut nth = 0_u8;
        while files(log, "seg").len() < wanted {
            nth = nth.wrapping_add(1);
            commit(accounting, vec![miner.share(&job, &payee(nth % 7, "w"), -32, true)]).0.unwrap();
        }
    }

    #[test]
    fn each_segment_that_begins_has_a_checkpoint_and_two_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let settings = crate::accounting::Settings { segment_bytes: 2_000, ..settings(dir.path()) };
        let log = settings.log_dir();
        let (accounting, thread) = Accounting::open(settings.clone()).unwrap();
        for _ in 0..6 {
            fill(&accounting, &log, 1);
            let newest = files(&log, "seg").pop().unwrap().with_extension("books");
            let late = Instant::now() + Duration::from_secs(60);
            while !newest.exists() {
                assert!(Instant::now() < late, "no checkpoint is written");
                std::thread::yield_now();
            }
        }
        thread.stop().unwrap();
        assert_eq!(files(&log, "books").len(), 2);
        let newest = u32::try_from(files(&log, "seg").len()).unwrap() - 1;
        assert_eq!(assert_same_without(&log, params().span), newest);
        // And shares go on where they were.
        let (accounting, thread) = Accounting::open(settings).unwrap();
        fill(&accounting, &log, 1);
        thread.stop().unwrap();
    }

    #[test]
    fn a_checkpoint_that_cannot_be_written_holds_up_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let settings = crate::accounting::Settings { segment_bytes: 2_000, ..settings(dir.path()) };
        let log = settings.log_dir();
        let (accounting, thread) = Accounting::open(settings.clone()).unwrap();
        // A folder is where the file would be.
        (1..9).for_each(|number| fs::create_dir(log.join(format!("{number:08}.new"))).unwrap());
        fill(&accounting, &log, 3);
        thread.stop().unwrap();
        assert!(files(&log, "books").is_empty());
        let (_, thread) = Accounting::open(settings).unwrap();
        thread.stop().unwrap();
    }
}

#[test]
fn a_payee_that_no_output_can_pay_is_in_no_journal() {
    for (bytes, is_payable) in [(0, false), (1, true), (252, true), (253, false)] {
        let (worker, script) = (WorkerTag([1; 16]), ScriptBuf::from_bytes(vec![1; bytes]));
        let mut journal = Journal::default();
        journal.push(0, &Entry::Payee(PayeeEntry { index: 0, worker, script }));
        let read = Books::of_journal(Network::Regtest, &journal.pieces().collect::<Vec<_>>().concat());
        assert_eq!(read.is_ok(), is_payable, "{bytes}");
    }
}

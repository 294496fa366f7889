//! What is exported is read again as other programs read it, and as the log that it was; what is altered is not.

mod hostile;
mod round_trip;

use super::*;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, Network, ScriptBuf, TxMerkleNode};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Row as Record, RowAccessor};
use share_accounting::entry::{Encoded, Extranonce, JobEntry, PayeeEntry, PlanEntry, Share, WorkerTag};
use share_accounting::log::append::{Log, LogSettings};
use share_accounting::publish::Head;
use share_accounting::publish::key::LogKey;
use share_accounting::publish::tiles::{Place, Row as PlaceRow, Tiles};
use stratum::class::SizeClass;
use stratum::job::{Coinbase, TemplateId};
use stratum::payee::PayeeTag;
use stratum::pot::Pot;
use stratum::target::Work;

const NBITS: u32 = 0x207f_ffff;
/// Version, one input with a null outpoint, and the script's length, height and push.
const TAG_OFFSET: usize = 4 + 1 + 36 + 1 + 3;

fn script(byte: u8) -> ScriptBuf {
    ScriptBuf::from_bytes([&[0, 20][..], &[byte; 20]].concat())
}

/// A coinbase with zeros in its gap, and one output.
fn coinbase() -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 1];
    bytes.extend([0; 32]);
    bytes.extend([0xff; 4]);
    bytes.extend([28, 1, 7, 25]);
    bytes.extend([0; 25]);
    bytes.extend([0xff; 4]);
    bytes.push(1);
    bytes.extend(5_000_000_000_u64.to_le_bytes());
    bytes.push(22);
    bytes.extend(script(9).as_bytes());
    bytes.extend([0; 4]);
    bytes
}

fn job() -> Entry {
    Entry::Job(
        JobEntry {
            template: TemplateId(1),
            prev_hash: BlockHash::from_byte_array([1; 32]),
            nbits: NBITS,
            version: 0x2000_0000,
            ntime_min: 1,
            height: 7,
            class: SizeClass::B755,
            out_bytes: 400,
            coinbase: Coinbase::new(coinbase().into(), TAG_OFFSET),
            merkle_branch: Vec::new(),
            plan: PlanEntry::Solo { script: script(1), log_size: Some(2) },
        }
        .into(),
    )
}

fn share(n: u32) -> Share {
    Share {
        pot: Pot::try_from(-32).unwrap(),
        site: 65_535,
        payee: n % 2,
        job: if n == 5 { 0 } else { 2 },
        ntime: 0xffff_fff0 + n % 8,
        nonce: 0x8000_0000 | n,
        version: 0xe000_0000,
        extranonce: Extranonce::new(&[9, 0, 0, n as u8, 1, 2, 3, 4, 5, 6, 7, 8]).unwrap(),
        credited: !n.is_multiple_of(3),
        block_candidate: n.is_multiple_of(7),
        received_unix_ms: 1_800_000_000_000 + u64::from(n),
        total_work: Work(u128::from(u64::MAX) * u128::from(n)),
    }
}

/// The header of a share, put together by another implementation.
fn header_hash(share: &Share) -> String {
    let mut coinbase = coinbase();
    let gap = &mut coinbase[TAG_OFFSET..][..25];
    gap[..8].copy_from_slice(&PayeeTag::of(&script(share.payee as u8)).0);
    gap[8] = share.pot.get().to_le_bytes()[0];
    gap[13..].copy_from_slice(share.extranonce.as_bytes());
    let header = Header {
        version: Version::from_consensus(share.version.cast_signed()),
        prev_blockhash: BlockHash::from_byte_array([1; 32]),
        merkle_root: TxMerkleNode::hash(&coinbase),
        time: share.ntime,
        bits: CompactTarget::from_consensus(NBITS),
        nonce: share.nonce,
    };
    header.block_hash().to_string()
}

/// Two payees, a job and its shares.
fn entries(shares: u32) -> Vec<Entry> {
    let payee = |index: u32| {
        Entry::Payee(PayeeEntry { index, worker: WorkerTag([1; 16]), script: script(index as u8) })
    };
    [payee(0), payee(1), job()].into_iter().chain((0..shares).map(|n| Entry::Share(share(n)))).collect()
}

fn read(path: &Path) -> Vec<Record> {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let columns: Vec<_> = reader
        .metadata()
        .file_metadata()
        .schema()
        .get_fields()
        .iter()
        .map(|field| field.name().to_owned())
        .collect();
    assert_eq!(columns.len(), COLUMNS.len());
    assert!(COLUMNS.iter().zip(&columns).all(|((declared, _), name)| declared.contains(name.as_str())));
    let rows = reader.get_row_iter(None).unwrap().map(Result::unwrap);
    // As a tool would: where pot is not null.
    rows.filter(|row| row.get_byte(1).is_ok()).collect()
}

fn assert_rows(rows: &[Record]) {
    for (n, row) in (0..).zip(rows) {
        let share = share(n);
        assert_eq!(row.get_ulong(0).unwrap(), u64::from(n) + 3);
        assert_eq!(row.get_byte(1).unwrap(), -32);
        assert_eq!(row.get_ushort(2).unwrap(), 65_535);
        assert_eq!(row.get_uint(3).unwrap(), n % 2);
        assert_eq!(*row.get_string(4).unwrap(), script((n % 2) as u8).to_hex_string());
        assert_eq!(row.get_ulong(5).unwrap(), share.job);
        let numbers = [6, 7, 8].map(|column| row.get_uint(column).unwrap());
        assert_eq!(numbers, [share.ntime, share.nonce, share.version]);
        assert_eq!(*row.get_string(9).unwrap(), format!("090000{:02x}0102030405060708", n % 256));
        assert_eq!(
            [10, 11].map(|column| row.get_bool(column).unwrap()),
            [share.credited, share.block_candidate]
        );
        assert_eq!(row.get_timestamp_millis(12).unwrap().cast_unsigned(), share.received_unix_ms);
        assert_eq!(row.get_string(13).unwrap().parse::<u128>().unwrap(), share.total_work.0);
        // Entry 0 is no job.
        if n == 5 {
            assert!(row.get_string(14).is_err());
        } else {
            assert_eq!(*row.get_string(14).unwrap(), header_hash(&share));
        }
    }
}

#[test]
fn shares_of_sealed_segments_are_read_again_as_they_stand_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let settings =
        LogSettings { dir: dir.path().join("log"), network: Network::Regtest, site: 1, segment_bytes: 3_000 };
    let mut log = Log::open(settings, |_, _| {}).unwrap();
    for entry in entries(100) {
        let mut encoded = Encoded::default();
        encoded.push(&entry);
        log.commit(&encoded, 0).unwrap();
    }
    let out = dir.path().join("shares.parquet");
    let mut args = ExportArgs { dir: dir.path().join("log"), out: out.clone(), key: None, newest: false };
    // While it is written to, too.
    export(&args).unwrap();
    let sealed = read(&out);
    assert!((1..100).contains(&sealed.len()), "{} shares are sealed", sealed.len());
    assert_rows(&sealed);
    args.newest = true;
    export(&args).unwrap();
    let all = read(&out);
    assert_eq!(all.len(), 100);
    assert_rows(&all);
    args.dir = dir.path().join("nothing");
    assert!(export(&args).is_err());
    assert_eq!(read(&out).len(), 100, "what was there stays");
}

/// A copy of a published log, as `published` leaves it; the key.
fn copy(dir: &Path, entries: &[Entry]) -> LogVerifier {
    let (key, _) = LogKey::generate("test.example/log");
    let mut tiles = Tiles::open(dir).unwrap();
    for entry in entries {
        tiles.append(&[&bytes(entry)]).unwrap();
    }
    let head = Head { size: tiles.size(), root: tiles.root().unwrap() };
    fs::write(dir.join("checkpoint"), key.sign(&head, Network::Regtest)).unwrap();
    let last = Place { row: PlaceRow::Entries, number: head.size / 256, width: (head.size % 256) as usize };
    let path = dir.join(last.path());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, tiles.read(&last).unwrap()).unwrap();
    key.verifier()
}

fn bytes(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    bytes
}

#[test]
fn shares_of_a_published_copy_fill_more_than_one_group() {
    let dir = tempfile::tempdir().unwrap();
    let key = Some(copy(dir.path(), &entries(GROUP_ROWS as u32 + 10)));
    let out = dir.path().join("shares.parquet");
    export(&ExportArgs { dir: dir.path().to_owned(), out: out.clone(), key, newest: false }).unwrap();
    let rows = read(&out);
    assert_eq!(rows.len(), GROUP_ROWS + 10);
    assert_rows(&rows);
    // Where the second group begins, and in it.
    let mut file = Exported::open(&out).unwrap();
    for n in [GROUP_ROWS as u32 + 9, 0, 4_095, 4_096, GROUP_ROWS as u32 - 4, GROUP_ROWS as u32 - 3] {
        assert_eq!(file.entry(u64::from(n) + 3).unwrap(), bytes(&Entry::Share(share(n))));
    }
    assert_eq!(file.entry(2).unwrap(), bytes(&job()));
    assert!(file.entry(GROUP_ROWS as u64 + 13).is_err());
}

//! Byte for byte.

use super::*;
use crate::holder::Holder;
use bitcoin::{OutPoint, Txid};
use share_accounting::entry::{ChainEntry, ChainEvent, Move, Params, Reserve, Settlement, Witnesses};
use share_accounting::payout::{Donation, Params as Split};
use share_accounting::tree::{Tree, leaves};
use share_accounting::window::Span;
use std::time::{Duration, SystemTime};

fn params(settlement_fee_bp: u16, settlement_at_least: u64, witnesses: Witnesses) -> Entry {
    Entry::Params(
        Params {
            site: 65_535,
            span: Span::new(8, 3).unwrap(),
            stale_credit_ms: u32::MAX,
            split: Split {
                fee_bp: 100,
                fee_script: script(7),
                donations: vec![Donation { bp: 30, script: script(8) }],
                min_payout: u64::MAX,
                reserve_script: script(9),
            },
            settlement_fee_bp,
            settlement_at_least,
            witnesses,
        }
        .into(),
    )
}

/// Rules of each version, each event, and whatever else there is; then shares, and behind them the longest job.
fn every_kind() -> Vec<Entry> {
    let hash = BlockHash::from_byte_array([0xab; 32]);
    let keys = vec!["witness.example+0123+key".to_owned()];
    let mut entries = entries(0);
    let rules = [(0, 0, vec![], 0), (200, 0, vec![], 0), (200, 0, keys, 1), (200, u64::MAX, vec![], 0)];
    entries.extend(rules.map(|(fee, least, keys, needed)| params(fee, least, Witnesses { needed, keys })));
    let events = [
        ChainEvent::EpochStart { epoch: u16::MAX },
        ChainEvent::BlockFound { hash, height: u32::MAX },
        ChainEvent::BlockInChain(hash),
        ChainEvent::BlockOrphaned(hash),
        ChainEvent::BlockMatured(hash),
        ChainEvent::BlockRefused(hash),
        ChainEvent::Retarget { nbits: NBITS },
        ChainEvent::Superseded(TemplateId(u64::MAX)),
        ChainEvent::NewTip(hash),
        ChainEvent::SettlementPaid { settlement: 9, block: hash, txid: Txid::from_byte_array([3; 32]) },
        ChainEvent::SettlementWithdrawn { settlement: 9 },
        ChainEvent::SettlementFailed { settlement: 9, spent: u128::MAX },
    ];
    entries.extend(events.map(|event| Entry::Chain(ChainEntry { unix_ms: u64::MAX, event })));
    let outpoint = OutPoint { txid: Txid::from_byte_array([4; 32]), vout: 1 };
    entries.push(Entry::Settlement(
        Settlement {
            matured: hash,
            ledger_block: hash,
            fee: 1,
            credits: vec![(script(1), u64::MAX)],
            reserve: vec![Reserve { outpoint, sats: 7 }],
        }
        .into(),
    ));
    let signature = vec![5; 100];
    entries.push(Entry::Move(Move { log_id: [6; 16], from: script(1), to: script(2), signature }.into()));
    let lengths = [0, 11, 12, 16];
    entries.extend(lengths.map(|length| {
        let extranonce = Extranonce::new(&[0xff; 16][..length]).unwrap();
        Entry::Share(Share { extranonce, payee: u32::MAX, job: u64::MAX, ..share(0) })
    }));
    let numbers = Share {
        pot: Pot::MAX,
        site: 0,
        payee: 1,
        received_unix_ms: u64::MAX,
        total_work: Work(u128::MAX),
        ..share(1)
    };
    entries.push(Entry::Share(numbers));
    entries.extend((0..5_000).map(|n| Entry::Share(share(n))));
    let Entry::Job(mut long) = job() else { unreachable!() };
    long.coinbase = Coinbase::new(vec![7; 60_000].into(), TAG_OFFSET);
    entries.push(Entry::Job(long));
    entries
}

fn all_bytes(file: &Exported) -> Vec<Vec<u8>> {
    file.batches().flat_map(Result::unwrap).collect()
}

#[test]
fn a_log_with_every_kind_of_entry_is_the_same_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let entries = every_kind();
    let expected: Vec<_> = entries.iter().map(bytes).collect();
    let verifier = copy(dir.path(), &entries);
    let out = dir.path().join("log.parquet");
    let kept_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    File::open(dir.path().join("checkpoint")).unwrap().set_modified(kept_at).unwrap();
    fs::write(dir.path().join("cosigned"), "who knows\n").unwrap();
    let args = ExportArgs {
        dir: dir.path().to_owned(),
        out: out.clone(),
        key: Some(verifier.clone()),
        newest: false,
    };
    export(&args).unwrap();

    let file = Exported::open(&out).unwrap();
    assert!(all_bytes(&file) == expected);
    let root =
        leaves(&expected.iter().map(Vec::as_slice).collect::<Vec<_>>()).into_iter().collect::<Tree>().root();
    assert_eq!((file.size(), file.check().unwrap()), (expected.len() as u64, root));
    let read: Vec<_> = file.entries().map(Result::unwrap).collect();
    assert!(read == (0..).zip(entries).collect::<Vec<_>>());

    // And under the head that is signed, with all that `published` asks of a copy.
    let (mut folder, mut exported) =
        (Mirror::open(dir.path(), None, &verifier).unwrap(), Mirror::open(&out, None, &verifier).unwrap());
    assert_eq!((exported.head(), exported.network()), (folder.head(), Network::Regtest));
    assert_eq!(exported.kept_at().unwrap(), kept_at);
    assert_eq!(exported.cosigned().unwrap(), b"who knows\n");
    assert_eq!(exported.checkpoint().unwrap(), folder.checkpoint().unwrap());
    let sizes = [0, 1, 255, 256, 4_096, 5_000, folder.head().size].into();
    assert_eq!(exported.roots(&sizes).unwrap(), folder.roots(&sizes).unwrap());
    for index in [0, 17, 4_095, 4_096, folder.head().size - 1] {
        let entry = folder.entry(index).unwrap();
        assert!(exported.holds(index, &entry).unwrap() && !exported.holds(index, &entry[1..]).unwrap());
    }
    assert!(Mirror::open(&out, Some("http://127.0.0.1:1/log"), &verifier).is_err());
    let (other, _) = LogKey::generate("test.example/log");
    let other = other.verifier();
    assert!(Mirror::open(&out, None, &other).is_err(), "another key");

    // An export of an export is the same file.
    let again = dir.path().join("again.parquet");
    export(&ExportArgs { dir: out.clone(), out: again.clone(), ..args }).unwrap();
    assert!(fs::read(out).unwrap() == fs::read(again).unwrap());
}

#[test]
fn a_pools_own_files_are_the_same_byte_for_byte_under_no_head() {
    let dir = tempfile::tempdir().unwrap();
    let settings = LogSettings {
        dir: dir.path().join("log"),
        network: Network::Signet,
        site: 1,
        segment_bytes: 1 << 20,
    };
    let mut log = Log::open(settings, |_, _| {}).unwrap();
    let entries = every_kind();
    let mut encoded = Encoded::default();
    entries.iter().for_each(|entry| encoded.push(entry));
    log.commit(&encoded, 0).unwrap();
    let out = dir.path().join("log.parquet");
    export(&ExportArgs { dir: dir.path().join("log"), out: out.clone(), key: None, newest: true }).unwrap();
    let file = Exported::open(&out).unwrap();
    assert!(all_bytes(&file).concat() == encoded.bytes());
    let header = Reader::open(&dir.path().join("log")).unwrap().headers().next().unwrap().clone();
    let about =
        About { network: Network::Signet, log_id: Some(header.log_id), checkpoint: None, cosigned: None };
    assert_eq!(*file.about(), about);
    let (key, _) = LogKey::generate("test.example/log");
    let error = Mirror::open(&out, None, &key.verifier()).err().unwrap();
    assert!(error.to_string().contains("no signed head is in"), "{error}");
}

use super::*;
use crate::payout;
use crate::settlement::FEE_BP_MAX;
use crate::window::Span;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, OutPoint, ScriptBuf, Txid};
use proptest::collection::vec;
use proptest::prelude::*;
use stratum::class::SizeClass;
use stratum::job::{Coinbase, TemplateId};
use stratum::pot::Pot;
use stratum::target::Work;

fn hash() -> impl Strategy<Value = BlockHash> {
    any::<[u8; 32]>().prop_map(BlockHash::from_byte_array)
}

fn script() -> impl Strategy<Value = ScriptBuf> {
    vec(any::<u8>(), 0..80).prop_map(ScriptBuf::from_bytes)
}

fn share() -> impl Strategy<Value = Entry> {
    let numbers = (any::<u16>(), any::<u32>(), any::<u64>(), any::<[u32; 3]>(), any::<u64>(), any::<u128>());
    (-32_i8..=95, numbers, vec(any::<u8>(), 0..=EXTRANONCE_ROOM), any::<[bool; 2]>()).prop_map(
        |(pot, (site, payee, job, [ntime, nonce, version], received_unix_ms, work), extranonce, flags)| {
            Entry::Share(Share {
                pot: Pot::try_from(pot).unwrap(),
                site,
                payee,
                job,
                ntime,
                nonce,
                version,
                extranonce: Extranonce::new(&extranonce).unwrap(),
                credited: flags[0],
                block_candidate: flags[1],
                received_unix_ms,
                total_work: Work(work),
            })
        },
    )
}

fn job() -> impl Strategy<Value = Entry> {
    let plan = prop_oneof![
        (script(), any::<Option<u64>>()).prop_map(|(script, log_size)| PlanEntry::Solo { script, log_size }),
        (any::<u64>(), hash())
            .prop_map(|(log_size, ledger_block)| PlanEntry::Window { log_size, ledger_block })
    ];
    let coinbase =
        (0_usize..60, 25_usize..300).prop_map(|(tag, rest)| Coinbase::new(vec![7; tag + rest].into(), tag));
    let branch = vec(any::<[u8; 32]>(), 0..14);
    (any::<u64>(), hash(), any::<[u32; 5]>(), 0_u8..6, coinbase, branch, plan).prop_map(
        |(
            template,
            prev_hash,
            [nbits, version, ntime_min, height, out_bytes],
            class,
            coinbase,
            branch,
            plan,
        )| {
            Entry::Job(
                JobEntry {
                    template: TemplateId(template),
                    prev_hash,
                    nbits,
                    version,
                    ntime_min,
                    height,
                    class: SizeClass::from_code(class).unwrap(),
                    out_bytes,
                    coinbase,
                    merkle_branch: branch,
                    plan,
                }
                .into(),
            )
        },
    )
}

fn params() -> impl Strategy<Value = Entry> {
    let donations = vec((any::<u16>(), script()), 0..4);
    (
        any::<u16>(),
        1_u64..,
        1_u64..,
        any::<u32>(),
        any::<u16>(),
        any::<u64>(),
        [script(), script()],
        donations,
        0_u16..=FEE_BP_MAX,
        (prop_oneof![Just(0), any::<u64>()], 0_u8..4, vec("[a-z+/]{0,40}", 3)),
    )
        .prop_map(
            |(
                site,
                numerator,
                denominator,
                stale_credit_ms,
                fee_bp,
                min_payout,
                [fee_script, reserve_script],
                donations,
                settlement_fee_bp,
                (settlement_at_least, needed, keys),
            )| {
                let donations =
                    donations.into_iter().map(|(bp, script)| payout::Donation { bp, script }).collect();
                Entry::Params(
                    Params {
                        site,
                        span: Span::new(numerator, denominator).unwrap(),
                        stale_credit_ms,
                        split: payout::Params { fee_bp, fee_script, donations, min_payout, reserve_script },
                        settlement_fee_bp,
                        settlement_at_least: if settlement_fee_bp == 0 { 0 } else { settlement_at_least },
                        witnesses: Witnesses { needed, keys }.if_needed(),
                    }
                    .into(),
                )
            },
        )
}

fn chain() -> impl Strategy<Value = Entry> {
    let event = prop_oneof![
        any::<u16>().prop_map(|epoch| ChainEvent::EpochStart { epoch }),
        (hash(), any::<u32>()).prop_map(|(hash, height)| ChainEvent::BlockFound { hash, height }),
        hash().prop_map(ChainEvent::BlockInChain),
        hash().prop_map(ChainEvent::BlockOrphaned),
        hash().prop_map(ChainEvent::BlockMatured),
        hash().prop_map(ChainEvent::BlockRefused),
        any::<u32>().prop_map(|nbits| ChainEvent::Retarget { nbits }),
        any::<u64>().prop_map(|template| ChainEvent::Superseded(TemplateId(template))),
        hash().prop_map(ChainEvent::NewTip),
        (any::<u64>(), hash(), any::<[u8; 32]>()).prop_map(|(settlement, block, txid)| {
            ChainEvent::SettlementPaid { settlement, block, txid: Txid::from_byte_array(txid) }
        }),
        any::<u64>().prop_map(|settlement| ChainEvent::SettlementWithdrawn { settlement }),
        (any::<u64>(), any::<u128>())
            .prop_map(|(settlement, spent)| ChainEvent::SettlementFailed { settlement, spent }),
    ];
    (any::<u64>(), event).prop_map(|(unix_ms, event)| Entry::Chain(ChainEntry { unix_ms, event }))
}

fn settlement() -> impl Strategy<Value = Entry> {
    let reserve = (any::<[u8; 32]>(), any::<u32>(), any::<u64>()).prop_map(|(txid, vout, sats)| {
        let txid = Txid::from_byte_array(txid);
        Reserve { outpoint: OutPoint { txid, vout }, sats }
    });
    let (credits, reserve) = (vec((script(), any::<u64>()), 0..5), vec(reserve, 0..5));
    (hash(), hash(), any::<u64>(), credits, reserve).prop_map(
        |(matured, ledger_block, fee, credits, reserve)| {
            Entry::Settlement(Settlement { matured, ledger_block, fee, credits, reserve }.into())
        },
    )
}

fn payee() -> impl Strategy<Value = Entry> {
    (any::<u32>(), any::<[u8; 16]>(), script()).prop_map(|(index, worker, script)| {
        Entry::Payee(PayeeEntry { index, worker: WorkerTag(worker), script })
    })
}

fn moved() -> impl Strategy<Value = Entry> {
    (any::<[u8; 16]>(), script(), script(), vec(any::<u8>(), 0..200))
        .prop_map(|(log_id, from, to, signature)| Entry::Move(Move { log_id, from, to, signature }.into()))
}

fn any_entry() -> impl Strategy<Value = Entry> {
    prop_oneof![share(), job(), payee(), params(), chain(), settlement(), moved()]
}

fn bytes(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    bytes
}

#[test]
fn a_share_has_the_72_bytes_of_the_layout() {
    let share = Entry::Share(Share {
        pot: Pot::try_from(-13).unwrap(),
        site: 0x0201,
        payee: 0x0605_0403,
        job: 0x0e0d_0c0b_0a09_0807,
        ntime: 0x1211_100f,
        nonce: 0x1615_1413,
        version: 0x2000_0000,
        extranonce: Extranonce::new(&[0xee; 12]).unwrap(),
        credited: true,
        block_candidate: true,
        received_unix_ms: 0xaa,
        total_work: Work(0xbb),
    });
    let mut expected = vec![1, 0xf3];
    expected.extend(1..=0x16_u8);
    expected.extend([0, 0, 0, 0x20, 12]);
    expected.extend([0xee; 12]);
    expected.extend([0, 0, 0, 0, 3, 0, 0, 0xaa, 0, 0, 0, 0, 0, 0, 0, 0xbb]);
    expected.resize(SHARE_BYTES, 0);
    // Offset 2 begins with site 0x0201 and every later byte counts up to the nonce's last.
    assert_eq!(bytes(&share), expected);
}

#[test]
fn a_declared_length_reserves_no_memory() {
    // 4 billion credits announced, none there.
    let hostile = [6, 1, 0, 0, 4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(Entry::decode(&hostile), Err(DecodeError::Truncated));
    let long = [6, 1, 0, 0, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(Entry::decode(&long), Err(DecodeError::Field("length")));
}

#[test]
fn unknown_kinds_versions_and_values_are_named() {
    assert_eq!(Entry::decode(&[]), Err(DecodeError::Truncated));
    assert_eq!(Entry::decode(&[8]), Err(DecodeError::UnknownKind(8)));
    assert_eq!(Entry::decode(&[0]), Err(DecodeError::UnknownKind(0)));
    assert_eq!(Entry::decode(&[5, 2]), Err(DecodeError::UnknownVersion { kind: 5, version: 2 }));
    assert_eq!(Entry::decode(&[4, 5]), Err(DecodeError::UnknownVersion { kind: 4, version: 5 }));
    assert_eq!(Entry::decode(&[5, 1, 1, 0]), Err(DecodeError::Field("reserved bytes")));
    let share = |at: usize, byte| {
        let mut bytes = [0; SHARE_BYTES];
        bytes[0] = 1;
        bytes[at] = byte;
        Entry::decode(&bytes).map(|_| ())
    };
    assert_eq!(share(1, 96), Err(DecodeError::Field("pot")));
    assert_eq!(share(28, 17), Err(DecodeError::Field("extranonce")));
    assert_eq!(share(29, 1), Err(DecodeError::Field("extranonce")), "bytes beyond the length");
    assert_eq!(share(45, 4), Err(DecodeError::Field("flags")));
    assert_eq!(share(46, 1), Err(DecodeError::Field("flags")));
    let event = |code| Entry::decode(&[&[5, 1, 0, 0, 9, 0, 0, 0][..], &[0; 8], &[code]].concat());
    assert_eq!(event(0), Err(DecodeError::Field("chain event")));
    assert_eq!(event(13), Err(DecodeError::Field("chain event")));
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(entry in any_entry(), rest: Vec<u8>) {
        let mut bytes = bytes(&entry);
        let length = bytes.len();
        bytes.extend(rest);
        prop_assert_eq!(Entry::decode(&bytes), Ok((entry, length)));
    }

    #[test]
    fn cut_entries_are_refused(entry in any_entry(), cut: prop::sample::Index) {
        let bytes = bytes(&entry);
        prop_assert!(Entry::decode(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn changed_bytes_decode_to_nothing_or_to_what_encodes_to_them(
        entry in any_entry(), at: prop::sample::Index, byte: u8
    ) {
        let mut changed = bytes(&entry);
        let at = at.index(changed.len());
        changed[at] = byte;
        if let Ok((entry, length)) = Entry::decode(&changed) {
            prop_assert_eq!(bytes(&entry), &changed[..length]);
        }
    }

    #[test]
    fn any_bytes_decode_without_a_panic(kind in 0_u8..9, tail in vec(any::<u8>(), 0..200)) {
        let bytes_in = [&[kind, 1, 0, 0][..], &(tail.len() as u32).to_le_bytes(), &tail].concat();
        if let Ok((entry, length)) = Entry::decode(&bytes_in) {
            prop_assert_eq!(bytes(&entry), &bytes_in[..length]);
        }
    }
}

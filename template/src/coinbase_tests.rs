use super::*;
use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{Amount, ScriptBuf, Transaction};
use proptest::prelude::*;
use stratum::payee::PayeeTag;
use stratum::pot::Pot;

fn output(script_bytes: usize, value: u64) -> TxOut {
    TxOut { value: Amount::from_sat(value), script_pubkey: ScriptBuf::from_bytes(vec![0x51; script_bytes]) }
}

fn commitment() -> TxOut {
    output(38, 0)
}

proptest! {
    #[test]
    fn cb_01_cb_03_cb_04_m16_the_layout_parses_back_and_offsets_point_at_the_gap(
        height in prop_oneof![1_u32..20, 120_u32..140, 32_760_u32..32_780, 8_388_600_u32..8_388_616, any::<u32>()],
        site: u16,
        epoch: u16,
        text in "[ -~]{0,46}",
        class_index in 0_usize..6,
        value in 0_u64..1 << 50,
    ) {
        let class = SizeClass::ALL[class_index];
        let style = CoinbaseStyle::new(site, epoch, &text).unwrap();
        let coinbase = style.build(height, class, &[output(22, value)], &commitment(), value).unwrap();
        let tx: Transaction = deserialize(coinbase.bytes()).unwrap();
        prop_assert!(tx.is_coinbase());
        prop_assert_eq!(tx.version.0, 2);
        prop_assert_eq!(tx.lock_time.to_consensus_u32(), height.saturating_sub(1));
        prop_assert_eq!(tx.input[0].sequence.0, 0xffff_fffe);
        prop_assert_eq!(&tx.output, &[output(22, value), commitment()]);
        let script = &tx.input[0].script_sig;
        prop_assert!((2..=100).contains(&script.len()));
        prop_assert!(script.as_bytes().starts_with(height_push(height).as_slice()));
        // All behind the height is one push of data: no byte of it can count as a signature operation.
        let pushed = script.instructions().last().unwrap().unwrap();
        let pushed = pushed.push_bytes().unwrap().as_bytes();
        prop_assert_eq!(script.instructions().count(), 2);
        prop_assert_eq!(&pushed[..9], &[0; 9]);
        prop_assert_eq!(&pushed[9..11], &site.to_le_bytes());
        prop_assert_eq!(&pushed[11..13], &epoch.to_le_bytes());
        prop_assert_eq!(&pushed[13..25], &[0; 12]);
        let shown = if class >= SizeClass::B755 { text.as_bytes() } else { &[] };
        prop_assert_eq!(&pushed[25..], shown);
        let at = coinbase.bytes().windows(pushed.len()).position(|w| w == pushed).unwrap();
        prop_assert_eq!(coinbase.tag_offset(), at);
        prop_assert_eq!(coinbase.extranonce_offset(), at + 13);
    }

    #[test]
    fn m16_any_marks_and_extranonce_give_the_transaction_that_another_implementation_reads(
        height in prop_oneof![1_u32..20, 120_u32..140, any::<u32>()],
        text in "[ -~]{0,46}",
        class_index in 0_usize..6,
        scripts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..45), 0..400),
        tag: [u8; 8],
        pot in Pot::MIN.get()..=Pot::MAX.get(),
        extranonce in proptest::collection::vec(any::<u8>(), 12..=16),
    ) {
        let class = SizeClass::ALL[class_index];
        let style = CoinbaseStyle::new(0xfd00, 0x00fe, &text).unwrap();
        let room = style.out_bytes(height, class, &[]).unwrap() as usize;
        let mut outputs = Vec::new();
        let mut taken = 0;
        // Any bytes are a script, also those that look like lengths, markers and flags.
        for script in scripts {
            let output = TxOut { value: Amount::from_sat(1), script_pubkey: ScriptBuf::from_bytes(script) };
            taken += output.size();
            if taken > room {
                break;
            }
            outputs.push(output);
        }
        let value = outputs.len() as u64;
        let coinbase = style.build(height, class, &outputs, &commitment(), value).unwrap();
        // A V2 client may have more of it to roll; the room was measured for that.
        let coinbase = coinbase.with_extranonce(extranonce.len());
        prop_assert!(coinbase.bytes().len() <= class.coinbase_bytes_max());
        let gap_end = 13 + extranonce.len();
        // As a miner puts it together, piece by piece.
        let mark = coinbase.mark(PayeeTag(tag), Pot::try_from(pot).unwrap()).unwrap();
        let mined = [&coinbase.head()[..], &mark, &extranonce, &coinbase.tail()].concat();
        prop_assert!(mined.len() > 64, "no inner node of a merkle tree (CB-10)");
        let tx: Transaction = deserialize(&mined).unwrap();
        prop_assert_eq!(bitcoin::consensus::serialize(&tx), mined.clone());
        prop_assert_eq!(tx.compute_txid().to_byte_array(), sha256d::Hash::hash(&mined).to_byte_array());
        // Nothing but the gap has changed.
        let mut unfilled: Transaction = deserialize(coinbase.bytes()).unwrap();
        let (before, after) = (unfilled.input[0].script_sig.to_bytes(), tx.input[0].script_sig.to_bytes());
        let gap = coinbase.tag_offset() - 42;
        prop_assert_eq!(&before[..gap], &after[..gap]);
        prop_assert_eq!(&after[gap..gap + 8], &tag);
        prop_assert_eq!(after[gap + 8], pot.to_le_bytes()[0]);
        prop_assert_eq!(&before[gap + 9..gap + 13], &after[gap + 9..gap + 13]);
        prop_assert_eq!(&after[gap + 13..gap + gap_end], &extranonce[..]);
        prop_assert_eq!(&before[gap + gap_end..], &after[gap + gap_end..]);
        // The push before the mark covers mark, extranonce and text, and nothing else.
        prop_assert_eq!(usize::from(after[gap - 1]), after.len() - gap);
        unfilled.input[0].script_sig = tx.input[0].script_sig.clone();
        prop_assert_eq!(unfilled, tx);
    }

    #[test]
    fn cb_09_outputs_that_fit_the_room_fit_the_class(
        height in prop_oneof![1_u32..20, any::<u32>()],
        sizes in proptest::collection::vec(0_usize..60, 1..1_500),
        fixed in 0_usize..3,
        class_index in 0_usize..6,
        text in "[ -~]{0,46}",
    ) {
        let class = SizeClass::ALL[class_index];
        let style = CoinbaseStyle::new(1, 2, &text).unwrap();
        let fixed: Vec<TxOut> = (0..fixed).map(|_| output(22, 0)).collect();
        let room = style.out_bytes(height, class, &fixed).unwrap() as usize;
        let mut outputs = Vec::new();
        let mut taken = 0;
        for size in sizes {
            let next = output(size, 0);
            if taken + next.size() <= room {
                taken += next.size();
                outputs.push(next);
            }
        }
        outputs.extend(fixed);
        let coinbase = style.build(height, class, &outputs, &commitment(), 0).unwrap();
        prop_assert!(coinbase.bytes().len() <= class.coinbase_bytes_max());
        if class == SizeClass::B455 {
            prop_assert!(coinbase.extranonce_offset() <= 384 && coinbase.tail().len() <= 384);
        }
    }
}

#[test]
fn cb_01_heights_are_the_smallest_script_numbers() {
    for (height, push) in [
        (1, vec![0x51]),
        (16, vec![0x60]),
        (17, vec![1, 17]),
        (127, vec![1, 127]),
        (128, vec![2, 128, 0]),
        (840_000, vec![3, 0x40, 0xd1, 0x0c]),
        (8_388_608, vec![4, 0, 0, 0x80, 0]),
    ] {
        assert_eq!(height_push(height), push, "{height}");
    }
}

#[test]
fn cb_10_the_smallest_coinbase_is_no_inner_node_of_a_merkle_tree() {
    let nothing = output(0, 0);
    let coinbase = CoinbaseStyle::new(0, 0, "").unwrap().build(1, SizeClass::B255, &[], &nothing, 0).unwrap();
    assert!(coinbase.bytes().len() > 64, "{}", coinbase.bytes().len());
}

#[test]
fn cb_02_a_text_that_does_not_fit_is_refused_with_the_settings() {
    assert!(CoinbaseStyle::new(0, 0, &"x".repeat(46)).is_ok());
    assert_eq!(CoinbaseStyle::new(0, 0, &"x".repeat(47)), Err(CoinbaseError::TextTooLong(47)));
    assert_eq!(CoinbaseStyle::new(0, 0, "a\nb"), Err(CoinbaseError::TextNotAscii('\n')));
    assert_eq!(CoinbaseStyle::new(0, 0, "ü"), Err(CoinbaseError::TextNotAscii('ü')));
}

#[test]
#[should_panic(expected = "the outputs pay the whole coinbase value")]
fn cb_08_a_sum_that_is_off_by_one_never_becomes_a_job() {
    let style = CoinbaseStyle::new(0, 0, "").unwrap();
    let _ = style.build(1, SizeClass::B755, &[output(22, 49)], &commitment(), 50);
}

#[test]
fn cb_09_too_many_outputs_are_an_error_and_too_many_fixed_ones_leave_no_room() {
    let style = CoinbaseStyle::new(0, 0, "").unwrap();
    let many = vec![output(22, 0); 10];
    let refused = style.build(1, SizeClass::B255, &many, &commitment(), 0);
    assert!(matches!(refused, Err(CoinbaseError::TooLarge { class: SizeClass::B255, .. })));
    assert_eq!(style.out_bytes(1, SizeClass::B255, &many), Err(CoinbaseError::NoRoom(SizeClass::B255)));
}

#[test]
fn the_smallest_class_holds_one_miner_of_any_kind_reserve_and_both_commitments() {
    let style = CoinbaseStyle::new(0, 0, "a text that this class leaves out").unwrap();
    let fixed = [output(22, 0), output(38, 0)];
    let room = style.out_bytes(900_000, SizeClass::B255, &fixed).unwrap();
    assert!(room as usize >= output(34, 0).size(), "{room}");
}

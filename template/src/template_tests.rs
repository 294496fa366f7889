use super::*;
use crate::fit::CoinbaseCost;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{OutPoint, Sequence, Transaction, TxIn, Txid, Witness, absolute, transaction};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;
use stratum::class::SizeClass;

/// A transaction to be.
#[derive(Debug, Clone)]
pub(crate) struct Tx {
    pub(crate) fee: u64,
    pub(crate) sigops: u64,
    pub(crate) padding: usize,
    pub(crate) depends: Vec<usize>,
}

pub(crate) fn answer_of(list: &[Tx]) -> Value {
    let transactions: Vec<Value> = list
        .iter()
        .enumerate()
        .map(|(place, tx)| {
            let id = sha256d::Hash::hash(&(place as u64).to_le_bytes()).to_byte_array();
            let made = Transaction {
                version: transaction::Version::TWO,
                lock_time: absolute::LockTime::ZERO,
                input: vec![TxIn {
                    previous_output: OutPoint::new(Txid::from_byte_array(id), 0),
                    script_sig: ScriptBuf::new(),
                    sequence: Sequence::MAX,
                    witness: Witness::from_slice(&[vec![7; tx.padding]]),
                }],
                output: vec![TxOut { value: Amount::from_sat(1), script_pubkey: ScriptBuf::new() }],
            };
            json!({
                "data": serialize_hex(&made),
                "txid": made.compute_txid(),
                "hash": made.compute_wtxid(),
                "depends": tx.depends.iter().map(|parent| parent + 1).collect::<Vec<_>>(),
                "fee": tx.fee,
                "sigops": tx.sigops,
                "weight": made.weight().to_wu(),
            })
        })
        .collect();
    json!({
        "version": 0x2000_0000,
        "rules": ["csv", "!segwit", "taproot", "something-optional"],
        "vbrequired": 0,
        "previousblockhash": "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",
        "transactions": transactions,
        "coinbaseaux": {},
        "coinbasevalue": 5_000_000_000 + list.iter().map(|tx| tx.fee).sum::<u64>(),
        "longpollid": "abc1",
        "target": "7fffff0000000000000000000000000000000000000000000000000000000000",
        "mintime": 1_296_688_603,
        "curtime": 1_795_366_346,
        "mutable": ["time", "transactions", "prevblock"],
        "noncerange": "00000000ffffffff",
        "sigoplimit": 80_000,
        "sizelimit": 4_000_000,
        "weightlimit": 4_000_000,
        "bits": "207fffff",
        "height": 1,
    })
}

pub(crate) fn template_of(list: &[Tx]) -> Template {
    parse(&answer_of(list)).unwrap()
}

fn parse(answer: &Value) -> Result<Template, TemplateError> {
    Template::parse(answer.to_string().as_bytes(), Network::Regtest)
}

fn three() -> Value {
    let tx = |fee, depends| Tx { fee, sigops: 4, padding: 20, depends };
    answer_of(&[tx(10, vec![]), tx(20, vec![0]), tx(30, vec![0, 1])])
}

fn changed(path: &str, value: Value) -> Result<Template, TemplateError> {
    let mut answer = three();
    if answer.pointer(path).is_none() {
        let (parent, name) = path.rsplit_once('/').unwrap();
        answer.pointer_mut(parent).unwrap()[name] = value;
    } else {
        *answer.pointer_mut(path).unwrap() = value;
    }
    parse(&answer)
}

#[test]
fn gb_03_a_template_is_read() {
    let template = parse(&three()).unwrap();
    assert_eq!((template.height(), template.value(), template.nbits()), (1, 5_000_000_060, 0x207f_ffff));
    assert_eq!((template.mintime(), template.ntime()), (1_296_688_603, 1_795_366_346));
    assert_eq!(template.transactions()[2].depends, [0, 1]);
    assert_eq!(template.long_poll_id(), Some("abc1"));
    // As real nodes commit to a block without transactions.
    let empty = "6a24aa21a9ede2f61c3f71d1defd3fa999dfa36953755c690689799962b48bebd836974e8cf9";
    assert_eq!(template_of(&[]).commitment_output().script_pubkey.to_hex_string(), empty);
}

#[test]
fn gb_04_each_contradiction_is_found() {
    let zeros = "00".repeat(32);
    let cases = [
        ("/height", json!(0)),
        ("/height", json!(-1)),
        ("/height", json!(1_u64 << 32)),
        ("/bits", json!("207ffffe")),
        ("/bits", json!("xyz")),
        ("/bits", json!("217fffff")),
        ("/bits", json!("20ffffff")),
        ("/bits", json!("03000001")),
        ("/target", json!(zeros)),
        ("/target", json!("7f")),
        ("/coinbasevalue", json!(5_000_000_061_u64)),
        ("/coinbasevalue", json!(-1)),
        ("/coinbasevalue", json!(1.5)),
        ("/previousblockhash", json!("00")),
        ("/default_witness_commitment", json!(format!("6a24aa21a9ed{zeros}"))),
        ("/default_witness_commitment", json!("6")),
        ("/transactions/0/data", json!("0")),
        ("/transactions/0/data", json!("00")),
        ("/transactions/0/data", json!("ff".repeat(100))),
        ("/transactions/0/txid", json!(zeros)),
        ("/transactions/0/hash", json!(zeros)),
        ("/transactions/0/weight", json!(1)),
        ("/transactions/0/fee", json!(-1)),
        ("/transactions/0/fee", json!(u64::MAX)),
        ("/transactions/0/sigops", json!(80_001)),
        ("/transactions/0/depends", json!([1])),
        ("/transactions/0/depends", json!([0])),
        ("/transactions/1/depends", json!([3])),
        ("/transactions/1", three()["transactions"][0].clone()),
        ("/weightlimit", json!(100)),
        ("/sizelimit", json!(100)),
        ("/signet_challenge", json!("51")),
        ("/mintime", json!("now")),
    ];
    for (path, value) in cases {
        assert!(changed(path, value.clone()).is_err(), "{path} {value}");
    }
    for field in ["version", "previousblockhash", "transactions", "coinbasevalue", "target", "bits", "height"]
    {
        let mut answer = three();
        answer.as_object_mut().unwrap().remove(field);
        assert!(matches!(parse(&answer), Err(TemplateError::Json(_))), "{field}");
    }
}

#[test]
fn gb_04_a_value_below_the_fees_is_refused_before_a_fee_is_taken_off_it() {
    let below = changed("/coinbasevalue", json!(59)).unwrap_err();
    assert_eq!(below, TemplateError::ValueBelowFees { value: 59, fees: 60 });
    assert_eq!(
        below.to_string(),
        "coinbase value 59 is less than the fees of the transactions, 60, in satoshis"
    );
    // A node may leave the subsidy out: that harms its owner alone.
    assert!(changed("/coinbasevalue", json!(60)).is_ok());
}

#[test]
fn gb_04_cb_09_limits_that_leave_no_room_for_the_largest_coinbase_are_refused() {
    // Header and count are 81 bytes; 16,000 bytes of coinbase have a witness of 36 and at most 470 sigops.
    let cases = [
        ("/weightlimit", "weight", 4 * (81 + 16_000) + 36),
        ("/sizelimit", "size", 81 + 16_000 + 36),
        ("/sigoplimit", "sigops", 4 * 470),
    ];
    for (path, what, needed) in cases {
        let with = |limit: u64| {
            let mut answer = answer_of(&[]);
            *answer.pointer_mut(path).unwrap() = json!(limit);
            parse(&answer)
        };
        let limit = needed - 1;
        assert_eq!(with(limit), Err(TemplateError::NoRoom { what, needed, limit }));
        assert!(with(limit).unwrap_err().to_string().contains(&limit.to_string()));
        let template = Arc::new(with(needed).unwrap());
        for class in SizeClass::ALL {
            assert!(Arc::ptr_eq(&template, &template.fit(CoinbaseCost::largest(class))));
        }
    }
}

#[test]
fn gb_02_unknown_demands_are_refused_and_unknown_options_are_not() {
    let refused = changed("/rules", json!(["!segwit", "!blake2b"])).unwrap_err();
    assert_eq!(refused.to_string(), "this node follows a chain that is not mined with SHA-256d");
    let refused = changed("/rules", json!(["!segwit", "!newrule"])).unwrap_err();
    assert!(refused.to_string().contains("`!newrule`") && refused.is_wrong_chain());
    assert!(changed("/rules", json!(["csv", "!segwit", "taproot", "blake2b", "newrule"])).is_ok());
}

#[test]
fn gb_02_required_version_bits_are_set_and_not_rolled() {
    let template = changed("/vbrequired", json!(0x2000)).unwrap();
    assert_eq!(template.version(), 0x2000_2000);
    assert_eq!(template.rolling_mask(0x1fff_e000), 0x1fff_c000);
}

#[test]
fn a_signet_whose_blocks_need_a_signature_is_refused() {
    let mut answer = three();
    answer["signet_challenge"] = json!("5121ab51ae");
    let parse = |answer: &Value| Template::parse(answer.to_string().as_bytes(), Network::Signet);
    assert_eq!(parse(&answer), Err(TemplateError::SignetSigned));
    answer["signet_challenge"] = json!("51");
    assert!(parse(&answer).is_ok());
}

#[test]
fn gb_05_header_time_never_starts_below_mintime() {
    assert_eq!(changed("/curtime", json!(5)).unwrap().ntime(), 1_296_688_603);
}

#[test]
fn subsidy_halves_per_network_and_ends() {
    let cases = [
        (1, Network::Bitcoin, 5_000_000_000),
        (209_999, Network::Bitcoin, 5_000_000_000),
        (840_000, Network::Bitcoin, 312_500_000),
        (210_000 * 33, Network::Testnet4, 0),
        (u32::MAX, Network::Signet, 0),
        (149, Network::Regtest, 5_000_000_000),
        (150, Network::Regtest, 2_500_000_000),
        (150 * 64, Network::Regtest, 0),
    ];
    for (height, network, expected) in cases {
        assert_eq!(subsidy(height, network), expected, "{height} {network}");
    }
}

#[test]
fn an_empty_template_follows_its_tip_unless_the_target_may_change() {
    let tip = Tip {
        hash: BlockHash::from_byte_array([9; 32]),
        height: 2_014,
        nbits: 0x1d00_ffff,
        mediantime: 1_000,
    };
    let on = |network, tip: &Tip| Template { network, ..parse(&three()).unwrap() }.empty_on(tip, 900);
    let empty = on(Network::Bitcoin, &tip).unwrap();
    assert_eq!((empty.height(), empty.prev_hash(), empty.value()), (2_015, tip.hash, 5_000_000_000));
    assert_eq!((empty.mintime(), empty.ntime(), empty.nbits()), (1_001, 1_001, 0x1d00_ffff));
    assert!(
        empty.transactions().is_empty() && empty.merkle_branch().is_empty() && empty.long_poll_id().is_none()
    );
    assert_eq!(empty.commitment_output(), template_of(&[]).commitment_output());
    let boundary = Tip { height: 2_015, ..tip };
    assert_eq!(on(Network::Bitcoin, &boundary), None);
    assert_eq!(on(Network::Signet, &boundary), None);
    assert!(on(Network::Regtest, &boundary).is_some());
    assert_eq!(on(Network::Testnet, &tip), None);
    assert_eq!(on(Network::Testnet4, &tip), None);
    assert_eq!(on(Network::Regtest, &Tip { height: u32::MAX, ..tip }), None);
    assert_eq!(on(Network::Regtest, &Tip { nbits: 0, ..tip }), None);
}

proptest! {
    #[test]
    fn any_bytes_are_a_template_or_an_error(bytes: Vec<u8>) {
        let _ = Template::parse(&bytes, Network::Regtest);
    }

    #[test]
    fn a_template_with_any_bytes_changed_is_a_template_or_an_error(
        at: prop::sample::Index,
        with in proptest::collection::vec(any::<u8>(), 0..8),
    ) {
        let mut bytes = three().to_string().into_bytes();
        let at = at.index(bytes.len());
        let end = (at + with.len()).min(bytes.len());
        bytes.splice(at..end, with);
        let _ = Template::parse(&bytes, Network::Regtest);
    }
}

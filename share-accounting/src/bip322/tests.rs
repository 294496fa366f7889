use super::*;
use bitcoin::Network;
use bitcoin::base64::prelude::{BASE64_STANDARD, Engine};
use bitcoin::consensus::serialize;
use proptest::prelude::*;

const MESSAGE: &str = "Sluice moves";

/// Made by the wallet of Bitcoin Knots 29.4 on regtest (`signmessage`): P2WPKH, P2TR, P2PKH, P2WPKH in P2SH.
const SIGNED: [(&str, &str); 4] = [
    (
        "bcrt1qh0t8d02ppp2dmleypyajw6v2258pmtk4ycvyjd",
        "AkcwRAIgXaT+ObKd8UriCqamrxPzDgJzzgvfD8hxKwBccQMD8nICIG8Tkyi+jf6JjyoHFPF2xY15QlpP2KKamlPz6+rgmDWHASEDIAQT\
         2ioElMwQ/tVW3OnDzeFIRoFfQVeZTAySAqXH6LU=",
    ),
    (
        "bcrt1pehdn6qat7hhfc5azl0k28j448227ctdx00s4jv9pjew8v3x4u4hsuy9wk8",
        "AUF9pcBAz3ab/lC5dwjbxMq6IVEr66ymvdjniL/EU/tOauoP5b/RCchPqnMPZvXXtT6Vv7BlptwvrwLy2aq2EVWqAQ==",
    ),
    (
        "mt4cYBnqzeoNYyc36SS88UqNPFWsmi53Pv",
        "Hz5xVgAo7zmpCWLKd28XOwcWA/gR5m7Tn80gSxETg96gXgsckdV1nbQ1OXVsuQ4d0dvT7LFUokOMUVHvxuGyHvU=",
    ),
    (
        "2N6aerx8BMJYpQviXRkmJDn6HQzj6FPopxs",
        "AAAAAAABAfRRJUnkzEz6Jmm1tNe8KeIKJf+Zl+U3huDrJ9XWkq8FAAAAABcWABQTv7c0KZXfIHNOApYtf2TnmOT7BAAAAAABAAAAAAAA\
         AAABagJHMEQCIF29G9dwx3Do05/YNKlBffvMXh7/GSflZH9s0HWZ8lfRAiB1BSKdRLmwQYZGzAQJoQLJrA3ijMkHFrAM5S5H33cudQEh\
         Aztx3yTV+mQ7TXQZ4Af906Bmmcx0Ktq3cu2M7HbTIe1dAAAAAA==",
    ),
];

fn address(text: &str) -> Address {
    text.parse::<Address<_>>().unwrap().require_network(Network::Regtest).unwrap()
}

fn signed() -> impl Iterator<Item = (Address, Vec<u8>)> {
    SIGNED.iter().map(|(whose, signature)| (address(whose), BASE64_STANDARD.decode(signature).unwrap()))
}

#[test]
fn what_a_wallet_signs_is_its_owners_and_nobody_elses() {
    for (at, (whose, signature)) in signed().enumerate() {
        assert_eq!(verify(&whose, MESSAGE, &signature), Ok(()), "{whose}");
        assert_eq!(verify(&whose, "Sluice stays", &signature), Err(Unsigned::Wrong), "{whose}");
        for (other, _) in signed().enumerate().filter(|(other, _)| *other != at).map(|(_, other)| other) {
            assert!(verify(&other, MESSAGE, &signature).is_err(), "{other} by {whose}");
        }
    }
}

#[test]
fn a_whole_transaction_says_the_same_as_its_witness_and_nothing_more() {
    let (whose, signature) = signed().next().unwrap();
    let spend = to_spend(whose.script_pubkey(), MESSAGE);
    let full = to_sign(&spend, &signature).unwrap();
    assert_eq!(verify(&whose, MESSAGE, &serialize(&full)), Ok(()));
    let bent: [fn(&mut Transaction); 6] = [
        |full| full.lock_time = LockTime::from_height(1).unwrap(),
        |full| full.input[0].sequence = Sequence::MAX,
        |full| full.output[0].value = Amount::ONE_SAT,
        |full| full.input.push(TxIn::default()),
        |full| full.output.push(full.output[0].clone()),
        |full| full.version = Version(3),
    ];
    for (at, bend) in bent.iter().enumerate() {
        let mut full = full.clone();
        bend(&mut full);
        assert_eq!(verify(&whose, MESSAGE, &serialize(&full)), Err(Unsigned::Form), "{at}");
    }
    // A version that the signature is not of.
    let other = Transaction { version: Version::TWO, ..full };
    assert_eq!(verify(&whose, MESSAGE, &serialize(&other)), Err(Unsigned::Wrong));
}

#[test]
fn addresses_of_several_keys_and_of_none_cannot_sign() {
    let (_, signature) = signed().next().unwrap();
    let wsh = Address::p2wsh(&ScriptBuf::from_bytes(vec![0x51]), Network::Regtest);
    assert_eq!(verify(&wsh, MESSAGE, &signature), Err(Unsigned::Address));
    let sh = Address::p2sh(&ScriptBuf::from_bytes(vec![0x51]), Network::Regtest).unwrap();
    assert_eq!(verify(&sh, MESSAGE, &signature), Err(Unsigned::Wrong));
    // Not the pay-to-anchor program nor one of a later version.
    let later = address("bcrt1pfeesnyr2tx");
    assert_eq!(verify(&later, MESSAGE, &signature), Err(Unsigned::Address));
}

proptest! {
    #[test]
    fn no_bytes_are_a_signature_by_chance(at in 0_usize..4, place: prop::sample::Index, change in 1_u8.., cut: bool) {
        let (whose, mut signature) = signed().nth(at).unwrap();
        if cut {
            signature.truncate(place.index(signature.len()));
        } else {
            let place = place.index(signature.len());
            signature[place] ^= change;
        }
        // The head of a compact signature says which address is meant, and two say the same.
        prop_assert!(verify(&whose, MESSAGE, &signature).is_err() || (at == 2 && signature.len() == 65));
    }

    #[test]
    fn nothing_makes_it_panic(at in 0_usize..4, signature in prop::collection::vec(any::<u8>(), 0..300)) {
        let (whose, _) = signed().nth(at).unwrap();
        prop_assert!(verify(&whose, MESSAGE, &signature).is_err());
    }
}

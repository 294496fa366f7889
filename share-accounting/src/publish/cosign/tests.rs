use super::*;
use crate::publish::key::LogKey;
use crate::tree::{Tree, leaves};
use bitcoin::Network;
use proptest::prelude::*;

fn head(entries: &[&[u8]]) -> Head {
    let tree: Tree = leaves(entries).into_iter().collect();
    Head { size: tree.size(), root: tree.root() }
}

/// Two heads of one log, and the proof that the second goes on from the first.
fn heads() -> (Head, Head, Vec<TreeHash>) {
    (head(&[b"a"]), head(&[b"a", b"b"]), leaves(&[b"b"]))
}

fn log() -> (LogKey, LogVerifier) {
    let (key, _) = LogKey::generate("sluice/test");
    let verifier = key.verifier();
    (key, verifier)
}

#[test]
fn the_example_of_the_specification_is_understood() {
    // Of c2sp.org/tlog-cosignature: the note says which key id to expect, and its time.
    let line = "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==";
    let signature = signed_note::Signature::from_bytes(line.as_bytes()).unwrap();
    assert_eq!(signature.signature().len(), COSIGNATURE_BYTES);
    let time = u64::from_be_bytes(*signature.signature().first_chunk().unwrap());
    assert_eq!(time, 1_679_315_147);
    let text = b"example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    let expected = "cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    assert_eq!(message(text, time), expected.as_bytes());
}

#[test]
fn a_cosignature_is_its_witnesss_and_its_checkpoints_alone() {
    let (log, _) = log();
    let (key, text) = WitnessKey::generate("witness.example/1");
    let key_again = WitnessKey::parse(&text).unwrap();
    assert_eq!(key.verifier(), key_again.verifier());
    // The same key under another name is the same witness.
    let renamed = WitnessKey { name: "else".to_owned(), key: key.key.clone() }.verifier();
    assert!(renamed != key.verifier() && renamed.has_key_of(&key.verifier()));
    let long = WitnessKey { name: "x".repeat(201), key: key.key.clone() }.verifier().to_string();
    assert!(long.parse::<WitnessVerifier>().is_err());
    let public = key.verifier().to_string();
    assert_eq!(public.parse(), Ok(key.verifier()));
    assert!(WitnessKey::parse(&text.replace("example/1", "example/2")).is_none(), "its id is of its name");
    assert_eq!(log.public().parse::<WitnessVerifier>(), Err(WitnessKeyError(log.public().to_owned())));

    let (one, two, _) = heads();
    let [one, two] = [one, two].map(|head| log.sign(&head, Network::Signet));
    let line = key.cosign(&one, 7);
    let cosigned = one.clone() + &line;
    assert_eq!(key.verifier().cosigned(cosigned.as_bytes()), Some(Cosigned { unix_s: 7 }));
    assert_eq!(key.verifier().cosigned((two.clone() + &line).as_bytes()), None);
    let (other, _) = WitnessKey::generate("witness.example/1");
    assert_eq!(other.verifier().cosigned(cosigned.as_bytes()), None);
    assert_eq!(key.verifier().cosigned((one.clone() + &key.cosign(&one, 0)).as_bytes()), None, "no time");
    // The log's own signature is still there for those who know no witness.
    assert_eq!(log_head(&log, &cosigned), Ok(1));

    let verifiers = [key.verifier(), other.verifier()];
    let answers = [format!("noise\n{line}"), other.cosign(&two, 7)];
    let (note, count) = gathered(&one, verifiers.iter().zip(answers.iter().map(String::as_str)));
    assert_eq!((note, count), (cosigned, 1));
}

fn log_head(key: &LogKey, note: &str) -> Result<u64, String> {
    let verifier = key.verifier();
    verifier.head(note.as_bytes()).map(|(head, _)| head.size).map_err(|error| error.to_string())
}

#[test]
fn a_witness_cosigns_what_goes_on_from_what_it_cosigned_and_nothing_else() {
    let (key, verifier) = log();
    let (one, two, proof) = heads();
    let ask = |old_size, proof: &[TreeHash], head: &Head, newest| {
        let checkpoint = key.sign(head, Network::Signet);
        judge(&Request { old_size, proof: proof.to_vec(), checkpoint }, &verifier, newest)
    };
    assert_eq!(ask(0, &[], &one, None), Ok(one));
    assert_eq!(ask(1, &proof, &two, Some(one)), Ok(two));
    assert_eq!(ask(2, &[], &two, Some(two)), Ok(two), "the same again");
    assert_eq!(ask(0, &[], &two, Some(one)), Err(Refusal::Conflict(1)));
    assert_eq!(ask(2, &[], &one, Some(two)), Err(Refusal::Malformed), "an old size beyond the head");
    assert_eq!(ask(0, &[], &one, Some(two)), Err(Refusal::Conflict(2)));
    assert_eq!(ask(0, &proof, &two, None), Err(Refusal::Inconsistent), "a proof from nothing");
    assert_eq!(ask(1, &[], &two, Some(one)), Err(Refusal::Inconsistent));
    let other = head(&[b"x", b"b"]);
    assert_eq!(ask(1, &proof, &other, Some(one)), Err(Refusal::Inconsistent), "two logs");
    assert_eq!(ask(2, &[], &other, Some(two)), Err(Refusal::Inconsistent), "two logs of one size");
    assert_eq!(ask(0, &[], &Head { size: 0, root: [1; 32] }, None), Err(Refusal::Inconsistent));
    assert_eq!(ask(0, &[], &Head::EMPTY, None), Ok(Head::EMPTY));

    let (stranger, _) = LogKey::generate("sluice/test");
    let forged = Request { old_size: 0, proof: vec![], checkpoint: stranger.sign(&one, Network::Signet) };
    assert_eq!(judge(&forged, &verifier, None), Err(Refusal::NotSigned));
    let none = Request { checkpoint: "x\n".to_owned(), ..forged };
    assert_eq!(judge(&none, &verifier, None), Err(Refusal::Malformed));
}

proptest! {
    #[test]
    fn what_is_asked_comes_back_from_its_text(old_size: u64, proof in prop::collection::vec(any::<[u8; 32]>(), 0..63)) {
        let checkpoint = "sluice/test\n1\nx\n\n— a b\n".to_owned();
        let request = Request { old_size, proof, checkpoint };
        prop_assert_eq!(Request::parse(&request.text()), Some(request));
    }

    #[test]
    fn no_proof_makes_a_head_go_on_by_chance(
        sizes in (0_u64..100, 0_u64..100), roots: [[u8; 32]; 2], proof in prop::collection::vec(any::<[u8; 32]>(), 0..10)
    ) {
        let [earlier, later] = [(sizes.0, roots[0]), (sizes.1, roots[1])].map(|(size, root)| Head { size, root });
        prop_assert_eq!(later.goes_on_from(&earlier, &proof), sizes.0 == 0);
    }
}

#[test]
fn a_request_that_is_written_otherwise_is_none() {
    let good = Request { old_size: 7, proof: vec![[1; 32]], checkpoint: "x\n".to_owned() }.text();
    assert!(Request::parse(&good).is_some());
    let bent = [
        good.replace("old 7", "old 07"),
        good.replace("old 7", "old +7"),
        good.replace("old 7", "old  7"),
        good.replace("old 7", "new 7"),
        good.replace("AQ", "!!"),
        good.replace("\n\n", "\n"),
        good.replace("old 7\n", &format!("old 7\n{}", (BASE64_STANDARD.encode([1; 32]) + "\n").repeat(63))),
        String::new(),
    ];
    for text in bent {
        assert_eq!(Request::parse(&text), None, "{text}");
    }
}

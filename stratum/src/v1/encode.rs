//! Jobs as lines: the large parts are encoded once per body and shared by all connections.

use crate::encoded::EncodedJob;
use crate::job::{JobBody, JobId, MARK_BYTES};
use crate::pot::Pot;
use bitcoin::hashes::Hash;
use bytes::Bytes;
use std::fmt::Write as _;
use std::sync::Arc;

/// End of a notify whose job voids all older ones, and of one that does not.
const CLEAN: &str = "true]}\n";
const NOT_CLEAN: &[u8] = b"false]}\n";

/// The parts of a `mining.notify` line that depend on the body alone.
#[derive(Debug)]
pub(crate) struct Notify {
    /// From behind the job id up to where the mark begins inside coinb1.
    head: Bytes,
    /// From the end of coinb1 to the end of a clean line.
    tail: Bytes,
}

impl Notify {
    pub(crate) fn new(body: &JobBody) -> Self {
        let mut head = String::from("\",\"");
        for word in body.prev_hash.as_byte_array().chunks(4) {
            // Each word of the parent hash stands byte-swapped, unlike everything else (V1-26).
            word.iter().rev().for_each(|byte| push_hex(&mut head, &[*byte]));
        }
        head.push_str("\",\"");
        push_hex(&mut head, &body.coinbase.head());
        let mut tail = String::from("\",\"");
        push_hex(&mut tail, &body.coinbase.tail());
        tail.push_str("\",[");
        for (at, sibling) in body.merkle_branch.iter().enumerate() {
            tail.push_str(if at == 0 { "\"" } else { "\",\"" });
            push_hex(&mut tail, sibling);
        }
        tail.push_str(if body.merkle_branch.is_empty() { "]" } else { "\"]" });
        let (version, nbits, ntime) = (body.version, body.nbits, body.ntime);
        write!(tail, ",\"{version:08x}\",\"{nbits:08x}\",\"{ntime:08x}\",{CLEAN}")
            .expect("writing to a String does not fail");
        Self { head: head.into_bytes().into(), tail: tail.into_bytes().into() }
    }
}

/// A job on its way to one miner: `mining.set_difficulty` if it changed, and `mining.notify`.
///
/// Both leave together, for machines count shares in flight as rejects if the difficulty comes
/// alone (V1-25).
#[derive(Debug, Clone)]
pub struct JobMessage {
    /// Set if the miner has not been told this job's difficulty.
    pub difficulty: Option<Pot>,
    /// Its id on this connection.
    pub id: JobId,
    /// What all connections share.
    pub encoded: Arc<EncodedJob>,
    /// The connection's own end of coinb1: payee tag, pot, site, epoch. Absent in work from upstream.
    pub mark: Option<[u8; MARK_BYTES]>,
    /// Whether it voids all older jobs.
    pub clean: bool,
}

impl JobMessage {
    /// Takes the place of an older message that was not sent: what that one had to say about
    /// difficulty and older jobs is still said.
    pub fn absorb(&mut self, older: &JobMessage) {
        self.difficulty = self.difficulty.or(older.difficulty);
        self.clean |= older.clean;
    }

    /// Appends the bytes to send, in order: at most five pieces, the large ones shared.
    pub fn write_to(&self, pieces: &mut Vec<Bytes>) {
        let mut own = String::with_capacity(160);
        if let Some(pot) = self.difficulty {
            push_difficulty(&mut own, pot);
        }
        own.push_str(r#"{"id":null,"method":"mining.notify","params":[""#);
        push_job_id(&mut own, self.id);
        let front = own.len();
        push_hex(&mut own, self.mark.as_ref().map_or(&[], <[u8; MARK_BYTES]>::as_slice));
        let own = Bytes::from(own.into_bytes());
        pieces.push(own.slice(..front));
        let Notify { head, tail } = self.encoded.notify();
        pieces.push(head.clone());
        pieces.push(own.slice(front..));
        if self.clean {
            pieces.push(tail.clone());
        } else {
            pieces.push(tail.slice(..tail.len() - CLEAN.len()));
            pieces.push(Bytes::from_static(NOT_CLEAN));
        }
    }
}

/// A job id as the miner sees it and must give it back.
pub(super) fn push_job_id(text: &mut String, id: JobId) {
    write!(text, "{:x}", id.0).expect("writing to a String does not fail");
}

/// A `mining.set_difficulty` line. The number has no exponent: some parsers take none.
fn push_difficulty(text: &mut String, pot: Pot) {
    writeln!(text, r#"{{"id":null,"method":"mining.set_difficulty","params":[{}]}}"#, pot.difficulty())
        .expect("writing to a String does not fail");
}

/// Lower-case hex.
pub(super) fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    text.reserve(2 * bytes.len());
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extranonce::Extranonce2;
    use crate::job::{Job, Roll};
    use crate::sample::{self, HARD_NBITS, PREFIX};
    use proptest::prelude::*;
    use serde_json::Value;

    fn message(encoded: &Arc<EncodedJob>, pot: Pot, clean: bool) -> JobMessage {
        let mark = encoded.body().coinbase.mark(sample::payee().tag, pot);
        JobMessage { difficulty: Some(pot), id: JobId(0xabc), encoded: encoded.clone(), mark, clean }
    }

    fn lines(message: &JobMessage) -> Vec<Value> {
        let mut pieces = Vec::new();
        message.write_to(&mut pieces);
        assert!(pieces.len() <= 5);
        let text = String::from_utf8(pieces.concat()).unwrap();
        assert!(text.ends_with("]}\n"));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn unhex(text: &Value) -> Vec<u8> {
        let text = text.as_str().unwrap();
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// What a machine hashes, from the line alone.
    fn machine_header(notify: &Value, roll: &Roll) -> Vec<u8> {
        let params = &notify["params"];
        let mut coinbase = unhex(&params[2]);
        coinbase.extend(roll.extranonce1.0);
        coinbase.extend(roll.extranonce2.as_bytes());
        coinbase.extend(unhex(&params[3]));
        let mut root = bitcoin::hashes::sha256d::Hash::hash(&coinbase).to_byte_array().to_vec();
        for sibling in params[4].as_array().unwrap() {
            root.extend(unhex(sibling));
            root = bitcoin::hashes::sha256d::Hash::hash(&root).to_byte_array().to_vec();
        }
        let reversed = |bytes: Vec<u8>| bytes.into_iter().rev().collect::<Vec<u8>>();
        let mut header = roll.version.to_le_bytes().to_vec();
        unhex(&params[1]).chunks(4).for_each(|word| header.extend(word.iter().rev()));
        header.extend(root);
        header.extend(roll.ntime.to_le_bytes());
        header.extend(reversed(unhex(&params[6])));
        header.extend(roll.nonce.to_le_bytes());
        header
    }

    proptest! {
        #[test]
        fn v1_26_a_machine_hashes_the_header_that_we_judge(
            branch in proptest::collection::vec(any::<[u8; 32]>(), 0..14),
            extranonce2: [u8; 8],
            pot in -32_i8..95,
            nonce: u32,
            seed: u8,
        ) {
            let mut body = sample::body(HARD_NBITS);
            body.merkle_branch = branch;
            body.prev_hash = sample::prev_hash(seed);
            let (version, ntime) = (body.version, body.ntime);
            let encoded = sample::encoded(body);
            let pot = Pot::try_from(pot).unwrap();
            let job = Job { body: encoded.body().clone(), tag: sample::payee().tag, pot, superseded_at: None };
            let roll = Roll { extranonce1: PREFIX, extranonce2: Extranonce2::from(extranonce2), ntime, nonce, version };
            let lines = lines(&message(&encoded, pot, true));
            prop_assert_eq!(machine_header(&lines[1], &roll), job.header(&roll).to_vec());
        }
    }

    #[test]
    fn v1_26_notify_is_written_field_by_field() {
        let encoded = sample::encoded(sample::body(HARD_NBITS));
        let notify = &lines(&message(&encoded, Pot::MIN, true))[1];
        let params = notify["params"].as_array().unwrap();
        assert_eq!(
            (&notify["id"], &notify["method"], params.len()),
            (&Value::Null, &"mining.notify".into(), 9)
        );
        assert_eq!(params[0], "abc");
        // Parent hash 01 08 0f 16 | 1d …: each word of four bytes stands reversed.
        assert_eq!(&params[1].as_str().unwrap()[..16], "160f0801322b241d");
        assert_eq!(params[1].as_str().unwrap().len(), 64);
        assert_eq!(params[4][0], "11".repeat(32));
        assert_eq!(params[5..], [Value::from("20000000"), "17021369".into(), "6ab13b80".into(), true.into()]);
        let bytes = encoded.body().coinbase.bytes().len();
        let shown = params[2].as_str().unwrap().len() / 2 + params[3].as_str().unwrap().len() / 2;
        assert_eq!(shown + crate::extranonce::EXTRANONCE_BYTES, bytes);
        assert_eq!(lines(&message(&encoded, Pot::MIN, false))[1]["params"][8], false);
    }

    #[test]
    fn v1_26_a_block_without_other_transactions_has_no_branch() {
        let mut body = sample::body(HARD_NBITS);
        body.merkle_branch.clear();
        let notify = &lines(&message(&sample::encoded(body), Pot::MIN, true))[1];
        assert_eq!(notify["params"][4], Value::Array(Vec::new()));
    }

    #[test]
    fn v1_25_difficulty_is_a_plain_number_before_its_job() {
        let encoded = sample::encoded(sample::body(HARD_NBITS));
        for pot in (-32..=95).map(|pot| Pot::try_from(pot).unwrap()) {
            let message = message(&encoded, pot, false);
            let lines = lines(&message);
            assert_eq!(lines[0]["method"], "mining.set_difficulty");
            let mut pieces = Vec::new();
            message.write_to(&mut pieces);
            let text = String::from_utf8(pieces[0].to_vec()).unwrap();
            let number = text.split(['[', ']']).nth(1).unwrap();
            // serde_json's own reading is off by a rounding, the standard library's is exact.
            assert_eq!(number.parse(), Ok(pot.difficulty()));
            assert!(number.bytes().all(|digit| digit.is_ascii_digit() || digit == b'.'), "{number}");
        }
    }

    #[test]
    fn the_large_parts_are_shared_not_copied() {
        let encoded = sample::encoded(sample::body(HARD_NBITS));
        for clean in [true, false] {
            let mut pieces = Vec::new();
            message(&encoded, Pot::MIN, clean).write_to(&mut pieces);
            assert_eq!(pieces[1].as_ptr(), encoded.notify().head.as_ptr());
            assert_eq!(pieces[3].as_ptr(), encoded.notify().tail.as_ptr());
        }
    }

    #[test]
    fn a_message_that_takes_the_place_of_another_says_what_that_one_had_to_say() {
        let encoded = sample::encoded(sample::body(HARD_NBITS));
        let pot = |pot| Pot::try_from(pot).unwrap();
        for (old, new, difficulty, clean) in [
            ((Some(1), true), (None, false), Some(1), true),
            ((Some(1), false), (Some(2), false), Some(2), false),
            ((None, false), (Some(2), true), Some(2), true),
            ((None, false), (None, false), None, false),
        ] {
            let make = |(difficulty, clean): (Option<i8>, bool)| JobMessage {
                difficulty: difficulty.map(pot),
                ..message(&encoded, Pot::MIN, clean)
            };
            let mut newer = make(new);
            newer.absorb(&make(old));
            assert_eq!((newer.difficulty, newer.clean), (difficulty.map(pot), clean));
        }
    }
}

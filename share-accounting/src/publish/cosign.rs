//! Cosignatures: a witness's word, with a time, that a head goes on from all heads of that log that it has cosigned before
//! (c2sp.org/tlog-cosignature with Ed25519, c2sp.org/tlog-witness). Pure.
//!
//! Two miners who are shown two logs can only both see cosignatures of one witness if that is a crook, too.

use super::head::Head;
use super::key::{CheckpointError, LogVerifier};
use crate::tree::TreeHash;
use bitcoin::base64::prelude::{BASE64_STANDARD, Engine};
use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use rand_core::OsRng;
use signed_note::{Note, Verifier, is_key_name_valid, key_id};
use std::str::FromStr;

/// The first byte of a key: Ed25519 for cosignatures.
const ALGORITHM: u8 = 4;
/// Longest name of a witness, in bytes.
const NAME_BYTES_MAX: usize = 200;
/// Most lines of a consistency proof.
const PROOF_LINES_MAX: usize = 63;
/// Bytes of a cosignature: the time, and Ed25519's.
const COSIGNATURE_BYTES: usize = 8 + 64;

/// A witness's secret key.
pub struct WitnessKey {
    name: String,
    key: SigningKey,
}

/// What its cosignatures are checked with.
#[derive(Clone, PartialEq, Eq)]
pub struct WitnessVerifier {
    name: String,
    id: u32,
    key: VerifyingKey,
}

/// Not a key of a witness.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no key of a witness: name+id+base64 is wanted, as sluice-verify witness prints it")]
pub struct WitnessKeyError(pub String);

/// A cosignature that is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cosigned {
    /// When, Unix seconds of the witness's clock.
    pub unix_s: u64,
}

/// What a witness is asked: to cosign a head, with the proof that it goes on from the one that it cosigned last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Size of the log under the head that it cosigned last; 0 for none.
    pub old_size: u64,
    /// That the new head goes on from there.
    pub proof: Vec<TreeHash>,
    /// The note that says the new head.
    pub checkpoint: String,
}

/// Why a witness does not cosign; with the numbers that HTTP has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 400.
    #[error("this is no request for a cosignature")]
    Malformed,
    /// 403.
    #[error("the checkpoint is not signed by its log")]
    NotSigned,
    /// 404.
    #[error("no log of this name is witnessed here")]
    UnknownLog,
    /// 409: the size of the newest cosigned head.
    #[error("the newest cosigned head has {0} entries")]
    Conflict(u64),
    /// 422.
    #[error("the head does not go on from the newest cosigned one")]
    Inconsistent,
}

impl Refusal {
    /// HTTP's number.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::NotSigned => 403,
            Self::UnknownLog => 404,
            Self::Conflict(_) => 409,
            Self::Inconsistent => 422,
        }
    }
}

/// What is signed.
fn message(note_text: &[u8], unix_s: u64) -> Vec<u8> {
    [format!("cosignature/v1\ntime {unix_s}\n").as_bytes(), note_text].concat()
}

fn encoded(name: &str, id: u32, bytes: &[u8]) -> String {
    let bytes = [&[ALGORITHM][..], bytes].concat();
    format!("{name}+{id:08x}+{}", BASE64_STANDARD.encode(bytes))
}

impl WitnessKey {
    /// Draws a key; the text is what [`WitnessKey::parse`] reads, and secret.
    pub fn generate(name: &str) -> (Self, String) {
        let key = Self { name: name.to_owned(), key: SigningKey::generate(&mut OsRng) };
        let text = format!("PRIVATE+KEY+{}", encoded(name, key.verifier().id, key.key.as_bytes()));
        (key, text)
    }

    /// Reads what [`WitnessKey::generate`] gave out; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, id, bytes) = parts(text.trim().strip_prefix("PRIVATE+KEY+")?)?;
        let key = Self { name: name.to_owned(), key: SigningKey::from_bytes(&bytes) };
        (key.verifier().id == id).then_some(key)
    }

    /// What its cosignatures are checked with.
    pub fn verifier(&self) -> WitnessVerifier {
        WitnessVerifier::new(self.name.clone(), self.key.verifying_key())
    }

    /// The line that stands under a checkpoint for this witness, with its end.
    ///
    /// # Panics
    /// If the checkpoint is no note: only those that [`judge`] has let pass are cosigned.
    pub fn cosign(&self, checkpoint: &str, unix_s: u64) -> String {
        use ed25519_dalek::Signer;
        let note = Note::from_bytes(checkpoint.as_bytes()).expect("it was judged");
        let signature = self.key.sign(&message(note.text(), unix_s)).to_bytes();
        let id = self.verifier().id.to_be_bytes();
        let bytes = [&id[..], &unix_s.to_be_bytes(), &signature].concat();
        format!("— {} {}\n", self.name, BASE64_STANDARD.encode(bytes))
    }
}

/// Name, id and 32 bytes of a key.
fn parts(text: &str) -> Option<(&str, u32, [u8; 32])> {
    let (name, rest) = text.split_once('+')?;
    let (id, key) = rest.split_once('+')?;
    let bytes = BASE64_STANDARD.decode(key).ok()?;
    let key = bytes.strip_prefix(&[ALGORITHM])?.try_into().ok()?;
    let is_name = is_key_name_valid(name) && name.len() <= NAME_BYTES_MAX;
    (is_name && id.len() == 8).then_some((name, u32::from_str_radix(id, 16).ok()?, key))
}

impl WitnessVerifier {
    fn new(name: String, key: VerifyingKey) -> Self {
        let id = key_id(&name, &[&[ALGORITHM][..], key.as_bytes()].concat());
        Self { name, id, key }
    }

    /// Whether it is the same key, under whatever name.
    pub fn has_key_of(&self, other: &Self) -> bool {
        self.key == other.key
    }

    /// The witness's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When this witness has cosigned a checkpoint, if it has.
    pub fn cosigned(&self, checkpoint: &[u8]) -> Option<Cosigned> {
        let note = Note::from_bytes(checkpoint).ok()?;
        let known = signed_note::VerifierList::new(vec![Box::new(self.clone())]);
        let (good, _) = note.verify(&known).ok()?;
        let times = good.iter().filter_map(|signature| signature.signature().first_chunk());
        times.map(|time| Cosigned { unix_s: u64::from_be_bytes(*time) }).max()
    }
}

impl Verifier for WitnessVerifier {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn verify(&self, note_text: &[u8], signature: &[u8]) -> bool {
        let Some((time, signature)) = signature.split_first_chunk::<8>() else { return false };
        let Ok(signature) = Signature::from_slice(signature) else { return false };
        let unix_s = u64::from_be_bytes(*time);
        // One without a time says nothing of when; one beyond cannot be (c2sp.org/tlog-cosignature).
        (1..=i64::MAX as u64).contains(&unix_s)
            && self.key.verify_strict(&message(note_text, unix_s), &signature).is_ok()
    }
}

impl FromStr for WitnessVerifier {
    type Err = WitnessKeyError;

    fn from_str(text: &str) -> Result<Self, WitnessKeyError> {
        let read = || {
            let (name, id, key) = parts(text.trim())?;
            let verifier = Self::new(name.to_owned(), VerifyingKey::from_bytes(&key).ok()?);
            (verifier.id == id).then_some(verifier)
        };
        read().ok_or_else(|| WitnessKeyError(text.to_owned()))
    }
}

impl std::fmt::Display for WitnessVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&encoded(&self.name, self.id, self.key.as_bytes()))
    }
}

impl std::fmt::Debug for WitnessVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WitnessVerifier({self})")
    }
}

impl Request {
    /// The body of `POST …/add-checkpoint`.
    pub fn text(&self) -> String {
        let proof: String = self.proof.iter().map(|hash| BASE64_STANDARD.encode(hash) + "\n").collect();
        format!("old {}\n{proof}\n{}", self.old_size, self.checkpoint)
    }

    /// Reads such a body; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (head, checkpoint) = text.split_once("\n\n")?;
        let mut lines = head.split('\n');
        let old_size = number(lines.next()?.strip_prefix("old ")?)?;
        let hash = |line: &str| BASE64_STANDARD.decode(line).ok()?.try_into().ok();
        let proof = lines.map(hash).collect::<Option<Vec<TreeHash>>>()?;
        (proof.len() <= PROOF_LINES_MAX).then(|| Self { old_size, proof, checkpoint: checkpoint.to_owned() })
    }
}

/// A decimal without leading zeros or signs.
fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// Whether a witness cosigns what it is asked to, having cosigned `newest` of this log before. The head that it then has
/// cosigned last is written down before anybody is told.
///
/// # Errors
/// Why not.
pub fn judge(request: &Request, log: &LogVerifier, newest: Option<Head>) -> Result<Head, Refusal> {
    let (head, _) = log.head(request.checkpoint.as_bytes()).map_err(|error| match error {
        CheckpointError::Malformed => Refusal::Malformed,
        CheckpointError::NotSigned => Refusal::NotSigned,
        CheckpointError::OtherLog(_) => Refusal::UnknownLog,
    })?;
    if request.old_size > head.size {
        return Err(Refusal::Malformed);
    }
    let newest = newest.unwrap_or(Head::EMPTY);
    if request.old_size != newest.size {
        return Err(Refusal::Conflict(newest.size));
    }
    let is_plain = newest.size > 0 || request.proof.is_empty();
    let is_empty = head.size == 0 && head != Head::EMPTY;
    if !is_plain || is_empty || !head.goes_on_from(&newest, &request.proof) {
        return Err(Refusal::Inconsistent);
    }
    Ok(head)
}

/// A checkpoint with further lines of signatures under it: those of the witnesses that have really cosigned it.
pub fn gathered<'a>(
    checkpoint: &str,
    lines: impl IntoIterator<Item = (&'a WitnessVerifier, &'a str)>,
) -> (String, usize) {
    let (mut note, mut count) = (checkpoint.to_owned(), 0);
    for (witness, text) in lines {
        let is_good = |line: &&str| witness.cosigned(format!("{checkpoint}{line}\n").as_bytes()).is_some();
        if let Some(line) =
            text.lines().filter(|line| line.len() <= 4 * COSIGNATURE_BYTES + 300).find(is_good)
        {
            note.push_str(line);
            note.push('\n');
            count += 1;
        }
    }
    (note, count)
}

#[cfg(test)]
mod tests;

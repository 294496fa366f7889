//! Signed heads: notes with Ed25519 signatures (c2sp.org/signed-note, c2sp.org/tlog-checkpoint).

use super::head::Head;
use bitcoin::Network;
use bitcoin::hex::FromHex;
use rand_core::OsRng;
use signed_note::{Note, Signer, StandardSigner, StandardVerifier, Verifier, VerifierList, generate_key};
use tlog_tiles::{Checkpoint, Hash};

/// In front of a log's id in the name that it has if its operator chooses none.
pub const NAME_HEAD: &str = "sluice/";
/// In front of the chain's name in a checkpoint.
const NETWORK: &str = "network ";

/// The key that signs a log's heads. Its name is the log's origin.
#[derive(Clone)]
pub struct LogKey {
    signer: StandardSigner,
    public: String,
}

/// What checks them.
#[derive(Clone)]
pub struct LogVerifier(StandardVerifier);

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The secret key is not written as it should be.
    #[error("it holds no key of a log: its secret and its public line are wanted, as they were made")]
    Secret,
    /// Nor is the public one.
    #[error("\"{0}\" is no key of a log: name+id+base64 is wanted, as a pool gives it out on /log/key")]
    Public(String),
}

/// Why a checkpoint is not believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// It is no signed note, or not of a log.
    #[error("it is no checkpoint of a log")]
    Malformed,
    /// It is not signed with the key, or its signature is wrong.
    #[error("it is not signed with the log's key")]
    NotSigned,
    /// It is signed, but for another log.
    #[error("it is of the log {0}")]
    OtherLog(String),
}

impl LogKey {
    /// Draws a key; the text, two lines, is what [`LogKey::parse`] reads, and its first line secret.
    ///
    /// # Panics
    /// If the name is empty or has a space or a plus in it.
    pub fn generate(name: &str) -> (Self, String) {
        let (secret, public) = generate_key(&mut OsRng, name);
        let signer = StandardSigner::new(&secret).expect("names of logs have neither spaces nor pluses");
        let text = format!("{secret}\n{public}");
        (Self { signer, public }, text)
    }

    /// Reads what [`LogKey::generate`] gave out.
    ///
    /// # Errors
    /// [`KeyError::Secret`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (secret, public) = text.trim().split_once('\n').ok_or(KeyError::Secret)?;
        let signer = StandardSigner::new(secret).map_err(|_| KeyError::Secret)?;
        let verifier = StandardVerifier::new(public).map_err(|_| KeyError::Secret)?;
        // The id is a hash of name and public key.
        let belongs = (signer.name(), signer.key_id()) == (verifier.name(), verifier.key_id());
        belongs.then(|| Self { signer, public: public.to_owned() }).ok_or(KeyError::Secret)
    }

    /// The log that it signs for.
    pub fn origin(&self) -> &str {
        self.signer.name()
    }

    /// What its signatures are checked with, for everybody: [`LogVerifier::parse`] reads it.
    pub fn public(&self) -> &str {
        &self.public
    }

    /// What checks its signatures.
    ///
    /// # Panics
    /// Never: the public half was made with the key.
    pub fn verifier(&self) -> LogVerifier {
        LogVerifier::parse(&self.public).expect("a key's own public half")
    }

    /// The head as it is published, with the chain's name as an extension line.
    ///
    /// # Panics
    /// Never: a key's name makes a good note.
    pub fn sign(&self, head: &Head, network: Network) -> String {
        let chain = format!("{NETWORK}{network}\n");
        let text =
            Checkpoint::new(self.origin(), head.size, Hash(head.root), &chain).expect("it has an origin");
        let mut note = Note::new(&text.to_bytes(), &[]).expect("lines of text");
        note.add_sigs(&[&self.signer]).expect("Ed25519 signs everything");
        String::from_utf8(note.to_bytes()).expect("a note is text")
    }
}

impl LogVerifier {
    /// Reads a public key.
    ///
    /// # Errors
    /// [`KeyError::Public`].
    pub fn parse(key: &str) -> Result<Self, KeyError> {
        StandardVerifier::new(key).map(Self).map_err(|_| KeyError::Public(key.to_owned()))
    }

    /// The log that it is of.
    pub fn origin(&self) -> &str {
        self.0.name()
    }

    /// The id of the log, which its name says unless the operator has chosen another.
    pub fn log_id(&self) -> Option<[u8; 16]> {
        FromHex::from_hex(self.0.name().strip_prefix(NAME_HEAD)?).ok()
    }

    /// The head that a checkpoint is of, and the chain.
    ///
    /// # Errors
    /// It is not signed with this key.
    pub fn head(&self, checkpoint: &[u8]) -> Result<(Head, Network), CheckpointError> {
        let note = Note::from_bytes(checkpoint).map_err(|_| CheckpointError::Malformed)?;
        let known = VerifierList::new(vec![Box::new(self.0.clone())]);
        note.verify(&known).map_err(|_| CheckpointError::NotSigned)?;
        let text = Checkpoint::from_bytes(note.text()).map_err(|_| CheckpointError::Malformed)?;
        if text.origin() != self.0.name() {
            return Err(CheckpointError::OtherLog(text.origin().to_owned()));
        }
        let network = text.extension().lines().find_map(|line| line.strip_prefix(NETWORK)?.parse().ok());
        let network = network.ok_or(CheckpointError::Malformed)?;
        Ok((Head { size: text.size(), root: text.hash().0 }, network))
    }
}

impl std::fmt::Debug for LogVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LogVerifier").field(&self.origin()).finish()
    }
}

impl std::fmt::Debug for LogKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogKey({})", self.origin())
    }
}

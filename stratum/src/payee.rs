//! Who a share is for: a payment address, its tag in the work, and a worker name.

use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::{Address, Network, Script, ScriptBuf, address::NetworkUnchecked};
use std::fmt;

/// Longest user name accepted, in bytes: address and worker together.
pub const USER_BYTES_MAX: usize = 192;
/// Longest worker name kept, in bytes.
pub const WORKER_BYTES_MAX: usize = 64;

/// First eight bytes of taggedhash("payee", scriptPubKey): part of the coinbase a miner hashes, so
/// that the work itself says whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PayeeTag(pub [u8; 8]);

impl PayeeTag {
    /// The tag of a scriptPubKey.
    pub fn of(script: &bitcoin::Script) -> Self {
        let digest = tagged_hash("payee", &[script.as_bytes()]);
        Self(digest[..8].try_into().expect("a digest has 32 bytes"))
    }
}

/// SHA-256 with a domain tag, as BIP 340 defines it: sha256(sha256(tag) ‖ sha256(tag) ‖ parts…).
pub fn tagged_hash(tag: &str, parts: &[&[u8]]) -> [u8; 32] {
    let tag = sha256::Hash::hash(tag.as_bytes());
    let mut engine = sha256::Hash::engine();
    engine.input(tag.as_byte_array());
    engine.input(tag.as_byte_array());
    for part in parts {
        engine.input(part);
    }
    sha256::Hash::from_engine(engine).to_byte_array()
}

/// A worker name as shown to people: at most [`WORKER_BYTES_MAX`] bytes of `[A-Za-z0-9_.%-]`.
///
/// Anything else a peer sends is percent-escaped, so the name is safe in logs, metrics, SQL and HTML.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WorkerName(Box<str>);

impl WorkerName {
    /// Escapes whatever a peer sent; what does not fit [`WORKER_BYTES_MAX`] is cut off.
    pub fn escaped(raw: &str) -> Self {
        let mut name = String::with_capacity(raw.len().min(WORKER_BYTES_MAX));
        for byte in raw.bytes() {
            let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
            let grown = name.len() + if plain { 1 } else { 3 };
            if grown > WORKER_BYTES_MAX {
                break;
            }
            if plain {
                name.push(char::from(byte));
            } else {
                name.push_str(&format!("%{byte:02X}"));
            }
        }
        Self(name.into_boxed_str())
    }

    /// A name that was escaped before: `None` if this text cannot be one.
    pub fn of_escaped(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'%');
        (text.len() <= WORKER_BYTES_MAX && text.bytes().all(plain)).then(|| Self(text.into()))
    }

    /// The escaped text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for WorkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// A payee and one of its workers: what a share is booked to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Payee {
    /// Where the money goes.
    pub script: ScriptBuf,
    /// The payee's mark in the work.
    pub tag: PayeeTag,
    /// The machine's name below that payee; may be empty.
    pub worker: WorkerName,
}

/// Why a user name names no payee on this network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayeeError {
    /// No address at the front of the user name.
    #[error("user name must be a Bitcoin address, optionally followed by .worker")]
    Empty,
    /// Longer than [`USER_BYTES_MAX`].
    #[error("user name is longer than {USER_BYTES_MAX} bytes")]
    TooLong,
    /// Checksum, alphabet or witness version is wrong.
    #[error("\"{0}\" is not a Bitcoin address: check it for a typo")]
    NotAnAddress(WorkerName),
    /// A fine address of another network.
    #[error("address {address} is not for {network}: use an address of this network")]
    WrongNetwork {
        /// What the peer sent, escaped.
        address: WorkerName,
        /// The network that this server pays on.
        network: Network,
    },
    /// A witness version that has no meaning yet: anyone could spend it.
    #[error("address {0} has a witness version that is not in use yet")]
    UnknownWitnessVersion(WorkerName),
}

/// Whether somebody can own what a script of an address is paid: witness versions that are not in use yet are anybody's.
pub fn can_be_paid(script: &Script) -> bool {
    script.is_p2pkh() || script.is_p2sh() || script.is_p2wpkh() || script.is_p2wsh() || script.is_p2tr()
}

impl Payee {
    /// A payee by script, without a worker name.
    pub fn new(script: ScriptBuf, worker: WorkerName) -> Self {
        Self { tag: PayeeTag::of(&script), script, worker }
    }

    /// Parses `address[.worker]`; `_` and `/` also end the address, as miners write them.
    ///
    /// # Errors
    /// Every error is a sentence for the miner's operator; nothing is ever redirected to another payee.
    pub fn parse(user: &str, network: Network) -> Result<Self, PayeeError> {
        if user.len() > USER_BYTES_MAX {
            return Err(PayeeError::TooLong);
        }
        let (address, worker) = match user.find(['.', '_', '/']) {
            Some(end) => (&user[..end], &user[end + 1..]),
            None => (user, ""),
        };
        if address.is_empty() {
            return Err(PayeeError::Empty);
        }
        let shown = || WorkerName::escaped(address);
        let unchecked: Address<NetworkUnchecked> =
            address.parse().map_err(|_| PayeeError::NotAnAddress(shown()))?;
        let checked = unchecked
            .require_network(network)
            .map_err(|_| PayeeError::WrongNetwork { address: shown(), network })?;
        let script = checked.script_pubkey();
        if !can_be_paid(&script) {
            return Err(PayeeError::UnknownWitnessVersion(shown()));
        }
        Ok(Self::new(script, WorkerName::escaped(worker)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIGNET: &str = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx";
    const MAINNET: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";

    #[test]
    fn cb_12_user_names_are_address_and_worker() {
        for (user, worker) in [
            (SIGNET.to_owned(), ""),
            (format!("{SIGNET}.rig1"), "rig1"),
            (format!("{SIGNET}_rig1"), "rig1"),
            (format!("{SIGNET}/rig/1"), "rig%2F1"),
            (format!("{SIGNET}.a.b"), "a.b"),
            (SIGNET.to_uppercase(), ""),
        ] {
            let payee = Payee::parse(&user, Network::Signet).unwrap();
            assert!(payee.script.is_p2wpkh());
            assert_eq!(payee.worker.as_str(), worker);
            assert_eq!(payee.tag, PayeeTag::of(&payee.script));
        }
    }

    #[test]
    fn cb_12_wrong_network_typo_and_unknown_version_are_told_apart() {
        let error = |user: &str| Payee::parse(user, Network::Signet).unwrap_err().to_string();
        assert_eq!(
            error(MAINNET),
            format!("address {MAINNET} is not for signet: use an address of this network")
        );
        let typo = SIGNET.replace("w508", "w509");
        assert_eq!(error(&typo), format!("\"{typo}\" is not a Bitcoin address: check it for a typo"));
        assert_eq!(Payee::parse("", Network::Signet), Err(PayeeError::Empty));
        assert_eq!(Payee::parse(".rig", Network::Signet), Err(PayeeError::Empty));
        assert_eq!(Payee::parse(&"x".repeat(193), Network::Signet), Err(PayeeError::TooLong));
        // Version 2 witness program, bech32m, test network.
        let future = bitcoin::WitnessProgram::new(bitcoin::WitnessVersion::V2, &[1; 32]).unwrap();
        let future = Address::from_witness_program(future, bitcoin::KnownHrp::Testnets).to_string();
        assert!(error(&future).ends_with("has a witness version that is not in use yet"));
    }

    #[test]
    fn n11_hostile_worker_names_are_escaped_and_bounded() {
        for (raw, escaped) in [
            ("a\nb", "a%0Ab"),
            ("\u{1b}[31m", "%1B%5B31m"),
            ("<script>", "%3Cscript%3E"),
            ("=1+1", "%3D1%2B1"),
            ("'; DROP TABLE", "%27%3B%20DROP%20TABLE"),
            ("../../etc", "..%2F..%2Fetc"),
            ("ü", "%C3%BC"),
        ] {
            assert_eq!(WorkerName::escaped(raw).as_str(), escaped);
        }
        assert_eq!(WorkerName::escaped(&"x".repeat(1000)).as_str().len(), WORKER_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn n11_any_worker_name_is_safe_text(raw: String) {
            let name = WorkerName::escaped(&raw);
            prop_assert!(name.as_str().len() <= WORKER_BYTES_MAX);
            prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-%".contains(&b)));
        }
    }
}

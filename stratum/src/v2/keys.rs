//! The keys of a V2 server, and the text forms in which people hand them on.
//!
//! An [`AuthorityKey`] is what clients know of a pool. Its secret half signs a [`Certificate`] for the
//! [`StaticKey`] of each server, so the server itself need not hold the [`AuthoritySecret`] (NS-17).
//!
//! Random bytes come from the caller; there is no source of them here.

mod certificate;
mod secret;

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use bitcoin::base58;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::secp256k1::ellswift::ElligatorSwift;
use bitcoin::secp256k1::{All, Keypair, Secp256k1, SecretKey, XOnlyPublicKey};
use zeroize::Zeroize;

pub use self::certificate::{CERTIFICATE_BYTES, CLOCK_LEEWAY_S, Certificate, CertificateError};
pub(super) use self::secret::Secret;

/// Bytes of a public key on the wire of the handshake: its EllSwift encoding (BIP 324).
pub const ELLSWIFT_BYTES: usize = 64;
/// What the text form of an authority key begins with: version 1, little-endian (spec 04 §4.7).
const AUTHORITY_PREFIX: [u8; 2] = [1, 0];
/// Bytes of a secret key, and of a public key without the sign of its y.
const KEY_BYTES: usize = 32;

/// Building one costs about as much as a signature; afterwards it is only read.
pub(super) static CURVE: LazyLock<Secp256k1<All>> = LazyLock::new(Secp256k1::new);

/// The public key that clients pin: who may say which servers belong to this pool.
///
/// Its text is base58check of `01 00 ‖ key (32 bytes)` (NS-14).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuthorityKey(XOnlyPublicKey);

/// The secret half of an [`AuthorityKey`]. Its text is base58check of the 32 bytes, without a prefix.
///
/// It is wiped when dropped and shows nothing in `Debug`.
#[derive(Clone)]
pub struct AuthoritySecret(Secret<KEY_BYTES>);

/// A server's own key pair, with the one encoding of the public key that it sends.
///
/// A public key has about 2^256 EllSwift encodings, and the key agreement hashes the encoding, not the
/// point: both sides must use the same 64 bytes.
#[derive(Clone)]
pub struct StaticKey(KeyPair);

/// `secret (32) ‖ own EllSwift encoding (64) ‖ zeros (32)`: the form in which a handshake takes a key pair.
#[derive(Clone)]
pub(super) struct KeyPair(pub(super) Secret<128>);

/// Why a text or some bytes are no key. None of them repeats the text: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A character outside of the alphabet.
    #[error("the key holds a character that base58 does not use (as 0, O, I and l)")]
    NoBase58,
    /// The last four bytes are not what the others hash to.
    #[error("the checksum of the key is wrong: a character is missing or mistyped")]
    Checksum,
    /// Some other number of bytes: perhaps another kind of key.
    #[error(
        "the key has {found} bytes where {expected} are needed: an authority's public key has 34, its secret 32"
    )]
    Length {
        /// Bytes that the text stands for, without its checksum.
        found: usize,
        /// Bytes that this kind of key has.
        expected: usize,
    },
    /// A later version of the key, or no authority key at all.
    #[error("the key begins with {:02x} {:02x}, an authority key with 01 00", .0[0], .0[1])]
    Prefix([u8; 2]),
    /// No point of the curve has this x.
    #[error("the key is no point of the curve secp256k1")]
    NoPoint,
    /// Zero, or beyond the order of the curve.
    #[error("the secret is not between 1 and the order of the curve secp256k1")]
    NoScalar,
}

impl AuthorityKey {
    pub(super) fn point(&self) -> &XOnlyPublicKey {
        &self.0
    }
}

impl From<XOnlyPublicKey> for AuthorityKey {
    fn from(point: XOnlyPublicKey) -> Self {
        Self(point)
    }
}

impl FromStr for AuthorityKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let expected = AUTHORITY_PREFIX.len() + KEY_BYTES;
        let bytes = decode(text, expected)?;
        if bytes.len() != expected {
            return Err(KeyError::Length { found: bytes.len(), expected });
        }
        let (prefix, key) = bytes.split_at(AUTHORITY_PREFIX.len());
        if prefix != AUTHORITY_PREFIX {
            return Err(KeyError::Prefix([prefix[0], prefix[1]]));
        }
        XOnlyPublicKey::from_slice(key).map(Self).map_err(|_| KeyError::NoPoint)
    }
}

impl fmt::Display for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&AUTHORITY_PREFIX[..], &self.0.serialize()].concat();
        base58::encode_check_to_fmt(f, &bytes)
    }
}

impl fmt::Debug for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorityKey({self})")
    }
}

impl AuthoritySecret {
    /// Takes the secret as it was drawn or stored.
    ///
    /// # Errors
    /// [`KeyError::NoScalar`]: one in 2^127 random values, or a file of zeros.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Result<Self, KeyError> {
        SecretKey::from_slice(&bytes).map_err(|_| KeyError::NoScalar)?;
        Ok(Self(Secret::new(bytes)))
    }

    /// What clients pin.
    pub fn public(&self) -> AuthorityKey {
        AuthorityKey(self.key_pair().x_only_public_key().0)
    }

    /// The text to keep in a file that nobody else can read. Whoever has it can pose as the pool.
    pub fn to_base58(&self) -> String {
        base58::encode_check(self.0.bytes())
    }

    fn key_pair(&self) -> Keypair {
        Keypair::from_seckey_slice(&CURVE, self.0.bytes()).expect("from_bytes has checked the secret")
    }
}

impl FromStr for AuthoritySecret {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut bytes = decode(text, KEY_BYTES)?;
        let length = KeyError::Length { found: bytes.len(), expected: KEY_BYTES };
        let secret = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).map_err(|_| length);
        bytes.zeroize();
        Self::from_bytes(secret?)
    }
}

impl fmt::Debug for AuthoritySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthoritySecret(<hidden>)")
    }
}

impl StaticKey {
    /// A key pair from 32 random (or stored) bytes; `aux`, random too, picks among the encodings.
    ///
    /// The same `secret` gives the same public key whatever `aux` is, so a certificate outlives a restart.
    pub fn new(secret: [u8; KEY_BYTES], aux: [u8; 32]) -> Self {
        Self(KeyPair::new(secret, aux))
    }

    /// What a certificate is signed for.
    pub fn public_x_only(&self) -> XOnlyPublicKey {
        self.0.secret().x_only_public_key(&CURVE).0
    }

    /// The secret, to be kept in a file that nobody else can read, and to be given to [`StaticKey::new`] again.
    pub fn secret_bytes(&self) -> [u8; KEY_BYTES] {
        self.0.secret().secret_bytes()
    }

    pub(super) fn key_pair(&self) -> &KeyPair {
        &self.0
    }
}

impl fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StaticKey({})", self.public_x_only())
    }
}

impl KeyPair {
    /// One in 2^128 seeds is no scalar; it is hashed until it is one, so that no caller has to draw again.
    pub(super) fn new(mut seed: [u8; KEY_BYTES], mut aux: [u8; 32]) -> Self {
        let mut secret = loop {
            match SecretKey::from_slice(&seed) {
                Ok(secret) => break secret,
                Err(_) => seed = sha256::Hash::hash(&seed).to_byte_array(),
            }
        };
        let encoding = ElligatorSwift::from_seckey(&CURVE, secret, Some(aux));
        let mut bytes = Secret::new([0; 128]);
        bytes.bytes_mut()[..KEY_BYTES].copy_from_slice(&secret[..]);
        bytes.bytes_mut()[KEY_BYTES..KEY_BYTES + ELLSWIFT_BYTES].copy_from_slice(&encoding.to_array());
        seed.zeroize();
        aux.zeroize();
        secret.non_secure_erase();
        Self(bytes)
    }

    fn secret(&self) -> SecretKey {
        SecretKey::from_slice(&self.0.bytes()[..KEY_BYTES]).expect("new has checked the secret")
    }
}

fn decode(text: &str, expected: usize) -> Result<Vec<u8>, KeyError> {
    base58::decode_check(text).map_err(|error| match error {
        base58::Error::Decode(_) => KeyError::NoBase58,
        // Fewer bytes than a checksum has.
        base58::Error::TooShort(_) => KeyError::Length { found: 0, expected },
        _ => KeyError::Checksum,
    })
}

#[cfg(test)]
mod tests;

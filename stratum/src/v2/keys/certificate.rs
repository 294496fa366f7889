//! The certificate: the authority's word that a static key is one of its servers'.

use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::hex::DisplayHex;
use bitcoin::secp256k1::schnorr::Signature;
use bitcoin::secp256k1::{Message, XOnlyPublicKey};

use super::{AuthorityKey, AuthoritySecret, CURVE};

/// Bytes of a certificate on the wire.
pub const CERTIFICATE_BYTES: usize = 74;
/// By how many seconds the two clocks may differ at either end of the validity (NS-10).
pub const CLOCK_LEEWAY_S: u32 = 10;
/// The only version there is.
const VERSION: u16 = 0;
/// What stands before the signature: version, `valid_from`, `not_valid_after`.
const TERMS_BYTES: usize = 10;

/// The message `SIGNATURE_NOISE_MESSAGE` of spec 04 §4.5.2, in its version 0.
///
/// It does not hold the key that it certifies; the handshake has sent that one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certificate {
    /// First second of the validity, Unix time.
    pub valid_from: u32,
    /// Last second of the validity, Unix time.
    pub not_valid_after: u32,
    signature: Signature,
}

/// Why a certificate says nothing about the server that sent it. All times are Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// From a later protocol.
    #[error("the server's certificate has version {0}, known is version 0 only")]
    Version(u16),
    /// Another authority signed it, or it is for another server.
    #[error(
        "the certificate of the server with the key {} is not signed by the authority {expected}",
        .server.as_hex()
    )]
    Signature {
        /// Whose signature was expected.
        expected: AuthorityKey,
        /// The key of the server that showed it. Who signed it, the certificate does not say.
        server: [u8; 32],
    },
    /// Our clock is behind, or the server's ahead.
    #[error("the server's certificate is valid from {valid_from} on, and our clock says {now} (Unix time)")]
    NotYetValid {
        /// Our clock.
        now: u32,
        /// The certificate's first second.
        valid_from: u32,
    },
    /// The server needs a new one, or a clock is wrong.
    #[error(
        "the server's certificate was valid until {not_valid_after}, and our clock says {now} (Unix time)"
    )]
    Expired {
        /// Our clock.
        now: u32,
        /// The certificate's last second.
        not_valid_after: u32,
    },
}

impl Certificate {
    /// Signs for a static key, for the given time (Unix seconds, both ends included).
    ///
    /// The signature takes no random bytes: the same input gives the same certificate (BIP 340 allows it).
    pub fn sign(
        authority: &AuthoritySecret,
        static_key: &XOnlyPublicKey,
        valid_from: u32,
        not_valid_after: u32,
    ) -> Self {
        let message = message(&terms(valid_from, not_valid_after), static_key);
        let mut key_pair = authority.key_pair();
        let signature = CURVE.sign_schnorr_no_aux_rand(&message, &key_pair);
        key_pair.non_secure_erase();
        Self { valid_from, not_valid_after, signature }
    }

    /// As it goes over the wire.
    pub fn to_bytes(&self) -> [u8; CERTIFICATE_BYTES] {
        let mut bytes = [0; CERTIFICATE_BYTES];
        bytes[..TERMS_BYTES].copy_from_slice(&terms(self.valid_from, self.not_valid_after));
        bytes[TERMS_BYTES..].copy_from_slice(self.signature.as_ref());
        bytes
    }

    /// Reads what came over the wire. The signature is not looked at; see [`Certificate::verify`].
    ///
    /// # Errors
    /// [`CertificateError::Version`]: of another version not even the layout is known.
    pub fn from_bytes(bytes: &[u8; CERTIFICATE_BYTES]) -> Result<Self, CertificateError> {
        let [v0, v1, f0, f1, f2, f3, a0, a1, a2, a3, signature @ ..] = bytes;
        let version = u16::from_le_bytes([*v0, *v1]);
        if version != VERSION {
            return Err(CertificateError::Version(version));
        }
        Ok(Self {
            valid_from: u32::from_le_bytes([*f0, *f1, *f2, *f3]),
            not_valid_after: u32::from_le_bytes([*a0, *a1, *a2, *a3]),
            signature: Signature::from_slice(signature).expect("a signature is any 64 bytes"),
        })
    }

    /// Whether `authority` signed this for `static_key`, and for the second `now_unix_s`.
    ///
    /// # Errors
    /// What is wrong with it, the signature first: without one, its times are anybody's.
    pub fn verify(
        &self,
        authority: &AuthorityKey,
        static_key: &XOnlyPublicKey,
        now_unix_s: u32,
    ) -> Result<(), CertificateError> {
        let (now, valid_from, not_valid_after) = (now_unix_s, self.valid_from, self.not_valid_after);
        let message = message(&terms(valid_from, not_valid_after), static_key);
        if CURVE.verify_schnorr(&self.signature, &message, authority.point()).is_err() {
            return Err(CertificateError::Signature { expected: *authority, server: static_key.serialize() });
        }
        if now.saturating_add(CLOCK_LEEWAY_S) < valid_from {
            return Err(CertificateError::NotYetValid { now, valid_from });
        }
        if now.saturating_sub(CLOCK_LEEWAY_S) > not_valid_after {
            return Err(CertificateError::Expired { now, not_valid_after });
        }
        Ok(())
    }
}

fn terms(valid_from: u32, not_valid_after: u32) -> [u8; TERMS_BYTES] {
    let mut terms = [0; TERMS_BYTES];
    terms[..2].copy_from_slice(&VERSION.to_le_bytes());
    terms[2..6].copy_from_slice(&valid_from.to_le_bytes());
    terms[6..].copy_from_slice(&not_valid_after.to_le_bytes());
    terms
}

fn message(terms: &[u8; TERMS_BYTES], static_key: &XOnlyPublicKey) -> Message {
    let mut engine = sha256::Hash::engine();
    engine.input(terms);
    engine.input(&static_key.serialize());
    Message::from_digest(sha256::Hash::from_engine(engine).to_byte_array())
}

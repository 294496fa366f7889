//! The handshake `Noise_NX_Secp256k1+EllSwift_ChaChaPoly_SHA256` (spec 04), and the transport behind it.
//!
//! The initiator sends act 1, the responder answers with act 2, and both hold a [`Transport`]. The acts have no
//! length in front of them, so whoever reads waits for exactly [`ACT1_BYTES`] or [`ACT2_BYTES`].
//!
//! Nothing here draws random bytes: each handshake takes 64 of them, 32 for the ephemeral secret and 32 for the
//! choice of its encoding. They must never be used twice.

mod primitives;
mod transport;

use std::fmt;

use bitcoin::secp256k1::PublicKey;
use bitcoin::secp256k1::ellswift::ElligatorSwift;
use noise_protocol::patterns::noise_nx;
use noise_protocol::{CipherState, ErrorKind, HandshakeState};
use zeroize::Zeroize;

use self::primitives::{ChaChaPoly, EllSwiftDh, Initiating, Responding, Sha256, TAG_BYTES};
pub use self::transport::{
    BLOCK_BYTES_MAX, Broken, HEADER_BYTES, NONCES_MAX, NonceExhausted, Opener, SEALED_HEADER_BYTES, Sealer,
    Transport, sealed_payload_bytes,
};
use super::keys::{
    AuthorityKey, CERTIFICATE_BYTES, Certificate, CertificateError, ELLSWIFT_BYTES, KeyPair, StaticKey,
};

/// Bytes of the initiator's message: its ephemeral key.
pub const ACT1_BYTES: usize = ELLSWIFT_BYTES;
/// Bytes of the responder's message: ephemeral key, sealed static key, sealed certificate. (The text of the
/// specification says 170, from the time of 32-byte keys; its issue 215.)
pub const ACT2_BYTES: usize = ELLSWIFT_BYTES + ELLSWIFT_BYTES + TAG_BYTES + CERTIFICATE_BYTES + TAG_BYTES;
/// Random bytes that a handshake takes from its caller.
pub const EPHEMERAL_BYTES: usize = 64;

type Handshake<R> = HandshakeState<EllSwiftDh<R>, ChaChaPoly, Sha256>;

/// Whom an initiator takes for the right server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// A server with a valid certificate by this authority.
    Pinned(AuthorityKey),
    /// Anybody: encrypted, but whoever sits in the middle reads and changes everything (NS-16).
    Unauthenticated,
}

/// The side that connects, between the two acts.
pub struct Initiator {
    state: Handshake<Initiating>,
    authority: Authority,
}

/// Why there is no connection. It is to be closed; nothing can be sent over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// Act 2 is no answer to our act 1.
    #[error("the handshake does not decrypt: the peer speaks no Stratum V2, or its bytes were changed")]
    Undecryptable,
    /// The handshake is right, the server is not the one we want.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// The responder's whole part: answers act 1 with act 2.
///
/// Any 64 bytes are a public key, so every act 1 is answered; a peer that made its key up learns nothing, and
/// its first frame will not open.
///
/// # Errors
/// [`HandshakeError::Undecryptable`] for a key agreement that fails, which no act 1 is known to cause.
pub fn respond(
    static_key: &StaticKey,
    certificate: &Certificate,
    ephemeral: [u8; EPHEMERAL_BYTES],
    act1: &[u8; ACT1_BYTES],
) -> Result<([u8; ACT2_BYTES], Transport), HandshakeError> {
    let ours = static_key.key_pair().clone();
    let mut state = handshake::<Responding>(false, Some(ours), ephemeral);
    state.read_message(act1, &mut [])?;
    let mut act2 = [0; ACT2_BYTES];
    state.write_message(&certificate.to_bytes(), &mut act2)?;
    let (from_initiator, from_responder) = state.get_ciphers();
    Ok((act2, transport(from_responder, from_initiator)))
}

impl Initiator {
    /// Begins a handshake; the second value is act 1, to be sent.
    pub fn new(ephemeral: [u8; EPHEMERAL_BYTES], authority: Authority) -> (Self, [u8; ACT1_BYTES]) {
        let mut state = handshake::<Initiating>(true, None, ephemeral);
        let mut act1 = [0; ACT1_BYTES];
        state.write_message(&[], &mut act1).expect("act 1 holds a key and agrees on nothing");
        (Self { state, authority }, act1)
    }

    /// Reads the responder's act 2 and checks who it is, before there is any key to send something with.
    ///
    /// # Errors
    /// [`HandshakeError`], for this connection only.
    pub fn finish(mut self, act2: &[u8; ACT2_BYTES], now_unix_s: u32) -> Result<Transport, HandshakeError> {
        let mut certificate = [0; CERTIFICATE_BYTES];
        self.state.read_message(act2, &mut certificate)?;
        let certificate = Certificate::from_bytes(&certificate)?;
        if let Authority::Pinned(authority) = &self.authority {
            let theirs = self.state.get_rs().expect("act 2 brought the responder's static key");
            let theirs = PublicKey::from_ellswift(ElligatorSwift::from_array(theirs));
            certificate.verify(authority, &theirs.x_only_public_key().0, now_unix_s)?;
        }
        let (from_initiator, from_responder) = self.state.get_ciphers();
        Ok(transport(from_initiator, from_responder))
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initiator").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl From<noise_protocol::Error> for HandshakeError {
    fn from(error: noise_protocol::Error) -> Self {
        match error.kind() {
            // The pattern NX has no pre-shared key, and the lengths of both acts are in their types.
            ErrorKind::DH | ErrorKind::Decryption | ErrorKind::NeedPSK | ErrorKind::TooShort => {
                Self::Undecryptable
            }
        }
    }
}

fn handshake<R: primitives::Role>(
    initiator: bool,
    static_key: Option<KeyPair>,
    mut ephemeral: [u8; EPHEMERAL_BYTES],
) -> Handshake<R> {
    let (mut secret, mut aux) = ([0; 32], [0; 32]);
    secret.copy_from_slice(&ephemeral[..32]);
    aux.copy_from_slice(&ephemeral[32..]);
    let ours = KeyPair::new(secret, aux);
    ephemeral.zeroize();
    secret.zeroize();
    aux.zeroize();
    let prologue = [];
    HandshakeState::new(
        noise_nx(),
        initiator,
        prologue,
        static_key.map(|key| key.0),
        Some(ours.0),
        None,
        None,
    )
}

fn transport(sends: CipherState<ChaChaPoly>, receives: CipherState<ChaChaPoly>) -> Transport {
    let ((seal, seal_next), (open, open_next)) = (sends.extract(), receives.extract());
    Transport { seal: Sealer::new(seal, seal_next), open: Opener::new(open, open_next) }
}

#[cfg(test)]
mod tests;

//! The encrypted transport: frames to sealed bytes and back.
//!
//! A frame's header (6 bytes) is sealed alone, into 22. Its payload follows in blocks of at most 65,519 bytes, each
//! with its own tag; an empty payload has no block. Every block takes the next nonce of its direction (NS-11, NS-12).
//! What the header says is not looked at here, except that the caller cuts the payload by the length in it.

use std::fmt;

use super::primitives::{ChaChaPoly, CipherKey, TAG_BYTES};

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 6;
/// Bytes of a frame's header on the wire.
pub const SEALED_HEADER_BYTES: usize = HEADER_BYTES + TAG_BYTES;
/// Bytes of the payload in one block, at most.
pub const BLOCK_BYTES_MAX: usize = SEALED_BLOCK_BYTES_MAX - TAG_BYTES;
/// The longest message that Noise allows.
const SEALED_BLOCK_BYTES_MAX: usize = 65_535;
/// Blocks that one key may seal or open. There is no rekeying, and a nonce that came twice would give away
/// the key of the tags (NS-13, N16). At a million blocks a second this lasts nine years.
pub const NONCES_MAX: u64 = 1 << 48;

/// How many bytes a payload of `plain` bytes has on the wire, without the frame's header.
pub const fn sealed_payload_bytes(plain: usize) -> usize {
    plain.saturating_add(TAG_BYTES * plain.div_ceil(BLOCK_BYTES_MAX))
}

/// Both directions of an encrypted connection, as seen from one end.
#[derive(Debug)]
pub struct Transport {
    /// For what we send.
    pub seal: Sealer,
    /// For what we receive.
    pub open: Opener,
}

/// Seals frames in the order in which they are sent.
pub struct Sealer {
    key: CipherKey,
    next: u64,
}

/// Opens frames in the order in which they were sealed.
pub struct Opener {
    /// `None` for ever after the first block that did not open.
    key: Option<CipherKey>,
    next: u64,
}

/// The key has sealed all it may: the connection has to be closed, and a new handshake made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this connection's key has sealed 2^48 messages and may seal no more")]
pub struct NonceExhausted;

/// What came in is not what the peer sealed. The connection has to be closed (NS-07).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes do not decrypt: they were changed, cut or put in another order on their way")]
pub struct Broken;

impl Sealer {
    /// `next` is the nonce of the first block.
    pub(super) fn new(key: CipherKey, next: u64) -> Self {
        Self { key, next }
    }

    /// Appends the sealed frame to `out`.
    ///
    /// # Errors
    /// [`NonceExhausted`]: `out` is as it was, and no later frame will be sealed that needs as many blocks.
    pub fn seal(
        &mut self,
        header: &[u8; HEADER_BYTES],
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), NonceExhausted> {
        // Asked before the first block, so that no half of a frame is sent.
        let blocks = 1 + payload.len().div_ceil(BLOCK_BYTES_MAX) as u64; // usize has at most 64 bits
        if NONCES_MAX.saturating_sub(self.next) < blocks {
            return Err(NonceExhausted);
        }
        out.reserve(SEALED_HEADER_BYTES + sealed_payload_bytes(payload.len()));
        self.block(header, out);
        payload.chunks(BLOCK_BYTES_MAX).for_each(|block| self.block(block, out));
        Ok(())
    }

    fn block(&mut self, block: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(block);
        let tag = ChaChaPoly::seal(&self.key, self.next, &[], &mut out[start..]);
        self.next += 1;
        out.extend_from_slice(&tag);
    }
}

impl Opener {
    /// `next` is the nonce of the first block.
    pub(super) fn new(key: CipherKey, next: u64) -> Self {
        Self { key: Some(key), next }
    }

    /// Opens a frame's header.
    ///
    /// # Errors
    /// [`Broken`], and then nothing more will be opened.
    pub fn header(&mut self, sealed: &[u8; SEALED_HEADER_BYTES]) -> Result<[u8; HEADER_BYTES], Broken> {
        let mut space = *sealed;
        self.block(&mut space, 0)?;
        let [h0, h1, h2, h3, h4, h5, ..] = space;
        Ok([h0, h1, h2, h3, h4, h5])
    }

    /// Opens a frame's whole payload where it stands, [`sealed_payload_bytes`] of the length in its header;
    /// the answer is its start, with the plain payload. An empty payload needs no call.
    ///
    /// # Errors
    /// [`Broken`], and then nothing more will be opened; the bytes mean nothing then.
    pub fn payload<'a>(&mut self, sealed: &'a mut [u8]) -> Result<&'a mut [u8], Broken> {
        let (mut from, mut to) = (0, 0);
        while from < sealed.len() {
            let end = sealed.len().min(from + SEALED_BLOCK_BYTES_MAX);
            // Each block moves up over the tags of those before it.
            to += self.block(&mut sealed[to..end], from - to)?;
            from = end;
        }
        Ok(&mut sealed[..to])
    }

    /// Opens `space[gap..]` to the start of `space`; the answer is the number of plain bytes.
    fn block(&mut self, space: &mut [u8], gap: usize) -> Result<usize, Broken> {
        let key = self.key.as_ref().ok_or(Broken)?;
        // No sender makes an empty block.
        let opened = if self.next < NONCES_MAX && space.len() > gap + TAG_BYTES {
            ChaChaPoly::open(key, self.next, &[], space, gap).map(|plain| plain.len())
        } else {
            Err(())
        };
        match opened {
            Ok(length) => {
                self.next += 1;
                Ok(length)
            }
            Err(()) => {
                self.key = None;
                Err(Broken)
            }
        }
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("next", &self.next).finish_non_exhaustive()
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let broken = self.key.is_none();
        f.debug_struct("Opener").field("next", &self.next).field("broken", &broken).finish_non_exhaustive()
    }
}

/// To test the end of a key's life, which no test can reach by sealing.
#[cfg(test)]
impl Sealer {
    pub(in crate::v2) fn skip_to(&mut self, next: u64) {
        self.next = next;
    }
}

#[cfg(test)]
impl Opener {
    pub(in crate::v2) fn skip_to(&mut self, next: u64) {
        self.next = next;
    }
}

#[cfg(test)]
mod tests;

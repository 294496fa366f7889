//! Double SHA-256.

/// Double SHA-256 of a message in one piece.
pub fn sha256d(message: &[u8]) -> [u8; 32] {
    let mut engine = Sha256d::new();
    engine.update(message);
    engine.finish()
}

/// Double SHA-256 of two digests side by side: one step up a merkle branch.
pub fn sha256d_pair(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut engine = Sha256d::new();
    engine.update(left);
    engine.update(right);
    engine.finish()
}

/// Double SHA-256 of a message that comes in pieces.
#[derive(Clone, Default)]
pub struct Sha256d {
    message: Vec<u8>,
}

impl Sha256d {
    /// Starts a message.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends to the message.
    pub fn update(&mut self, bytes: &[u8]) {
        self.message.extend_from_slice(bytes);
    }

    /// The digest in internal byte order.
    pub fn finish(self) -> [u8; 32] {
        use sha2::{Digest, Sha256};
        Sha256::digest(Sha256::digest(&self.message)).into()
    }
}

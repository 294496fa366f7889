//! Bytes that are wiped when they are dropped and never shown.

use noise_protocol::U8Array;
use zeroize::Zeroize;

/// `N` secret bytes. Wiping reaches this place in memory, not the copies that moves leave on the stack.
#[derive(Clone)]
pub(in crate::v2) struct Secret<const N: usize>([u8; N]);

impl<const N: usize> Secret<N> {
    pub(in crate::v2) fn new(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    pub(in crate::v2) fn bytes(&self) -> &[u8; N] {
        &self.0
    }

    pub(in crate::v2) fn bytes_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<const N: usize> U8Array for Secret<N> {
    fn new() -> Self {
        Self([0; N])
    }

    fn new_with(byte: u8) -> Self {
        Self([byte; N])
    }

    fn from_slice(bytes: &[u8]) -> Self {
        let mut secret = Self([0; N]);
        secret.0.copy_from_slice(bytes);
        secret
    }

    fn len() -> usize {
        N
    }

    fn as_slice(&self) -> &[u8] {
        &self.0
    }

    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

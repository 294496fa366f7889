//! Sealed frames, opened in the buffer that they were read into.

use std::io::{self, ErrorKind};
use stratum::v2::frame::{Header, write_frame};
use stratum::v2::message::Wire;
use stratum::v2::noise::{HEADER_BYTES, Opener, SEALED_HEADER_BYTES, Sealer, sealed_payload_bytes};

/// Opens what one side of a connection gets.
#[derive(Debug)]
pub struct Frames {
    opener: Opener,
    /// Of the frame whose payload has not come yet.
    header: Option<Header>,
}

impl Frames {
    /// From the first frame on.
    pub fn new(opener: Opener) -> Self {
        Self { opener, header: None }
    }

    /// Calls `each` with the type and the payload of every complete frame; says how many bytes they were.
    ///
    /// # Errors
    /// What does not open, and the first that `each` gives.
    pub fn take(
        &mut self,
        bytes: &mut [u8],
        mut each: impl FnMut(u8, &[u8]) -> io::Result<()>,
    ) -> io::Result<usize> {
        let mut at = 0;
        loop {
            let Some(header) = self.header else {
                let Some(sealed) = bytes[at..].first_chunk::<SEALED_HEADER_BYTES>() else { return Ok(at) };
                let header = self.opener.header(sealed).map_err(io::Error::other)?;
                self.header = Some(Header::from_bytes(header));
                at += SEALED_HEADER_BYTES;
                continue;
            };
            let end = at + sealed_payload_bytes(header.payload_bytes);
            let Some(sealed) = bytes.get_mut(at..end) else { return Ok(at) };
            let payload = self.opener.payload(sealed).map_err(io::Error::other)?;
            self.header = None;
            at = end;
            each(header.msg_type, payload)?;
        }
    }
}

/// Reads a message of which the type is known.
///
/// # Errors
/// It is none of its kind.
pub fn decode<M: Wire>(payload: &[u8]) -> io::Result<M> {
    M::decode(payload).map_err(|malformed| io::Error::new(ErrorKind::InvalidData, malformed))
}

/// Appends a message, sealed.
///
/// # Errors
/// The key may seal nothing more.
pub fn seal<M: Wire>(sealer: &mut Sealer, message: &M, out: &mut Vec<u8>) -> io::Result<()> {
    let mut plain = Vec::new();
    write_frame(message, &mut plain);
    seal_plain(sealer, &plain, out)
}

/// Appends a frame, sealed.
///
/// # Errors
/// The key may seal nothing more.
///
/// # Panics
/// If it is shorter than a header.
pub fn seal_plain(sealer: &mut Sealer, frame: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let (header, payload) = frame.split_first_chunk::<HEADER_BYTES>().expect("a frame has a header");
    sealer.seal(header, payload, out).map_err(io::Error::other)
}

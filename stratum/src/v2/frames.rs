//! Frames out of sealed bytes, cut anywhere.

use super::frame::{Admission, HEADER_BYTES, Header};
use super::noise::{Opener, SEALED_HEADER_BYTES, sealed_payload_bytes};
use crate::fault::Fault;

const _: () = assert!(HEADER_BYTES == super::noise::HEADER_BYTES);

/// Opens what comes in. Holds bytes only while a frame is incomplete, and never more than have come.
#[derive(Debug)]
pub(super) struct Frames {
    opener: Opener,
    partial: Vec<u8>,
    next: Next,
}

/// What the next bytes are.
#[derive(Debug)]
enum Next {
    Header,
    Payload(Header, Admission),
}

/// A frame that its reader takes.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) msg_type: u8,
    pub(super) payload: Vec<u8>,
}

impl Frames {
    pub(super) fn new(opener: Opener) -> Self {
        Self { opener, partial: Vec::new(), next: Next::Header }
    }

    /// Takes bytes off the front until a frame is complete; `None` if there are too few. Each header is shown to
    /// `admit` before its payload is waited for.
    pub(super) fn next(
        &mut self,
        bytes: &mut &[u8],
        admit: impl Fn(&Header) -> Result<Admission, Fault>,
    ) -> Result<Option<Frame>, Fault> {
        loop {
            let wanted = match &self.next {
                Next::Header => SEALED_HEADER_BYTES,
                Next::Payload(header, _) => sealed_payload_bytes(header.payload_bytes),
            };
            let taken = bytes.len().min(wanted - self.partial.len());
            self.partial.extend_from_slice(&bytes[..taken]);
            *bytes = &bytes[taken..];
            if self.partial.len() < wanted {
                return Ok(None);
            }
            let mut sealed = std::mem::take(&mut self.partial);
            match self.next {
                Next::Header => {
                    let sealed = sealed.first_chunk().expect("just as many were wanted");
                    let header = Header::from_bytes(self.opener.header(sealed).map_err(broken)?);
                    // An empty payload has no block: it is complete in the next round.
                    self.next = Next::Payload(header, admit(&header)?);
                }
                Next::Payload(header, admission) => {
                    let plain = self.opener.payload(&mut sealed).map_err(broken)?.len();
                    self.next = Next::Header;
                    if admission == Admission::Accept {
                        sealed.truncate(plain);
                        return Ok(Some(Frame { msg_type: header.msg_type, payload: sealed }));
                    }
                }
            }
        }
    }
}

fn broken(_: super::noise::Broken) -> Fault {
    Fault::Malformed("cannot be decrypted")
}

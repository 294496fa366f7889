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
    pub(super) extension_type: u16,
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
                        let Header { extension_type, msg_type, .. } = header;
                        return Ok(Some(Frame { extension_type, msg_type, payload: sealed }));
                    }
                }
            }
        }
    }
}

fn broken(_: super::noise::Broken) -> Fault {
    Fault::Malformed("cannot be decrypted")
}

#[cfg(test)]
mod tests {
    use super::super::frame::Allowed;
    use super::super::message::{SubmitSharesSuccess, Wire};
    use super::*;
    use crate::v2::keys::{AuthoritySecret, Certificate, StaticKey};
    use crate::v2::noise::{Authority, Initiator, Sealer, respond};

    /// Both ends of one direction.
    fn ends() -> (Sealer, Frames) {
        let authority = AuthoritySecret::from_bytes([1; 32]).unwrap();
        let key = StaticKey::new([2; 32], [3; 32]);
        let certificate = Certificate::sign(&authority, &key.public_x_only(), 0, u32::MAX);
        let (initiator, act1) = Initiator::new([4; 64], Authority::Unauthenticated);
        let (act2, server) = respond(&key, &certificate, [5; 64], &act1).unwrap();
        (initiator.finish(&act2, 1).unwrap().seal, Frames::new(server.open))
    }

    fn sealed(seal: &mut Sealer, extension_type: u16, payload: &[u8]) -> Vec<u8> {
        let (msg_type, payload_bytes) = (SubmitSharesSuccess::TYPE, payload.len());
        let header = Header { extension_type, channel: true, msg_type, payload_bytes };
        let mut out = Vec::new();
        seal.seal(&header.to_bytes(), payload, &mut out).unwrap();
        out
    }

    fn admit(header: &Header) -> Result<Admission, Fault> {
        header.admit(&[Allowed::of::<SubmitSharesSuccess>()])
    }

    /// The payloads of all frames that are complete.
    fn payloads(frames: &mut Frames, mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
        let mut payloads = Vec::new();
        while let Some(frame) = frames.next(&mut bytes, admit)? {
            payloads.push(frame.payload);
        }
        assert!(bytes.is_empty());
        Ok(payloads)
    }

    #[test]
    fn an_empty_payload_is_complete_with_its_header() {
        let (mut seal, mut frames) = ends();
        let stream = [sealed(&mut seal, 0, &[]), sealed(&mut seal, 0, &[7])].concat();
        assert_eq!(payloads(&mut frames, &stream), Ok(vec![vec![], vec![7]]));
    }

    #[test]
    fn skipped_frames_keep_the_nonce_in_step_and_are_not_seen() {
        let (mut seal, mut frames) = ends();
        let skipped = [&[][..], &[1], &[2; 1_291]];
        let mut stream = Vec::new();
        for (extension, payload) in [1_u16, 0x7fff, 2].into_iter().zip(skipped) {
            stream.extend(sealed(&mut seal, extension, payload));
            stream.extend(sealed(&mut seal, 0, &[payload.len() as u8]));
        }
        assert_eq!(payloads(&mut frames, &stream), Ok(vec![vec![0], vec![1], vec![11]]));
    }

    #[test]
    fn n03_bytes_are_held_only_while_a_frame_is_incomplete_and_never_more_than_came() {
        let (mut seal, mut frames) = ends();
        let stream = [sealed(&mut seal, 0, &[5; 20]), sealed(&mut seal, 1, &[5; 1_000])].concat();
        let frame_ends = [22, 22 + 36, 22 + 36 + 22, stream.len()];
        for (at, byte) in stream.iter().enumerate() {
            let complete = payloads(&mut frames, &[*byte]).unwrap();
            assert_eq!(complete.len(), usize::from(at + 1 == 22 + 36));
            let start = frame_ends.iter().rev().find(|end| **end <= at + 1).unwrap_or(&0);
            assert_eq!(frames.partial.len(), at + 1 - start);
            let most = 2 * frames.partial.len().max(8);
            assert!(frames.partial.capacity() <= most, "{} at {at}", frames.partial.capacity());
        }
        assert_eq!(frames.partial.capacity(), 0);
    }

    #[test]
    fn n03_a_header_that_is_refused_allocates_nothing_for_its_payload() {
        let (mut seal, mut frames) = ends();
        let header = Header { extension_type: 0, channel: true, msg_type: 0x1c, payload_bytes: 0xff_ffff };
        let mut stream = Vec::new();
        seal.seal(&header.to_bytes(), &[], &mut stream).unwrap();
        assert!(payloads(&mut frames, &stream).is_err());
        assert_eq!(frames.partial.capacity(), 0);
    }

    #[test]
    fn ns_07_a_changed_byte_is_an_end() {
        for at in [0, 21, 22, 41] {
            let (mut seal, mut frames) = ends();
            let mut stream = sealed(&mut seal, 0, &[5; 4]);
            stream[at] ^= 1;
            assert_eq!(payloads(&mut frames, &stream), Err(broken(crate::v2::noise::Broken)));
        }
    }
}

//! `RequestExtensions`: which extensions both sides use (spec x1).

use crate::fault::Fault;
use crate::v2::codec::Seq64K;
use crate::v2::extension::{NEGOTIATION, RECEIPTS};
use crate::v2::frame::{Admission, Header};
use crate::v2::message::Wire;
use crate::v2::message::negotiation::{RequestExtensions, RequestExtensionsError, RequestExtensionsSuccess};

/// Extensions in one request: more than anybody has.
pub const EXTENSIONS_MAX: usize = 64;
const REQUEST_BYTES_MAX: usize = RequestExtensions::PAYLOAD_BYTES_MIN + EXTENSIONS_MAX * size_of::<u16>(); // 132

/// What a client may ask for. Who asks whether we negotiate is told so.
const SUPPORTED: [u16; 2] = [NEGOTIATION, RECEIPTS];

/// As [`Header::admit`], for the messages of the negotiation.
pub(super) fn admit(header: &Header) -> Result<Admission, Fault> {
    match header.msg_type {
        RequestExtensionsSuccess::TYPE => Err(Fault::Misbehaved(RequestExtensionsSuccess::NAME)),
        RequestExtensionsError::TYPE => Err(Fault::Misbehaved(RequestExtensionsError::NAME)),
        RequestExtensions::TYPE if header.channel => Err(Fault::Malformed("wrong channel bit")),
        RequestExtensions::TYPE if header.payload_bytes > REQUEST_BYTES_MAX => {
            Err(Fault::Malformed("payload is longer than its message allows"))
        }
        RequestExtensions::TYPE => Ok(Admission::Accept),
        _ => Err(Fault::Malformed("unknown message type")),
    }
}

/// The answer: each extension that is asked for and there, once; an error if that is none (EX-03). We insist on none
/// (EX-04).
pub(super) fn agree(request: &RequestExtensions) -> Result<RequestExtensionsSuccess, RequestExtensionsError> {
    let RequestExtensions { request_id, requested_extensions: requested } = request;
    let request_id = *request_id;
    let supported = SUPPORTED.into_iter().filter(|extension| requested.as_slice().contains(extension));
    let supported = Seq64K::new(supported.collect()).expect("there are two");
    if supported.as_slice().is_empty() {
        let (unsupported_extensions, required_extensions) = (requested.clone(), Seq64K::default());
        return Err(RequestExtensionsError { request_id, unsupported_extensions, required_extensions });
    }
    Ok(RequestExtensionsSuccess { request_id, supported_extensions: supported })
}

//! The messages by which the two sides agree on extensions (spec x1 §2). They are an extension's, the first one, so none
//! of them is a [`Message`].

use super::*;
use crate::v2::extension::NEGOTIATION;

rows! {
    NEGOTIATION;

    /// What the client would like to use; right behind the answer to its `SetupConnection`.
    0x00 0 RequestExtensions {
        /// Links the answer to this request.
        request_id: u16,
        /// Extensions by their numbers.
        requested_extensions: Seq64K<u16>,
    }

    /// These may be used from here on.
    0x01 0 RequestExtensionsSuccess {
        /// The request's.
        request_id: u16,
        /// Those of the requested ones that the server has.
        supported_extensions: Seq64K<u16>,
    }

    /// None may be used.
    0x02 0 RequestExtensionsError {
        /// The request's.
        request_id: u16,
        /// Those of the requested ones that the server does not have.
        unsupported_extensions: Seq64K<u16>,
        /// Those that the server insists on.
        required_extensions: Seq64K<u16>,
    }
}

//! Frames: the header before each payload (spec 03 §3.2), in plain text.
//!
//! A header is judged before a byte of its payload is kept: [`Header::admit`].

use super::message::{Message, Shape, Wire};
use crate::fault::Fault;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 6;
/// The longest payload that a header can announce, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 0xff_ffff;
/// The longest payload of an unknown extension that a session reads past, in bytes: as long as the
/// longest `SetupConnection`, so that a session that skips needs no more room than one that reads.
pub const SKIPPED_BYTES_MAX: usize = 1_291;
/// The extension type of everything in the table of messages.
pub const CORE: u16 = 0;

/// Set in the wire's extension type if the message is about one channel (FR-02).
const CHANNEL_BIT: u16 = 0x8000;

/// What stands before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whose message type it is: [`CORE`] or an extension's, the channel bit masked off (FR-03).
    pub extension_type: u16,
    /// The channel bit: the payload starts with a channel's id.
    pub channel: bool,
    /// The message's type.
    pub msg_type: u8,
    /// Bytes of the payload, at most [`PAYLOAD_BYTES_MAX`].
    pub payload_bytes: usize,
}

/// What a header announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A message of the table.
    Known(Shape),
    /// A type of the table with the wrong channel bit (FR-11).
    WrongChannelBit(Shape),
    /// A core type that is not in the table.
    UnknownType,
    /// An extension's message for this hop (FR-04).
    Extension,
    /// An extension's message about a channel, for the channel's endpoint (FR-05, FR-06).
    ChannelExtension,
}

/// A message that a session takes in its present state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// The message's type.
    pub msg_type: u8,
    /// The longest payload that is taken, in bytes. More than the table's, where fields of
    /// extensions may follow (FR-13).
    pub payload_bytes_max: usize,
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Its payload is read as the message of its type.
    Accept,
    /// Its payload is read past; nobody is told (FR-04).
    Skip,
}

impl Allowed {
    /// A message of the table with nothing behind it.
    pub const fn of<M: Wire>() -> Self {
        Self { msg_type: M::TYPE, payload_bytes_max: M::PAYLOAD_BYTES_MAX }
    }
}

impl Header {
    /// The header of a message whose payload has this many bytes.
    pub const fn of<M: Wire>(payload_bytes: usize) -> Self {
        Self { extension_type: M::EXTENSION, channel: M::CHANNEL_BIT, msg_type: M::TYPE, payload_bytes }
    }

    /// Reads a header: any six bytes are one.
    pub fn from_bytes([low, high, msg_type, a, b, c]: [u8; HEADER_BYTES]) -> Self {
        let extension_type = u16::from_le_bytes([low, high]);
        Self {
            extension_type: extension_type & !CHANNEL_BIT,
            channel: extension_type & CHANNEL_BIT != 0,
            msg_type,
            payload_bytes: u32::from_le_bytes([a, b, c, 0]) as usize, // 24 bits
        }
    }

    /// The header as it stands on the wire.
    ///
    /// # Panics
    /// If the payload is longer than [`PAYLOAD_BYTES_MAX`].
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        assert!(self.payload_bytes <= PAYLOAD_BYTES_MAX, "a frame's length has 24 bits");
        let bit = if self.channel { CHANNEL_BIT } else { 0 };
        let [low, high] = (self.extension_type | bit).to_le_bytes();
        let [a, b, c, ..] = self.payload_bytes.to_le_bytes();
        [low, high, self.msg_type, a, b, c]
    }

    /// What the header announces, whatever its length.
    pub fn class(&self) -> Class {
        if self.extension_type != CORE {
            return if self.channel { Class::ChannelExtension } else { Class::Extension };
        }
        match Message::shape_of(self.msg_type) {
            None => Class::UnknownType,
            Some(shape) if shape.channel != self.channel => Class::WrongChannelBit(shape),
            Some(shape) => Class::Known(shape),
        }
    }

    /// Whether a session that takes these messages reads the payload, reads past it or ends.
    ///
    /// For the endpoint of its channels: what a proxy has to forward (FR-05), and what belongs to
    /// an extension that was negotiated, is to be taken out before.
    ///
    /// # Errors
    /// [`Fault::Malformed`] for a type or channel bit that no message has, and for a payload longer
    /// than its message allows (FR-12) or than may be skipped; [`Fault::Misbehaved`] with its name
    /// for a message that is not `allowed`.
    pub fn admit(&self, allowed: &[Allowed]) -> Result<Admission, Fault> {
        match self.class() {
            Class::Known(shape) => {
                let Some(limit) = allowed.iter().find(|limit| limit.msg_type == self.msg_type) else {
                    return Err(Fault::Misbehaved(shape.name));
                };
                if self.payload_bytes > limit.payload_bytes_max {
                    return Err(Fault::Malformed("payload is longer than its message allows"));
                }
                Ok(Admission::Accept)
            }
            Class::WrongChannelBit(_) => Err(Fault::Malformed("wrong channel bit")),
            Class::UnknownType => Err(Fault::Malformed("unknown message type")),
            Class::Extension | Class::ChannelExtension if self.payload_bytes > SKIPPED_BYTES_MAX => {
                Err(Fault::Malformed("payload of an unknown extension is too long"))
            }
            Class::Extension | Class::ChannelExtension => Ok(Admission::Skip),
        }
    }
}

/// Appends a message as a frame: header and payload.
pub fn write_frame<M: Wire>(message: &M, out: &mut Vec<u8>) {
    write_frame_with(message, |_| {}, out);
}

/// The same with what `behind` appends: fields of extensions. The header stays the message's own, they only count in its
/// length (FR-09).
pub fn write_frame_with<M: Wire>(message: &M, behind: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    const { assert!(M::PAYLOAD_BYTES_MAX <= PAYLOAD_BYTES_MAX, "a frame's length has 24 bits") };
    let start = out.len();
    out.extend_from_slice(&Header::of::<M>(0).to_bytes());
    message.encode_payload(out);
    behind(out);
    let payload_bytes = out.len() - start - HEADER_BYTES;
    // The length is known only now.
    out[start..start + HEADER_BYTES].copy_from_slice(&Header::of::<M>(payload_bytes).to_bytes());
}

#[cfg(test)]
mod tests;

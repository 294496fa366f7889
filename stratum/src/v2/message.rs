//! The messages: one table, from which follow their types, sizes, reading and writing; and beside it [`negotiation`],
//! an extension's.
//!
//! A message is what its bytes say and no more: whether a target can be met or a hash rate is a
//! number, the session judges.

use super::codec::{Bytes32, Bytes64K, Bytes255, Field, Malformed, Reader, Seq64K, Seq255, Str255, U256};
use super::frame::{CORE, write_frame};

/// A message of the table.
pub trait Wire: Sized {
    /// Whose message it is: [`CORE`], or an extension's.
    const EXTENSION: u16;
    /// Its type in the frame header.
    const TYPE: u8;
    /// Whether it is about one channel, whose id is then its first field (the header's channel bit).
    const CHANNEL_BIT: bool;
    /// Its name, without the dots that the specification puts into some.
    const NAME: &'static str;
    /// Bytes of its shortest payload.
    const PAYLOAD_BYTES_MIN: usize;
    /// Bytes of its longest payload, extensions' fields behind it not counted.
    const PAYLOAD_BYTES_MAX: usize;

    /// Reads a payload. Bytes behind the last field are ignored: they are an extension's that was
    /// not negotiated (FR-13).
    ///
    /// # Errors
    /// [`Malformed`] if the payload ends before the last field or breaks a rule of a field's type.
    fn decode(payload: &[u8]) -> Result<Self, Malformed>;

    /// Appends the payload.
    fn encode_payload(&self, out: &mut Vec<u8>);
}

/// A row of the table without its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// [`Wire::TYPE`].
    pub msg_type: u8,
    /// [`Wire::CHANNEL_BIT`].
    pub channel: bool,
    /// [`Wire::NAME`].
    pub name: &'static str,
    /// [`Wire::PAYLOAD_BYTES_MIN`].
    pub payload_bytes_min: usize,
    /// [`Wire::PAYLOAD_BYTES_MAX`].
    pub payload_bytes_max: usize,
}

impl Shape {
    /// The shape of a message.
    pub const fn of<M: Wire>() -> Self {
        Self {
            msg_type: M::TYPE,
            channel: M::CHANNEL_BIT,
            name: M::NAME,
            payload_bytes_min: M::PAYLOAD_BYTES_MIN,
            payload_bytes_max: M::PAYLOAD_BYTES_MAX,
        }
    }
}

/// Rows of `type channel-bit Name { field: Type, }`, as the specification's tables have them, of one extension or of
/// none.
macro_rules! rows {
    ($extension:expr; $($(#[$doc:meta])* $msg_type:literal $bit:literal $name:ident {
        $($(#[$field_doc:meta])* $field:ident: $field_type:ty,)*
    })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq)]
            pub struct $name {
                $($(#[$field_doc])* pub $field: $field_type,)*
            }

            impl Wire for $name {
                const EXTENSION: u16 = $extension;
                const TYPE: u8 = $msg_type;
                const CHANNEL_BIT: bool = $bit == 1;
                const NAME: &'static str = stringify!($name);
                const PAYLOAD_BYTES_MIN: usize = 0 $(+ <$field_type as Field>::BYTES_MIN)*;
                const PAYLOAD_BYTES_MAX: usize = 0 $(+ <$field_type as Field>::BYTES_MAX)*;

                fn decode(payload: &[u8]) -> Result<Self, Malformed> {
                    let mut reader = Reader::new(payload);
                    Ok(Self { $($field: Field::read(&mut reader)?,)* })
                }

                fn encode_payload(&self, out: &mut Vec<u8>) {
                    $(self.$field.write(out);)*
                }
            }

            #[cfg(test)]
            impl crate::v2::codec::draw::Draw for $name {
                fn draw(source: &mut crate::v2::codec::draw::Source<'_>) -> Self {
                    Self { $($field: crate::v2::codec::draw::Draw::draw(source),)* }
                }
            }
        )*
    };
}

/// The table of the core: its rows, and any of them as a [`Message`].
macro_rules! messages {
    ($($(#[$doc:meta])* $msg_type:literal $bit:literal $name:ident {
        $($(#[$field_doc:meta])* $field:ident: $field_type:ty,)*
    })*) => {
        rows! {
            CORE;
            $($(#[$doc])* $msg_type $bit $name { $($(#[$field_doc])* $field: $field_type,)* })*
        }

        $(
            impl From<$name> for Message {
                fn from(message: $name) -> Self {
                    Self::$name(message)
                }
            }
        )*

        /// Any message of the table.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Message {
            $(
                #[doc = concat!("[`", stringify!($name), "`].")]
                $name($name),
            )*
        }

        impl Message {
            /// All rows of the table.
            pub const SHAPES: &[Shape] = &[$(Shape::of::<$name>()),*];

            /// Reads the payload of a message of this type; see [`Wire::decode`].
            ///
            /// # Errors
            /// [`Malformed`] if no message has this type, and if the payload is none of its kind.
            pub fn decode(msg_type: u8, payload: &[u8]) -> Result<Self, Malformed> {
                match msg_type {
                    $($msg_type => $name::decode(payload).map(Self::$name),)*
                    _ => Err(Malformed("unknown message type")),
                }
            }

            /// Appends the payload.
            pub fn encode_payload(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$name(message) => message.encode_payload(out),)*
                }
            }

            /// Appends the whole frame; see [`write_frame`].
            pub fn write_frame(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$name(message) => write_frame(message, out),)*
                }
            }

            /// Its row of the table.
            pub const fn shape(&self) -> Shape {
                match self {
                    $(Self::$name(_) => Shape::of::<$name>(),)*
                }
            }

            /// The row of this type, if the table has one.
            pub const fn shape_of(msg_type: u8) -> Option<Shape> {
                match msg_type {
                    $($msg_type => Some(Shape::of::<$name>()),)*
                    _ => None,
                }
            }

            #[cfg(test)]
            pub(in crate::v2) fn draw_each(source: &mut crate::v2::codec::draw::Source<'_>) -> Vec<Self> {
                use crate::v2::codec::draw::Draw;
                vec![$(Self::$name($name::draw(source))),*]
            }
        }
    };
}

pub mod negotiation;
mod table;
pub use table::*;

impl Message {
    /// Its name; see [`Wire::NAME`].
    pub const fn name(&self) -> &'static str {
        self.shape().name
    }

    /// Bytes of the longest payload of this type, if the table has it; see
    /// [`Wire::PAYLOAD_BYTES_MAX`].
    pub const fn payload_bytes_max(msg_type: u8) -> Option<usize> {
        match Self::shape_of(msg_type) {
            Some(shape) => Some(shape.payload_bytes_max),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests;

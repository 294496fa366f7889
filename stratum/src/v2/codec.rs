//! Stratum V2 data types and how they stand in a payload (spec 03 §3.1).
//!
//! Reading takes any bytes, and believes a length only as far as there are bytes to back it.
//! Writing cannot fail: a value too long for its length prefix cannot be made.

use crate::fault::Fault;
use crate::target::{Target, TargetError};
use bytes::Bytes;
use ruint::aliases::U256 as Number;
use std::fmt;

/// Bytes that are no value of the type they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {0}")]
pub struct Malformed(pub &'static str);

impl From<Malformed> for Fault {
    fn from(Malformed(reason): Malformed) -> Self {
        Self::Malformed(reason)
    }
}

/// More bytes or elements than the type's length prefix can count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("length is {len}, at most {max} fit")]
pub struct TooLong {
    /// Bytes or elements given.
    pub len: usize,
    /// Bytes or elements that fit.
    pub max: usize,
}

impl TooLong {
    fn check(len: usize, max: usize) -> Result<(), Self> {
        if len > max { Err(Self { len, max }) } else { Ok(()) }
    }
}

/// A value of a data type, as part of a payload.
pub trait Field: Sized {
    /// Bytes of the shortest value.
    const BYTES_MIN: usize;
    /// Bytes of the longest value.
    const BYTES_MAX: usize;

    /// Takes a value off the front.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes end too early or break a rule of the type.
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed>;

    /// Appends the value.
    fn write(&self, out: &mut Vec<u8>);
}

/// What is still unread of a payload.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What is still unread.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes the next `len` bytes.
    ///
    /// # Errors
    /// [`Malformed`] if fewer are left.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (piece, rest) = self.rest.split_at_checked(len).ok_or(Malformed("payload ends early"))?;
        self.rest = rest;
        Ok(piece)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (piece, rest) = self.rest.split_first_chunk().ok_or(Malformed("payload ends early"))?;
        self.rest = rest;
        Ok(*piece)
    }

    /// Takes the length prefix of something that holds at most `max` bytes or elements.
    fn length(&mut self, max: usize) -> Result<usize, Malformed> {
        let length =
            if prefix_bytes(max) == 1 { u8::read(self)?.into() } else { usize::from(u16::read(self)?) };
        if length > max { Err(Malformed("length is above the type's limit")) } else { Ok(length) }
    }
}

/// Bytes of the length prefix of something that holds at most `max` bytes or elements.
const fn prefix_bytes(max: usize) -> usize {
    assert!(max <= u16::MAX as usize, "longer types than these are not used in the mining protocol");
    if max <= u8::MAX as usize { 1 } else { 2 }
}

/// Appends a length prefix; `length` is at most `max` by the constructors of the types below.
fn write_length(length: usize, max: usize, out: &mut Vec<u8>) {
    assert!(length <= max, "checked when the value was made");
    out.extend_from_slice(&length.to_le_bytes()[..prefix_bytes(max)]);
}

macro_rules! little_endian {
    ($($number:ty)*) => {$(
        impl Field for $number {
            const BYTES_MIN: usize = size_of::<Self>();
            const BYTES_MAX: usize = size_of::<Self>();

            fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                Ok(Self::from_le_bytes(reader.array()?))
            }

            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
// F32 is in no type table. Any bits are read; whether they make a hash rate is the session's question (DT-03).
little_endian!(u8 u16 u32 u64 f32);

impl Field for bool {
    const BYTES_MIN: usize = 1;
    const BYTES_MAX: usize = 1;

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        // The other bits are the sender's own affair (DT-02).
        Ok(u8::read(reader)? & 1 == 1)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push((*self).into());
    }
}

/// OPTION: a sequence of at most one element.
impl<T: Field> Field for Option<T> {
    const BYTES_MIN: usize = 1;
    const BYTES_MAX: usize = 1 + T::BYTES_MAX;

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match u8::read(reader)? {
            0 => Ok(None),
            1 => Ok(Some(T::read(reader)?)),
            _ => Err(Malformed("option holds more than one element")),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.is_some().into());
        if let Some(value) = self {
            value.write(out);
        }
    }
}

/// U256: a 256-bit number or a hash, as it stands on the wire, the lowest byte first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct U256(pub [u8; 32]);

impl U256 {
    /// The number: targets compare by it, never bytewise (DT-04).
    pub fn value(self) -> Number {
        Number::from_le_bytes(self.0)
    }
}

impl From<Number> for U256 {
    fn from(number: Number) -> Self {
        Self(number.to_le_bytes())
    }
}

impl From<Target> for U256 {
    fn from(target: Target) -> Self {
        target.value().into()
    }
}

impl TryFrom<U256> for Target {
    type Error = TargetError;

    fn try_from(number: U256) -> Result<Self, TargetError> {
        Self::new(number.value())
    }
}

impl fmt::Debug for U256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:064x}", self.value())
    }
}

impl Field for U256 {
    const BYTES_MIN: usize = 32;
    const BYTES_MAX: usize = 32;

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.array().map(Self)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

/// B0_32: at most 32 bytes, in place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes32 {
    // Behind `len` all bytes are 0, so that derived comparison is right.
    bytes: [u8; Self::MAX],
    len: u8,
}

impl Bytes32 {
    /// Bytes that fit.
    pub const MAX: usize = 32;

    /// Copies the bytes.
    ///
    /// # Errors
    /// [`TooLong`] above 32.
    pub fn new(bytes: &[u8]) -> Result<Self, TooLong> {
        TooLong::check(bytes.len(), Self::MAX)?;
        let mut all = [0; Self::MAX];
        all[..bytes.len()].copy_from_slice(bytes);
        Ok(Self { bytes: all, len: bytes.len() as u8 }) // at most 32
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len.into()]
    }
}

impl<const N: usize> From<[u8; N]> for Bytes32 {
    fn from(bytes: [u8; N]) -> Self {
        const { assert!(N <= Self::MAX, "too long for B0_32") };
        Self::new(&bytes).expect("checked when it was compiled")
    }
}

impl fmt::Debug for Bytes32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Field for Bytes32 {
    const BYTES_MIN: usize = 1;
    const BYTES_MAX: usize = 1 + Self::MAX;

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let length = reader.length(Self::MAX)?;
        Self::new(reader.take(length)?).map_err(|_| Malformed("length is above the type's limit"))
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_length(self.len.into(), Self::MAX, out);
        out.extend_from_slice(self.as_bytes());
    }
}

/// At most `MAX` bytes behind their length.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Blob<const MAX: usize>(Bytes);

/// B0_255.
pub type Bytes255 = Blob<255>;
/// B0_64K.
pub type Bytes64K = Blob<65_535>;

impl<const MAX: usize> Blob<MAX> {
    /// Takes the bytes.
    ///
    /// # Errors
    /// [`TooLong`] above `MAX`.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, TooLong> {
        let bytes = bytes.into();
        TooLong::check(bytes.len(), MAX)?;
        Ok(Self(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, shared or taken.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl<const MAX: usize> Field for Blob<MAX> {
    const BYTES_MIN: usize = prefix_bytes(MAX);
    const BYTES_MAX: usize = prefix_bytes(MAX) + MAX;

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let length = reader.length(MAX)?;
        Ok(Self(Bytes::copy_from_slice(reader.take(length)?)))
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_length(self.0.len(), MAX, out);
        out.extend_from_slice(&self.0);
    }
}

/// STR0_255: a text of at most 255 bytes, which need not be UTF-8 (DT-07).
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Str255(Bytes255);

impl Str255 {
    /// A text of our own, shared, not copied.
    ///
    /// # Panics
    /// Above 255 bytes; in a constant this is found when it is compiled.
    pub const fn from_static(text: &'static str) -> Self {
        assert!(text.len() <= 255, "too long for STR0_255");
        Self(Blob(Bytes::from_static(text.as_bytes())))
    }

    /// Takes the bytes of a text.
    ///
    /// # Errors
    /// [`TooLong`] above 255.
    pub fn new(text: impl Into<Bytes>) -> Result<Self, TooLong> {
        Blob::new(text).map(Self)
    }

    /// The bytes as they came.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// For logs and people: printable ASCII stays, every other byte and `%` itself stands as `%` and
/// two digits, so that two texts never look alike.
impl fmt::Display for Str255 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| match byte {
            b' '..=b'~' if *byte != b'%' => write!(f, "{}", char::from(*byte)),
            byte => write!(f, "%{byte:02x}"),
        })
    }
}

impl fmt::Debug for Str255 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Field for Str255 {
    const BYTES_MIN: usize = Bytes255::BYTES_MIN;
    const BYTES_MAX: usize = Bytes255::BYTES_MAX;

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Blob::read(reader).map(Self)
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
}

/// At most `MAX` elements behind their count.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Seq<T, const MAX: usize>(Vec<T>);

/// SEQ0_255.
pub type Seq255<T> = Seq<T, 255>;
/// SEQ0_64K.
pub type Seq64K<T> = Seq<T, 65_535>;

impl<T, const MAX: usize> Seq<T, MAX> {
    /// Takes the elements.
    ///
    /// # Errors
    /// [`TooLong`] above `MAX`.
    pub fn new(elements: Vec<T>) -> Result<Self, TooLong> {
        TooLong::check(elements.len(), MAX)?;
        Ok(Self(elements))
    }

    /// The elements.
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }

    /// The elements, taken.
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

// Derived, it would ask for a default element.
impl<T, const MAX: usize> Default for Seq<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Field, const MAX: usize> Field for Seq<T, MAX> {
    const BYTES_MIN: usize = prefix_bytes(MAX);
    const BYTES_MAX: usize = prefix_bytes(MAX) + MAX * T::BYTES_MAX;

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.length(MAX)?;
        if reader.rest().len() < count * T::BYTES_MIN {
            return Err(Malformed("payload ends early")); // before anything is allocated (DT-08)
        }
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(T::read(reader)?);
        }
        Ok(Self(elements))
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_length(self.0.len(), MAX, out);
        self.0.iter().for_each(|element| element.write(out));
    }
}

#[cfg(test)]
pub(super) mod draw;
#[cfg(test)]
mod tests;

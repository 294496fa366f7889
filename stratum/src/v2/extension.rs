//! Extensions of the protocol (spec 03 §3.4): their numbers, and the fields that ours puts behind a message.

use super::codec::{Field, Malformed, Reader};

/// How the two sides agree on all others: its messages are in [`message::negotiation`](super::message::negotiation).
pub const NEGOTIATION: u16 = 0x0001;

/// Ours: an acknowledgement says where in the pool's share log the shares are. See [`Receipts`].
///
/// The number, `RS` on the wire, is none of a registry: those from 0x4000 to 0x7fff are for experiments, and are to be in
/// no equipment that is sold (FR-08). So nobody has this unless its operator turns it on, and it may change.
pub const RECEIPTS: u16 = 0x5352;

/// The one field of [`RECEIPTS`], behind `SubmitShares.Success`: the shares that are acknowledged are among these
/// entries of the share log, the first of them in the first entry and the last in the last one. Between them there may be
/// entries of others.
///
/// A receipt for each is asked for by its index; that they are durable is said already, that they are published comes
/// a moment later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipts {
    /// Index of the first entry.
    pub first: u64,
    /// Entries from there on, at least 1.
    pub count: u32,
}

impl Receipts {
    /// Its type within the extension.
    pub const FIELD: u8 = 0x01;
    /// Bytes of its value.
    pub const VALUE_BYTES: u16 = 12;

    /// The entries from the first one to the last; as many of them as can be counted.
    pub fn covering(first: u64, last: u64) -> Self {
        Self { first, count: u32::try_from(last - first).map_or(u32::MAX, |behind| behind.saturating_add(1)) }
    }

    /// Appends the field: type, length and value. All of it is little-endian, as every number of the protocol; the
    /// specification's one example of such a field is not, the reference implementation is.
    pub fn write(&self, out: &mut Vec<u8>) {
        RECEIPTS.write(out);
        Self::FIELD.write(out);
        Self::VALUE_BYTES.write(out);
        self.first.write(out);
        self.count.write(out);
    }

    /// For a client: looks for it in what stands behind a message's own fields.
    ///
    /// # Errors
    /// These are no fields of extensions, or it is longer or shorter than it has to be.
    pub fn find(behind: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut reader = Reader::new(behind);
        while !reader.rest().is_empty() {
            let (extension, field) = (u16::read(&mut reader)?, u8::read(&mut reader)?);
            let length = u16::read(&mut reader)?;
            let mut value = Reader::new(reader.take(length.into())?);
            if (extension, field) == (RECEIPTS, Self::FIELD) {
                if length != Self::VALUE_BYTES {
                    return Err(Malformed("length is not that of the field"));
                }
                return Ok(Some(Self { first: u64::read(&mut value)?, count: u32::read(&mut value)? }));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIPTS_AT: Receipts = Receipts { first: 0x0807_0605_0403_0201, count: 0x0c0b_0a09 };

    fn written(receipts: Receipts) -> Vec<u8> {
        let mut out = Vec::new();
        receipts.write(&mut out);
        out
    }

    #[test]
    fn fr_08_our_number_is_one_for_experiments() {
        assert!((0x4000..=0x7fff).contains(&RECEIPTS));
    }

    #[test]
    fn fr_14_a_field_is_type_length_and_value_the_lowest_bytes_first() {
        let expected: Vec<u8> = [0x52, 0x53, 1, 12, 0].into_iter().chain(1..=12).collect();
        assert_eq!(written(RECEIPTS_AT), expected);
    }

    #[test]
    fn fr_15_the_field_is_found_among_those_of_others() {
        let other = [2, 0, 1, 3, 0, b'r', b'i', b'g'];
        let ours = written(RECEIPTS_AT);
        for behind in [ours.clone(), [&other[..], &ours].concat(), [&ours[..], &other].concat()] {
            assert_eq!(Receipts::find(&behind), Ok(Some(RECEIPTS_AT)));
        }
        assert_eq!(Receipts::find(&other), Ok(None));
        assert_eq!(Receipts::find(&[]), Ok(None));
        let other_field = [&[0x52, 0x53, 2, 12, 0][..], &ours[5..]].concat();
        assert_eq!(Receipts::find(&other_field), Ok(None));
    }

    #[test]
    fn fr_14_a_field_that_is_cut_or_of_another_length_is_malformed() {
        let ours = written(RECEIPTS_AT);
        for end in 1..ours.len() {
            assert!(Receipts::find(&ours[..end]).is_err(), "{end}");
        }
        for length in [0_u8, 11, 13] {
            let bytes = [&[0x52, 0x53, 1, length, 0][..], &vec![0; length.into()]].concat();
            assert!(Receipts::find(&bytes).is_err(), "{length}");
        }
    }

    #[test]
    fn a_range_counts_its_first_and_its_last_entry() {
        for (first, last, count) in
            [(7, 7, 1), (7, 9, 3), (0, u64::from(u32::MAX), u32::MAX), (0, u64::MAX, u32::MAX)]
        {
            assert_eq!(Receipts::covering(first, last), Receipts { first, count });
        }
    }
}

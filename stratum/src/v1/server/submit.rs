//! `mining.submit`: from its parameters to the values that were rolled.

use crate::extranonce::{EXTRANONCE2_BYTES_MAX, Extranonce2};
use crate::job::JobId;
use crate::ring::Sent;
use crate::share::Reject;
use crate::v1::message::Params;
use crate::v1::submit_line::Submit;
use std::borrow::Cow;

/// The values that were rolled.
pub(super) struct Rolled {
    pub(super) extranonce2: Extranonce2,
    pub(super) ntime: u32,
    pub(super) nonce: u32,
    pub(super) version_bits: Option<u32>,
}

/// The parameters of a line that has to be read the general way.
pub(super) fn texts(params: Params<'_>) -> Result<[Option<Cow<'_, str>>; 6], Reject> {
    params.texts().map_err(|_| Reject::Malformed("parameters are no list of texts"))
}

impl<'a> Submit<'a> {
    pub(super) fn of(texts: &'a [Option<Cow<'_, str>>; 6]) -> Result<Self, Reject> {
        match texts.each_ref().map(|text| text.as_ref().map(|text| text.as_bytes())) {
            [Some(user), Some(job), Some(extranonce2), Some(ntime), Some(nonce), version_bits] => {
                Ok(Self { user, job, extranonce2, ntime, nonce, version_bits })
            }
            _ => Err(Reject::Malformed("a parameter is missing")),
        }
    }

    pub(super) fn decode(&self, extranonce2_bytes: usize) -> Result<Rolled, Reject> {
        let number = |text, why| hex::<4>(text).map(u32::from_be_bytes).ok_or(Reject::Malformed(why));
        Ok(Rolled {
            extranonce2: extranonce2(self.extranonce2, extranonce2_bytes)
                .ok_or(Reject::Malformed("extranonce2 is not hex of the agreed size"))?,
            ntime: number(self.ntime, "ntime is not 8 hex digits")?,
            nonce: number(self.nonce, "nonce is not 8 hex digits")?,
            version_bits: match self.version_bits {
                Some(bits) => Some(number(bits, "version bits are not 8 hex digits")?),
                None => None,
            },
        })
    }
}

/// A job's id as it was sent; any other spelling of it names no job.
pub(super) fn job_id(text: &[u8]) -> Option<JobId> {
    if text.is_empty() || text.len() > 8 || text.len() > 1 && text[0] == b'0' {
        return None;
    }
    let (mut id, mut digits, mut bits) = (0, 0, 0xff);
    for byte in text {
        let digit = DIGITS[usize::from(*byte)];
        id = id << 4 | u32::from(digit & 0xf);
        (digits, bits) = (digits | digit, bits & byte);
    }
    // This bit tells digits and letters of lower case from those of upper case.
    (digits < NO_DIGIT && bits & 0x20 != 0).then_some(JobId(id))
}

/// The header version that the miner hashed, and whether policy allows it.
///
/// The version is rebuilt even where policy refuses it: its hash may be a block. Bits outside the
/// mask are taken as set, for whoever sends them will have hashed them.
pub(super) fn version(
    sent: &Sent,
    agreed: Option<u32>,
    bits: Option<u32>,
    zero_when_missing: bool,
) -> (u32, Result<(), Reject>) {
    let version = sent.job.body.version;
    let mask = agreed.unwrap_or(0);
    let Some(bits) = bits else {
        let complete = agreed.is_none() || zero_when_missing;
        let allowed = if complete { Ok(()) } else { Err(Reject::Malformed("version bits are missing")) };
        return (version & !mask, allowed);
    };
    // A narrower mask does not touch jobs that were sent before it (VR-07).
    let mask = if bits & !mask == 0 { mask } else { sent.mask };
    let rolled = (version & !mask) | bits;
    // Without an agreement the parameter may only repeat what is so anyway (VR-06).
    let allowed = if bits & !mask == 0 || rolled == version { Ok(()) } else { Err(Reject::BadVersionBits) };
    (rolled, allowed)
}

/// Exactly so many bytes of hex.
fn extranonce2(text: &[u8], bytes: usize) -> Option<Extranonce2> {
    let mut all = [0; EXTRANONCE2_BYTES_MAX];
    let rolled = all.get_mut(..bytes)?;
    decode_hex(text, rolled)?;
    Extranonce2::new(rolled)
}

/// Exactly `N` bytes of hex.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    decode_hex(text, &mut bytes)?;
    Some(bytes)
}

/// Fills `bytes` from hex in either case, of just that size.
fn decode_hex(text: &[u8], bytes: &mut [u8]) -> Option<()> {
    if text.len() != 2 * bytes.len() {
        return None;
    }
    // Asked once, at the end: a branch for each digit would cost more than all else here.
    let mut digits = 0;
    for (byte, pair) in bytes.iter_mut().zip(text.as_chunks::<2>().0) {
        let [high, low] = pair.map(|digit| DIGITS[usize::from(digit)]);
        *byte = high << 4 | low & 0xf;
        digits |= high | low;
    }
    (digits < NO_DIGIT).then_some(())
}

/// What stands in [`DIGITS`] for bytes that are no digit; it shows through if it is joined with a digit's value.
const NO_DIGIT: u8 = 0x10;

/// The value of each byte as a digit of hex.
const DIGITS: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        let digit = b"0123456789abcdef"[value];
        values[digit as usize] = value as u8; // below 16
        values[digit.to_ascii_uppercase() as usize] = value as u8;
        value += 1;
    }
    values
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn v1_29_two_bytes_are_hex_if_both_are_digits() {
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let expected = digit(first).zip(digit(second)).map(|(high, low)| high * 16 + low);
                assert_eq!(hex::<1>(&[first, second]).map(|[byte]| u32::from(byte)), expected);
            }
        }
        assert_eq!(hex::<4>(b"0123cDeF"), Some([0x01, 0x23, 0xcd, 0xef]));
        assert_eq!((hex::<4>(b"0123cDe"), hex::<4>(b"0123cDeF0")), (None, None));
    }

    proptest! {
        #[test]
        fn m14_a_job_id_has_one_spelling(id: u32, text in "[0-9a-fA-Fg+ \\x00-\\x7f]{0,10}") {
            prop_assert_eq!(job_id(format!("{id:x}").as_bytes()), Some(JobId(id)));
            let spelled = job_id(text.as_bytes()).map(|JobId(id)| format!("{id:x}"));
            let number = u32::from_str_radix(&text, 16).ok().map(|id| format!("{id:x}"));
            prop_assert_eq!(spelled, number.filter(|exact| *exact == text));
        }
    }
}

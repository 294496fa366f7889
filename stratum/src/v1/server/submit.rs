//! `mining.submit`: from text to the values that were rolled.

use crate::extranonce::{EXTRANONCE2_BYTES_MAX, Extranonce2};
use crate::job::JobId;
use crate::ring::Sent;
use crate::share::Reject;
use crate::v1::message::Params;
use std::borrow::Cow;

/// The parameters, not decoded yet: an unknown job outranks bad hex (V1 checklist §C).
pub(super) struct Submit<'a> {
    pub(super) user: Cow<'a, str>,
    pub(super) job: Cow<'a, str>,
    extranonce2: Cow<'a, str>,
    ntime: Cow<'a, str>,
    nonce: Cow<'a, str>,
    version_bits: Option<Cow<'a, str>>,
}

/// The same in numbers.
pub(super) struct Rolled {
    pub(super) extranonce2: Extranonce2,
    pub(super) ntime: u32,
    pub(super) nonce: u32,
    pub(super) version_bits: Option<u32>,
}

impl<'a> Submit<'a> {
    pub(super) fn parse(params: Params<'a>) -> Result<Self, Reject> {
        let texts = params.texts::<6>().map_err(|_| Reject::Malformed("parameters are no list of texts"))?;
        let [Some(user), Some(job), Some(extranonce2), Some(ntime), Some(nonce), version_bits] = texts else {
            return Err(Reject::Malformed("a parameter is missing"));
        };
        Ok(Self { user, job, extranonce2, ntime, nonce, version_bits })
    }

    pub(super) fn decode(&self, extranonce2_bytes: usize) -> Result<Rolled, Reject> {
        let number = |text, why| hex::<4>(text).map(u32::from_be_bytes).ok_or(Reject::Malformed(why));
        Ok(Rolled {
            extranonce2: extranonce2(&self.extranonce2, extranonce2_bytes)
                .ok_or(Reject::Malformed("extranonce2 is not hex of the agreed size"))?,
            ntime: number(&self.ntime, "ntime is not 8 hex digits")?,
            nonce: number(&self.nonce, "nonce is not 8 hex digits")?,
            version_bits: match &self.version_bits {
                Some(bits) => Some(number(bits, "version bits are not 8 hex digits")?),
                None => None,
            },
        })
    }
}

/// A job's id as it was sent; any other spelling of it names no job.
pub(super) fn job_id(text: &str) -> Option<JobId> {
    let digits = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.is_empty() || text.len() > 1 && text.starts_with('0') || !text.bytes().all(digits) {
        return None;
    }
    u32::from_str_radix(text, 16).ok().map(JobId)
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
fn extranonce2(text: &str, bytes: usize) -> Option<Extranonce2> {
    let mut all = [0; EXTRANONCE2_BYTES_MAX];
    let rolled = all.get_mut(..bytes)?;
    decode_hex(text, rolled)?;
    Extranonce2::new(rolled)
}

/// Exactly `N` bytes of hex.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    decode_hex(text, &mut bytes)?;
    Some(bytes)
}

/// Fills `bytes` from hex in either case, of just that size.
fn decode_hex(text: &str, bytes: &mut [u8]) -> Option<()> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let text = text.as_bytes();
    if text.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let value = digit(pair[0])? * 16 + digit(pair[1])?;
        *byte = u8::try_from(value).ok()?;
    }
    Some(())
}

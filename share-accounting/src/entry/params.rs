//! Kind 04: the rules in force from here on.

use super::DecodeError;
use super::fields::{Fields, put_script};
use crate::payout;
use crate::settlement::FEE_BP_MAX;
use crate::window::Span;
use bitcoin::ScriptBuf;

/// What the operator has set; logged at start whenever it differs from the last such entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    /// This server's number among a pool's sites.
    pub site: u16,
    /// Window length in multiples of the network difficulty.
    pub span: Span,
    /// How long a share for the previous tip still earns, in milliseconds.
    pub stale_credit_ms: u32,
    /// How the reward is split.
    pub split: payout::Params,
    /// The most that the network's fee takes of what a settlement pays, in basis points; at most
    /// [`FEE_BP_MAX`]; 0: nothing is settled.
    pub settlement_fee_bp: u16,
    /// What must be owed that can be settled, in satoshis, so that there is a settlement. 0 where nothing is settled,
    /// and in rules from before this was one of them.
    pub settlement_at_least: u64,
    /// Who has to cosign the log's heads.
    pub witnesses: Witnesses,
}

/// Most witnesses that rules name.
const WITNESSES_MAX: u8 = 16;
/// Longest key of a witness, in bytes.
const KEY_BYTES_MAX: usize = 512;

/// Witnesses of which some have to cosign the log's heads ([`crate::publish::cosign`]).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Witnesses {
    /// So many of them; 0: there are none.
    pub needed: u8,
    /// Their public keys.
    pub keys: Vec<String>,
}

impl Witnesses {
    /// Those that nobody needs are no rule.
    pub fn if_needed(self) -> Self {
        if self.needed == 0 { Self::default() } else { self }
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.push(self.needed);
        out.push(u8::try_from(self.keys.len()).expect("checked at start: at most 16 witnesses"));
        for key in &self.keys {
            assert!(key.len() <= KEY_BYTES_MAX, "a witness's key of {} bytes", key.len());
            out.extend((key.len() as u16).to_le_bytes()); // asserted: at most 512
            out.extend(key.as_bytes());
        }
    }

    fn take(fields: &mut Fields<'_>, may_be_none: bool) -> Result<Self, DecodeError> {
        let (needed, count) = (fields.u8()?, fields.u8()?);
        if may_be_none && (needed, count) == (0, 0) {
            return Ok(Self::default());
        }
        if !(1..=WITNESSES_MAX).contains(&count) || !(1..=count).contains(&needed) {
            return Err(DecodeError::Field("number of witnesses"));
        }
        let key = |_| {
            let length = usize::from(fields.u16()?);
            if length > KEY_BYTES_MAX {
                return Err(DecodeError::Field("length of a witness's key"));
            }
            let key = String::from_utf8(fields.bytes(length)?.to_vec());
            key.map_err(|_| DecodeError::Field("witness's key"))
        };
        Ok(Self { needed, keys: (0..count).map(key).collect::<Result<_, _>>()? })
    }
}

impl Params {
    /// Rules without something have the layout from before there was any.
    pub(super) fn version(&self) -> u8 {
        match (self.settlement_fee_bp, self.witnesses.needed, self.settlement_at_least) {
            (0, 0, 0) => 1,
            (_, 0, 0) => 2,
            (_, _, 0) => 3,
            _ => 4,
        }
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.site.to_le_bytes());
        out.extend(self.span.numerator().to_le_bytes());
        out.extend(self.span.denominator().to_le_bytes());
        out.extend(self.stale_credit_ms.to_le_bytes());
        out.extend(self.split.fee_bp.to_le_bytes());
        out.extend(self.split.min_payout.to_le_bytes());
        put_script(out, &self.split.fee_script);
        put_script(out, &self.split.reserve_script);
        out.push(u8::try_from(self.split.donations.len()).expect("checked at start: at most 16 donations"));
        for donation in &self.split.donations {
            out.extend(donation.bp.to_le_bytes());
            put_script(out, &donation.script);
        }
        if self.version() > 1 {
            out.extend(self.settlement_fee_bp.to_le_bytes());
        }
        if self.version() > 2 {
            self.witnesses.put(out);
        }
        if self.version() > 3 {
            out.extend(self.settlement_at_least.to_le_bytes());
        }
    }

    pub(super) fn take(fields: &mut Fields<'_>, version: u8) -> Result<Self, DecodeError> {
        let site = fields.u16()?;
        let span = Span::new(fields.u64()?, fields.u64()?).ok_or(DecodeError::Field("window"))?;
        let stale_credit_ms = fields.u32()?;
        let (fee_bp, min_payout) = (fields.u16()?, fields.u64()?);
        let (fee_script, reserve_script): (ScriptBuf, ScriptBuf) = (fields.script()?, fields.script()?);
        let count = fields.u8()?;
        let donations = (0..count)
            .map(|_| Ok(payout::Donation { bp: fields.u16()?, script: fields.script()? }))
            .collect::<Result<_, DecodeError>>()?;
        let split = payout::Params { fee_bp, fee_script, donations, min_payout, reserve_script };
        let settlement_fee_bp = match version {
            1 => 0,
            _ => Some(fields.u16()?)
                .filter(|bp| (u16::from(version != 3)..=FEE_BP_MAX).contains(bp))
                .ok_or(DecodeError::Field("settlement fee"))?,
        };
        let witnesses =
            if version > 2 { Witnesses::take(fields, version > 3)? } else { Witnesses::default() };
        let settlement_at_least = match version {
            ..=3 => 0,
            _ => Some(fields.u64()?)
                .filter(|sats| *sats > 0)
                .ok_or(DecodeError::Field("settlement minimum"))?,
        };
        Ok(Self { site, span, stale_credit_ms, split, settlement_fee_bp, settlement_at_least, witnesses })
    }
}

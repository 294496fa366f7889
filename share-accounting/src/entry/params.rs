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
}

impl Params {
    /// Rules without settlements have the layout from before there were any.
    pub(super) fn version(&self) -> u8 {
        if self.settlement_fee_bp == 0 { 1 } else { 2 }
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
                .filter(|bp| (1..=FEE_BP_MAX).contains(bp))
                .ok_or(DecodeError::Field("settlement fee"))?,
        };
        Ok(Self { site, span, stale_credit_ms, split, settlement_fee_bp })
    }
}

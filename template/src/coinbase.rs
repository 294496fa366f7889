//! The coinbase: built once per template, payout and size class, with gaps for what is a miner's own.
//!
//! Script: height push ‖ one push of { payee tag (8) ‖ pot (1) ‖ site (2, LE) ‖ epoch (2, LE) ‖
//! extranonce (12) ‖ pool text }. All behind the height is pushed as data, because consensus counts
//! signature operations in this script too: bytes that machines roll must never read as opcodes.

use crate::fit::{CoinbaseCost, SIGOP_COST};
use bitcoin::consensus::encode::serialize;
use bitcoin::script::Builder;
use bitcoin::{TxOut, VarInt};
use stratum::class::{BEFORE_SCRIPT_BYTES, Beside, SizeClass};
use stratum::extranonce::EXTRANONCE_BYTES;
use stratum::job::EXTRANONCE_ROOM_BYTES;
use stratum::job::{Coinbase, MARK_BYTES};

/// Largest script of a coinbase's input that consensus allows (CB-01).
const SCRIPT_BYTES_MAX: usize = 100;
/// Longest data that one opcode byte can push.
const PUSH_BYTES_MAX: usize = 75;
/// Longest height push there is: four bytes and their length.
const HEIGHT_PUSH_BYTES_MAX: usize = 5;
/// Longest pool text.
pub const TEXT_BYTES_MAX: usize = PUSH_BYTES_MAX - MARK_BYTES - EXTRANONCE_ROOM_BYTES;
const _: () = assert!(HEIGHT_PUSH_BYTES_MAX + 1 + PUSH_BYTES_MAX <= SCRIPT_BYTES_MAX);

/// Smallest class whose coinbase carries the pool text.
const TEXT_CLASS_MIN: SizeClass = SizeClass::B755;
/// Below the final number, so that the lock time counts (BIP 54).
const SEQUENCE: u32 = 0xffff_fffe;

/// Why a coinbase cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoinbaseError {
    /// The text in the settings does not fit the script.
    #[error("pool text has {0} bytes; at most {TEXT_BYTES_MAX} fit the coinbase")]
    TextTooLong(usize),
    /// The text in the settings holds a character that block explorers cannot show.
    #[error("pool text holds {0:?}; use printable ASCII")]
    TextNotAscii(char),
    /// The outputs are more than the class can take.
    #[error("coinbase has {bytes} bytes, more than class {class} can take")]
    TooLarge {
        /// What it would have.
        bytes: usize,
        /// Of which class.
        class: SizeClass,
    },
    /// Fee, donations and reserve alone leave no room for a miner.
    #[error("fixed outputs leave no room for miners in coinbase class {0}; list fewer donations")]
    NoRoom(SizeClass),
}

/// What all coinbases of one running pool have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoinbaseStyle {
    site: u16,
    epoch: u16,
    text: Box<[u8]>,
}

impl CoinbaseStyle {
    /// Takes the site's number, the process's epoch and the pool's text (may be empty).
    ///
    /// # Errors
    /// A text that is too long or not printable ASCII: found out here, never when a block is due (CB-02).
    pub fn new(site: u16, epoch: u16, text: &str) -> Result<Self, CoinbaseError> {
        if let Some(odd) = text.chars().find(|c| !(' '..='~').contains(c)) {
            return Err(CoinbaseError::TextNotAscii(odd));
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(CoinbaseError::TextTooLong(text.len()));
        }
        Ok(Self { site, epoch, text: text.as_bytes().into() })
    }

    /// Bytes that a class leaves for the outputs of miners beside `fixed` ones (fee, donations,
    /// reserve, share-log commitment; the witness commitment is counted here).
    ///
    /// Whatever outputs fill them, the coinbase stays within the class.
    ///
    /// # Errors
    /// [`CoinbaseError::NoRoom`] if nothing is left.
    pub fn out_bytes(&self, height: u32, class: SizeClass, fixed: &[TxOut]) -> Result<u32, CoinbaseError> {
        let beside = Beside {
            before_extranonce: BEFORE_SCRIPT_BYTES + 1 + height_push(height).len() + 1 + MARK_BYTES,
            script_bytes: self.script(height, class).len(),
            outputs: fixed.len(),
            output_bytes: fixed.iter().map(TxOut::size).sum(),
        };
        class.room(&beside).ok_or(CoinbaseError::NoRoom(class))
    }

    /// Builds the stripped coinbase, the gap for tag, pot and extranonce left zero.
    ///
    /// # Errors
    /// [`CoinbaseError::TooLarge`] if `outputs` were not cut to [`CoinbaseStyle::out_bytes`].
    ///
    /// # Panics
    /// If the outputs do not sum to `value`, the whole of it: money would be lost or the block invalid
    /// (CB-08).
    pub fn build(
        &self,
        height: u32,
        class: SizeClass,
        outputs: &[TxOut],
        commitment: &TxOut,
        value: u64,
    ) -> Result<Coinbase, CoinbaseError> {
        let paid = outputs.iter().try_fold(0_u64, |sum, out| sum.checked_add(out.value.to_sat()));
        assert_eq!(paid, Some(value), "the outputs pay the whole coinbase value");
        let script = self.script(height, class);
        assert!(script.len() <= SCRIPT_BYTES_MAX, "height, mark, extranonce and text fit the script");
        let mut tx = Vec::with_capacity(class.coinbase_bytes_max());
        tx.extend_from_slice(&2_u32.to_le_bytes());
        tx.push(1);
        tx.extend_from_slice(&[0; 32]);
        tx.extend_from_slice(&u32::MAX.to_le_bytes());
        tx.extend(serialize(&VarInt::from(script.len())));
        let tag_offset = tx.len() + height_push(height).len() + 1;
        tx.extend_from_slice(&script);
        tx.extend_from_slice(&SEQUENCE.to_le_bytes());
        tx.extend(serialize(&VarInt::from(outputs.len() + 1)));
        for output in outputs.iter().chain([commitment]) {
            tx.extend(serialize(output));
        }
        tx.extend_from_slice(&height.saturating_sub(1).to_le_bytes());
        // A stripped transaction of 64 bytes could pass for an inner node of the merkle tree (CB-10).
        assert!(tx.len() > 64, "the fixed parts alone are larger");
        let bytes = tx.len();
        let coinbase = Coinbase::new(tx.into(), tag_offset);
        let part = class.part_bytes_max();
        if bytes > class.coinbase_bytes_max()
            || coinbase.extranonce_offset() > part
            || coinbase.tail().len() > part
        {
            return Err(CoinbaseError::TooLarge { bytes, class });
        }
        Ok(coinbase)
    }

    fn script(&self, height: u32, class: SizeClass) -> Vec<u8> {
        let text: &[u8] = if class >= TEXT_CLASS_MIN { &self.text } else { &[] };
        let mut script = height_push(height);
        let pushed = MARK_BYTES + EXTRANONCE_BYTES + text.len();
        script.push(u8::try_from(pushed).expect("the text was measured when the style was made"));
        script.extend_from_slice(&[0; 8 + 1]); // payee tag and pot
        script.extend_from_slice(&self.site.to_le_bytes());
        script.extend_from_slice(&self.epoch.to_le_bytes());
        script.extend_from_slice(&[0; EXTRANONCE_BYTES]);
        script.extend_from_slice(text);
        script
    }
}

impl CoinbaseCost {
    /// What a coinbase with these outputs takes of its block.
    pub fn of(coinbase: &Coinbase, outputs: &[TxOut]) -> Self {
        let sigops: usize = outputs.iter().map(|out| out.script_pubkey.count_sigops_legacy()).sum();
        Self {
            stripped_bytes: coinbase.bytes().len() as u64, // usize is at most 64 bits
            sigops: sigops as u64 * SIGOP_COST,            // as above
        }
    }
}

/// BIP 34: the height as the smallest script number that holds it.
fn height_push(height: u32) -> Vec<u8> {
    Builder::new().push_int(i64::from(height)).into_bytes()
}

#[cfg(test)]
#[path = "coinbase_tests.rs"]
mod tests;

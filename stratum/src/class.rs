//! Coinbase size classes: firmware limits how large a coinbase may be, so the payout list is cut to fit.

use crate::extranonce::EXTRANONCE_BYTES;
use crate::job::EXTRANONCE_ROOM_BYTES;
use bitcoin::VarInt;
use std::fmt;

/// Longest part before or behind the extranonce that class [`SizeClass::B455`] allows: its firmware
/// cuts each part there.
const B455_PART_BYTES_MAX: usize = 384;
/// Version, count of inputs, and the null outpoint.
pub const BEFORE_SCRIPT_BYTES: usize = 4 + 1 + 36;
/// Value, script length and the 38 bytes of script of the witness commitment.
const WITNESS_COMMITMENT_BYTES: usize = 8 + 1 + 38;
/// Any output is at least this large: value and script length.
const OUTPUT_BYTES_MIN: usize = 8 + 1;

/// How large a coinbase (stripped, with extranonce) a miner's firmware can take.
///
/// The class comes from the user agent of `mining.subscribe`. Sources of the limits: the DATUM
/// gateway's table, ESP-Miner and NerdMiner issue threads (see the comment of each variant).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum SizeClass {
    /// 255 bytes: NerdMiner_v2 cuts the coinbase at 512 hex digits without an error.
    B255,
    /// 455 bytes: ESP-Miner (bitaxe) has cut each half of the coinbase at 384 bytes (its PR 1897),
    /// and NiceHash takes about 500 in all.
    B455,
    /// 755 bytes: the default, safe for stock Antminer firmware.
    #[default]
    B755,
    /// 2,250 bytes: Antminer S21 and Braiins OS.
    B2250,
    /// 6,500 bytes: Whatsminer.
    B6500,
    /// 16,000 bytes: ePIC boards and vnish firmware.
    B16000,
}

impl SizeClass {
    /// All classes, smallest first.
    pub const ALL: [SizeClass; 6] =
        [Self::B255, Self::B455, Self::B755, Self::B2250, Self::B6500, Self::B16000];

    /// Largest stripped coinbase of the class in bytes.
    pub fn coinbase_bytes_max(self) -> usize {
        match self {
            Self::B255 => 255,
            Self::B455 => 455,
            Self::B755 => 755,
            Self::B2250 => 2_250,
            Self::B6500 => 6_500,
            Self::B16000 => 16_000,
        }
    }

    /// Longest part of a coinbase before or behind the extranonce, in bytes.
    pub fn part_bytes_max(self) -> usize {
        match self {
            Self::B455 => B455_PART_BYTES_MAX,
            _ => self.coinbase_bytes_max(),
        }
    }

    /// Bytes that the class leaves for the outputs of miners; `None` if that is nothing. Whatever outputs fill them, the
    /// coinbase stays within the class.
    pub fn room(self, beside: &Beside) -> Option<u32> {
        let Beside { before_extranonce, script_bytes, outputs, output_bytes } = *beside;
        let limit =
            self.coinbase_bytes_max().min(self.part_bytes_max() + before_extranonce + EXTRANONCE_BYTES);
        // A V2 client may ask for a longer extranonce; its coinbase is the same but for that.
        let limit = limit - (EXTRANONCE_ROOM_BYTES - EXTRANONCE_BYTES);
        let before_outputs = BEFORE_SCRIPT_BYTES + 1 + script_bytes + 4;
        let taken = before_outputs.saturating_add(output_bytes + WITNESS_COMMITMENT_BYTES + 4);
        let room = limit.saturating_sub(taken);
        // The count of outputs is sized for the smallest outputs that could fill the room.
        let most = outputs + 1 + room / OUTPUT_BYTES_MIN;
        let room = room.checked_sub(VarInt::from(most).size())?;
        u32::try_from(room).ok().filter(|room| *room > 0)
    }

    /// The byte that names the class in the share log.
    pub fn code(self) -> u8 {
        match self {
            Self::B255 => 0,
            Self::B455 => 1,
            Self::B755 => 2,
            Self::B2250 => 3,
            Self::B6500 => 4,
            Self::B16000 => 5,
        }
    }

    /// The class that a log byte names.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.code() == code)
    }

    /// Whether fee and donations are outputs here; in smaller classes they become ledger credits.
    pub fn fee_inline(self) -> bool {
        self.coinbase_bytes_max() >= 500
    }

    /// The class of a user agent as `mining.subscribe` names it; unknown agents get [`SizeClass::B755`].
    pub fn for_agent(agent: &str) -> Self {
        // Prefixes compare without case: firmware forks change it freely.
        const TABLE: [(&str, SizeClass); 11] = [
            ("nerdminer", SizeClass::B255),
            ("sparkminer", SizeClass::B255),
            ("nicehash", SizeClass::B455),
            ("bitaxe", SizeClass::B455),
            ("nerdqaxe", SizeClass::B455),
            ("antminer s21", SizeClass::B2250),
            ("bosminer", SizeClass::B2250),
            ("whatsminer", SizeClass::B6500),
            ("powerplay-bm", SizeClass::B16000),
            ("xminer-1.", SizeClass::B16000),
            ("sluice-fleet", SizeClass::B16000),
        ];
        let starts =
            |prefix: &str| agent.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        TABLE.iter().find(|(prefix, _)| starts(prefix)).map_or(Self::B755, |(_, class)| *class)
    }
}

/// What a coinbase holds beside the outputs of miners and the witness commitment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beside {
    /// Bytes of it before the extranonce.
    pub before_extranonce: usize,
    /// Bytes of its script, with an extranonce of the usual [`EXTRANONCE_BYTES`].
    pub script_bytes: usize,
    /// Number of outputs: fee, donations, reserve, the commitment to the share log.
    pub outputs: usize,
    /// Bytes that they take.
    pub output_bytes: usize,
}

impl fmt::Display for SizeClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.coinbase_bytes_max())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_get_the_class_their_firmware_can_take() {
        for (agent, class) in [
            ("NerdMinerV2", SizeClass::B255),
            ("bitaxe/BM1368/v2.9.0", SizeClass::B455),
            ("NiceHash/1.0.0", SizeClass::B455),
            ("Antminer S21/Thu Mar 28 19:40:20 CST 2024", SizeClass::B2250),
            ("Antminer S19j Pro/Thu", SizeClass::B755),
            ("bosminer-plus-tuner 0.9.0", SizeClass::B2250),
            ("whatsminer/v1", SizeClass::B6500),
            ("PowerPlay-BM/1.0", SizeClass::B16000),
            ("xminer-1.2.3", SizeClass::B16000),
            ("cgminer/4.12.1", SizeClass::B755),
            ("", SizeClass::B755),
            ("ńerdminer", SizeClass::B755),
        ] {
            assert_eq!(SizeClass::for_agent(agent), class, "{agent}");
        }
    }

    #[test]
    fn codes_name_classes_both_ways_and_sizes_grow() {
        for class in SizeClass::ALL {
            assert_eq!(SizeClass::from_code(class.code()), Some(class));
        }
        assert_eq!(SizeClass::from_code(6), None);
        assert!(SizeClass::ALL.is_sorted_by_key(|c| c.coinbase_bytes_max()));
    }
}

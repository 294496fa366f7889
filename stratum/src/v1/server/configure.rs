//! `mining.configure` (BIP 310): which extensions both sides use.

use crate::pot::Pot;
use crate::v1::message::extension as name;
use serde_json::{Map, Value};

/// What a request agrees on; the answer to it.
pub(super) struct Configured {
    /// If rolling was asked for: the agreed version mask, or that there is no agreement.
    pub(super) mask: Option<Option<u32>>,
    /// If a floor of the share difficulty was asked for: that floor, or none.
    pub(super) floor: Option<Option<Pot>>,
    /// One entry for every requested code (VR-01).
    pub(super) answer: Value,
}

/// Answers `[codes, parameters]`. What is missing or of another type counts as empty.
pub(super) fn configure(params: &[Value], server_mask: u32) -> Configured {
    let codes = params.iter().find_map(Value::as_array).map_or(&[][..], Vec::as_slice);
    let nothing = Map::new();
    let wishes = params.iter().find_map(Value::as_object).unwrap_or(&nothing);
    let (mut mask, mut floor, mut answer) = (None, None, Map::new());
    for code in codes.iter().filter_map(Value::as_str) {
        let granted = match code {
            name::VERSION_ROLLING => {
                let agreed = wanted_mask(wishes).map(|wanted| wanted & server_mask);
                mask = Some(agreed.ok().filter(|mask| *mask != 0));
                match agreed {
                    Ok(0) => false.into(),
                    Ok(agreed) => {
                        answer.insert(name::VERSION_ROLLING_MASK.into(), format!("{agreed:08x}").into());
                        true.into()
                    }
                    Err(why) => why.into(),
                }
            }
            name::MINIMUM_DIFFICULTY => match wanted_floor(wishes) {
                Ok(wanted) => {
                    floor = Some(wanted);
                    true.into()
                }
                Err(why) => why.into(),
            },
            // We never change an extranonce, so whoever can take a change is served.
            name::SUBSCRIBE_EXTRANONCE => true.into(),
            _ => false.into(),
        };
        answer.insert(code.into(), granted);
    }
    Configured { mask, floor, answer: answer.into() }
}

/// The mask that the machine can roll; all bits if it does not say. The least number of bits that it
/// wants is only diagnostic, and sent malformed by some firmware: it is not read (VR-02).
fn wanted_mask(wishes: &Map<String, Value>) -> Result<u32, &'static str> {
    let Some(mask) = wishes.get(name::VERSION_ROLLING_MASK) else { return Ok(u32::MAX) };
    mask.as_str()
        .filter(|text| text.len() <= 8 && text.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .and_then(|text| u32::from_str_radix(text, 16).ok())
        .ok_or("version-rolling.mask is not 8 hex digits")
}

/// The least difficulty that the machine wants, rounded up; `None` for zero.
fn wanted_floor(wishes: &Map<String, Value>) -> Result<Option<Pot>, &'static str> {
    let value = wishes.get(name::MINIMUM_DIFFICULTY_VALUE).and_then(Value::as_f64);
    match value {
        Some(0.0) => Ok(None),
        Some(value) => Pot::at_most(value)
            .map(|below| Some(if below.difficulty() < value { below.saturating_add(1) } else { below }))
            .ok_or("minimum-difficulty.value is negative"),
        None => Err("minimum-difficulty.value is no number"),
    }
}

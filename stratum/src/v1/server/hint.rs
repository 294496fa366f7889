//! What machines say about the difficulty they want.

use crate::pot::Pot;
use crate::target::Target;
use ruint::aliases::U256;
use serde_json::Value;

/// `mining.suggest_difficulty [d]`; some firmware sends the bare number, or as text.
pub(super) fn difficulty(param: Option<&Value>) -> Option<Pot> {
    let param = param?;
    Pot::at_most(param.as_f64().or_else(|| param.as_str()?.trim().parse().ok())?)
}

/// `mining.suggest_difficulty(512)`: the number in the method's name.
pub(super) fn in_method_name(rest: &str) -> Option<Pot> {
    Pot::at_most(rest.strip_prefix('(')?.strip_suffix(')')?.trim().parse().ok()?)
}

/// `mining.suggest_target [hex]`: the hardest pot that is not harder.
pub(super) fn target(param: Option<&Value>) -> Option<Pot> {
    let hex = param?.as_str().filter(|text| !text.is_empty() && text.len() <= 64)?;
    let target = Target::new(U256::from_str_radix(hex, 16).ok()?).ok()?;
    Some(Pot::hardest_within(target))
}

/// `d=`, `diff=` or `md=` among the options of a password. Nothing else of a password is read, and
/// nothing of it is kept.
pub(super) fn in_password(password: &str) -> Option<Pot> {
    password.split([',', ';', ' ']).find_map(|option| {
        let (key, value) = option.split_once('=')?;
        matches!(key, "d" | "diff" | "md").then(|| Pot::at_most(value.parse().ok()?))?
    })
}

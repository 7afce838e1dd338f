//! Whole numbers within bounds, with errors that say the bounds.

use serde::de::{Deserialize, Deserializer, Error};

/// Reads a whole number from `MIN` to `MAX`, which must fit `T`.
pub(super) fn integer<'de, D, T, const MIN: u64, const MAX: u64>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    let number = serde_json::Value::deserialize(deserializer)?;
    number
        .as_u64()
        .filter(|value| (MIN..=MAX).contains(value))
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| D::Error::custom(format_args!("must be a whole number from {MIN} to {MAX}, not {number}")))
}

/// Reads a whole number from `MIN` to `MAX` that is a multiple of `UNIT`.
pub(super) fn multiple<'de, D, const MIN: u64, const MAX: u64, const UNIT: u64>(
    deserializer: D,
) -> Result<u64, D::Error>
where
    D: Deserializer<'de>,
{
    let value: u64 = integer::<D, u64, MIN, MAX>(deserializer)?;
    if value % UNIT == 0 {
        Ok(value)
    } else {
        Err(D::Error::custom(format_args!(
            "must be a multiple of {UNIT}, not {value}"
        )))
    }
}

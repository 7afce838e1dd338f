//! NVMe qualified names (NVMe base 2.0 section 4.5).

/// Most bytes of a qualified name, without the terminating zero.
pub const QUALIFIED_NAME_BYTES_MAX: usize = 223;
/// The discovery subsystem every target has.
pub const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";
/// Prefix of names made from a UUID.
const UUID_PREFIX: &str = "nqn.2014-08.org.nvmexpress:uuid:";

/// Why a name is not a qualified name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QualifiedNameError {
    /// Longer than [`QUALIFIED_NAME_BYTES_MAX`].
    #[error("is longer than 223 bytes; shorten it")]
    TooLong,
    /// Not `nqn.`, year, month.
    #[error("does not start with `nqn.yyyy-mm.`, for example `nqn.2026-11.com.example:fast`")]
    Prefix,
    /// Month out of range.
    #[error("has a month that is not 01 to 12 after `nqn.yyyy-`")]
    Month,
    /// Nothing after the date.
    #[error("has no reversed domain name after the date, for example `nqn.2026-11.com.example:fast`")]
    Domain,
    /// A control character or a space.
    #[error("contains a space or a control character; remove it")]
    Character,
    /// `nqn.2014-08.org.nvmexpress:uuid:` without a UUID.
    #[error("has something else than a UUID after `nqn.2014-08.org.nvmexpress:uuid:`")]
    Uuid,
}

/// Checks a name for the desired state: strict, so that every host takes it.
///
/// # Errors
/// What is wrong, worded to follow the field's name.
pub fn validate(name: &str) -> Result<(), QualifiedNameError> {
    if name.len() > QUALIFIED_NAME_BYTES_MAX {
        return Err(QualifiedNameError::TooLong);
    }
    if name
        .chars()
        .any(|character| character.is_control() || character.is_whitespace())
    {
        return Err(QualifiedNameError::Character);
    }
    let bytes = name.as_bytes();
    let shape = bytes.len() >= 12
        && bytes.starts_with(b"nqn.")
        && bytes[4..8].iter().all(u8::is_ascii_digit)
        && bytes[8] == b'-'
        && bytes[9..11].iter().all(u8::is_ascii_digit)
        && bytes[11] == b'.';
    if !shape {
        return Err(QualifiedNameError::Prefix);
    }
    let month = (bytes[9] - b'0') * 10 + (bytes[10] - b'0');
    if !(1..=12).contains(&month) {
        return Err(QualifiedNameError::Month);
    }
    // Everything before byte 12 is ASCII, so 12 is a character boundary.
    let domain = name[12..].split(':').next().unwrap_or_default();
    if domain.is_empty() || domain.starts_with('.') || domain.ends_with('.') {
        return Err(QualifiedNameError::Domain);
    }
    if let Some(rest) = name.strip_prefix(UUID_PREFIX) {
        // The hyphenated form only.
        if rest.len() != 36 || uuid::Uuid::try_parse(rest).is_err() {
            return Err(QualifiedNameError::Uuid);
        }
    }
    Ok(())
}

/// Reads a name from a 256-byte field of Connect data. Lenient: hosts in the field use names that are not quite by
/// the rules, and what does not match an allow-list is refused anyway. `None` when it is not zero-terminated within
/// 224 bytes, is empty, or is not printable UTF-8.
#[must_use]
pub fn parse_field(field: &[u8]) -> Option<&str> {
    let length = field
        .iter()
        .take(QUALIFIED_NAME_BYTES_MAX + 1)
        .position(|byte| *byte == 0)?;
    let name = std::str::from_utf8(&field[..length]).ok()?;
    (!name.is_empty() && !name.chars().any(char::is_control)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_both_forms_are_valid() {
        for name in [
            "nqn.2026-11.dev.weir:fast",
            "nqn.2014-08.org.nvmexpress:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            DISCOVERY_NQN,
            "nqn.2026-01.dev.weir:naïve",
        ] {
            assert_eq!(validate(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn malformed_names_say_what_is_wrong() {
        let long = format!("nqn.2026-11.dev.weir:{}", "a".repeat(203));
        assert_eq!(long.len(), 224);
        for (name, error) in [
            ("", QualifiedNameError::Prefix),
            ("iqn.2026-11.dev.weir", QualifiedNameError::Prefix),
            ("nqn.26-11.dev.weir", QualifiedNameError::Prefix),
            ("nqn.2026-13.dev.weir:a", QualifiedNameError::Month),
            ("nqn.2026-00.dev.weir:a", QualifiedNameError::Month),
            ("nqn.2026-11.", QualifiedNameError::Domain),
            ("nqn.2026-11.:fast", QualifiedNameError::Domain),
            ("nqn.2026-11.dev.weir:a b", QualifiedNameError::Character),
            ("nqn.2014-08.org.nvmexpress:uuid:none", QualifiedNameError::Uuid),
            (long.as_str(), QualifiedNameError::TooLong),
        ] {
            assert_eq!(validate(name), Err(error), "{name}");
        }
        assert_eq!(validate(&long[..223]), Ok(()));
    }

    #[test]
    fn a_field_needs_its_terminator_within_224_bytes() {
        let mut field = [b'a'; 256];
        assert_eq!(parse_field(&field), None);
        field[224] = 0;
        assert_eq!(parse_field(&field), None);
        field[223] = 0;
        assert_eq!(parse_field(&field).map(str::len), Some(223));
        field[0] = 0;
        assert_eq!(parse_field(&field), None);
        field[0] = 0xff;
        assert_eq!(parse_field(&field), None);
    }

    proptest! {
        #[test]
        fn no_name_panics(name in any::<String>(), field in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = validate(&name);
            let _ = validate(&format!("nqn.2026-11.{name}"));
            let _ = parse_field(&field);
        }
    }
}

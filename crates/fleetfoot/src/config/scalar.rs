//! What a scalar means, as gopkg.in/yaml.v3 resolves it (a mixture of YAML 1.1 and 1.2).

use super::tree::{Data, Node};

/// The meaning of a scalar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Meaning {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    /// Text, or a date, which nothing of ours reads as anything but text.
    Text,
}

/// Resolves a scalar node; an explicit tag that does not fit its text is an error.
pub(crate) fn meaning(node: &Node) -> Result<Meaning, String> {
    let Data::Scalar { text, plain } = &node.data else {
        return Ok(Meaning::Text);
    };
    let Some(tag) = node.tag.as_deref().filter(|tag| *tag != "!") else {
        return Ok(if *plain { untagged(text) } else { Meaning::Text });
    };
    let found = match tag {
        "int" | "float" | "bool" | "null" => untagged(text),
        _ => return Ok(Meaning::Text),
    };
    match (tag, found) {
        ("int", Meaning::Int(_) | Meaning::Uint(_))
        | ("bool", Meaning::Bool(_))
        | ("null", Meaning::Null)
        | ("float", Meaning::Float(_)) => Ok(found),
        #[allow(clippy::cast_precision_loss)]
        ("float", Meaning::Int(value)) => Ok(Meaning::Float(value as f64)),
        _ => Err(format!("cannot read `{text}` as !!{tag}")),
    }
}

/// Resolves plain text without a tag.
pub(crate) fn untagged(text: &str) -> Meaning {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Meaning::Null,
        "true" | "True" | "TRUE" => return Meaning::Bool(true),
        "false" | "False" | "FALSE" => return Meaning::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Meaning::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Meaning::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Meaning::Float(f64::NEG_INFINITY),
        _ => {}
    }
    match text.as_bytes().first() {
        Some(b'.') => decimal(text).map_or(Meaning::Text, Meaning::Float),
        Some(b'+' | b'-' | b'0'..=b'9') => number(text),
        _ => Meaning::Text,
    }
}

/// The booleans of YAML 1.1, which count only where a boolean is due.
pub(crate) fn word_as_bool(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

fn number(text: &str) -> Meaning {
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    if let Some(value) = integer(&plain) {
        return value;
    }
    decimal(&plain).map_or(Meaning::Text, Meaning::Float)
}

/// An integer in Go's base 0: `0x`, `0b`, `0o`, and a leading `0` for octal.
pub(crate) fn integer(text: &str) -> Option<Meaning> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = if let Some(hex) = lower.strip_prefix("0x") {
        (16, hex)
    } else if let Some(binary) = lower.strip_prefix("0b") {
        (2, binary)
    } else if let Some(octal) = lower.strip_prefix("0o") {
        (8, octal)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, lower.get(1..)?)
    } else {
        (10, lower.as_str())
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = i128::from(u64::from_str_radix(digits, radix).ok()?);
    let value = if negative { -value } else { value };
    if let Ok(value) = i64::try_from(value) {
        Some(Meaning::Int(value))
    } else {
        u64::try_from(value).ok().map(Meaning::Uint)
    }
}

/// A decimal fraction, with or without an exponent; out of range is no number.
fn decimal(text: &str) -> Option<f64> {
    let rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (rest.get(..at)?, rest.get(at + 1..)),
        None => (rest, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    if let Some(exponent) = exponent {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if exponent.is_empty() || !digits(exponent) {
            return None;
        }
    }
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// What Go makes of a number where an int is due: fractions are cut off.
pub(crate) fn as_int(meaning: Meaning) -> Option<i64> {
    match meaning {
        Meaning::Int(value) => Some(value),
        #[allow(clippy::cast_possible_truncation)]
        Meaning::Float(value) if value.abs() < 9.2e18 => Some(value as i64),
        Meaning::Float(_) | Meaning::Null | Meaning::Bool(_) | Meaning::Uint(_) | Meaning::Text => {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_as_go_does() {
        let table = [
            ("12", Some(12)),
            ("+12", Some(12)),
            ("-3", Some(-3)),
            ("0x10", Some(16)),
            ("0X1F", Some(31)),
            ("010", Some(8)),
            ("0o10", Some(8)),
            ("-0o10", Some(-8)),
            ("0b101", Some(5)),
            ("1_000", Some(1000)),
            ("1.5", Some(1)),
            ("-1.9", Some(-1)),
            ("1e3", Some(1000)),
            ("09", Some(9)),
            (".5", Some(0)),
            ("1.", Some(1)),
            ("0", Some(0)),
            ("0x", None),
            ("12k", None),
            ("1e400", None),
            ("1:30", None),
            ("--1", None),
            ("0x-1", None),
            ("18446744073709551615", None),
            ("99999999999999999999999", None),
            (".nan", None),
        ];
        for (text, expected) in table {
            assert_eq!(as_int(untagged(text)), expected, "{text}");
        }
    }
}

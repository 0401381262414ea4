//! Durations, sizes, shares and processors as an operator writes them.

use std::time::Duration;

/// Longer than this is a slip of the pen.
const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Part of a disk: so many bytes, or so many hundredths of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskShare {
    /// Bytes.
    Bytes(u64),
    /// Percent of the whole, 0 to 100.
    Percent(u8),
}

/// Processors, in thousandths of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpus {
    /// Thousandths of a processor; 1500 is one and a half.
    pub millis: u32,
}

/// `90s`, `5m`, `1h30m`, `250ms`, `2d`, or a number of seconds (fractions allowed).
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    if let Ok(seconds) = rest.parse::<f64>() {
        return bounded(seconds, text);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (amount, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let amount: f64 = amount.parse().map_err(|_| wrong())?;
        let seconds = match unit {
            "ms" => 0.001,
            "s" | "sec" | "second" | "seconds" => 1.0,
            "m" | "min" | "minute" | "minutes" => 60.0,
            "h" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86400.0,
            _ => return Err(wrong()),
        };
        total += amount * seconds;
        rest = tail.trim_start();
    }
    bounded(total, text)
}

fn bounded(seconds: f64, text: &str) -> Result<Duration, String> {
    if seconds < 0.0 {
        return Err(format!("`{text}` is negative"));
    }
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if duration <= DURATION_MAX => Ok(duration),
        Ok(_) => Err(format!("`{text}` is longer than a year")),
        Err(_) => Err(format!("`{text}` is not a duration")),
    }
}

/// `512MiB`, `2GiB`, `1.5GB`, `512m` (Docker's short form, powers of 1024), or a number of bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size");
    let trimmed = text.trim();
    let split = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')
        .unwrap_or(trimmed.len());
    let (amount, unit) = trimmed.split_at(split);
    let amount: f64 = amount.replace('_', "").parse().map_err(|_| wrong())?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" | "ki" => 1 << 10,
        "m" | "mib" | "mi" => 1 << 20,
        "g" | "gib" | "gi" => 1 << 30,
        "t" | "tib" | "ti" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    #[allow(clippy::cast_precision_loss)]
    let bytes = amount * factor as f64;
    if !bytes.is_finite() || bytes > 9.0e18 {
        return Err(format!("`{text}` is too large"));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let bytes = bytes as u64;
    Ok(bytes)
}

/// `10%` or a size.
pub(crate) fn disk_share(text: &str) -> Result<DiskShare, String> {
    let Some(percent) = text.trim().strip_suffix('%') else {
        return size(text).map(DiskShare::Bytes);
    };
    match percent.trim().parse::<u8>() {
        Ok(percent) if percent <= 100 => Ok(DiskShare::Percent(percent)),
        _ => Err(format!("`{text}` is not between 0% and 100%")),
    }
}

/// `2`, `0.5`, or `500m`.
pub(crate) fn cpus(text: &str) -> Result<Cpus, String> {
    let wrong = || format!("`{text}` is not a number of processors");
    let trimmed = text.trim();
    let (amount, factor) = match trimmed.strip_suffix('m') {
        Some(millis) => (millis, 1.0),
        None => (trimmed, 1000.0),
    };
    let value: f64 = amount.parse().map_err(|_| wrong())?;
    let millis = (value * factor).round();
    if !(1.0..=4_096_000.0).contains(&millis) {
        return Err(format!("`{text}` is not between 0.001 and 4096 processors"));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let millis = millis as u32;
    Ok(Cpus { millis })
}

/// A duration as an operator would write it: `1h30m`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if duration.subsec_millis() > 0 {
        return format!("{}ms", duration.as_millis());
    }
    if seconds == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    for (amount, unit) in [
        (seconds / 86400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ] {
        if amount > 0 {
            out.push_str(&format!("{amount}{unit}"));
        }
    }
    out
}

/// A size as an operator would write it: `1.5GiB`.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        let whole = 1_u64 << shift;
        if bytes >= whole {
            let tenths = bytes / (whole / 10).max(1);
            return if bytes.is_multiple_of(whole) {
                format!("{}{unit}", bytes / whole)
            } else {
                format!("{}.{}{unit}", tenths / 10, tenths % 10)
            };
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let table = [
            ("90s", Some(90_000)),
            ("5m", Some(300_000)),
            ("1h30m", Some(5_400_000)),
            ("1h 30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("2d", Some(172_800_000)),
            ("90", Some(90_000)),
            ("1.5", Some(1_500)),
            ("0", Some(0)),
            ("", None),
            ("-5s", None),
            ("-5", None),
            ("5x", None),
            ("m", None),
            ("5m3", None),
            ("400d", None),
            ("NaN", None),
            ("inf", None),
        ];
        for (text, expected) in table {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(duration(text).ok(), expected, "{text}");
        }
        assert_eq!(show_duration(Duration::from_secs(5400)), "1h30m");
        assert_eq!(show_duration(Duration::from_millis(250)), "250ms");
        assert_eq!(show_duration(Duration::ZERO), "0s");
    }

    #[test]
    fn sizes() {
        let table = [
            ("512MiB", Some(512 << 20)),
            ("2GiB", Some(2 << 30)),
            ("512m", Some(512 << 20)),
            ("1.5G", Some(3 << 29)),
            ("1GB", Some(1_000_000_000)),
            ("4096", Some(4096)),
            ("1 GiB", Some(1 << 30)),
            ("-1", None),
            ("1XB", None),
            ("", None),
            ("MiB", None),
            ("99999999TiB", None),
        ];
        for (text, expected) in table {
            assert_eq!(size(text).ok(), expected, "{text}");
        }
        assert_eq!(disk_share("10%"), Ok(DiskShare::Percent(10)));
        assert_eq!(disk_share("1GiB"), Ok(DiskShare::Bytes(1 << 30)));
        assert!(disk_share("101%").is_err());
        assert_eq!(show_size(1 << 30), "1GiB");
        assert_eq!(show_size(3 << 29), "1.5GiB");
        assert_eq!(show_size(12), "12B");
    }

    #[test]
    fn processors() {
        assert_eq!(cpus("1.5"), Ok(Cpus { millis: 1500 }));
        assert_eq!(cpus("500m"), Ok(Cpus { millis: 500 }));
        assert!(cpus("0").is_err());
        assert!(cpus("many").is_err());
    }
}

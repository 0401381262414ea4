//! `RUNNER_VERSION`: the newest release, or one.

use std::fmt;
use std::str::FromStr;

/// Which release of the runner machines get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunnerVersion {
    /// The newest.
    Latest,
    /// This one, as `v2.330.0`, whether or not it was written with its `v`.
    Exact(String),
}

/// Neither `latest` nor a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no version: use latest or one like v2.330.0")]
pub struct VersionError(String);

impl FromStr for RunnerVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let refuse = || VersionError(text.to_owned());
        let version = text.strip_prefix('v').unwrap_or(text);
        // A word may follow the numbers without a dash: `2.300.0rc1`.
        let is_word = |it: char| matches!(it, '-' | '+' | '~') || it.is_ascii_alphabetic();
        let end = version.find(is_word).unwrap_or(version.len());
        let (numbers, rest) = version.split_at(end);
        let mut segments: Vec<&str> = numbers.split('.').collect();
        let is_number = |it: &&str| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit());
        let is_rest =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.' | b'~');
        let is_cut = matches!(rest, "-" | "+" | "~");
        if !segments.iter().all(is_number) || is_cut || !rest.bytes().all(is_rest) {
            return Err(refuse());
        }
        while segments.len() < 3 {
            segments.push("0");
        }
        Ok(Self::Exact(format!("v{}{rest}", segments.join("."))))
    }
}

impl fmt::Display for RunnerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Exact(version) => f.write_str(version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_with_and_without_their_letter_are_alike() {
        for (text, version) in [
            ("latest", "latest"),
            ("v2.300.0", "v2.300.0"),
            ("2.300.0", "v2.300.0"),
            ("2.300", "v2.300.0"),
            ("v2", "v2.0.0"),
            ("2.300.0-rc.1", "v2.300.0-rc.1"),
            ("v2.300.0rc1", "v2.300.0rc1"),
        ] {
            assert_eq!(text.parse::<RunnerVersion>().unwrap().to_string(), version);
        }
        for text in ["", "foo", "v", "Latest", "2..0", "2.x", "vv2.0.0", "2.0.0-", "2.0.0 ", "-1"] {
            assert!(text.parse::<RunnerVersion>().is_err(), "{text}");
        }
    }
}

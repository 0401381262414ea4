//! What happened in a world, in order, each line with what it is about.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Milliseconds since the world began.
    pub at_ms: u64,
    /// What it is about: pools, instances and jobs by name; empty for everything.
    pub about: String,
    /// What happened.
    pub text: String,
    /// A fault, a crash, a start: kept in every shortened trace.
    pub matters: bool,
    /// What the program itself said: kept out of the event log, for it names ports.
    pub said: bool,
}

impl Line {
    /// The line as people read it.
    #[must_use]
    pub fn show(&self) -> String {
        let (seconds, millis) = (self.at_ms / 1000, self.at_ms % 1000);
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let mark = if self.matters { '!' } else { ' ' };
        format!("{hours}:{minutes:02}:{seconds:02}.{millis:03} {mark} {}", self.text)
    }
}

/// Lines that are kept of a world that nobody traces: all of an ordinary one, the last ones of a year.
const KEPT_MAX: usize = 20_000;

/// The log of one world: read as it is written, kept as far as somebody may want to see it.
#[derive(Debug, Default)]
pub(crate) struct Log {
    lines: VecDeque<Line>,
    read: Fnv,
    /// Keeps every line.
    pub(crate) all: bool,
}

impl Log {
    pub(crate) fn push(&mut self, line: Line) {
        if !line.said {
            let written = writeln!(self.read, "{} {} {}", line.at_ms, line.about, line.text);
            debug_assert!(written.is_ok(), "it takes everything");
        }
        if !self.all && self.lines.len() >= KEPT_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// What the log said, byte for byte: equal for equal logs.
    pub(crate) fn digest(&self) -> u64 {
        self.read.0
    }

    pub(crate) fn take(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.lines).into()
    }
}

/// FNV-1a: short, and the same everywhere.
#[derive(Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = text.bytes().fold(self.0, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Ok(())
    }
}

/// Lines before the end that are kept at most.
const SHORT_MAX: usize = 120;

/// What a person needs to see: what concerns `about`, and faults and crashes near the end.
pub(crate) fn shorten(lines: &[Line], about: &[String]) -> Vec<Line> {
    let concerns = |line: &Line| about.iter().any(|it| !it.is_empty() && line.about.contains(it));
    let first = lines.iter().position(concerns).unwrap_or(0);
    let kept: Vec<&Line> = lines
        .iter()
        .enumerate()
        .filter(|(at, line)| concerns(line) || (line.matters && *at + 40 >= first))
        .map(|(_, line)| line)
        .collect();
    let skipped = kept.len().saturating_sub(SHORT_MAX);
    kept.into_iter().skip(skipped).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at_ms: u64, said: bool) -> Line {
        Line { at_ms, about: "a".to_owned(), text: "x".to_owned(), matters: false, said }
    }

    #[test]
    fn the_digest_is_of_every_line_and_the_last_ones_are_kept() {
        let (mut short, mut all) = (Log::default(), Log { all: true, ..Log::default() });
        for at in 0..30_000 {
            short.push(line(at, false));
            all.push(line(at, false));
            all.push(line(at, true));
        }
        assert_eq!(short.digest(), all.digest());
        let kept = short.take();
        assert_eq!((kept.len(), kept[0].at_ms), (KEPT_MAX, 30_000 - KEPT_MAX as u64));
        assert_eq!(all.take().len(), 60_000);
    }
}

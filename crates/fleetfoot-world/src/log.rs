//! What happened in a world, in order, each line with what it is about.

use std::fmt::Write as _;

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

/// The log of one world.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) lines: Vec<Line>,
}

impl Log {
    /// Lines are told apart by this, byte for byte.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for line in self.lines.iter().filter(|line| !line.said) {
            let _ = writeln!(text, "{} {} {}", line.at_ms, line.about, line.text);
        }
        text
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

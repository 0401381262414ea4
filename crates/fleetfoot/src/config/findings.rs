//! What is wrong with a file: findings, and the report that shows them.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

/// A place in the text of a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line, counted from 1.
    pub line: u32,
    /// Column in characters, counted from 1.
    pub column: u32,
    /// How many characters the caret line underlines; at least 1.
    pub width: u32,
}

/// Whether a finding stops the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The program carries on; the operator should look.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// What kind of mistake a finding is.
///
/// The original program names only some kinds; [`crate::outrunner::load_error`] needs to tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The text is not YAML.
    Syntax,
    /// A value has the wrong type, or a key is given twice.
    Type,
    /// There is no runner at all.
    NoRunners,
    /// A runner has no labels.
    Labels,
    /// A runner has no backend.
    Backend,
    /// A value is of the right type but cannot be used.
    Value,
    /// A key that nobody knows.
    UnknownKey,
    /// Two things that do not go together.
    Conflict,
}

/// One mistake, or one thing worth a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it stops the program.
    pub severity: Severity,
    /// What kind of mistake it is.
    pub class: Class,
    /// The key it is about, from the top: `runners.linux.docker.image`. Empty for the whole file.
    pub path: String,
    /// Where it is in the text, where there is such a place.
    pub position: Option<Position>,
    /// What is wrong.
    pub message: String,
    /// What to do, where that is known.
    pub suggestion: Option<String>,
    /// What the original's YAML library says of it, where that is known.
    pub original: Option<Original>,
}

/// Words of the original's YAML library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Original {
    /// One of a list, behind its line.
    Listed(String),
    /// It reads no further.
    Alone(String),
}

impl Finding {
    /// The finding in one line, without the excerpt.
    #[must_use]
    pub fn one_line(&self, file: &Path) -> String {
        let mut line = format!("{}", file.display());
        if let Some(position) = self.position {
            let _ = write!(line, ":{}:{}", position.line, position.column);
        }
        if !self.path.is_empty() {
            let _ = write!(line, ": {}", self.path);
        }
        let _ = write!(line, ": {}", self.message);
        if let Some(suggestion) = &self.suggestion {
            let _ = write!(line, "; {suggestion}");
        }
        line
    }
}

/// Everything found in one file, in the order of the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The file, as the operator named it.
    pub file: PathBuf,
    /// Errors and warnings.
    pub findings: Vec<Finding>,
    text: String,
}

impl Report {
    pub(crate) fn new(file: &Path, text: String, mut findings: Vec<Finding>) -> Report {
        findings.sort_by_key(|finding| {
            let place = finding.position.map(|p| (p.line, p.column));
            (place.is_none(), place, finding.severity)
        });
        let mut seen: Vec<(Option<Position>, String)> = Vec::new();
        findings.retain(|finding| {
            // An anchor used in three places is one mistake, not three.
            let key = (finding.position, finding.message.clone());
            let new = finding.position.is_none() || !seen.contains(&key);
            seen.push(key);
            new
        });
        Report { file: file.to_owned(), findings, text }
    }

    /// The text it is about.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The findings that stop the program.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error)
    }

    /// The findings that do not.
    pub fn warnings(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Warning)
    }

    /// Whether nothing stops the program.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.errors().next().is_none()
    }

    /// One line that counts: `2 errors, 1 warning in fleetfoot.yml`.
    #[must_use]
    pub fn summary(&self) -> String {
        let errors = self.errors().count();
        let warnings = self.warnings().count();
        format!(
            "{errors} error{}, {warnings} warning{} in {}",
            if errors == 1 { "" } else { "s" },
            if warnings == 1 { "" } else { "s" },
            self.file.display()
        )
    }

    /// The whole report with excerpts of the file, one block a finding.
    #[must_use]
    pub fn render(&self) -> String {
        let lines: Vec<&str> = split_lines(&self.text);
        let mut out = String::new();
        for (index, finding) in self.findings.iter().enumerate() {
            if index > 0 {
                out.push('\n');
            }
            self.render_one(&mut out, finding, &lines);
        }
        out
    }

    fn render_one(&self, out: &mut String, finding: &Finding, lines: &[&str]) {
        let _ = writeln!(out, "{}: {}", finding.severity, finding.message);
        let mut place = format!("{}", self.file.display());
        if let Some(position) = finding.position {
            let _ = write!(place, ":{}:{}", position.line, position.column);
        }
        if !finding.path.is_empty() {
            let _ = write!(place, "  {}", finding.path);
        }
        let _ = writeln!(out, "  --> {place}");
        if let Some((position, line)) = finding.position.and_then(|position| {
            let line = lines.get(position.line.saturating_sub(1) as usize)?;
            Some((position, *line))
        }) {
            excerpt(out, position, line);
        }
        if let Some(suggestion) = &finding.suggestion {
            let _ = writeln!(out, "   = {suggestion}");
        }
    }
}

/// Excerpts of long lines are cut to this many characters around the caret.
const EXCERPT_WIDTH: usize = 100;

fn excerpt(out: &mut String, position: Position, line: &str) {
    let number = position.line.to_string();
    let gutter = " ".repeat(number.len());
    let clean: Vec<char> =
        line.chars().map(|c| if c == '\t' || c.is_control() { ' ' } else { c }).collect();
    let column = (position.column as usize).saturating_sub(1).min(clean.len());
    let start =
        if clean.len() > EXCERPT_WIDTH { column.saturating_sub(EXCERPT_WIDTH / 2) } else { 0 };
    let shown: String = clean.iter().skip(start).take(EXCERPT_WIDTH).collect();
    let carets = (position.width.max(1) as usize)
        .min(clean.len().saturating_sub(column).max(1))
        .min(EXCERPT_WIDTH);
    let _ = writeln!(out, " {gutter} |");
    let _ = writeln!(out, " {number} | {}", shown.trim_end());
    let _ = writeln!(out, " {gutter} | {}{}", " ".repeat(column - start), "^".repeat(carets));
}

/// Lines as YAML counts them: `\n`, `\r\n` and a lone `\r` each end one.
fn split_lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\n', '\r']) {
        let (line, tail) = rest.split_at(at);
        lines.push(line);
        let skip = if tail.starts_with("\r\n") { 2 } else { 1 };
        rest = tail.get(skip..).unwrap_or("");
    }
    lines.push(rest);
    lines
}

/// Collects findings while a file is read.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) list: Vec<Finding>,
}

impl Findings {
    pub(crate) fn error(
        &mut self,
        class: Class,
        path: impl Into<String>,
        position: Option<Position>,
        message: impl Into<String>,
    ) -> &mut Self {
        self.push(Severity::Error, class, path.into(), position, message.into())
    }

    pub(crate) fn warning(
        &mut self,
        class: Class,
        path: impl Into<String>,
        position: Option<Position>,
        message: impl Into<String>,
    ) -> &mut Self {
        self.push(Severity::Warning, class, path.into(), position, message.into())
    }

    fn push(
        &mut self,
        severity: Severity,
        class: Class,
        path: String,
        position: Option<Position>,
        message: String,
    ) -> &mut Self {
        let (suggestion, original) = (None, None);
        self.list.push(Finding { severity, class, path, position, message, suggestion, original });
        self
    }

    /// Adds the original's words to the finding just made.
    pub(crate) fn originally(&mut self, original: Original) {
        if let Some(last) = self.list.last_mut() {
            last.original = Some(original);
        }
    }

    /// Adds advice to the finding just made.
    pub(crate) fn suggest(&mut self, suggestion: impl Into<String>) {
        if let Some(last) = self.list.last_mut() {
            last.suggestion = Some(suggestion.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_underlines_the_place() {
        let mut findings = Findings::default();
        findings
            .error(
                Class::Type,
                "runners.a.max_runners",
                Some(Position { line: 2, column: 3, width: 4 }),
                "not a number",
            )
            .suggest("write 4");
        let report = Report::new(Path::new("f.yml"), "a: 1\r\nb: four\n".to_owned(), findings.list);
        assert_eq!(
            report.render(),
            "error: not a number\n  --> f.yml:2:3  runners.a.max_runners\n   |\n 2 | b: four\n   |   ^^^^\n   = write 4\n"
        );
        assert_eq!(report.summary(), "1 error, 0 warnings in f.yml");
        let line = report.findings[0].one_line(&report.file);
        assert_eq!(line, "f.yml:2:3: runners.a.max_runners: not a number; write 4");
    }

    #[test]
    fn a_caret_beyond_the_text_is_still_shown() {
        let mut out = String::new();
        excerpt(&mut out, Position { line: 1, column: 900, width: 30 }, "ab");
        assert_eq!(out, "   |\n 1 | ab\n   |   ^\n");
    }
}

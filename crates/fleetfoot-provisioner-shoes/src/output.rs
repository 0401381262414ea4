//! What a plugin writes: passed on as it is, or logged by the line.

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

/// Longer lines are told in pieces.
const LINE_MAX: u64 = 64 * 1024;

/// Where a plugin's output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PluginOutput {
    /// A line of ours for each of its lines, with its level where it says one.
    #[default]
    Logged,
    /// To our own standard output and error as it is: what the original does.
    PassedOn,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Error,
}

/// Reads to the end, a line or a piece of one at a time. A full pipe would stop the plugin, so it is always read.
pub(crate) async fn drain(from: impl AsyncRead + Unpin, mut each: impl FnMut(&[u8])) {
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => each(&line),
        }
    }
}

impl PluginOutput {
    /// Passes on what came, one line or a piece.
    pub(crate) fn tell(self, plugin: &str, stream: Stream, bytes: &[u8]) {
        match self {
            Self::PassedOn => pass_on(stream, bytes),
            Self::Logged => {
                for line in String::from_utf8_lossy(bytes).lines() {
                    log(plugin, line);
                }
            }
        }
    }
}

/// Nobody is left to hear of an output that cannot be written.
fn pass_on(stream: Stream, bytes: &[u8]) {
    use std::io::Write as _;
    let _ = match stream {
        Stream::Out => std::io::stdout().lock().write_all(bytes),
        Stream::Error => std::io::stderr().lock().write_all(bytes),
    };
}

/// How bad a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

fn log(plugin: &str, line: &str) {
    let (level, line) = leveled(line);
    match level {
        Level::Debug => tracing::debug!(plugin, line, "plugin said"),
        Level::Info => tracing::info!(plugin, line, "plugin said"),
        Level::Warn => tracing::warn!(plugin, line, "plugin said"),
        Level::Error => tracing::error!(plugin, line, "plugin said"),
    }
}

/// The level of a line of hclog, structured or not, and its text.
fn leveled(line: &str) -> (Level, String) {
    if let Ok(serde_json::Value::Object(entry)) = serde_json::from_str(line)
        && let Some(level) = entry.get("@level").and_then(|it| it.as_str())
    {
        let level = match level {
            "error" => Level::Error,
            "warn" => Level::Warn,
            "info" => Level::Info,
            _ => Level::Debug,
        };
        let mut text =
            entry.get("@message").and_then(|it| it.as_str()).unwrap_or_default().to_owned();
        for (key, value) in entry.iter().filter(|(key, _)| !key.starts_with('@')) {
            text.push_str(&format!(" {key}={value}"));
        }
        return (level, text);
    }
    let level = [
        ("[TRACE]", Level::Debug),
        ("[DEBUG]", Level::Debug),
        ("[INFO]", Level::Info),
        ("[WARN]", Level::Warn),
        ("[ERROR]", Level::Error),
        ("panic: ", Level::Error),
        ("fatal error: ", Level::Error),
    ]
    .into_iter()
    .find_map(|(word, level)| line.contains(word).then_some(level));
    // A plugin of this family logs plain lines of Go's `log`; an operator wants to see them.
    (level.unwrap_or(Level::Info), line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_level_that_it_says() {
        for (line, level, text) in [
            ("2026/11/22 [WARN] slow", Level::Warn, "2026/11/22 [WARN] slow"),
            ("panic: nil", Level::Error, "panic: nil"),
            ("made a machine", Level::Info, "made a machine"),
            (
                r#"{"@level":"error","@message":"no room","zone":"b","@module":"x"}"#,
                Level::Error,
                "no room zone=\"b\"",
            ),
            (r#"{"@level":"trace","@message":"tick"}"#, Level::Debug, "tick"),
            (r#"{"a":1}"#, Level::Info, r#"{"a":1}"#),
        ] {
            assert_eq!(leveled(line), (level, text.to_owned()), "{line}");
        }
    }

    #[tokio::test]
    async fn a_line_without_end_is_read_to_its_end() {
        let endless = vec![b'x'; 300_000];
        let mut pieces = Vec::new();
        drain(endless.as_slice(), |piece| pieces.push(piece.len())).await;
        assert_eq!(pieces.iter().sum::<usize>(), endless.len());
        assert!(pieces.len() > 4, "{pieces:?}");
    }
}

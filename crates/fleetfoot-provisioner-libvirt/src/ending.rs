//! From the end of a runner to the end of its machine.
//!
//! ```text
//! Launched ─▶ Ending ─▶ output kept, caches written out ─▶ power off ─▶ Ended ─▶ told
//! ```
//!
//! A machine has its slot until it is off, so its end is told only then: whoever makes the next one finds room
//! for it on the host. An agent tells an exit status once; it is in the record before anything else is done.

use std::time::Duration;

use crate::agent;
use crate::engine::{Lane, LibvirtEngine};
use crate::machine::domain;
use crate::record::Record;
use crate::rpc::CallError;

/// A guest that hangs holds up its own end no longer than this.
const COLLECT_MAX: Duration = Duration::from_secs(5);
/// Of a runner that ended badly, so much of its output is told.
const LAST_LINES: usize = 5;
const MESSAGE_CHARS_MAX: usize = 500;

/// Keeps what the guest has of its runner, then pulls the plug. Harmless to repeat.
pub(crate) async fn power_off(engine: &LibvirtEngine, record: &Record) -> Result<(), CallError> {
    let Some(name) = record.instance() else { return Ok(()) };
    if record.wrapped || record.shares {
        let asked = async {
            let talk = engine.talk(Lane::Poll).await?;
            agent::output(&talk, &domain(record), record.wrapped, record.shares).await
        };
        match tokio::time::timeout(COLLECT_MAX, asked).await {
            Ok(Ok(output)) if record.wrapped => {
                if let Err(error) = engine.records.keep_output(&name, &output) {
                    tracing::warn!(instance = %name, %error, "output of a runner could not be kept");
                }
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(instance = %name, %error, "guest told no output"),
            Err(_) => tracing::debug!(instance = %name, "guest told no output in time"),
        }
    }
    let talk = engine.talk(Lane::Calls).await?;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("libvirt.off.before");
    let off = talk.destroy(&domain(record)).await;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("libvirt.off.after");
    off.map(drop)
}

/// What is said of a runner that ended badly: the last lines that it printed.
pub(crate) fn last_words(output: &str) -> Option<String> {
    let lines: Vec<_> = output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default();
    if last.is_empty() {
        return None;
    }
    Some(format!("last output: {}", last.join(" | ")).chars().take(MESSAGE_CHARS_MAX).collect())
}

/// The last `lines` lines of what was kept.
pub(crate) fn tail(output: &str, lines: usize) -> String {
    let skipped = output.lines().count().saturating_sub(lines);
    output.lines().skip(skipped).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_the_last_lines_that_say_something() {
        assert_eq!(last_words(" \n\n"), None);
        assert_eq!(last_words("a\n\nb \n").as_deref(), Some("last output: a | b"));
        let many: String = (0..9).map(|at| format!("line {at}\n")).collect();
        assert!(last_words(&many).unwrap().starts_with("last output: line 4 | "));
        assert_eq!(tail(&many, 2), "line 7\nline 8\n");
        assert_eq!(tail(&many, 99), many);
    }
}

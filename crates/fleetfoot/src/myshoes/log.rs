//! The original's log: standard error, local time, text; `[DEBUG] ` lines only while they are asked for.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

static DEBUG: AtomicBool = AtomicBool::new(false);

/// Lines go to standard error from now on.
pub fn install(debug: bool) {
    set_debug(debug);
    // A second call in one process (tests) changes nothing.
    let _ = tracing_subscriber::registry().with(Lines).try_init().is_ok();
}

/// Whether debug lines are written.
pub fn set_debug(on: bool) {
    DEBUG.store(on, Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

/// Whether they are.
pub(crate) fn is_debug() -> bool {
    DEBUG.load(Ordering::Relaxed)
}

struct Lines;

fn is_wanted(metadata: &Metadata<'_>) -> bool {
    let is_ours = metadata.target().starts_with("fleetfoot");
    match *metadata.level() {
        Level::ERROR | Level::WARN => true,
        Level::INFO => is_ours,
        Level::DEBUG => is_ours && is_debug(),
        _ => false,
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        is_wanted(metadata)
    }

    fn register_callsite(&self, _: &'static Metadata<'static>) -> tracing::subscriber::Interest {
        // Debug lines come and go while we run.
        tracing::subscriber::Interest::sometimes()
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let now = jiff::Zoned::now().strftime("%Y/%m/%d %H:%M:%S").to_string();
        let line = line(&now, *event.metadata().level(), |text| event.record(text));
        // Nobody is left to be told that nobody can be told.
        let _ = std::io::stderr().lock().write_all(line.as_bytes()).is_ok();
    }
}

fn line(now: &str, level: Level, record: impl FnOnce(&mut Text)) -> String {
    let mut text = Text::default();
    record(&mut text);
    let mark = if level == Level::DEBUG { "[DEBUG] " } else { "" };
    // Lines about a scale set say so, as the original's do.
    let group = if text.is_of_pool { "[scaleset] " } else { "" };
    format!("{now} {mark}{group}{}{}\n", text.message, text.fields)
}

/// The message, and the fields behind it.
#[derive(Default)]
pub(crate) struct Text {
    message: String,
    fields: String,
    is_of_pool: bool,
}

impl Text {
    fn put(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = one_line(value);
            return;
        }
        self.is_of_pool |= field.name() == "pool";
        // Writing to a text does not fail.
        let _ = write!(self.fields, " {}={}", shown(field.name()), one_line(value));
    }
}

/// An event is one line, whatever somebody else's words have in them.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// The original's names of jobs and their runs.
fn shown(field: &str) -> &str {
    match field {
        "job" => "gh_job_id",
        "run" => "gh_run_id",
        other => other,
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_have_the_originals_names() {
        let names = ["job", "run", "pool", "jobs"].map(shown);
        assert_eq!(names, ["gh_job_id", "gh_run_id", "pool", "jobs"]);
    }

    #[test]
    fn a_line_is_the_time_and_the_text() {
        let with = |message: &str| {
            let message = message.to_owned();
            move |text: &mut Text| text.message = message
        };
        let at = "2026/01/02 03:04:05";
        assert_eq!(
            line(at, Level::INFO, with("get lock successfully!")),
            format!("{at} get lock successfully!\n")
        );
        assert_eq!(line(at, Level::DEBUG, with("x")), format!("{at} [DEBUG] x\n"));
        let of_pool = |text: &mut Text| {
            "listening".clone_into(&mut text.message);
            text.fields.push_str(" pool=myshoes-acme");
            text.is_of_pool = true;
        };
        assert_eq!(
            line(at, Level::INFO, of_pool),
            format!("{at} [scaleset] listening pool=myshoes-acme\n")
        );
        assert_eq!(one_line("it said:\r\nno"), "it said:  no");
    }
}

//! The original's log lines on standard output.
//!
//! fleetfoot logs fixed lower-case phrases with values in fields; [`phrases`] says which of the
//! original's messages each one is. Dashboards and alert rules match those messages. A phrase
//! without an entry passes as it is, in the same form:
//!
//! ```text
//! 2026-01-02 03:04:05 INFO Spawning runner scaler.scaleSet=linux scaler.name=linux-0a1b2c3d scaler.runnerID=7
//! ```
//!
//! Values are raw and unquoted, an empty one prints as `key=`, and a group goes before every key of
//! its line. Each line is written in one call.

pub mod phrases;

use std::fmt::{self, Write as _};
use std::io::Write;
use std::sync::Mutex;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, span};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use phrases::{Phrase, Shown};

/// Reads the local time as `YYYY-MM-DD HH:MM:SS`.
pub type LocalTime = fn() -> String;

/// Writes every event as a line of the original's.
pub struct OutrunnerLayer<W> {
    writer: Mutex<W>,
    local_time: LocalTime,
}

impl<W> fmt::Debug for OutrunnerLayer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutrunnerLayer").finish_non_exhaustive()
    }
}

impl<W: Write> OutrunnerLayer<W> {
    /// A layer that writes to `writer`, which is standard output in the program.
    pub fn new(writer: W) -> Self {
        OutrunnerLayer { writer: Mutex::new(writer), local_time }
    }

    /// The same with another clock, for tests.
    #[must_use]
    pub fn with_local_time(mut self, local_time: LocalTime) -> Self {
        self.local_time = local_time;
        self
    }
}

/// The time zone's time now.
fn local_time() -> String {
    jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Fields of an event or a span, in the order they were given.
#[derive(Debug, Default, Clone)]
struct Fields {
    message: String,
    list: Vec<(&'static str, String)>,
}

impl Fields {
    fn get(&self, name: &str) -> Option<&str> {
        let found = self.list.iter().rev().find(|(key, _)| *key == name);
        found.map(|(_, value)| value.as_str())
    }

    fn put(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
        } else {
            self.list.push((field.name(), value));
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(error) = source {
            let _ = write!(text, ": {error}");
            source = error.source();
        }
        self.put(field, text);
    }
}

impl<S, W> Layer<S> for OutrunnerLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Write + Send + 'static,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, ctx: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = ctx.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, ctx: Context<'_, S>) {
        if let Some(span) = ctx.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        if !wanted(event.metadata().target(), *event.metadata().level()) {
            return;
        }
        let mut fields = Fields::default();
        // Spans first, so that what the event itself says wins in a look-up.
        for span in ctx.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.list.extend(outer.list.iter().cloned());
            }
        }
        let own = fields.list.len();
        event.record(&mut fields);
        let Some(line) = line(*event.metadata().level(), &fields, own) else {
            return;
        };
        let line = format!("{} {line}\n", (self.local_time)());
        if let Ok(mut writer) = self.writer.lock() {
            // Nobody is left to be told when standard output is gone.
            let _ = writer.write_all(line.as_bytes()).and_then(|()| writer.flush());
        }
    }
}

/// INFO and above of ours; of libraries only what the original's library said, WARN and above.
fn wanted(target: &str, level: Level) -> bool {
    let ours = target.starts_with("fleetfoot");
    if ours { level <= Level::INFO } else { level <= Level::WARN }
}

/// One line without its time; none for phrases that the original has no line for and no use of.
fn line(level: Level, fields: &Fields, own: usize) -> Option<String> {
    match phrases::find(own_phrase(fields)) {
        None => Some(pass(level, fields, own)),
        Some(Phrase { shown: Shown::Nothing, .. }) => None,
        Some(Phrase { shown: Shown::Line(line), .. }) => {
            let mut out = format!("{} {}", line.level, line.message);
            if let Some((field, suffix)) = line.suffix_if
                && fields.get(field) == Some("true")
            {
                out.push_str(suffix);
            }
            if line.scale_set
                && let Some(pool) = fields.get("pool")
            {
                attribute(&mut out, line.group, "scaleSet", pool);
            }
            for (ours, theirs) in line.fields {
                let value = fields.get(ours).unwrap_or("");
                let own;
                let value = if *ours == "error" {
                    own = original_error(value);
                    own.as_str()
                } else {
                    value
                };
                attribute(&mut out, line.group, theirs, value);
            }
            Some(out)
        }
    }
}

/// The original stops each runner itself, so it tells of that after each job; ours end by themselves, and what is left of
/// them is removed.
fn own_phrase(fields: &Fields) -> &str {
    let has = |name| fields.get(name).is_some();
    if fields.message == "instance closed" && has("result") && !has("retired") {
        "instance stopping"
    } else {
        &fields.message
    }
}

/// What the original's backends say of a step that fails; their own words stand behind it.
const STEPS: [&str; 5] =
    ["tart clone: ", "tart set: ", "create overlay: ", "guest agent not ready: ", "guest-exec: "];

/// What it says of an agent that never answered; the time stands behind it.
const TIMEOUT: &str = "guest agent not ready: timeout after ";

/// An error of a backend as the original words it: `create container: …` where ours is
/// `failed to create container `linux-0a1b2c3d`: …`.
fn original_error(text: &str) -> String {
    if let Some(at) = STEPS.iter().find_map(|step| text.find(step)) {
        let words = text.get(at..).unwrap_or(text);
        // It does not say what the agent's last answer was.
        let timeout = words.starts_with(TIMEOUT).then(|| words.split_once(" (")).flatten();
        return timeout.map_or(words, |(words, _)| words).to_owned();
    }
    let said = text.strip_prefix("failed to ").and_then(|rest| rest.split_once(": "));
    match said {
        Some((tried, words)) => {
            format!("{}: {words}", tried.split(" `").next().unwrap_or(tried))
        }
        None => text.to_owned(),
    }
}

/// A daemon of libvirt that cannot be reached, in the original's words: it ended with them, ours goes on asking.
fn unreachable(text: &str) -> Option<String> {
    let (_, place) = text.split_once("cannot reach libvirt at ")?;
    Some(format!("libvirt connect to {place}"))
}

/// What we tried, and what the original says of a worker that failed at it.
const WORKER: [(&str, &str); 6] = [
    ("get the scale set", "get scale set"),
    ("create the scale set", "create scale set"),
    ("update the scale set's labels", "update scale set labels"),
    ("open a message session", "create message session"),
    ("poll for messages", "listener"),
    ("acknowledge a message", "listener"),
];

/// What a worker of the original failed at: it ended with these words, ours goes on.
fn worker_failed(pool: Option<&str>, text: &str) -> Option<String> {
    let (tried, why) = text.strip_prefix("could not ")?.split_once(": ")?;
    let (_, word) = WORKER.iter().find(|(ours, _)| *ours == tried)?;
    Some(format!("runner {}: {word}: {why}", pool?))
}

/// A phrase of our own: its message and its fields as they are, the pool under the original's key.
fn pass(level: Level, fields: &Fields, own: usize) -> String {
    let mut out = format!("{level} {}", fields.message);
    if let Some(pool) = fields.get("pool") {
        attribute(&mut out, "", "scaleSet", pool);
    }
    for (key, value) in fields.list.iter().skip(own) {
        if *key != "pool" {
            let own = Some(value)
                .filter(|_| *key == "error")
                .and_then(|it| unreachable(it).or_else(|| worker_failed(fields.get("pool"), it)));
            attribute(&mut out, "", key, own.as_deref().unwrap_or(value));
        }
    }
    out
}

fn attribute(out: &mut String, group: &str, key: &str, value: &str) {
    if key.is_empty() && value.is_empty() {
        return;
    }
    out.push(' ');
    if !group.is_empty() {
        out.push_str(group);
        out.push('.');
    }
    out.push_str(key);
    out.push('=');
    out.push_str(value);
}

#[cfg(test)]
mod tests;

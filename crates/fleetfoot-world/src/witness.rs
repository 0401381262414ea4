//! Hears what the program logs: for secrets, and for the trace.

use std::fmt::Write as _;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::books::Books;
use crate::log::Line;

/// A subscriber that keeps nothing but the trace.
pub(crate) struct Witness {
    pub(crate) books: Books,
    pub(crate) trace: bool,
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let written = if field.name() == "message" {
            write!(self.0, "{value:?}")
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
        debug_assert!(written.is_ok(), "a String takes everything");
    }
}

impl Subscriber for Witness {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && metadata.target().starts_with("fleetfoot")
            && !metadata.target().starts_with("fleetfoot_sim")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let mut inner = self.books.lock();
        if let Some(secret) = inner.secrets.iter().find(|secret| text.0.contains(secret.as_str())) {
            let secret = secret.chars().take(8).collect::<String>();
            inner.breaks(
                10,
                Vec::new(),
                format!("a secret that begins with `{secret}` was logged"),
            );
        }
        if self.trace {
            let at_ms = inner.now_ms();
            let level = event.metadata().level();
            let about = text.0.clone();
            let text = format!("    [{level}] {}", text.0);
            inner.log.push(Line { at_ms, about, text, matters: false, said: true });
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

//! What is logged, and where: our own lines on standard error, the original's on standard output.

mod limit;

use std::io;

use tracing::Level;
use tracing_subscriber::filter::{FilterExt, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::{LogFormat, LogSettings};
use crate::outrunner::log::OutrunnerLayer;
use limit::Limit;

/// Our own lines at the wanted level; libraries only from `warn` on.
fn filter(level: Level) -> Targets {
    Targets::new().with_default(Level::WARN.min(level)).with_target("fleetfoot", level)
}

/// fleetfoot's own lines, on standard error.
pub fn native(settings: LogSettings) {
    let filter = filter(settings.level.as_tracing());
    let layer = match settings.format {
        LogFormat::Text => fmt::layer()
            .with_writer(io::stderr)
            .with_target(false)
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .boxed(),
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(io::stderr)
            .with_target(false)
            .boxed(),
    };
    // A second call in one process (tests) changes nothing.
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(filter.and(Limit::default())))
        .try_init()
        .is_ok();
}

/// The original's lines, on standard output.
pub fn outrunner() {
    let layer = OutrunnerLayer::new(io::stdout());
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(filter(Level::INFO).and(Limit::default())))
        .try_init()
        .is_ok();
}

//! What is logged, and where: our own lines on standard error, the original's on standard output.

mod limit;

use std::io;

use tracing::Level;
use tracing_subscriber::filter::{FilterExt, LevelFilter, Targets, dynamic_filter_fn};
use tracing_subscriber::layer::{Filter, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::{LogFormat, LogSettings};
use crate::myshoes::log::is_debug;
use crate::outrunner::log::OutrunnerLayer;
use limit::Limit;

/// Which lines are wanted.
type Lines = Box<dyn Filter<Registry> + Send + Sync>;

/// Our own lines at the wanted level; libraries only from `warn` on.
fn filter(level: Level) -> Targets {
    Targets::new().with_default(Level::WARN.min(level)).with_target("fleetfoot", level)
}

/// The same, and our debug lines while the API of targets has them switched on.
fn switched(level: Level) -> Lines {
    let debug = dynamic_filter_fn(|line, _| {
        let is_ours = line.target().starts_with("fleetfoot");
        is_ours && *line.level() <= Level::DEBUG && is_debug()
    });
    Box::new(filter(level).or(debug.with_max_level_hint(LevelFilter::DEBUG)))
}

/// fleetfoot's own lines, on standard error; with `has_switch` debug lines may come and go.
pub fn native(settings: LogSettings, has_switch: bool) {
    let level = settings.level.as_tracing();
    let filter: Lines = if has_switch { switched(level) } else { Box::new(filter(level)) };
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

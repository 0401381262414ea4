//! `fleetfoot why`: why a job, a runner or a pool is as it is.

use std::process::ExitCode;

use fleetfoot_api::{CauseInfo, EventInfo, Why};
use fleetfoot_server::record;

use super::locate::{self, Asked};
use super::output::{print, print_json, visible};
use crate::cli::{Output, WhyArgs};
use crate::exit::{CommandError, Exit};

/// Prints the answer.
///
/// # Errors
/// Nothing or several things are named so, or neither daemon nor store can be asked.
pub async fn run(args: WhyArgs) -> Result<ExitCode, CommandError> {
    let dir = locate::state_dir(&args.locate)?;
    let client = locate::client(&dir)?;
    let why = match locate::sort(client.why(&args.subject).await)? {
        Asked::Answer(why) => why,
        Asked::Absent => {
            let (store, snapshot) = locate::read_store(&dir, &args.locate).await?;
            record::why(&store, &snapshot, &args.subject).await.map_err(|error| {
                let failure = CommandError::new(Exit::Failure, error.message);
                match error.hint {
                    Some(hint) => failure.with_hint(hint),
                    None => failure,
                }
            })?
        }
    };
    match args.output.output {
        Output::Text => print(&visible(&text(&why)))?,
        Output::Json => print_json(&why)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn text(why: &Why) -> String {
    let mut lines = why.answer.clone();
    for cause in &why.causes {
        lines.push(format!("because {}{}", cause.message, times(cause)));
        lines.push(format!("  remedy: {}", cause.remedy));
    }
    if !why.events.is_empty() {
        lines.push("events:".to_owned());
        lines.extend(why.events.iter().map(event));
    }
    lines.join("\n")
}

fn times(cause: &CauseInfo) -> String {
    match (&cause.since, &cause.until) {
        (Some(since), Some(until)) => format!(" (since {since}, until {until})"),
        (Some(since), None) => format!(" (since {since})"),
        (None, Some(until)) => format!(" (until {until})"),
        (None, None) => String::new(),
    }
}

fn event(event: &EventInfo) -> String {
    let about = [&event.instance, &event.job].into_iter().flatten().cloned().collect::<Vec<_>>();
    format!("  {}  {}  {}", event.at, event.message, about.join(" ")).trim_end().to_owned()
}

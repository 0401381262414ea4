//! A line of the history as the API shows it.

use fleetfoot_api::EventInfo;
use fleetfoot_store::Event;

use super::time::rfc3339;

/// One event.
#[must_use]
pub(crate) fn event_info(event: &Event) -> EventInfo {
    let values: Vec<String> =
        event.fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let message = if values.is_empty() {
        event.phrase.clone()
    } else {
        format!("{} ({})", event.phrase, values.join(", "))
    };
    EventInfo {
        at: rfc3339(event.at),
        kind: event.phrase.clone(),
        pool: event.pool.as_ref().map(|pool| pool.as_str().to_owned()),
        instance: event.instance.as_ref().map(|instance| instance.as_str().to_owned()),
        job: event.job.as_ref().map(|job| job.as_str().to_owned()),
        fields: event.fields.clone(),
        message: message.replace('\n', " "),
    }
}

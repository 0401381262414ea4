//! Disagreements between GitHub, a backend and the store, as the API shows them.

use fleetfoot_api::DiscrepancyInfo;
use fleetfoot_core::health::{Discrepancies, Present};

use super::time::rfc3339;

/// Those that are there now.
#[must_use]
pub fn discrepancies(told: &Discrepancies) -> Vec<DiscrepancyInfo> {
    told.present.iter().map(info).collect()
}

fn info(present: &Present) -> DiscrepancyInfo {
    DiscrepancyInfo {
        kind: present.kind.as_str().to_owned(),
        instance: present.name.as_ref().map(|name| name.as_str().to_owned()),
        since: rfc3339(present.since),
        overdue: present.overdue,
        message: present.kind.means().to_owned(),
        remedy: present.kind.remedy().words().to_owned(),
    }
}

//! A job as the API shows it.

use fleetfoot_api::JobInfo;
use fleetfoot_core::{Instance, Job, JobId, PoolState};

use super::time::rfc3339;

/// A job that the store holds.
#[must_use]
pub(crate) fn job_info(job: &Job, config_url: &str) -> JobInfo {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    JobInfo {
        id: job.id.as_str().to_owned(),
        repository: text(&job.repository),
        workflow: text(&job.workflow),
        display_name: text(&job.display_name),
        run_id: (job.run_id != 0).then_some(job.run_id),
        run_url: run_url(config_url, &job.repository, job.run_id),
        queued_at: job.queued_at.map(rfc3339),
        started_at: job.started_at.map(rfc3339),
    }
}

/// The job of an instance: its row, or its id alone once GitHub called it completed.
#[must_use]
pub(crate) fn job_of(state: &PoolState, instance: &Instance) -> Option<JobInfo> {
    let id = instance.job.as_ref()?;
    Some(match state.jobs.get(id) {
        Some(job) => job_info(job, &state.pool.config_url),
        None => bare(id, instance),
    })
}

/// A job of which only the id is left.
pub(super) fn bare(id: &JobId, instance: &Instance) -> JobInfo {
    JobInfo {
        id: id.as_str().to_owned(),
        repository: None,
        workflow: None,
        display_name: None,
        run_id: None,
        run_url: None,
        queued_at: None,
        started_at: instance.job_started_at.map(rfc3339),
    }
}

/// Where a browser shows a run of `repository`, on the server of `config_url`.
fn run_url(config_url: &str, repository: &str, run_id: i64) -> Option<String> {
    let (scheme, rest) = config_url.split_once("://")?;
    let host = rest.split('/').next().filter(|host| !host.is_empty())?;
    let known = run_id > 0 && !repository.is_empty();
    known.then(|| format!("{scheme}://{host}/{repository}/actions/runs/{run_id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_shown_at_its_own_server() {
        let table = [
            (
                "https://github.com/octo",
                "octo/app",
                7,
                Some("https://github.com/octo/app/actions/runs/7"),
            ),
            (
                "https://ghes.example:8443/enterprises/e",
                "o/r",
                1,
                Some("https://ghes.example:8443/o/r/actions/runs/1"),
            ),
            ("https://github.com/octo", "octo/app", 0, None),
            ("https://github.com/octo", "", 7, None),
            ("", "octo/app", 7, None),
        ];
        for (config, repository, run, url) in table {
            assert_eq!(run_url(config, repository, run).as_deref(), url);
        }
    }
}

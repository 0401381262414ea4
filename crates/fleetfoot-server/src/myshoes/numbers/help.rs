//! What each number is, in one line. The original's texts are no part of what is kept: these are our own.

/// By name.
const HELP: [(&str, &str); 42] = [
    ("myshoes_scrapes_total", "Scrapes since the start."),
    ("myshoes_scrape_errors_total", "Collectors that failed in this scrape."),
    ("myshoes_last_scrape_error", "1 if a collector failed in this scrape."),
    ("myshoes_collector_duration_seconds", "How long each collector took."),
    ("myshoes_datastore_jobs", "Queued jobs; in scale set mode there is no queue."),
    ("myshoes_datastore_targets", "Targets that get jobs, by size."),
    ("myshoes_datastore_target_describe", "1 for each target that gets jobs."),
    (
        "myshoes_datastore_target_token_expires_seconds",
        "Seconds until the stored token ends; negative when it did.",
    ),
    ("myshoes_datastore_runners_running", "Machines that are there."),
    ("myshoes_memory_starter_max_running", "Calls to the plugin at once, at most."),
    (
        "myshoes_memory_starter_queue_running",
        "Jobs of the queue that are worked on; in scale set mode there is no queue.",
    ),
    (
        "myshoes_memory_starter_queue_waiting",
        "Jobs of the queue that wait for their turn; in scale set mode there is no queue.",
    ),
    ("myshoes_memory_github_rate_limit_remaining", "Requests that GitHub still takes."),
    ("myshoes_memory_github_rate_limit_limiting", "Requests that GitHub takes in an hour."),
    ("myshoes_memory_dockerhub_rate_limit_remaining", "Pulls that Docker Hub still allows."),
    ("myshoes_memory_dockerhub_rate_limit_limiting", "Pulls that Docker Hub allows."),
    ("myshoes_memory_runner_max_concurrency_deleting", "Deletions at once, at most."),
    ("myshoes_memory_runner_queue_concurrency_deleting", "Deletions under way."),
    ("myshoes_memory_runner_delete_retry_count", "Failures of a runner's deletion so far."),
    ("myshoes_runner_delete_runner_retry_total", "Deletions that were begun again."),
    (
        "myshoes_runner_delete_runner_backoff_duration_seconds",
        "How long deletions waited before they were begun again.",
    ),
    ("myshoes_github_pending_runs", "Workflow runs that wait for ten minutes or longer."),
    ("myshoes_github_pending_workflow_run_seconds", "How long a workflow run waits."),
    ("myshoes_github_installation", "1 for each installation of the App."),
    ("myshoes_github_api_requests_total", "Requests to GitHub that ended."),
    ("myshoes_github_api_request_duration_seconds", "How long requests to GitHub took."),
    ("myshoes_github_api_errors_total", "Requests to GitHub without an answer."),
    ("myshoes_github_api_inflight", "Requests to GitHub on the wire."),
    ("myshoes_github_api_cache_total", "Answers of GitHub that were kept, or not."),
    ("myshoes_scaleset_listener_running", "1 while the scale set is listened to."),
    ("myshoes_scaleset_desired_runners", "Runners that GitHub wants."),
    ("myshoes_scaleset_active_runners", "Runners that are known."),
    ("myshoes_scaleset_jobs_completed_total", "Jobs that were completed."),
    ("myshoes_scaleset_provision_errors_total", "Machines that could not be made."),
    ("fleetfoot_github_requests_total", "Requests to GitHub that ended."),
    ("fleetfoot_github_request_duration_seconds", "How long requests to GitHub took."),
    ("fleetfoot_github_request_errors_total", "Requests to GitHub without an answer."),
    ("fleetfoot_github_requests_in_flight", "Requests to GitHub on the wire."),
    ("fleetfoot_target_deletions_failing", "Machines whose deletion is tried again."),
    ("fleetfoot_target_deletion_failures_max", "The most failures of one machine's deletion."),
    ("fleetfoot_target_pending_runs", "Workflow runs that wait for ten minutes or longer."),
    ("fleetfoot_target_pending_run_seconds_max", "How long the oldest of them waits."),
];

/// The line of a number.
pub(super) fn help(name: &str) -> Option<&'static str> {
    HELP.iter().find(|(known, _)| *known == name).map(|(_, help)| *help)
}

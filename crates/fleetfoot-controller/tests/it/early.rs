//! Messages about a runner whose start the backend has not answered yet: the runner may be quicker than the answer.

use std::time::Duration;

use fleetfoot_core::{InstanceName, Outcome, Phase};
use fleetfoot_provisioner::simulated::{Fault, Operation, Rule};
use fleetfoot_sim::Told;

use crate::bed::{Bed, named, pool};

/// Longer than a message and a commit take on a slow machine, and shorter than `create_timeout`.
const LATE: Duration = Duration::from_secs(5);

/// One pool whose next create does its work at once and is answered late.
async fn bed() -> Bed {
    let mut bed = Bed::new().await;
    bed.engine().add_rule(Rule::once(Operation::Create, Fault::LateAnswer(LATE)));
    bed.start_ready(&[pool("linux", 1)]).await;
    bed
}

/// The one instance, once it is in this phase; its start is not answered then.
async fn unanswered_in(bed: &Bed, phase: Phase) -> InstanceName {
    bed.until(&format!("it is {}", phase.as_str()), |bed| bed.in_phase("linux", phase).len() == 1)
        .await;
    let row = bed.instances("linux").remove(0);
    assert_eq!(row.handle, None, "its start is not answered yet");
    row.name
}

fn deletes(bed: &Bed, name: &InstanceName) -> usize {
    let of = |call: &&fleetfoot_provisioner::simulated::Call| {
        call.operation == Operation::Delete && call.name.as_ref() == Some(name)
    };
    bed.engine().calls().iter().filter(of).count()
}

/// Checklist 37: it is running at once, and the answer of its start does not change that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_starts_before_its_start_is_answered_goes_on() {
    let bed = bed().await;
    bed.queue("linux", 1, 9_000);
    let name = unanswered_in(&bed, Phase::Running).await;
    bed.until("the answer comes", |bed| {
        bed.instances("linux").iter().any(|row| row.handle.is_some())
    })
    .await;
    bed.throughout("it stays so", Duration::from_millis(500), |bed| {
        bed.in_phase("linux", Phase::Running).iter().any(|row| row.name == name)
    })
    .await;
    assert_eq!(deletes(&bed, &name), 0);
    let state = bed.until_done(1).await;
    assert_eq!((state.summary.jobs_succeeded, state.jit_calls.len()), (1, 1));
    bed.until_nothing_left().await;
    assert_eq!(deletes(&bed, &name), 1);
    assert_eq!(bed.state("linux").pool.circuit.failures, 0);
}

/// Checklist 36: a job that is over before its start is answered: its environment is removed once, after the answer, its
/// runner is gone at GitHub, and the slot takes the next job.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_over_before_its_start_is_answered_is_stopped_once() {
    let bed = bed().await;
    bed.queue("linux", 1, 50);
    bed.until("its completion is known", |bed| {
        bed.instances("linux").iter().any(|row| row.job_completed_at.is_some())
    })
    .await;
    let row = bed.instances("linux").remove(0);
    assert_eq!(row.handle, None, "its start is not answered yet");
    assert_eq!(deletes(&bed, &row.name), 0);
    bed.queue("linux", 1, 50);
    let state = bed.until_done(2).await;
    assert_eq!((state.summary.jobs_succeeded, state.jit_calls.len()), (2, 2));
    bed.until_nothing_left().await;
    assert_eq!(deletes(&bed, &row.name), 1, "stopped once");
    let outcomes = bed.outcomes("linux").await;
    let completed = |outcome: &Outcome| matches!(outcome, Outcome::Completed { .. });
    assert!(outcomes.len() == 2 && outcomes.iter().all(completed), "{outcomes:?}");
    assert_eq!(bed.engine().peak(&named("linux")), 1);
}

/// The other half of 36: told too early, a completion alone ends nothing. The job goes on to its own end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_false_completion_before_the_start_is_answered_kills_nothing() {
    let bed = bed().await;
    let job = bed.queue("linux", 1, 9_000)[0];
    let name = unanswered_in(&bed, Phase::Running).await;
    assert!(bed.github.tell(job, &Told::Completed { result: "succeeded".to_owned() }));
    bed.until("it is taken in", |bed| {
        bed.instances("linux").iter().any(|row| row.job_completed_at.is_some())
    })
    .await;
    let state = bed.until_done(1).await;
    let job = state.job(job).unwrap();
    assert_eq!((job.result.as_deref(), job.starts, job.lost), (Some("succeeded"), 1, false));
    assert!(job.completed_us.unwrap() - job.started_us.unwrap() >= 8_900_000);
    bed.until_nothing_left().await;
    assert_eq!(deletes(&bed, &name), 1);
    // GitHub's figures may count the job for a moment longer than its machine lives, so another may be made. It ran nothing.
    let outcomes = bed.outcomes("linux").await;
    let completed = |outcome: &&Outcome| matches!(outcome, Outcome::Completed { .. });
    assert_eq!(outcomes.iter().filter(completed).count(), 1, "{outcomes:?}");
    assert_eq!(bed.engine().peak(&named("linux")), 1, "nobody was made beside it");
}

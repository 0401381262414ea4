//! Sequences of messages → what the pool knows afterwards.

use fleetfoot_core::{Instance, Phase, Pool, Registration, RunnerId, ScaleSetId};
use fleetfoot_github::Statistics as Level;
use fleetfoot_store::{Durability, Execution, Location, Options, Store};

use super::*;

const MINUTE: i64 = 60_000;

/// A store with one pool `p` that has a session, and the running instance `p-1`.
async fn store(directory: &tempfile::TempDir) -> Store {
    let options =
        Options { durability: Durability::Off, execution: Execution::Inline, ..Options::default() };
    let location = Location::Sqlite(directory.path().join("store.db"));
    let store = Store::open(location, options).await.unwrap();
    let fill = |txn: &mut Txn<'_>| {
        let mut pool = Pool::new(name(), Timestamp(0));
        pool.scale_set_id = Some(ScaleSetId(1));
        pool.demand.session_opened(Statistics::default(), Timestamp(0));
        txn.put_pool(pool);
        let mut row = Instance::pending(runner(), name(), Timestamp(0));
        row.phase = Phase::Starting;
        row.registration = Registration::Registered(RunnerId(1));
        row.environment = fleetfoot_core::Environment::Launched;
        txn.insert_instance(row).unwrap();
    };
    store.update(fill).await.unwrap();
    store
}

fn name() -> PoolName {
    PoolName::new("p").unwrap()
}

fn runner() -> InstanceName {
    InstanceName::new("p-1").unwrap()
}

/// `ID [level=N] [at=MINUTES] [assigned=JOB] [started=JOB@RUNNER] [completed=JOB@RUNNER]…`
fn message(words: &str) -> (Message, Timestamp) {
    let mut words = words.split_whitespace();
    let id = words.next().unwrap().parse().unwrap();
    let (mut message, mut at) = (Message { id, ..Message::default() }, Timestamp(1));
    for word in words {
        let (key, value) = word.split_once('=').unwrap();
        let (job, runner_name) = value.split_once('@').unwrap_or((value, ""));
        let info = || JobInfo { job_id: job.to_owned(), ..JobInfo::default() };
        let runner_name = runner_name.to_owned();
        match key {
            "level" => {
                let assigned = value.parse().unwrap();
                message.statistics = Some(Level { assigned, ..Level::default() });
            }
            "at" => at = Timestamp(value.parse::<i64>().unwrap() * MINUTE),
            "assigned" => message.assigned.push(info()),
            "started" => {
                message.started.push(JobStarted { job: info(), runner_id: 1, runner_name });
            }
            "completed" => message.completed.push(JobCompleted {
                job: info(),
                runner_id: 1,
                runner_name,
                result: "succeeded".into(),
            }),
            other => panic!("{other}"),
        }
    }
    (message, at)
}

/// `open=N jobs=a,b p-1=PHASE`
async fn after(messages: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    let mut last = Timestamp(1);
    for words in messages {
        let (message, at) = message(words);
        last = at;
        store.update(move |txn| record_message(txn, &name(), &message, at)).await.unwrap();
    }
    let state = store.pool(&name()).unwrap();
    let jobs: Vec<&str> = state.jobs.keys().map(JobId::as_str).collect();
    let phase = state.instances[&runner()].phase.as_str();
    format!("open={} jobs={} p-1={phase}", state.open_jobs(last), jobs.join(","))
}

#[tokio::test]
async fn messages_leave_a_level_and_not_a_sum() {
    let table: &[(&[&str], &str)] = &[
        (&["1 level=2 assigned=a assigned=b"], "open=2 jobs=a,b p-1=starting"),
        // Once is as good as thrice.
        (&["1 level=1 assigned=a", "1 level=1 assigned=a"], "open=1 jobs=a p-1=starting"),
        (&["1 level=1 assigned=a", "2 level=1 assigned=a"], "open=1 jobs=a p-1=starting"),
        // Items raise a level that lags behind them, for two minutes.
        (&["1 level=0 assigned=a"], "open=1 jobs=a p-1=starting"),
        (&["1 level=0 assigned=a", "2 level=0 at=3"], "open=0 jobs= p-1=starting"),
        (&["1 level=1 assigned=a", "2 level=1 at=3"], "open=1 jobs=a p-1=starting"),
        // What is older than any job ended without a word, whatever the level; a week is 10,080 minutes.
        (&["1 level=1 assigned=a", "2 level=1 at=10000"], "open=1 jobs=a p-1=starting"),
        (&["1 level=1 assigned=a", "2 level=1 at=10081"], "open=1 jobs= p-1=starting"),
        // A message of before does not count again.
        (&["2 level=0", "1 level=5 assigned=a"], "open=0 jobs= p-1=starting"),
        // A life.
        (&["1 level=1 assigned=a", "2 level=1 started=a@p-1"], "open=1 jobs=a p-1=running"),
        (
            &["1 level=1 assigned=a", "2 level=1 started=a@p-1", "3 level=0 completed=a@p-1"],
            "open=0 jobs= p-1=running",
        ),
        // The order does not matter in the end, nor does a repetition under another number.
        (
            &["1 level=1 completed=a@p-1", "2 level=0 started=a@p-1", "3 level=0 assigned=a"],
            "open=0 jobs= p-1=running",
        ),
        // Of a stranger's runner, of nobody's, and without a job id.
        (&["1 level=1 started=a@theirs-1"], "open=1 jobs=a p-1=starting"),
        (&["1 level=0 completed=a@theirs-1"], "open=0 jobs= p-1=starting"),
        (&["1 level=0 completed=@p-1"], "open=0 jobs= p-1=running"),
        (&["1 level=1 assigned=", "2 level=1 started=@"], "open=1 jobs= p-1=starting"),
        // A withdrawn assignment is made again.
        (
            &["1 level=1 assigned=a", "2 level=0 completed=a", "3 level=1 assigned=a"],
            "open=1 jobs=a p-1=starting",
        ),
        // Without statistics the level stays.
        (&["1 level=3", "2 assigned=a"], "open=3 jobs=a p-1=starting"),
    ];
    for (messages, wanted) in table {
        assert_eq!(after(messages).await, *wanted, "{messages:?}");
    }
}

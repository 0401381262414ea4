//! The named lock of the original's database, which is a real MariaDB, is lost.

use fleetfoot_sim::{BoxState, Endpoint, Fault, FaultAction};
use rustix::process::Signal;

use crate::harness::{BOUND, Daemon, Database, ORG, Shoes, eventually, plugin};

/// The lock's connection dies, as a server's restart would have it.
pub(crate) async fn lose_lock(database: &Database) {
    let holder = format!("SELECT CAST(IS_USED_LOCK('{}') AS SIGNED)", database.name);
    let kill = format!("KILL {}", database.number(&holder).await);
    sqlx::query(sqlx::AssertSqlSafe(kill)).execute(&database.admin).await.unwrap();
}

/// It ends with one line that says why.
pub(crate) async fn ends_without_its_lock(mut daemon: Daemon) -> String {
    let status = daemon.ended(BOUND).await;
    let text = daemon.stderr();
    assert_eq!(status.code(), Some(1), "{text}");
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("named lock")).collect();
    let words = " the named lock of the database is lost: somebody else may work on it";
    assert!(matches!(lines[..], [line] if line.ends_with(words)), "{text}");
    assert_eq!(text.lines().last(), lines.first().copied(), "nothing comes after it: {text}");
    text
}

/// The lock goes before the daemon serves anything, or after its last word: while the store is opened, in the first look
/// at its targets, while it waits for a plugin at its end. Nothing is made or written after that, and the next one goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_is_lost_at_any_time_ends_it() {
    let Some(plugin) = plugin() else { return };
    let Some(database) = Database::new().await else { return };
    let shoes = Shoes::new(plugin).await.with_variable("MYSQL_URL", &database.dsn);
    let (daemon, api) = shoes.started().await;
    api.create(ORG, "nano").await;
    shoes.sets("a poll", |state| state.summary.polls == 1).await;
    daemon.stop().await;
    // A second target that nobody has looked at yet: each look says that it does not know its installation.
    sqlx::query(
        "INSERT INTO targets (uuid, scope, github_token, token_expired_at, resource_type) VALUES \
         ('3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1', 'acme/new', '', '2000-01-01 00:00:00', 'small')",
    )
    .execute(&database.admin)
    .await
    .unwrap();
    shoes.queue(ORG, "myshoes-acme", 1, 50);
    let before = shoes.bed.github.state();
    let github = &shoes.bed.github;

    // Another one changes the schema, so that the store is not opened yet.
    let mut schema = database.admin.acquire().await.unwrap();
    let lock = "SELECT GET_LOCK(CONCAT('fleetfoot ', DATABASE()), 0)";
    let got = sqlx::query(lock).fetch_one(&mut *schema).await.unwrap();
    assert_eq!(sqlx::Row::get_unchecked::<i64, _>(&got, 0), 1);
    let daemon = shoes.start();
    eventually("the lock", BOUND, || async {
        daemon.stderr().contains("get lock successfully!").then_some(())
    })
    .await;
    lose_lock(&database).await;
    let text = ends_without_its_lock(daemon).await;
    assert!(!text.contains("is not there yet") && !text.contains("start webserver"), "{text}");
    schema.close().await.unwrap();

    // GitHub says nothing, so that the first look goes on.
    let asked = |state: &BoxState| state.requests.get(&Endpoint::RestOther).copied();
    github.inject(Fault::always(Endpoint::Any, FaultAction::Hang));
    let (daemon, _) = shoes.started().await;
    eventually("the question", BOUND, || async {
        (asked(&github.state()) > asked(&before)).then_some(())
    })
    .await;
    lose_lock(&database).await;
    let text = ends_without_its_lock(daemon).await;
    assert!(!text.contains("failed to start listener"), "the look came to its end: {text}");
    let state = github.state();
    assert_eq!((state.sessions.len(), state.jit_calls.len()), (before.sessions.len(), 0));
    assert_eq!(database.number("SELECT COUNT(*) FROM runners").await, 0);
    github.clear_faults();

    // The plugin makes a machine, so that the end takes its time.
    let shoes = shoes.with_variable("TEST_CALL_MS", "30000");
    let (daemon, _) = shoes.started().await;
    eventually("a machine", BOUND, || async { (shoes.machines() == 1).then_some(()) }).await;
    daemon.signal(Signal::TERM);
    shoes.sets("no session", |state| state.summary.sessions == 0).await;
    lose_lock(&database).await;
    let text = ends_without_its_lock(daemon).await;
    assert!(!text.contains("stopped, left"), "{text}");

    let shoes = shoes.with_variable("TEST_CALL_MS", "0");
    let (daemon, _) = shoes.started().await;
    shoes.bed.all_succeeded(1, 2 * BOUND).await;
    shoes.sets("two polls", |state| state.summary.polls == 2).await;
    daemon.stop().await;
    database.done().await;
}

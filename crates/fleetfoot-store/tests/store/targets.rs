//! Targets, in our own table and in the original's.

use fleetfoot_core::ResourceType;
use fleetfoot_store::{
    NO_TOKEN_EXPIRED_AT, NewTarget, Store, StoredToken, TargetKey, TargetRow, TargetSettings,
    TargetWrite, TargetsError,
};
use sqlx::Row as _;
use sqlx::mysql::MySqlPool;

use crate::bed::{Bed, on_every_database};

const ID: &str = "3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1";
const OTHER: &str = "4d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1";
const THIRD: &str = "6d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1";

fn new(id: &str, scope: &str) -> NewTarget {
    NewTarget {
        id: id.to_owned(),
        scope: scope.to_owned(),
        ghe_domain: None,
        resource_type: ResourceType::Nano,
        provider_url: None,
        token: None,
    }
}

async fn insert(store: &Store, new: NewTarget) -> Result<(), TargetsError> {
    let key = TargetKey::Scope(new.scope.clone());
    store.change_target(key, |_| (vec![TargetWrite::Insert(new)], ())).await
}

async fn by_id(store: &Store, id: &str) -> Option<TargetRow> {
    store.target(TargetKey::Id(id.to_owned())).await.unwrap()
}

async fn row_settings(store: &Store) -> TargetSettings {
    by_id(store, ID).await.unwrap().own
}

async fn a_target_lives_as_the_original_has_it(store: &Store) {
    let changes = store.target_changes();
    insert(store, new(ID, "Acme/it's-a.repo")).await.unwrap();
    assert!(changes.has_changed().unwrap());
    let row = by_id(store, ID).await.unwrap();
    assert_eq!((row.id.as_str(), row.scope.as_str()), (ID, "Acme/it's-a.repo"));
    assert_eq!((row.status.as_str(), row.status_description.as_deref()), ("active", None));
    assert_eq!((row.resource_type, row.provider_url.as_deref()), (ResourceType::Nano, None));
    assert_eq!(row.token_expired_at, NO_TOKEN_EXPIRED_AT);
    assert_eq!((row.created_at.0 % 1000, row.updated_at), (0, row.created_at));
    // Made just now, whatever the zone of the server.
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    assert!((now - row.created_at.0).abs() < 60_000, "{row:?}");

    // The look-up ignores case, and finds the deleted, too.
    let key = TargetKey::Scope("acme/IT'S-A.repo".to_owned());
    let writes = vec![
        TargetWrite::ResourceType(ID.to_owned(), ResourceType::XLarge4),
        TargetWrite::ProviderUrl(ID.to_owned(), Some("https://shoes".to_owned())),
        TargetWrite::Status(ID.to_owned(), "deleted", Some("an operator's word".to_owned())),
    ];
    let seen = store.change_target(key.clone(), |row| (writes, row.cloned())).await.unwrap();
    assert_eq!(seen, Some(row));
    let row = store.target(key).await.unwrap().unwrap();
    assert_eq!((row.resource_type, row.status.as_str()), (ResourceType::XLarge4, "deleted"));
    assert_eq!(row.provider_url.as_deref(), Some("https://shoes"));
    assert_eq!(row.status_description.as_deref(), Some("an operator's word"));

    let writes = vec![
        TargetWrite::StatusOnly(ID.to_owned(), "suspend"),
        TargetWrite::ProviderUrl(ID.to_owned(), None),
    ];
    store.change_target(TargetKey::Id(ID.to_owned()), |_| (writes, ())).await.unwrap();
    let row = by_id(store, ID).await.unwrap();
    assert_eq!((row.status.as_str(), row.provider_url), ("suspend", None));
    assert_eq!(row.status_description.as_deref(), Some("an operator's word"));

    // What the original has no columns for stands beside its row.
    assert_eq!(row_settings(store).await, TargetSettings::default());
    let said = TargetSettings { mode: Some("webhook".to_owned()), max_runners: Some(7) };
    for said in [said, TargetSettings { mode: None, max_runners: Some(0) }] {
        let write = TargetWrite::Own(ID.to_owned(), said.clone());
        store.change_target(TargetKey::Id(ID.to_owned()), |_| (vec![write], ())).await.unwrap();
        assert_eq!(row_settings(store).await, said);
        let all = store.targets().await.unwrap();
        assert_eq!(all.iter().find(|row| row.id == ID).unwrap().own, said);
    }

    // Nothing decided is nothing written; what does not fit is refused whole.
    let changes = store.target_changes();
    store
        .change_target(TargetKey::Id(OTHER.to_owned()), |row| {
            assert_eq!(row, None);
            (Vec::new(), ())
        })
        .await
        .unwrap();
    let long = insert(store, new(OTHER, &"a".repeat(256))).await.unwrap_err();
    assert!(matches!(long, TargetsError::TooLong), "{long}");
    assert!(!changes.has_changed().unwrap());
    insert(store, new(OTHER, &"ä".repeat(255))).await.unwrap();
    assert_eq!(store.targets().await.unwrap().len(), 2);
}

async fn in_a_table_of_ours(bed: &Bed) {
    let store = bed.open().await;
    assert!(!store.has_tables_of_myshoes().await.unwrap());
    a_target_lives_as_the_original_has_it(&store).await;
    // One row per scope, whoever writes.
    assert!(
        insert(&store, new("5d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1", "acme/it's-a.repo"))
            .await
            .is_err()
    );
    store.close().await;
    let again = bed.open().await;
    assert_eq!(again.targets().await.unwrap().len(), 2);
    again.close().await;
}

on_every_database!(in_a_table_of_ours);

/// The schema as an operator of the original applied it by hand.
pub(crate) fn schema(token: &str) -> String {
    format!(
        "CREATE TABLE targets (
           uuid VARCHAR(36) NOT NULL PRIMARY KEY,
           scope VARCHAR(255) NOT NULL,
           ghe_domain VARCHAR(255),
           github_token {token} NOT NULL,
           token_expired_at TIMESTAMP NOT NULL,
           resource_type ENUM('nano','micro','small','medium','large','xlarge','2xlarge','3xlarge','4xlarge') NOT NULL,
           provider_url VARCHAR(255),
           status VARCHAR(255) NOT NULL DEFAULT 'active',
           status_description VARCHAR(255),
           created_at TIMESTAMP NOT NULL DEFAULT current_timestamp,
           updated_at TIMESTAMP NOT NULL DEFAULT current_timestamp ON UPDATE current_timestamp,
           UNIQUE KEY ghe_domain_scope (ghe_domain, scope)
         ) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"
    )
}

async fn on_the_originals(token: &str) {
    let Some(bed) = Bed::mariadb().await else { return };
    bed.sql(&schema(token)).await;
    let store = bed.open().await;
    assert!(store.has_tables_of_myshoes().await.unwrap());
    a_target_lives_as_the_original_has_it(&store).await;
    // As the original reads it: an empty token that has expired.
    let fleetfoot_store::Location::Url(url) = &bed.location else { unreachable!() };
    let pool = MySqlPool::connect(url).await.unwrap();
    let row = sqlx::query(
        "SELECT github_token, DATE_FORMAT(token_expired_at, '%Y-%m-%d %H:%i:%S'), ghe_domain IS NULL \
         FROM targets WHERE uuid = ?",
    )
    .bind(ID)
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!((row.get::<&str, _>(0), row.get::<&str, _>(1)), ("", "2000-01-01 00:00:00"));
    assert_eq!(row.get::<i64, _>(2), 1);
    // A token is there only if somebody puts it there, and then as the original wants it.
    let expires_at = fleetfoot_core::Timestamp(1_704_132_245_000);
    let token = StoredToken { token: "ghs_stored".into(), expires_at };
    let write = TargetWrite::Token(ID.to_owned(), token.clone());
    store.change_target(TargetKey::Id(ID.to_owned()), |_| (vec![write], ())).await.unwrap();
    let with = NewTarget { token: Some(token), ..new(THIRD, "with/token") };
    insert(&store, with).await.unwrap();
    for id in [ID, THIRD] {
        let row = sqlx::query("SELECT github_token FROM targets WHERE uuid = ?").bind(id);
        let row = row.fetch_one(&pool).await.unwrap();
        assert_eq!(row.get::<&str, _>(0), "ghs_stored");
        assert_eq!(by_id(&store, id).await.unwrap().token_expired_at, expires_at);
    }
    let ours = sqlx::query("SELECT id FROM fleetfoot_targets").fetch_all(&pool).await.unwrap();
    assert!(ours.is_empty());
    store.close().await;
    pool.close().await;
    bed.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_originals_table_with_short_tokens() {
    on_the_originals("VARCHAR(255)").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_originals_table_with_long_tokens() {
    on_the_originals("TEXT").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_the_original_wrote_are_read() {
    let Some(bed) = Bed::mariadb().await else { return };
    bed.sql(&schema("TEXT")).await;
    // From a session in Tokyo, as its server may be.
    bed.sql(
        "SET STATEMENT time_zone = '+09:00' FOR INSERT INTO targets (uuid, scope, ghe_domain, github_token, \
         token_expired_at, resource_type, provider_url, created_at, updated_at) VALUES \
         ('3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1', 'acme', 'https://ghe.example.com', 'ghs_x', \
         '2024-01-02 03:04:05', '2xlarge', NULL, '2024-01-02 03:04:05', '2024-01-02 03:04:06')",
    )
    .await;
    let store = bed.open().await;
    let row = by_id(&store, ID).await.unwrap();
    assert_eq!((row.resource_type, row.status.as_str()), (ResourceType::XLarge2, "active"));
    // 2024-01-01 18:04:05 UTC.
    assert_eq!(row.created_at.0, 1_704_132_245_000);
    assert_eq!((row.token_expired_at, row.updated_at.0), (row.created_at, row.created_at.0 + 1000));
    store.close().await;
    bed.done().await;
}

/// The other tables of the original.
pub(crate) const RUNNER_TABLES: [&str; 4] = [
    "CREATE TABLE runners (uuid VARCHAR(36) NOT NULL PRIMARY KEY, \
     created_at TIMESTAMP NOT NULL DEFAULT current_timestamp)",
    "CREATE TABLE runner_detail (runner_id VARCHAR(36) NOT NULL, shoes_type VARCHAR(255) NOT NULL, \
     ip_address VARCHAR(255) NOT NULL, target_id VARCHAR(36) NOT NULL, cloud_id TEXT NOT NULL, \
     created_at TIMESTAMP NOT NULL DEFAULT current_timestamp, \
     updated_at TIMESTAMP NOT NULL DEFAULT current_timestamp ON UPDATE current_timestamp, \
     resource_type ENUM('nano','micro','small','medium','large','xlarge','2xlarge','3xlarge','4xlarge') NOT NULL, \
     runner_user VARCHAR(255), provider_url VARCHAR(255), repository_url VARCHAR(255) NOT NULL, \
     request_webhook TEXT NOT NULL, \
     FOREIGN KEY (runner_id) REFERENCES runners(uuid) ON DELETE RESTRICT, \
     FOREIGN KEY (target_id) REFERENCES targets(uuid) ON DELETE RESTRICT)",
    "CREATE TABLE runners_running (runner_id VARCHAR(36) NOT NULL PRIMARY KEY, \
     created_at TIMESTAMP NOT NULL DEFAULT current_timestamp, \
     FOREIGN KEY (runner_id) REFERENCES runners(uuid) ON DELETE CASCADE)",
    "CREATE TABLE runners_deleted (runner_id VARCHAR(36) NOT NULL PRIMARY KEY, \
     created_at TIMESTAMP NOT NULL DEFAULT current_timestamp, reason VARCHAR(255) NOT NULL, \
     FOREIGN KEY (runner_id) REFERENCES runners(uuid) ON DELETE CASCADE)",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_have_rows_that_the_original_reads() {
    use fleetfoot_core::{Exit, Instance, Observation, Outcome, RunnerId, ScaleSetId, Timestamp};
    let Some(bed) = Bed::mariadb().await else { return };
    bed.sql(&schema("TEXT")).await;
    for table in RUNNER_TABLES {
        // Keys of one table that another one names have one character set.
        bed.sql(&format!("{table} DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")).await;
    }
    let store = bed.open().await;
    insert(&store, new(ID, "acme")).await.unwrap();
    crate::bed::with_pools(&store, &["myshoes-acme"]).await;
    let pool = crate::bed::pool_name("myshoes-acme");
    let rows = fleetfoot_store::RunnerRows {
        target: ID.to_owned(),
        resource_type: ResourceType::Micro,
        runner_user: "runner".to_owned(),
        provider_url: None,
        repository_url: "https://github.com/acme".to_owned(),
        labels: vec!["scaleset".to_owned(), "acme".to_owned()],
    };
    store.keep_runner_rows([(pool.clone(), rows.clone())].into()).await.unwrap();
    let runner = "5d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1";
    let name = crate::bed::instance_name(&format!("myshoes-{runner}"));
    let instance = Instance::pending(name.clone(), pool.clone(), Timestamp(1_000));
    store.update(move |txn| txn.insert_instance(instance).unwrap()).await.unwrap();
    let fleetfoot_store::Location::Url(url) = &bed.location else { unreachable!() };
    let sql = MySqlPool::connect(url).await.unwrap();
    let count = async |table: &str| -> i64 {
        let text = format!("SELECT COUNT(*) FROM {table}");
        sqlx::query(sqlx::AssertSqlSafe(text)).fetch_one(&sql).await.unwrap().get(0)
    };
    assert_eq!(count("runners").await, 0, "a name is no machine");
    // Its creation answered; more is learned of it later.
    let handle = format!(
        r#"{{"cloud_id":"i-1","shoes_type":"lxd","ip_address":"{}","resource_type":"unknown"}}"#,
        "ä".repeat(300)
    );
    let mut at = 2_000;
    let mut observe = async |step: Observation| {
        at += 1;
        let (of, at) = (name.clone(), Timestamp(at));
        let done = store.update(move |txn| txn.observe(&of, &step, at).map(|_| ()));
        done.await.unwrap().unwrap();
    };
    for step in [
        Observation::StartBegun { scale_set: ScaleSetId(4) },
        Observation::Registered { runner: RunnerId(11) },
        Observation::LaunchBegun,
        Observation::Launched { handle: Some(handle.clone()) },
        Observation::Online,
    ] {
        observe(step).await;
    }
    assert_eq!((count("runners").await, count("runners_running").await), (1, 1));
    let row = sqlx::query(
        "SELECT runner_id, shoes_type, target_id, cloud_id, CAST(resource_type AS CHAR), runner_user, \
         repository_url, request_webhook FROM runner_detail",
    )
    .fetch_one(&sql)
    .await
    .unwrap();
    let said: Vec<String> = (0..8).map(|at| row.get_unchecked(at)).collect();
    let webhook = r#"{"workflow_job":{"labels":["scaleset","acme"]}}"#;
    let wanted = [runner, "lxd", ID, "i-1", "micro", "runner", "https://github.com/acme", webhook];
    assert_eq!(said, wanted);
    for step in [
        Observation::JobStarted { job: crate::bed::job_id("j") },
        Observation::Ended { exit: Exit { code: Some(0), ..Exit::default() } },
        Observation::EnvironmentGone,
        Observation::RunnerGone,
        Observation::Closed { outcome: Outcome::Completed { result: None } },
    ] {
        observe(step).await;
    }
    assert_eq!((count("runners_running").await, count("runners_deleted").await), (0, 1));
    assert_eq!(count("runner_detail").await, 1, "what was stays known");
    let long = sqlx::query("SELECT CHAR_LENGTH(ip_address) FROM runner_detail");
    let long: i64 = long.fetch_one(&sql).await.unwrap().get_unchecked(0);
    assert_eq!(long, 255, "what a plugin says never stops a commit");
    // Nor does an operator who takes a target's row away.
    let gone = fleetfoot_store::RunnerRows { target: THIRD.to_owned(), ..rows };
    store.keep_runner_rows([(pool.clone(), gone)].into()).await.unwrap();
    let other = crate::bed::instance_name("myshoes-7d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1");
    let instance = Instance::pending(other.clone(), pool.clone(), Timestamp(3_000));
    store.update(move |txn| txn.insert_instance(instance).unwrap()).await.unwrap();
    let set = move |txn: &mut fleetfoot_store::Txn<'_>| {
        txn.modify_instance(&other, |row| row.handle = Some(handle));
    };
    store.update(set).await.unwrap();
    assert_eq!((count("runners").await, count("runners_running").await), (1, 0));
    store.close().await;
    sql.close().await;
    bed.done().await;
}

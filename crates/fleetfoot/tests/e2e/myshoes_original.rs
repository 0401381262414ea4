//! The original put back on a database that ours worked on. Its module is not to be had from the module proxy, so its
//! statements are spoken here: those of `spec/myshoes.md` 3, with its connection's settings, in the order of its start.

use serde_json::Value;
use sqlx::mysql::MySqlConnection;
use sqlx::{Connection as _, Row as _};

use crate::harness::{BOUND, Database, ORG, Shoes, eventually, plugin};

/// The process of the original, as far as its database sees it.
struct Original {
    sql: MySqlConnection,
}

/// A target as the original reads it.
#[derive(Debug)]
struct Target {
    id: String,
    scope: String,
    token: String,
    /// Seconds until its token expires.
    token_lives: i64,
    status: String,
}

impl Target {
    fn can_receive(&self) -> bool {
        !matches!(self.status.as_str(), "suspend" | "deleted")
    }
}

impl Original {
    /// Connects as its driver does, and takes the named lock.
    async fn start(database: &Database) -> Self {
        let (user, rest) = database.dsn.split_once("@tcp(").unwrap();
        let (place, name) = rest.split_once(")/").unwrap();
        let url = format!("mysql://{user}@{place}/{name}");
        let mut sql = MySqlConnection::connect(&url).await.unwrap();
        for set in [
            "SET NAMES utf8mb4 COLLATE utf8mb4_general_ci",
            "SET sql_mode = 'TRADITIONAL,NO_AUTO_VALUE_ON_ZERO,ONLY_FULL_GROUP_BY'",
        ] {
            sqlx::query(set).execute(&mut sql).await.unwrap();
        }
        let free = sqlx::query("SELECT IS_FREE_LOCK(?)").bind(&database.name);
        let free: i64 = free.fetch_one(&mut sql).await.unwrap().get_unchecked(0);
        assert_eq!(free, 1, "ours let it go");
        let got = sqlx::query("SELECT GET_LOCK(?, 10)").bind(&database.name);
        let got: i64 = got.fetch_one(&mut sql).await.unwrap().get_unchecked(0);
        assert_eq!(got, 1);
        Self { sql }
    }

    async fn targets(&mut self) -> Vec<Target> {
        let rows = sqlx::query(
            "SELECT uuid, scope, github_token, token_expired_at, resource_type, provider_url, status, \
             status_description, created_at, updated_at, \
             TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), token_expired_at) FROM targets",
        )
        .fetch_all(&mut self.sql)
        .await
        .unwrap();
        rows.iter()
            .map(|row| Target {
                id: row.get_unchecked(0),
                scope: row.get_unchecked(1),
                token: row.get_unchecked(2),
                status: row.get_unchecked(6),
                token_lives: row.get_unchecked(10),
            })
            .collect()
    }

    /// Its pass at the start, and every five minutes: what expires within ten is renewed.
    async fn refresh_tokens(&mut self) -> Vec<String> {
        let mut renewed = Vec::new();
        for target in self.targets().await {
            if target.can_receive() && target.token_lives <= 600 {
                sqlx::query(
                    "UPDATE targets SET github_token = ?, token_expired_at = \
                     DATE_ADD(UTC_TIMESTAMP(), INTERVAL 1 HOUR) WHERE uuid = ?",
                )
                .bind("ghs_renewed")
                .bind(&target.id)
                .execute(&mut self.sql)
                .await
                .unwrap();
                renewed.push(target.scope);
            }
        }
        renewed.sort();
        renewed
    }

    /// Machines that live, with what its plugin is called with: cloud id and the labels of their event.
    async fn machines(&mut self, target: &str) -> Vec<(String, String, Vec<String>)> {
        let rows = sqlx::query(
            "SELECT runner.runner_id, detail.shoes_type, detail.ip_address, detail.target_id, detail.cloud_id, \
             detail.created_at, detail.updated_at, detail.resource_type, detail.repository_url, \
             detail.request_webhook, detail.runner_user, detail.provider_url \
             FROM runners_running AS runner JOIN runner_detail AS detail ON runner.runner_id = detail.runner_id \
             WHERE detail.target_id = ?",
        )
        .bind(target)
        .fetch_all(&mut self.sql)
        .await
        .unwrap();
        rows.iter()
            .map(|row| {
                let event: String = row.get_unchecked(9);
                let event: Value = serde_json::from_str(&event).expect("an event that it decodes");
                let labels = event["workflow_job"]["labels"].as_array().unwrap().iter();
                let labels = labels.map(|it| it.as_str().unwrap().to_owned()).collect();
                (row.get_unchecked(0), row.get_unchecked(4), labels)
            })
            .collect()
    }

    /// What it writes when it has deleted a machine.
    async fn has_deleted(&mut self, runner: &str) {
        let mut transaction = self.sql.begin().await.unwrap();
        for (text, reason) in [
            ("DELETE FROM runners_running WHERE runner_id = ?", None),
            ("INSERT INTO runners_deleted(runner_id, reason) VALUES (?, ?)", Some("completed")),
        ] {
            let mut query = sqlx::query(text).bind(runner);
            if let Some(reason) = reason {
                query = query.bind(reason);
            }
            query.execute(&mut *transaction).await.unwrap();
        }
        transaction.commit().await.unwrap();
    }

    /// A machine of its own, in one transaction.
    async fn has_made(&mut self, runner: &str, target: &str) {
        let mut transaction = self.sql.begin().await.unwrap();
        sqlx::query("INSERT INTO runners(uuid) VALUES (?)")
            .bind(runner)
            .execute(&mut *transaction)
            .await
            .unwrap();
        sqlx::query(
            "INSERT INTO runner_detail(runner_id, shoes_type, ip_address, target_id, cloud_id, resource_type, \
             repository_url, request_webhook, runner_user, provider_url) \
             VALUES (?, 'lxd', '', ?, 'i-of-the-original', 'nano', 'https://github.com/acme', '{}', 'runner', NULL)",
        )
        .bind(runner)
        .bind(target)
        .execute(&mut *transaction)
        .await
        .unwrap();
        sqlx::query("INSERT INTO runners_running(runner_id) VALUES (?)")
            .bind(runner)
            .execute(&mut *transaction)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
    }

    /// A new target, and a change of another one's status, in its words.
    async fn has_registered(&mut self, id: &str, scope: &str) {
        sqlx::query(
            "INSERT INTO targets(uuid, scope, ghe_domain, github_token, token_expired_at, resource_type, \
             provider_url) VALUES (?, ?, NULL, 'ghs_its_own', '2030-01-02 03:04:05', 'large', NULL)",
        )
        .bind(id)
        .bind(scope)
        .execute(&mut self.sql)
        .await
        .unwrap();
    }

    async fn ends(self) {
        // Its lock goes with its connection.
        self.sql.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_original_goes_on_with_the_database_and_gives_it_back() {
    let Some(plugin) = plugin() else { return };
    let Some(database) = Database::new().await else { return };
    let shoes = Shoes::new(plugin).await.with_variable("MYSQL_URL", &database.dsn);
    let (daemon, api) = shoes.started().await;
    let acme = api.create(ORG, "nano").await;
    let quoted = api.create("acme/it's", "micro").await;
    let deleted = api.create("acme/gone", "small").await;
    api.delete(&deleted).await;
    shoes.queue(ORG, "myshoes-acme", 2, 600_000);
    shoes.queue("acme/it's", "myshoes-acme-it-s", 1, 50);
    let done = |state: &fleetfoot_sim::BoxState| {
        state.summary.jobs_completed == 1 && state.summary.jobs_running == 2
    };
    shoes.sets("two of three jobs", done).await;
    eventually("the rows of three machines", BOUND, || async {
        let alive = database.number("SELECT COUNT(*) FROM runners_running").await;
        let gone = database.number("SELECT COUNT(*) FROM runners_deleted").await;
        ((alive, gone) == (2, 1)).then_some(())
    })
    .await;
    daemon.stop().await;

    let mut original = Original::start(&database).await;
    let mut targets = original.targets().await;
    targets.sort_by(|one, other| one.scope.cmp(&other.scope));
    let seen: Vec<_> = targets.iter().map(|it| (it.scope.as_str(), it.status.as_str())).collect();
    assert_eq!(seen, [(ORG, "active"), ("acme/gone", "deleted"), ("acme/it's", "active")]);
    assert!(targets.iter().all(|it| it.token.is_empty() && it.token_lives < 0), "{targets:?}");
    assert_eq!(original.refresh_tokens().await, [ORG, "acme/it's"], "at once, and both");
    assert!(original.refresh_tokens().await.is_empty(), "they hold for an hour");
    let acme_id = acme["id"].as_str().unwrap();
    let machines = original.machines(acme_id).await;
    assert_eq!(machines.len(), 2);
    assert!(original.machines(quoted["id"].as_str().unwrap()).await.is_empty());
    for (runner, cloud_id, labels) in &machines {
        assert!(runner.parse::<uuid::Uuid>().is_ok() && cloud_id.starts_with("i-"), "{cloud_id}");
        assert_eq!(labels, &["scaleset", ORG], "as its plugin is told");
    }
    // One of ours is done and deleted by it; it makes one of its own, and a target.
    original.has_deleted(&machines[0].0).await;
    original.has_made("7d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1", acme_id).await;
    original.has_registered("8d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1", "acme/new").await;
    original.ends().await;

    // Ours again: the target of the original's is served, and its tokens are left alone.
    let (daemon, _api) = shoes.started().await;
    shoes
        .sets("the new target's scale set", |state| {
            state.scale_sets.iter().any(|set| set.name == "myshoes-acme-new")
        })
        .await;
    // Its machine's runner is gone at GitHub, so the machine is deleted by the name that the row has.
    eventually("the deletion of the original's machine", BOUND, || async {
        let deleted = shoes
            .calls()
            .iter()
            .any(|line| line.ends_with(" delete i-of-the-original scaleset,acme"));
        let row = "SELECT COUNT(*) FROM runners_deleted WHERE runner_id = \
             '7d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1' AND reason = 'completed'";
        (deleted && database.number(row).await == 1).then_some(())
    })
    .await;
    shoes.queue("acme/new", "myshoes-acme-new", 1, 50);
    let done = |state: &fleetfoot_sim::BoxState| state.summary.jobs_completed == 2;
    shoes.sets("a job of the new target", done).await;
    let tokens =
        "SELECT COUNT(*) FROM targets WHERE github_token IN ('ghs_renewed', 'ghs_its_own')";
    assert_eq!(database.number(tokens).await, 3);
    daemon.stop().await;
    database.done().await;
}

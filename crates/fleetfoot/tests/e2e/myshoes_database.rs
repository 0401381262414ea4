//! The binary as `myshoes` on the original's own database, which is a real MariaDB.

use fleetfoot_sim::BoxState;
use serde_json::json;

use crate::harness::{Api, BOUND, Database, ORG, OwnMariaDb, Shoes, eventually, plugin, unique};
use crate::myshoes_lock::{ends_without_its_lock, lose_lock};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_its_own_database_one_works_and_the_next_takes_over() {
    let Some(plugin) = plugin() else { return };
    let Some(database) = Database::new().await else { return };
    let shoes = Shoes::new(plugin).await.with_variable("MYSQL_URL", &database.dsn);
    // A row that the original made, with its token.
    sqlx::query(
        "INSERT INTO targets (uuid, scope, github_token, token_expired_at, resource_type) VALUES \
         ('3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1', 'acme', 'ghs_x', '2024-01-02 03:04:05', 'small')",
    )
    .execute(&database.admin)
    .await
    .unwrap();
    let (first, api) = shoes.started().await;
    // What a client may not say is in no column.
    let body = json!({
        "scope": "acme/app", "resource_type": "nano", "ghe_domain": "https://x", "runner_user": "y",
        "github_token": "z", "status": "suspend",
    });
    let (status, target) = api.post("/target", &body).await;
    assert_eq!((status, &target["status"]), (201, &json!("active")), "{target}");
    assert_eq!(target["token_expired_at"], "2000-01-01T00:00:00Z");
    let row = format!(
        "SELECT COUNT(*) FROM targets WHERE scope = 'acme/app' AND ghe_domain = '{}' AND github_token = ''",
        shoes.bed.github.url()
    );
    assert_eq!(database.number(&row).await, 1);
    shoes.sets("two scale sets", |state| state.scale_sets.len() == 2).await;
    shoes.queue(ORG, "myshoes-acme", 2, 30_000);
    shoes.queue("acme/app", "myshoes-acme-app", 2, 50);
    let done =
        |state: &BoxState| state.summary.jobs_completed == 2 && state.summary.jobs_running == 2;
    shoes.sets("two of four jobs", done).await;
    eventually("rows of the original", BOUND, || async {
        let alive = database.number("SELECT COUNT(*) FROM runners_running").await;
        let gone = "SELECT COUNT(*) FROM runners_deleted WHERE reason = 'completed'";
        ((alive, database.number(gone).await) == (2, 2)).then_some(())
    })
    .await;
    let small = "SELECT COUNT(*) FROM runner_detail JOIN runners_running USING (runner_id) \
         WHERE resource_type = 'small' AND cloud_id LIKE 'i-%' AND runner_user = 'root'";
    assert_eq!(database.number(small).await, 2);
    // Another one on the same database waits, on another host's state.
    let other = shoes.bed.path("other");
    let mut command = shoes.command();
    command.env("STATE_DIRECTORY", &other).env("STANDBY_PORT", "0");
    let second = shoes.bed.daemon(command);
    let health = eventually("the standby's port", BOUND, || async {
        let text = second.stderr();
        let line = text.lines().find(|line| line.contains("standby tells its health on "))?;
        let port = line.rsplit_once(':')?.1.trim().to_owned();
        Some(format!("http://127.0.0.1:{port}/healthz"))
    })
    .await;
    let answer = api.http.get(&health).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "{\"health\":\"standby\"}\n");
    eventually("the second one's wait", BOUND, || async {
        let lines = second.stderr();
        (lines.matches("start getting lock...").count() > 2).then_some(())
    })
    .await;
    assert!(!second.stderr().contains("start webserver"));
    lose_lock(&database).await;
    ends_without_its_lock(first).await;
    let api = Api::of(&second).await;
    assert!(api.http.get(&health).send().await.is_err(), "it stands by no longer");
    let page = api.http.get(format!("{}/metrics", api.base)).send().await.unwrap();
    let page = page.text().await.unwrap();
    let running =
        "myshoes_datastore_runners_running{target_id=\"3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1\"} 2";
    assert!(page.contains(running) && page.contains("fleetfoot_info"), "{page}");
    api.delete(&target).await;
    shoes.sets("one scale set", |state| state.scale_sets.len() == 1).await;
    let running = |state: &BoxState| state.summary.jobs_running == 2;
    shoes.sets("nothing that ran was touched", running).await;
    second.stop().await;
    // What runs on is left to the next start, or to the original.
    assert_eq!(database.number("SELECT COUNT(*) FROM runners_running").await, 2);
    assert_eq!(shoes.count("add"), 4, "{:?}", shoes.calls());
    database.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_stored_for_who_wants_them() {
    let Some(plugin) = plugin() else { return };
    let Some(database) = Database::new().await else { return };
    let shoes = Shoes::new(plugin)
        .await
        .with_variable("MYSQL_URL", &database.dsn)
        .with_variable("MYSHOES_STORE_TOKENS", "true");
    sqlx::query(
        "INSERT INTO targets (uuid, scope, github_token, token_expired_at, resource_type) VALUES \
         ('3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1', 'acme', '', '2000-01-01 00:00:00', 'small')",
    )
    .execute(&database.admin)
    .await
    .unwrap();
    let (daemon, api) = shoes.started().await;
    let target = api.create("acme/app", "nano").await;
    assert_ne!(target["token_expired_at"], "2000-01-01T00:00:00Z");
    let fresh = "SELECT COUNT(*) FROM targets WHERE github_token LIKE 'ghs%' AND \
         token_expired_at > NOW() + INTERVAL 20 MINUTE";
    eventually("both tokens", BOUND, || async {
        (database.number(fresh).await == 2).then_some(())
    })
    .await;
    // They are there, and nobody is told of them: neither by an answer nor by a line.
    let id = target["id"].as_str().unwrap();
    for path in ["/target".to_owned(), format!("/target/{id}"), "/metrics".to_owned()] {
        let answer = api.http.get(format!("{}{path}", api.base)).send().await.unwrap();
        let page = answer.text().await.unwrap();
        assert!(page.contains("acme/app") || path == "/metrics", "{page}");
        assert!(!page.contains("ghs") && !page.contains("github_token"), "{page}");
    }
    // One that comes back has a new one at once: the next look at tokens is minutes away.
    api.delete(&target).await;
    let old = "UPDATE targets SET github_token = 'old', token_expired_at = '2024-01-02 03:04:05' \
         WHERE status = 'deleted'";
    sqlx::query(old).execute(&database.admin).await.unwrap();
    assert_eq!(database.number(fresh).await, 1);
    let again = api.create("acme/app", "nano").await;
    assert_eq!(again["id"], target["id"]);
    assert_eq!(database.number(fresh).await, 2);
    assert_eq!(daemon.stdout(), "");
    assert!(!daemon.stderr().contains("ghs"), "no token is logged");
    daemon.stop().await;
    database.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_reached_by_socket_and_with_parameters() {
    let Some(plugin) = plugin() else { return };
    let Some(database) = Database::new().await else { return };
    let run = async |sql: String| {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&database.admin).await.unwrap();
    };
    // Who comes by the socket is another user to the server.
    let user = unique("u");
    run(format!("CREATE USER '{user}'@'localhost' IDENTIFIED BY 'p/w@d'")).await;
    run(format!("GRANT ALL ON {}.* TO '{user}'@'localhost'", database.name)).await;
    let socket = sqlx::query("SELECT @@socket").fetch_one(&database.admin).await.unwrap();
    let socket: String = sqlx::Row::get_unchecked(&socket, 0);
    let dsn = format!(
        "{user}:p/w@d@unix({socket})/{}?parseTime=true&loc=Asia%2FTokyo&timeout=5s&tls=false",
        database.name
    );
    let shoes = Shoes::new(plugin).await.with_variable("MYSQL_URL", &dsn);
    let (daemon, api) = shoes.started().await;
    api.create(ORG, "nano").await;
    assert_eq!(database.number("SELECT COUNT(*) FROM targets").await, 1);
    let lines = daemon.stderr();
    assert!(lines.contains("MYSQL_URL: timeout is not used"), "{lines}");
    assert!(!lines.contains("p/w@d"), "no password is logged");
    daemon.stop().await;
    run(format!("DROP USER '{user}'@'localhost'")).await;
    database.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_certificate_of_its_own_is_reached_as_the_address_says() {
    let Some(plugin) = plugin() else { return };
    let Some((server, authority)) = OwnMariaDb::with_tls().await else { return };
    let database = Database::at(&server.url()).await;
    // Whoever comes without TLS is not let in.
    for sql in [
        "CREATE USER 'tls'@'127.0.0.1' IDENTIFIED BY 'pw' REQUIRE SSL".to_owned(),
        format!("GRANT ALL ON {}.* TO 'tls'@'127.0.0.1'", database.name),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&database.admin).await.unwrap();
    }
    let (_, place) = database.dsn.split_once('@').unwrap();
    let address = |tls: &str| format!("tls:pw@{place}?tls={tls}");
    let mut shoes = Shoes::new(plugin).await;
    for (tls, words) in [("true", "UnknownIssuer"), ("false", "Access denied for user 'tls'")] {
        let output = shoes.ends("MYSQL_URL", Some(&address(tls))).await;
        let text = String::from_utf8(output.stderr).unwrap();
        let errors: Vec<&str> = text.lines().filter(|line| line.contains(words)).collect();
        assert_eq!((output.status.code(), errors.len()), (Some(1), 1), "{tls}: {text}");
        assert!(!text.contains(":pw@"), "{text}");
    }
    for (tls, trusted) in [("skip-verify", ""), ("preferred", ""), ("true", "authority")] {
        // As the other programs of this host are told whom to trust.
        let file = if trusted.is_empty() { String::new() } else { authority.display().to_string() };
        shoes =
            shoes.with_variable("MYSQL_URL", &address(tls)).with_variable("SSL_CERT_FILE", &file);
        let (daemon, api) = shoes.started().await;
        api.create(&format!("acme/{tls}"), "nano").await;
        daemon.stop().await;
    }
    assert_eq!(database.number("SELECT COUNT(*) FROM targets").await, 3);
    database.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_runners_that_are_long_gone_are_removed_for_who_wants_that() {
    let Some(plugin) = plugin() else { return };
    let Some(database) = Database::new().await else { return };
    let shoes = Shoes::new(plugin).await.with_variable("MYSQL_URL", &database.dsn);
    let run = async |sql: String| {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&database.admin).await.unwrap();
    };
    run("INSERT INTO targets (uuid, scope, github_token, token_expired_at, resource_type) VALUES \
         ('3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1', 'acme', '', '2024-01-02 03:04:05', 'small')"
        .to_owned())
    .await;
    for (number, days) in [(1, 40), (2, 31), (3, 29)] {
        let runner = format!("00000000-0000-4000-8000-00000000000{number}");
        run(format!("INSERT INTO runners (uuid) VALUES ('{runner}')")).await;
        run(format!(
            "INSERT INTO runner_detail (runner_id, shoes_type, ip_address, target_id, cloud_id, resource_type, \
             repository_url, request_webhook) VALUES ('{runner}', 't', '', '3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1', \
             'i-{number}', 'small', 'https://github.com/acme', '')"
        ))
        .await;
        run(format!(
            "INSERT INTO runners_deleted (runner_id, reason, created_at) VALUES \
             ('{runner}', 'completed', NOW() - INTERVAL {days} DAY)"
        ))
        .await;
    }
    let count = |table: &'static str| {
        let sql = format!("SELECT COUNT(*) FROM {table}");
        let database = &database;
        async move { database.number(&sql).await }
    };
    // By default they stay, as with the original.
    let (daemon, _) = shoes.started().await;
    shoes.sets("a poll", |state| state.summary.polls == 1).await;
    daemon.stop().await;
    assert_eq!(count("runner_detail").await, 3);
    let shoes = shoes.with_variable("MYSHOES_HISTORY_DAYS", "30");
    let (daemon, _) = shoes.started().await;
    shoes.queue(ORG, "myshoes-acme", 1, 50);
    shoes.bed.all_succeeded(1, BOUND).await;
    shoes.nothing_left().await;
    for table in ["runner_detail", "runners", "runners_deleted"] {
        eventually(&format!("the young ones alone in {table}"), BOUND, || async {
            (count(table).await == 2).then_some(())
        })
        .await;
    }
    let young = "SELECT COUNT(*) FROM runner_detail WHERE cloud_id = 'i-3'";
    assert_eq!(database.number(young).await, 1);
    assert!(daemon.stderr().contains("rows of old runners are removed"), "{}", daemon.stderr());
    daemon.stop().await;
    database.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_not_there_yet_is_waited_for() {
    let Some(plugin) = plugin() else { return };
    let Some(mut server) = OwnMariaDb::start().await else { return };
    let database = Database::at(&server.url()).await;
    server.kill().await;
    let shoes = Shoes::new(plugin).await.with_variable("MYSQL_URL", &database.dsn);
    let daemon = shoes.start();
    let line = format!("@{}/{} is not there yet: ", server.place(), database.name);
    eventually("two lines that say so", BOUND, || async {
        let said = daemon.stderr();
        (said.matches(&line).count() >= 2).then_some(())
    })
    .await;
    assert!(!daemon.stderr().contains("start webserver"), "{}", daemon.stderr());
    server.start_again().await;
    let api = Api::of(&daemon).await;
    api.create(ORG, "nano").await;
    daemon.stop().await;
    database.done().await;
}

/// Times are of the database's server and of nobody's zone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_in_another_zone_tells_the_same_time() {
    let Some(plugin) = plugin() else { return };
    let Some(server) = OwnMariaDb::in_zone("+09:00").await else { return };
    let database = Database::at(&server.url()).await;
    let zone = "SELECT @@global.time_zone = '+09:00'";
    assert_eq!(database.number(zone).await, 1, "in Tokyo is whoever says nothing");
    let shoes = Shoes::new(plugin).await.with_variable("MYSQL_URL", &database.dsn);
    let (daemon, api) = shoes.started().await;
    let target = api.create(ORG, "nano").await;
    assert_eq!(target["token_expired_at"], "2000-01-01T00:00:00Z");
    for field in ["created_at", "updated_at"] {
        let at: jiff::Timestamp = target[field].as_str().unwrap().parse().unwrap();
        let away = jiff::Timestamp::now().duration_since(at).as_hours();
        assert_eq!(away, 0, "{field}: {target}");
    }
    let token = "SELECT COUNT(*) FROM targets WHERE UNIX_TIMESTAMP(token_expired_at) = 946684800";
    assert_eq!(database.number(token).await, 1);
    shoes.queue(ORG, "myshoes-acme", 1, 50);
    shoes.bed.all_succeeded(1, BOUND).await;
    shoes.nothing_left().await;
    assert_eq!(shoes.count("add"), 1, "no machine is too young or too old");
    daemon.stop().await;
    database.done().await;
}

//! Opening: again, beside a writer, what is newer, damaged, missing, unreachable.

use std::fs;
use std::time::{Duration, Instant};

use fleetfoot_core::{InstallationId, Timestamp};
use fleetfoot_store::{Fault, Location, OpenError, Options, ReadError, Store, UpdateError};

use crate::bed::{Bed, instance_name, on_every_database, pending, pool_name, with_pools};

async fn committed_state_is_there_again(bed: &Bed) {
    let options = Options { now: Some(Timestamp(77)), ..Options::default() };
    let store = bed.open_with(options).await;
    assert_eq!(store.created_at(), Timestamp(77));
    assert!(!store.was_lost());
    with_pools(&store, &["p"]).await;
    store.update(|txn| txn.insert_instance(pending("p-00000001", "p"))).await.unwrap().unwrap();
    let (before, installation) = (store.pools(), store.installation().clone());
    store.close().await;
    let store = bed.open().await;
    assert_eq!(store.pools(), before);
    assert_eq!(*store.installation(), installation);
    assert_eq!(store.created_at(), Timestamp(77), "a store keeps its age");
    store.close().await;
}

async fn a_reader_stands_beside_the_writer(bed: &Bed) {
    let missing = Store::open_read_only(bed.location.clone()).await.unwrap_err();
    assert!(matches!(missing, OpenError::Missing { .. }), "{missing}");
    let store = bed.open().await;
    with_pools(&store, &["p"]).await;
    let reader = Store::open_read_only(bed.location.clone()).await.unwrap();
    assert_eq!(reader.pools(), store.pools());
    assert_eq!(reader.installation(), store.installation());
    assert!(matches!(reader.update(|_| ()).await, Err(UpdateError::ReadOnly)));
    store.update(|txn| txn.insert_instance(pending("p-00000001", "p"))).await.unwrap().unwrap();
    assert!(reader.instance(&instance_name("p-00000001")).is_none());
    reader.refresh().await.unwrap();
    assert!(reader.instance(&instance_name("p-00000001")).is_some());
    assert_eq!(reader.events(fleetfoot_store::EventFilter::default()).await.unwrap().len(), 1);
    // The reader holds nothing that stops the writer.
    store.update(|txn| txn.pool_mut(&pool_name("p")).unwrap().demand.known = true).await.unwrap();
    reader.check().await.unwrap();
    store.close().await;
    // Without a daemon it reads as well.
    let alone = Store::open_read_only(bed.location.clone()).await.unwrap();
    assert!(alone.instance(&instance_name("p-00000001")).is_some());
    alone.close().await;
    reader.close().await;
}

async fn a_newer_schema_is_refused_by_name(bed: &Bed) {
    let store = bed.open().await;
    store.close().await;
    bed.sql("UPDATE fleetfoot_meta SET content = '7' WHERE name = 'schema'").await;
    // Additive: the row says that programs of schema 4 can go on.
    bed.open().await.close().await;
    bed.sql("UPDATE fleetfoot_meta SET content = '5' WHERE name = 'min_version'").await;
    bed.sql("UPDATE fleetfoot_meta SET content = '9.9.9' WHERE name = 'written_by'").await;
    for error in [
        Store::open(bed.location.clone(), Options::default()).await.unwrap_err(),
        Store::open_read_only(bed.location.clone()).await.unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(matches!(error, OpenError::Newer { found: 7, needs: 5, known: 4, .. }), "{text}");
        for part in ["9.9.9", "schema 7", "schema 5", "schema 4", env!("CARGO_PKG_VERSION")] {
            assert!(text.contains(part), "{part} in: {text}");
        }
        assert!(!text.contains('\n') && !text.ends_with('.'));
    }
}

async fn the_identity_of_before_is_kept(bed: &Bed) {
    let file = InstallationId::new("11111111-2222-3333-4444-555555555555").unwrap();
    let options = Options { installation: Some(file.clone()), ..Options::default() };
    let store = bed.open_with(options.clone()).await;
    assert_eq!(*store.installation(), file);
    assert!(store.was_lost(), "an identity without its store");
    store.close().await;
    let store = bed.open_with(options.clone()).await;
    assert!(store.was_lost(), "so until someone looked at what it left behind");
    store.strays_seen().await.unwrap();
    assert!(!store.was_lost());
    store.close().await;
    let store = bed.open_with(options).await;
    assert!(!store.was_lost());
    store.close().await;
    let other = InstallationId::new("other").unwrap();
    let options = Options { installation: Some(other), ..Options::default() };
    let error = Store::open(bed.location.clone(), options).await.unwrap_err();
    assert!(matches!(error, OpenError::OtherInstallation { .. }), "{error}");
}

on_every_database!(
    committed_state_is_there_again,
    a_reader_stands_beside_the_writer,
    a_newer_schema_is_refused_by_name,
    the_identity_of_before_is_kept,
);

#[tokio::test]
async fn a_schema_that_another_one_changes_is_left_alone() {
    use sqlx::{Connection as _, Row as _};
    let Some(bed) = Bed::mariadb().await else { return };
    let Location::Url(url) = &bed.location else { unreachable!() };
    let mut other = sqlx::MySqlConnection::connect(url).await.unwrap();
    let lock = "SELECT GET_LOCK(CONCAT('fleetfoot ', DATABASE()), 0)";
    let got = sqlx::query(lock).fetch_one(&mut other).await.unwrap();
    assert_eq!(got.get_unchecked::<i64, _>(0), 1);
    let error = Store::open(bed.location.clone(), Options::default()).await.unwrap_err();
    assert!(matches!(error, OpenError::Driver { fault: Fault::Unreachable, .. }), "{error}");
    let tables = sqlx::query("SHOW TABLES").fetch_all(&mut other).await.unwrap();
    assert_eq!(tables.len(), 0, "it made some");
    other.close().await.unwrap();
    bed.open().await.close().await;
    bed.done().await;
}

fn file(bed: &Bed) -> std::path::PathBuf {
    match &bed.location {
        Location::Sqlite(path) => path.clone(),
        Location::Url(_) => unreachable!(),
    }
}

fn one_line(error: &OpenError, parts: &[&str]) {
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    for part in parts {
        assert!(text.contains(part), "`{part}` in: {text}");
    }
}

#[tokio::test]
async fn damage_is_one_clear_error_and_nothing_is_changed() {
    let bed = Bed::sqlite().await.unwrap();
    let store = bed.open().await;
    with_pools(&store, &["p"]).await;
    for number in 0..400 {
        let name = format!("p-{number:08x}");
        store.update(move |txn| txn.insert_instance(pending(&name, "p"))).await.unwrap().unwrap();
    }
    store.close().await;
    let path = file(&bed);
    let good = fs::read(&path).unwrap();

    let nonsense = "this is no database, whatever its name says. ".repeat(200);
    let mut torn = good.clone();
    let middle = torn.len() / 2 / 4096 * 4096;
    torn[middle..middle + 8192].fill(0xa5);
    let cut = good[..good.len() / 2 / 4096 * 4096].to_vec();
    for bad in [nonsense.into_bytes(), torn, cut] {
        fs::write(&path, &bad).unwrap();
        let error = Store::open(bed.location.clone(), Options::default()).await.unwrap_err();
        assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
        one_line(&error, &[path.to_str().unwrap(), "damaged", "restore a backup"]);
        assert_eq!(fs::read(&path).unwrap(), bad, "a damaged file is evidence");
    }
    fs::write(&path, &good).unwrap();
    assert_eq!(bed.open().await.pool(&pool_name("p")).unwrap().instances.len(), 400);
}

#[tokio::test]
async fn backups_are_complete_and_narrow() {
    use std::os::unix::fs::PermissionsExt;
    let bed = Bed::sqlite().await.unwrap();
    let store = bed.open().await;
    with_pools(&store, &["p"]).await;
    let to = file(&bed).with_extension("backup");
    store.backup(&to).await.unwrap();
    store.backup(&to).await.unwrap();
    let copy = Store::open_read_only(Location::Sqlite(to.clone())).await.unwrap();
    assert_eq!(copy.pools(), store.pools());
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(file(&bed)).unwrap().permissions().mode() & 0o777, 0o600);
    let error = store.backup(std::path::Path::new("/nowhere/at/all")).await.unwrap_err();
    assert!(matches!(error, ReadError::Driver { .. }));
    assert!(!to.with_extension("backup.partial").exists());
}

#[tokio::test]
async fn places_that_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let open = |location| Store::open(location, Options::default());
    let nowhere = Location::Sqlite(dir.path().join("no/such/directory/store.sqlite"));
    one_line(
        &open(nowhere).await.unwrap_err(),
        &["no/such/directory", "cannot be opened", "make that directory"],
    );
    let directory = Location::Sqlite(dir.path().to_owned());
    one_line(&open(directory).await.unwrap_err(), &["cannot be opened"]);
    let scheme = Location::Url("redis://:secret@h/x".to_owned());
    one_line(&open(scheme).await.unwrap_err(), &["`redis`", "postgres://"]);
    // A port that nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for scheme in ["mysql", "postgres"] {
        let started = Instant::now();
        let location = Location::Url(format!("{scheme}://user:secret@127.0.0.1:{port}/db"));
        let error = open(location).await.unwrap_err();
        one_line(&error, &["does not answer", "user:***@127.0.0.1"]);
        let mut chain = format!("{error:?}");
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            chain.push_str(&error.to_string());
            source = error.source();
        }
        assert!(!chain.contains("secret"), "{chain}");
        assert!(started.elapsed() < Duration::from_secs(20));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_program_that_holds_the_file_is_named_as_that() {
    let bed = Bed::sqlite().await.unwrap();
    let store = bed.open().await;
    with_pools(&store, &["p"]).await;
    let other = rusqlite::Connection::open(file(&bed)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let change = |store: Store| async move {
        store.update(|txn| txn.pool_mut(&pool_name("p")).unwrap().demand.known = true).await
    };
    let error = change(store.clone()).await.unwrap_err();
    assert!(error.to_string().contains("another program holds the database"), "{error}");
    assert!(error.is_transient());
    assert!(!store.pool(&pool_name("p")).unwrap().pool.demand.known, "nothing was published");
    other.execute_batch("ROLLBACK").unwrap();
    change(store.clone()).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named_as_that() {
    for bed in [Bed::postgres().await, Bed::mariadb().await].into_iter().flatten() {
        let Location::Url(url) = &bed.location else { unreachable!() };
        let base = url.split('?').next().unwrap();
        let (server, _) = base.rsplit_once('/').unwrap();
        let location = Location::Url(format!("{server}/no_such_database"));
        let error = Store::open(location, Options::default()).await.unwrap_err();
        one_line(&error, &["no_such_database", "make that directory or database first"]);
        bed.done().await;
    }
}

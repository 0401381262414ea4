//! The keeper against the box: what it fetches, what it tells, what it leaves alone.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::path::Path;
use std::time::Duration;

use fleetfoot_core::{PoolName, RunnerRelease as Told};
use fleetfoot_github::{ConfigUrl, Connection, Credentials, Http, HttpSettings, TokenSource};
use fleetfoot_ordered::watch::Receiver;
use fleetfoot_releases::{Keeper, Order, Shelf, Wanted};
use fleetfoot_sim::{
    BoxConfig, DEFAULT_TOKEN, Endpoint, Fault, FaultAction, GithubBox, RunnerRelease, Settings,
};

const BOUND: Duration = Duration::from_secs(30);

async fn github(versions: &[&str]) -> GithubBox {
    let github = GithubBox::start(BoxConfig::with_settings(Settings::default())).await.unwrap();
    offer(&github, versions);
    github
}

fn offer(github: &GithubBox, versions: &[&str]) {
    let releases = versions.iter().map(|version| RunnerRelease::new(*version, "/bin/true"));
    github.change(|settings| settings.runner_releases = releases.collect());
}

fn order(github: &GithubBox, wanted: Option<Wanted>, brings: Option<&str>) -> Order {
    let http = Http::new(HttpSettings::default()).unwrap();
    let url = ConfigUrl::parse(&github.config_url("acme")).unwrap();
    let token = TokenSource::fixed("test", DEFAULT_TOKEN.into());
    let connection = Connection::new(&http, &url, &Credentials::Token(token)).unwrap();
    Order { connection, wanted, brings: brings.map(str::to_owned) }
}

fn named(name: &str) -> PoolName {
    PoolName::new(name).unwrap()
}

fn cut_off(github: &GithubBox) {
    let mut fault = Fault::once(Endpoint::RunnerReleases, FaultAction::Cut);
    fault.times = None;
    github.inject(fault);
}

/// Runs the keeper until the pool is told this.
async fn until(keeper: &Keeper, told: &Receiver<Told>, wanted: impl Fn(&Told) -> bool) -> Told {
    let waited = async {
        loop {
            let now = told.borrow().clone();
            if wanted(&now) {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        never = keeper.run(|| None) => match never {},
        now = tokio::time::timeout(BOUND, waited) => {
            now.unwrap_or_else(|_| panic!("{:?}", *told.borrow()))
        }
    }
}

fn shelf(dir: &Path) -> Shelf {
    Shelf::new(dir.join("runners"))
}

/// Two pools, one release each, one shelf; a third one brings its own and is told that it is old.
#[tokio::test]
async fn each_pool_has_what_it_wants() {
    let (dir, github) = (tempfile::tempdir().unwrap(), github(&["2.335.0", "2.336.0"]).await);
    let keeper = Keeper::new(shelf(dir.path()), Duration::from_secs(3600));
    let latest = keeper.serve(&named("latest"), order(&github, Some(Wanted::Latest), None));
    let missing = latest.borrow().missing.clone().unwrap();
    assert!(missing.starts_with("no release of the runner is in "), "{missing}");
    let exact = Wanted::Exact("2.335.0".to_owned());
    let exact = keeper.serve(&named("exact"), order(&github, Some(exact), None));
    let own = keeper.serve(&named("own"), order(&github, None, Some("2.100.0")));
    assert_eq!(own.borrow().version.as_deref(), Some("2.100.0"));
    let is = |version: &'static str| move |told: &Told| told.version.as_deref() == Some(version);
    let told = until(&keeper, &latest, is("2.336.0")).await;
    assert_eq!((told.missing, told.accepted_until, told.problem), (None, None, None));
    let told = until(&keeper, &exact, is("2.335.0")).await;
    assert_eq!(told.newest.as_deref(), Some("2.336.0"));
    assert!(told.accepted_until.is_some());
    let told = until(&keeper, &own, |told| told.newest.is_some()).await;
    assert!(told.accepted_until.is_some() && told.missing.is_none());
    let place = keeper.place(&order(&github, Some(Wanted::Latest), None)).unwrap();
    let release = std::fs::read_to_string(place.join("bin/release")).unwrap();
    assert_eq!(release, "2.336.0");
    let left: Vec<String> = std::fs::read_dir(dir.path().join("runners"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert_eq!(left, Vec::<String>::new(), "nothing half done is left");
}

/// With 0 between looks nobody is asked while everything is there; what is not there is asked for all the same.
#[tokio::test]
async fn without_looks_it_asks_for_nothing_but_what_is_missing() {
    let (dir, github) = (tempfile::tempdir().unwrap(), github(&["2.335.0"]).await);
    let wants = || order(&github, Some(Wanted::Latest), None);
    let first = Keeper::new(shelf(dir.path()), Duration::ZERO);
    let told = first.serve(&named("a"), wants());
    until(&first, &told, |told| told.version.is_some()).await;
    cut_off(&github);
    offer(&github, &["2.336.0"]);
    let second = Keeper::new(shelf(dir.path()), Duration::ZERO);
    let held = second.serve(&named("a"), wants());
    assert_eq!(held.borrow().version.as_deref(), Some("2.335.0"), "known before any look");
    let exact = Wanted::Exact("2.336.0".to_owned());
    let missing = second.serve(&named("b"), order(&github, Some(exact), None));
    let told = until(&second, &missing, |told| told.problem.is_some()).await;
    assert!(told.missing.is_some(), "{told:?}");
    assert_eq!(held.borrow().problem, None, "it was not asked for");
}

/// Exit code 7 of a runner means that a newer one is out: it is looked for long before its time.
#[tokio::test]
async fn a_refused_runner_brings_a_look_at_once() {
    let (dir, github) = (tempfile::tempdir().unwrap(), github(&["2.335.0"]).await);
    let keeper = Keeper::new(shelf(dir.path()), Duration::from_secs(86_400));
    let told = keeper.serve(&named("a"), order(&github, Some(Wanted::Latest), None));
    let refused = keeper.refused();
    let mut told = told;
    let seen = async {
        told.wait_for(|told| told.version.as_deref() == Some("2.335.0")).await.unwrap();
        // Nothing else wakes the keeper for a day.
        offer(&github, &["2.335.0", "2.336.0"]);
        refused.notify_one();
        told.wait_for(|told| told.version.as_deref() == Some("2.336.0")).await.unwrap();
    };
    tokio::select! {
        never = keeper.run(|| None) => match never {},
        seen = tokio::time::timeout(BOUND, seen) => seen.unwrap(),
    }
}

/// What GitHub cannot give is told in a line, and another wish is fulfilled at once.
#[tokio::test]
async fn a_release_that_does_not_exist() {
    let (dir, github) = (tempfile::tempdir().unwrap(), github(&["2.336.0"]).await);
    let keeper = Keeper::new(shelf(dir.path()), Duration::from_secs(3600));
    let exact = Wanted::Exact("2.1.0".to_owned());
    let told = keeper.serve(&named("a"), order(&github, Some(exact), None));
    let now = until(&keeper, &told, |told| told.problem.is_some()).await;
    let problem = now.problem.unwrap();
    assert!(!problem.contains('\n') && problem.contains("404"), "{problem}");
    let again = keeper.serve(&named("a"), order(&github, Some(Wanted::Latest), None));
    assert!(again.same_channel(&told), "the pool goes on reading where it read");
    let now = until(&keeper, &told, |told| told.version.is_some()).await;
    assert_eq!(now.problem, None);
}

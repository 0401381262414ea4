//! What belongs to one host, settings that differ, and words that reach the owner.

use rustix::process::Signal;
use serde_json::Value;

use crate::bed::Bed;
use crate::{BOUND, eventually};

fn pool<'a>(status: &'a Value, name: &str) -> &'a Value {
    status["pools"].as_array().unwrap().iter().find(|pool| pool["name"] == name).unwrap()
}

/// Pools of processes never move, not even when their host is dead; the same name on two hosts is refused.
pub(crate) async fn pools_of_hosts_stay_where_they_are(bed: &mut Bed) {
    let (shared, process) = (bed.shared(), bed.process());
    bed.write("a", &[("own", 2, &process), ("s", 2, &shared)]);
    bed.write("b", &[("own", 2, &process), ("other", 2, &process), ("s", 2, &shared)]);
    bed.start("a");
    bed.daemon("a").ready().await;
    bed.start("b");
    let refused = "pool belongs to another host, not serving it: give it another name here, or remove it there first";
    let line = bed.daemon("b").logs(refused).await;
    assert_eq!((&line["pool"], &line["host"]), (&Value::from("own"), &Value::from("a")));
    bed.daemon("b").ready().await;
    bed.queue("own", 1, 20_000);
    bed.queue("other", 1, 100);
    bed.started(2, BOUND).await;
    bed.kill("a").await;
    // The shared pool moves, the host's own one does not, and its instance is not gone.
    let status = eventually("the dead host's pool is out of reach", BOUND, || async {
        let status = bed.status("b").await;
        let own = pool(&status, "own")["causes"][0]["code"] == "host_unreachable";
        let moved = pool(&status, "s")["owner"]["host"] == "b";
        (own && moved).then_some(status)
    })
    .await;
    let own = pool(&status, "own");
    assert_eq!((&own["owner"]["host"], &own["owner"]["alive"]), (&"a".into(), &false.into()));
    assert_eq!(own["occupying"], 1, "{own}");
    let instances = status["instances"].as_array().unwrap();
    let of_own = instances.iter().find(|instance| instance["pool"] == "own").unwrap();
    assert_eq!(of_own["unreachable"], true);
    let text = bed.cli("b", &["status"]).await;
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("a (unreachable)") && text.contains("this one"), "{text}");
    let why = bed.cli("b", &["why", "own"]).await;
    let why = String::from_utf8(why.stdout).unwrap();
    assert!(why.contains("belongs to host a, whose controller does not answer"), "{why}");

    // The host comes back: it takes its pool without waiting for any lease, and the job ends well.
    bed.start("a");
    bed.daemon("a").ready().await;
    bed.all_succeeded(2).await;
    bed.nothing_left("b").await;
    let refused = bed.cli("b", &["hosts", "forget", "a"]).await;
    let refused = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.contains("a controller runs on host `a`"), "{refused}");
    bed.stop_all().await;
    forgotten(bed, "own").await;
}

/// The host of a pool is gone for ever: an operator lets its pools' names go.
async fn forgotten(bed: &Bed, pool: &str) {
    let list = || async {
        let listed = bed.cli("b", &["hosts", "list", "--output", "json"]).await;
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        let hosts: Value = serde_json::from_slice(&listed.stdout).unwrap();
        let mut hosts = hosts.as_array().unwrap().iter();
        let has = |host: &&Value| host["pools"].as_array().unwrap().contains(&pool.into());
        hosts.find(has).map(|host| host["host_id"].as_str().unwrap().to_owned())
    };
    let id = list().await.unwrap();
    let forgotten = bed.cli("b", &["hosts", "forget", &id]).await;
    assert!(forgotten.status.success(), "{}", String::from_utf8_lossy(&forgotten.stderr));
    assert_eq!(list().await, None);
    let unknown = bed.cli("b", &["hosts", "forget", &id]).await;
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("is known"));
}

/// Two versions with other settings for one pool: it stays where it is, both say so, and it moves only when its
/// owner dies. What an operator asks at the wrong controller reaches the right one.
pub(crate) async fn unlike_settings_and_words_for_the_owner(bed: &mut Bed) {
    let shared = bed.shared();
    bed.write("a", &[("p", 2, &shared), ("q", 2, &shared)]);
    bed.write("b", &[("p", 3, &shared), ("q", 2, &shared)]);
    let newer = bed.hosts.get_mut("b").unwrap();
    newer.environment.insert("FLEETFOOT_TEST_VERSION", "9.9.9".to_owned());
    bed.start("a");
    bed.daemon("a").ready().await;
    bed.start("b");
    let unlike = "controllers have different settings for a pool, it stays where it is";
    for host in ["a", "b"] {
        let line = bed.daemon(host).logs(unlike).await;
        assert_eq!(line["pool"], "p");
    }
    eventually("the like pool moves, the unlike one stays", BOUND, || async {
        let owners = bed.owners("b").await;
        (owners.get("p")? == "a" && owners.get("q")? == "b").then_some(())
    })
    .await;
    let status = bed.status("a").await;
    let versions: Vec<&Value> =
        status["controllers"].as_array().unwrap().iter().map(|it| &it["version"]).collect();
    assert!(versions.contains(&&Value::from("9.9.9")), "{versions:?}");
    assert_eq!(pool(&status, "p")["owner"]["unlike"], true);

    // Asked at b, done by a.
    let drained = bed.cli("b", &["drain", "p"]).await;
    assert!(drained.status.success(), "{}", String::from_utf8_lossy(&drained.stderr));
    eventually("the owner drained it", BOUND, || async {
        (pool(&bed.status("a").await, "p")["phase"] == "draining").then_some(())
    })
    .await;
    assert!(bed.cli("b", &["resume", "p"]).await.status.success());
    eventually("the owner resumed it", BOUND, || async {
        (pool(&bed.status("a").await, "p")["phase"] == "active").then_some(())
    })
    .await;

    bed.daemon("a").signal(Signal::KILL);
    eventually("the unlike one moves when its owner is dead", BOUND, || async {
        (bed.owners("b").await.get("p")? == "b").then_some(())
    })
    .await;
    bed.queue("p", 2, 100);
    bed.all_succeeded(2).await;
    bed.nothing_left("b").await;
    bed.hosts.get_mut("a").unwrap().daemon = None;
    bed.stop_all().await;
}

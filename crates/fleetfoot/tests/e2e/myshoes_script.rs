//! The setup script in machines that are clean roots: this host's programs, and nothing else of it. Each has its runner
//! from another place, and is given the script as root or as the runner's user; the runner is the stand-in that the box
//! gives out, it registers there, runs a job, and ends.

use std::os::unix::fs::PermissionsExt as _;

use fleetfoot_sim::{BoxState, Endpoint, Installation, RunnerRelease, Settings};

use crate::harness::{BOUND, ORG, PROGRAM, Shoes, component, eventually, plugin};

const SET: &str = "myshoes-acme";
const VERSION: &str = "2.336.0";

/// Makes a root for the machine, puts the runner where this one has it, and runs the script there.
const WRAPPER: &str = r#"#!/bin/bash
set -e
read -r source user < "$TEST_DIR/next"
root="$TEST_DIR/roots/$source-$user"
mkdir -p "$root/base" "$root/kept"
archive=$(basename "$TEST_ARCHIVE")
case "$source" in
    ready) mkdir "$root/base/runner" && tar -xzf "$TEST_ARCHIVE" -C "$root/base/runner" ;;
    unpacked) mkdir "$root/kept/runner-v$TEST_VERSION" && tar -xzf "$TEST_ARCHIVE" -C "$root/kept/runner-v$TEST_VERSION" ;;
    archive) cp "$TEST_ARCHIVE" "$root/base/$archive" ;;
    kept) cp "$TEST_ARCHIVE" "$root/kept/$archive" ;;
    download) ;;
esac
cp "$1" "$root/base/setup.sh"
chmod -R a+rwX "$root"
chmod 755 "$root/base/setup.sh"
as=()
if [ "$user" != root ]; then
    as=(setpriv "--reuid=$user" "--regid=$user" --clear-groups)
fi
exec "$TEST_BWRAP" --tmpfs / --dev /dev --proc /proc --tmpfs /tmp --ro-bind /usr /usr --ro-bind /etc /etc \
    --symlink usr/bin /bin --symlink usr/sbin /sbin --symlink usr/lib /lib --symlink usr/lib64 /lib64 \
    --bind "$root/base" /base --bind "$root/kept" /usr/local/etc --ro-bind "$TEST_PROGRAM" /runner-program \
    "${as[@]}" /base/setup.sh
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_root_becomes_a_runner_in_every_way() {
    let Some(plugin) = plugin() else { return };
    let Some(bwrap) = component("bwrap", "FLEETFOOT_TEST_BWRAP") else { return };
    if !rustix::process::getuid().is_root() {
        eprintln!("SKIPPED: needs root");
        return;
    }
    let settings = Settings {
        runner_releases: vec![RunnerRelease::new(VERSION, "/runner-program")],
        ..Settings::default()
    };
    let shoes = Shoes::on(plugin, vec![Installation::new(77, ORG)], settings).await;
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let name = format!("actions-runner-linux-{architecture}-{VERSION}.tar.gz");
    let downloads = format!("{}/actions/runner/releases/download", shoes.bed.github.url());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let archive = http.get(format!("{downloads}/v{VERSION}/{name}")).send().await.unwrap();
    let archive = archive.error_for_status().unwrap().bytes().await.unwrap();
    std::fs::write(shoes.bed.path(&name), archive).unwrap();
    let wrapper = shoes.bed.path("wrapper");
    std::fs::write(&wrapper, WRAPPER).unwrap();
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    // Whoever is not root passes through it.
    std::fs::set_permissions(shoes.bed.path("."), std::fs::Permissions::from_mode(0o755)).unwrap();
    let place = |name: &str| shoes.bed.path(name).display().to_string();
    let variables = [
        ("RUNNER_VERSION", VERSION.to_owned()),
        ("RUNNER_USER", "games".to_owned()),
        ("RUNNER_BASE_DIRECTORY", "/base".to_owned()),
        ("RUNNER_DOWNLOAD_URL", downloads),
        ("TEST_IMAGE", String::new()),
        ("TEST_WRAPPER", place("wrapper")),
        ("TEST_ARCHIVE", place(&name)),
        ("TEST_VERSION", VERSION.to_owned()),
        ("TEST_PROGRAM", PROGRAM.to_owned()),
        ("TEST_BWRAP", bwrap),
    ];
    let mut shoes = shoes;
    for (name, value) in variables {
        shoes = shoes.with_variable(name, &value);
    }
    let (daemon, api) = shoes.started().await;
    api.create(ORG, "nano").await;
    shoes.sets("a poll", |state| state.summary.polls == 1).await;
    let fetched = |state: &BoxState| state.requests.get(&Endpoint::RunnerReleases).copied();
    let mut done = 0;
    for source in ["ready", "unpacked", "archive", "kept", "download"] {
        for user in ["root", "games"] {
            std::fs::write(shoes.plugin_dir().join("next"), format!("{source} {user}\n")).unwrap();
            let before = fetched(&shoes.bed.github.state());
            shoes.queue(ORG, SET, 1, 20);
            done += 1;
            let over = |state: &BoxState| state.summary.jobs_completed == done;
            let what = format!("a job in a root whose runner is `{source}`, as {user}");
            let state = shoes.sets(&what, over).await;
            let is_fetched = fetched(&state) != before;
            assert_eq!(is_fetched, source == "download", "{what}");
            let runner = shoes.plugin_dir().join(format!("roots/{source}-{user}/base/runner"));
            let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&runner).unwrap());
            if user == "root" || matches!(source, "archive" | "kept" | "download") {
                assert_ne!(owner, 0, "{what}: the runner's directory is its user's");
            }
            // The script's file held a credential.
            assert!(!runner.with_file_name("main.sh").exists(), "{what}");
        }
    }
    shoes.nothing_left().await;
    eventually("ten machines", BOUND, || async { (shoes.count("add") == 10).then_some(()) }).await;
    daemon.stop().await;
}

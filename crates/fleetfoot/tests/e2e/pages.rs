//! The commands of the documentation, as they stand there, by a shell, against a GitHub in a box.
//!
//! A page's commands are taken from it line by line, so one that is changed there is changed here, and one that is new fails
//! until it is run or named in [`NOT_RUN`] with the reason. What must be another in a test (directories of the system, the
//! address of a box) is replaced in the line before it runs.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use fleetfoot_sim::DEFAULT_TOKEN;

use crate::harness::{BOUND, Bed, ORG, PROGRAM, eventually};

/// Commands that these tests do not run, and who does.
const NOT_RUN: &[(&str, &str, &str)] = &[
    ("README.md", "cargo ", "built and tested by the gate; `demo` by fleetfoot::demo"),
    ("README.md", "sudo apt install ", "xtask::package installs them by dpkg"),
    ("README.md", "fleetfoot bench", "the gate runs rows of it; it takes minutes"),
    ("CONTRIBUTING.md", "", "the gate, and its parts"),
    ("docs/bounds.md", "", "takes an hour; run by hand, its figures stand there"),
    ("docs/getting-started.md", "sudo ", "needs a systemd; run by hand in a new Debian root"),
    ("docs/images.md", "tart ", "fleetfoot-provisioner-tart::images_page"),
    ("docs/images.md", "until tart ", "fleetfoot-provisioner-tart::images_page"),
    ("docs/images.md", "", "the page says how far they were tried"),
    ("docs/library.md", "", "the gate runs the example"),
    ("docs/packages.md", "", "xtask::package, and by hand"),
    ("docs/plugins.md", "", "fleetfoot::e2e::myshoes_fleet builds it so"),
    ("docs/simulation.md", "", "fleetfoot-world, and the gate"),
    ("docs/troubleshooting.md", "docker ps ", "needs a command and containers; run by hand"),
];

/// Pages whose commands are run here, each by the test of its name.
const RUN: [&str; 6] = [
    "README.md",
    "docs/box.md",
    "docs/getting-started.md",
    "docs/moving-from-outrunner.md",
    "docs/operations.md",
    "docs/troubleshooting.md",
];

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The lines of a page's `sh` blocks without comments, continued ones as one.
fn lines(page: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(page)).unwrap();
    let (mut found, mut language) = (Vec::new(), None);
    for line in text.replace("\\\n", " ").lines() {
        match (line.strip_prefix("```"), &language) {
            (Some(_), Some(_)) => language = None,
            (Some(word), None) => language = Some(word.to_owned()),
            (None, Some(word)) if word == "sh" => {
                let line = line.split(" #").next().unwrap_or(line).trim();
                if !line.is_empty() && !line.starts_with('#') {
                    found.push(line.to_owned());
                }
            }
            (None, Some(_) | None) => {}
        }
    }
    found
}

fn not_run(page: &str, line: &str) -> bool {
    NOT_RUN.iter().any(|(of, begins, _)| *of == page && line.starts_with(begins))
}

/// A page, and what of it was run.
struct Page<'a> {
    bed: &'a Bed,
    name: &'static str,
    lines: Vec<String>,
    run: BTreeSet<usize>,
    replaced: Vec<(String, String)>,
}

impl<'a> Page<'a> {
    fn new(bed: &'a Bed, name: &'static str) -> Self {
        let bin = bed.path("bin");
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(PROGRAM, bin.join("fleetfoot")).unwrap();
        let of =
            |text: &str, path: std::path::PathBuf| (text.to_owned(), path.display().to_string());
        let replaced = vec![
            of("/etc/fleetfoot/fleetfoot.yml", bed.config_file()),
            of("/var/lib/fleetfoot", bed.state_dir()),
            of("/backup/", bed.path("backup/")),
        ];
        Self { bed, name, lines: lines(name), run: BTreeSet::new(), replaced }
    }

    /// The next lines that begin so, made ready for this bed. Each is one of the page, and none is taken twice.
    fn take(&mut self, begins: &str) -> String {
        let found = self
            .lines
            .iter()
            .enumerate()
            .find(|(number, line)| line.starts_with(begins) && !self.run.contains(number));
        let (number, line) =
            found.unwrap_or_else(|| panic!("{} has no further `{begins}`", self.name));
        let line =
            self.replaced.iter().fold(line.clone(), |line, (from, to)| line.replace(from, to));
        self.run.insert(number);
        line
    }

    /// Runs a line of the page; what it prints.
    async fn run(&mut self, begins: &str) -> String {
        let line = self.take(begins);
        self.shell(&line).await
    }

    async fn shell(&self, script: &str) -> String {
        let output = tokio::time::timeout(BOUND, self.command(script).output()).await;
        let output = output.unwrap_or_else(|_| panic!("no end of: {script}")).unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{script}: {}\n{out}{err}", output.status);
        out
    }

    fn command(&self, script: &str) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("bash");
        let path = std::env::var("PATH").unwrap();
        let home = self.bed.path("");
        command.args(["-euc", script]).env_clear().current_dir(&home).stdin(Stdio::null());
        command.env("PATH", format!("{}:{path}", self.bed.path("bin").display()));
        command.env("HOME", &home).env("TMPDIR", &home).kill_on_drop(true);
        command
    }

    /// Everything on the page was run, or is named as what is not.
    fn done(self) {
        let left: Vec<&String> = self
            .lines
            .iter()
            .enumerate()
            .filter(|(number, line)| !self.run.contains(number) && !not_run(self.name, line))
            .map(|(_, line)| line)
            .collect();
        assert!(left.is_empty(), "{}: not run: {left:#?}", self.name);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A command is run by a test here, or its page is in the list of those that are not.
#[test]
fn every_command_of_the_pages_is_run_or_named() {
    let mut pages: Vec<String> = ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"]
        .map(str::to_owned)
        .into_iter()
        .collect();
    for directory in ["docs", "docs/decisions", "docs/conformance"] {
        for entry in std::fs::read_dir(root().join(directory)).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name.ends_with(".md") {
                pages.push(format!("{directory}/{name}"));
            }
        }
    }
    for page in pages {
        for line in lines(&page) {
            let known = RUN.contains(&page.as_str()) || not_run(&page, &line);
            assert!(known, "{page}: nobody runs `{line}`");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readme() {
    let bed = Bed::new().await;
    bed.process_pools(&[("linux", 2)]);
    let mut page = Page::new(&bed, "README.md");
    page.run("fleetfoot check").await;
    let run = page.take("fleetfoot run");
    let mut daemon = bed.daemon(page.command(&format!("exec {run}")));
    daemon.ready().await;
    bed.queue("linux", 1, 100);
    bed.all_succeeded(1, BOUND).await;
    daemon.stop().await;
    page.done();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn getting_started() {
    let bed = Bed::new().await;
    let mut page = Page::new(&bed, "docs/getting-started.md");
    std::fs::remove_file(bed.path("token")).unwrap();
    let token = page.take("install -m 600");
    page.shell(&format!("TOKEN={DEFAULT_TOKEN}\n{token}")).await;
    let text = format!(
        "url: {}\ntoken_file: token\nlog: {{ format: json }}\nrunners:\n  linux:\n    labels: [self-hosted, linux]\n    process:\n      runner_dir: runner\n      env: {{ RUNNER_ALLOW_RUNASROOT: 1 }}\nstate_dir: state\n",
        bed.github.config_url(ORG)
    );
    bed.write(&text);
    let checked = page.run("fleetfoot check").await;
    assert!(checked.contains("linux"), "{checked}");
    let run = page.take("fleetfoot run");
    let mut daemon = bed.daemon(page.command(&format!("exec {run}")));
    daemon.ready().await;
    assert!(page.run("fleetfoot status").await.contains("linux"));
    assert!(page.run("fleetfoot why linux").await.contains("linux"));
    daemon.stop().await;
    page.done();
}

/// The trial by hand, from its first line to the four jobs that are done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_box_by_hand() {
    let bed = Bed::new().await;
    let mut page = Page::new(&bed, "docs/box.md");
    let text = std::fs::read_to_string(root().join("docs/box.md")).unwrap();
    let (_, serve) = text.split_once("$ fleetfoot sim serve").unwrap();
    let serve = format!("exec fleetfoot sim serve{}", serve.lines().next().unwrap());
    let mut served = bed.daemon(page.command(&serve));
    let said = served.says("config_url").await;
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let url = said["url"].as_str().unwrap().to_owned();
    page.replaced.push(("http://127.0.0.1:32807".to_owned(), url.clone()));
    std::fs::remove_dir_all(bed.path("runner")).unwrap();
    page.run("mkdir -p runner").await;
    page.run("echo").await;
    let (_, yaml) = text.split_once("```yaml\n").unwrap();
    let yaml = yaml.split("```").next().unwrap();
    bed.write(&yaml.replace("http://127.0.0.1:32807", &url));
    let run = page.take("fleetfoot run");
    let (run, _) = run.rsplit_once('&').unwrap();
    let daemon = bed.daemon(page.command(&format!("exec {run}")));
    let export = page.take("export");
    for (begins, part) in [("fleetfoot sim job", "succeeded"), ("fleetfoot sim state", "4")] {
        let line = page.take(begins);
        let said = page.shell(&format!("{export}\n{line}")).await;
        assert!(said.contains(part), "{said}");
    }
    daemon.stop().await;
    served.signal(rustix::process::Signal::TERM);
    served.ended(Duration::from_secs(10)).await;
    page.done();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations() {
    let bed = Bed::new().await;
    let pools = [("linux", 2), ("old-name", 1)];
    bed.process_pools(&pools);
    std::fs::create_dir(bed.path("backup")).unwrap();
    let mut page = Page::new(&bed, "docs/operations.md");
    let mut first = bed.start_ready().await;
    page.run("fleetfoot drain linux --wait").await;
    assert_eq!(bed.pool("linux").await["phase"], "draining");
    page.run("fleetfoot resume linux").await;
    assert_eq!(bed.pool("linux").await["phase"], "active");
    page.run("fleetfoot check").await;
    page.run("kill -HUP").await;
    first.logs("configuration is the same, credentials were read again").await;
    let takeover = page.take("fleetfoot run");
    let mut second = bed.daemon(page.command(&format!("exec {takeover}")));
    second.ready().await;
    assert!(first.ended(BOUND).await.success());
    bed.process_pools(&pools[..1]);
    eventually("the pool is gone", BOUND, || async {
        let status = bed.status().await;
        (status["pools"].as_array().unwrap().len() == 1).then_some(())
    })
    .await;
    assert!(page.run("fleetfoot scale-set show").await.contains("old-name"));
    assert!(page.run("fleetfoot scale-set delete").await.contains("is deleted"));
    page.run("fleetfoot store check").await;
    page.run("fleetfoot store backup").await;
    second.stop().await;
    page.run("fleetfoot store restore").await;
    page.done();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_from_outrunner() {
    let bed = Bed::new().await;
    let mut page = Page::new(&bed, "docs/moving-from-outrunner.md");
    let (bin, etc) = (bed.path("bin"), bed.path("etc"));
    std::fs::create_dir(&etc).unwrap();
    for (from, to) in [
        ("/usr/local/bin/fleetfoot", bin.join("fleetfoot")),
        ("/usr/bin/outrunner", bin.join("outrunner")),
        ("/etc/outrunner/config.yml", etc.join("config.yml")),
    ] {
        page.replaced.push((from.to_owned(), to.display().to_string()));
    }
    let old = format!(
        "url: {}\ntoken_file: {}\nrunners:\n  linux:\n    labels: [linux]\n    docker: {{ image: local/none }}\n",
        bed.github.config_url(ORG),
        bed.path("token").display()
    );
    std::fs::write(etc.join("config.yml"), old).unwrap();
    page.run("ln -s").await;
    assert!(page.shell("outrunner --version").await.starts_with("outrunner version"));
    page.run("fleetfoot import outrunner").await;
    let imported = std::fs::read_to_string(bed.config_file()).unwrap();
    assert!(imported.contains("takeover: true"), "{imported}");
    // Without an engine it says what is missing; the file itself is right.
    let check = page.take("fleetfoot check");
    page.shell(&format!("{check} --offline")).await;
    page.done();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn troubleshooting() {
    let bed = Bed::new().await;
    bed.process_pools(&[("linux", 1)]);
    let mut page = Page::new(&bed, "docs/troubleshooting.md");
    let daemon = bed.start_ready().await;
    let job = bed.queue("linux", 1, 60_000)[0];
    bed.running(1).await;
    let why = page.take("fleetfoot why SUBJECT");
    let runner = bed.github.job(job).unwrap().runner.unwrap();
    for subject in ["linux", &runner, "acme/app"] {
        let said = page.shell(&why.replace("SUBJECT", subject)).await;
        assert!(said.contains("linux"), "{said}");
    }
    page.run("fleetfoot check").await;
    assert_eq!(page.run("cat").await.trim().len(), 36);
    daemon.stop().await;
    page.done();
}

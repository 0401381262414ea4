//! `cargo xtask test`: all tests, against the real components of this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::components::{self, Kind, Outcome, Set, table};
use crate::process::{is_interrupted, run_loud, run_quiet, run_watched};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install and start what is missing (Debian or Ubuntu, root); fail if one does not come up
    #[arg(long)]
    install: bool,
    /// Build the release binary too, for the tests that run it
    #[arg(long)]
    release: bool,
    /// Test only these packages
    #[arg(short, long, value_name = "PACKAGE")]
    package: Vec<String>,
    /// Run only tests whose names contain one of these
    filters: Vec<String>,
}

impl Args {
    /// What the gate asks for.
    pub(crate) fn for_ci() -> Self {
        Self { install: true, release: true, package: Vec::new(), filters: Vec::new() }
    }
}

/// Tests that ran, as the test programs counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Count {
    /// Adds what a closing line of a test program says; other lines change nothing.
    fn add_line(&mut self, line: &str) {
        let Some((_, rest)) = line.split_once("test result: ") else { return };
        for part in rest.split([';', '.']) {
            let mut words = part.split_whitespace();
            let number = words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
            match words.next() {
                Some("passed") => self.passed += number,
                Some("failed") => self.failed += number,
                _ => {}
            }
        }
    }
}

/// What the test programs print, as it is read: the count, and who failed.
#[derive(Debug, Default)]
struct Watched {
    count: Count,
    failed: Vec<String>,
}

impl Watched {
    fn add_line(&mut self, line: &str) {
        self.count.add_line(line);
        let named = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"));
        self.failed.extend(named.map(str::to_owned));
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// What takes long are the tests of real components, which wait more than they work.
const THREADS_EACH_CORE: usize = 2;

/// Runs the tests and prints the table of components; the count is right even if some failed.
pub(crate) fn run(args: &Args) -> (Count, Result<()>) {
    let mut count = Count::default();
    let result = run_with(args, &mut count);
    (count, result)
}

fn run_with(args: &Args, count: &mut Count) -> Result<()> {
    if args.install {
        components::install(&Kind::ALL)?;
    }
    // Compiling needs no component, so they wait until that is done.
    let mut tests = cargo_test(args);
    run_loud(cargo_test(args).arg("--no-run"))?;
    // Many tests wait more than they work: the release is built beside them, behind them.
    let release = args.release.then(|| std::thread::spawn(build_behind));

    let mut set = Set::new()?;
    for kind in Kind::ALL {
        if is_interrupted() {
            bail!("interrupted");
        }
        set.start(kind);
    }
    with_components(&mut tests, &set, "");
    if args.release {
        tests.env("FLEETFOOT_TEST_SHARE", share(&head()));
    }
    tests.arg("--no-fail-fast").arg("--").args(&args.filters);
    let mut watched = Watched::default();
    let mut result = run_watched(&mut tests, |line| watched.add_line(line));
    if args.release && result.is_err() && !is_interrupted() {
        result = again(args, &set, &mut watched).or(result);
    }
    *count = watched.count;
    if let Some(release) = release {
        let binary = release.join().map_err(|_| anyhow!("the release build panicked"))?;
        let tested = binary.and_then(|binary| {
            let mut tests = of_release(&binary);
            with_components(&mut tests, &set, ",release");
            run_watched(&mut tests, |line| count.add_line(line))
        });
        result = result.and(tested);
    }
    set.take_usage();
    set.stop();
    println!("\n{}", table(&set.outcomes));
    result?;
    check_outcomes(args, &set)
}

/// Tells tests where the components are, and which may not be missing.
fn with_components(tests: &mut Command, set: &Set, more: &str) {
    tests.envs(&set.env).env("FLEETFOOT_TEST_REQUIRE", set.up() + more);
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        tests.env("RUST_TEST_THREADS", (cores * THREADS_EACH_CORE).to_string());
    }
    // What a test leaves in its temporary directory goes with ours.
    tests.env("TMPDIR", set.tests_dir());
}

/// More than these did not fail by chance.
const AGAIN_MAX: usize = 3;

/// The gate's machine is shared: a test that failed is run once more, alone, and if it passes then, that is
/// said and counted. Nobody may get used to it: whoever sees the line mends the test.
fn again(args: &Args, set: &Set, watched: &mut Watched) -> Result<()> {
    let failed = std::mem::take(&mut watched.failed);
    if failed.is_empty() || failed.len() > AGAIN_MAX {
        bail!("{} tests failed", failed.len());
    }
    let mut tests = cargo_test(args);
    with_components(&mut tests, set, "");
    tests.env("FLEETFOOT_TEST_SHARE", share(&head()));
    tests.args(["--no-fail-fast", "--", "--exact", "--test-threads=1"]).args(&failed);
    println!("\nonce more, alone: {}", failed.join(", "));
    let mut second = Watched::default();
    run_watched(&mut tests, |line| second.add_line(line))?;
    if second.count.passed < watched.count.failed {
        bail!("not all of them were found again");
    }
    for name in failed {
        println!("FLAKY: {name} failed, and passed alone");
    }
    watched.count.passed += watched.count.failed;
    watched.count.failed = 0;
    Ok(())
}

/// The tests that run the release binary; by their names, they skip themselves without it.
fn of_release(binary: &Path) -> Command {
    let mut command = Command::new("cargo");
    // As a part of the workspace, or other features of dependencies would build it all again.
    command.args(["test", "--workspace", "--test", "demo", "--bin", "xtask"]);
    command.args(["--", "the_release_build"]);
    command.env("FLEETFOOT_TEST_RELEASE", binary);
    command
}

/// The gate runs a quarter of what takes long, another one with each commit.
const SHARES: usize = 4;

fn share(commit: &str) -> String {
    format!("{}/{SHARES}", commit.bytes().map(usize::from).sum::<usize>() % SHARES)
}

fn head() -> String {
    run_quiet(Command::new("git").args(["rev-parse", "HEAD"])).unwrap_or_default().trim().to_owned()
}

fn cargo_test(args: &Args) -> Command {
    let mut command = Command::new("cargo");
    command.arg("test");
    if args.package.is_empty() {
        command.arg("--workspace");
    }
    for package in &args.package {
        command.args(["--package", package]);
    }
    command
}

/// The release, and then what the gate's next steps are built from. Only its library: the program would take
/// the place of the one that is tested.
fn build_behind() -> Result<PathBuf> {
    let build = |args: &[&str]| {
        let mut command = Command::new("nice");
        run_loud(command.args(["-n", "19", "cargo", "build", "--quiet"]).args(args))
    };
    build(&["--release", "--package", "fleetfoot"])?;
    build(&["--package", "fleetfoot", "--lib", "--features", "faults"])?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let binary = target.join("release/fleetfoot");
    binary.canonicalize().with_context(|| format!("{} was not built", binary.display()))
}

/// With `--install` nothing may be missing; without it, nothing that was found may have failed.
fn check_outcomes(args: &Args, set: &Set) -> Result<()> {
    for (kind, outcome) in &set.outcomes {
        match outcome {
            Outcome::Up { .. } => {}
            Outcome::NotFound | Outcome::Skipped { .. } if !args.install => {}
            // Its guest is made by a script that stands beside this repository, or does not.
            Outcome::Skipped { .. } if *kind == Kind::Libvirt => {}
            Outcome::NotFound | Outcome::Skipped { .. } | Outcome::Failed { .. } => {
                bail!("{} did not come up", kind.title());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_summed() {
        let mut count = Count::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.01s",
            "test a::failed ... ok",
            "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s",
        ] {
            count.add_line(line);
        }
        assert_eq!(count, Count { passed: 7, failed: 2 });
        let mut watched = Watched::default();
        watched.add_line("test a::good ... ok");
        watched.add_line("test a::bad ... FAILED");
        watched.add_line("test result: FAILED. 1 passed; 1 failed; 0 ignored");
        assert_eq!((watched.failed, watched.count.failed), (vec!["a::bad".to_owned()], 1));
        assert_eq!(count.to_string(), "7 passed, 2 failed");
    }
}

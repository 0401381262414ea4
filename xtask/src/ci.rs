//! `cargo xtask ci`: every step of the gate, cheap ones first, each with its duration.
//!
//! A failing step does not hide the ones behind it; at the end there is one list of them.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::process::{find_program, is_interrupted, run_loud};
use crate::tests_run::{self, Count};
use crate::{conformance, crash, defects, order, tidy};

enum Verdict {
    Passed,
    LeftOut(&'static str),
    Failed(anyhow::Error),
}

struct Step {
    name: &'static str,
    took: Duration,
    verdict: Verdict,
}

/// Memory and store over 20,000 jobs; by hand it is ten times as many. Its figures need the release build.
const SOAK: [&str; 5] = ["bench", "soak", "--jobs", "20000", "--output=json"];

/// Every crate as it would be published; what each is built from has been compiled by then.
const PACKAGE: [&str; 8] = [
    "package",
    "--quiet",
    "--workspace",
    "--exclude",
    "xtask",
    "--no-verify",
    "--offline",
    "--allow-dirty",
];

/// Worlds that keep every promise, as many as two cores run in a minute and a half.
const SIMULATE: [&str; 5] = ["simulate", "--seeds", "600", "--kept", "--output=json"];

/// Runs all steps.
pub(crate) fn run() -> Result<()> {
    let mut count = Count::default();
    let mut steps = Vec::new();
    steps.push(step("fmt", || run_loud(&mut cargo(&["fmt", "--all", "--check"]))));
    steps.push(step("tidy", || tidy::run(false)));
    steps.push(deny());
    steps.push(step("clippy", clippy));
    steps.push(step("rustdoc", || {
        let mut command = cargo(&["doc", "--workspace", "--no-deps"]);
        run_loud(command.env("RUSTDOCFLAGS", "-D warnings"))
    }));
    steps.push(step("package", || run_loud(&mut cargo(&PACKAGE))));
    steps.push(step("test", || {
        let (counted, result) = tests_run::run(&tests_run::Args::for_ci());
        count = counted;
        result
    }));
    steps.push(ordered());
    steps.push(step("crash", || crash::run(&crash::Args::for_ci())));
    steps.push(step("soak", || run_loud(&mut fleetfoot(&SOAK))));
    steps.push(step("simulate", || run_loud(&mut fleetfoot(&SIMULATE))));
    steps.push(step("defects", || defects::run(&defects::Args::for_ci())));
    steps.push(step("conformance", conformance::run));
    finish(&steps, count)
}

fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(args);
    command
}

/// The release binary.
fn fleetfoot(args: &[&str]) -> Command {
    let mut command = cargo(&["run", "--release", "--quiet", "-p", "fleetfoot", "--"]);
    command.args(args);
    command
}

fn clippy() -> Result<()> {
    run_loud(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    // What only builds of our own tests contain.
    run_loud(&mut cargo(&[
        "clippy",
        "--workspace",
        "--exclude",
        "xtask",
        "--features",
        "fleetfoot/faults",
        "--",
        "-D",
        "warnings",
    ]))
}

fn deny() -> Step {
    if find_program("cargo-deny").is_none() {
        let verdict = Verdict::LeftOut("there is no cargo-deny here");
        return Step { name: "deny", took: Duration::ZERO, verdict };
    }
    step("deny", || run_loud(&mut cargo(&["deny", "check", "licenses", "bans", "sources"])))
}

/// Whether the list of functions for the linker still stands for the release.
fn ordered() -> Step {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        let verdict = Verdict::LeftOut("the release is linked in another way here");
        return Step { name: "order", took: Duration::ZERO, verdict };
    }
    step("order", || order::run(&order::Args::for_ci()))
}

fn step(name: &'static str, work: impl FnOnce() -> Result<()>) -> Step {
    let start = Instant::now();
    if is_interrupted() {
        return Step { name, took: Duration::ZERO, verdict: Verdict::LeftOut("interrupted") };
    }
    println!("==> {name}");
    let verdict = work().map_or_else(Verdict::Failed, |()| Verdict::Passed);
    if let Verdict::Failed(error) = &verdict {
        eprintln!("xtask: {name}: {error:#}");
    }
    let took = start.elapsed();
    println!("<== {name}: {:.1} s", took.as_secs_f64());
    Step { name, took, verdict }
}

fn finish(steps: &[Step], count: Count) -> Result<()> {
    println!();
    let mut failed = Vec::new();
    for Step { name, took, verdict } in steps {
        let word = match verdict {
            Verdict::Passed => "ok".to_owned(),
            Verdict::LeftOut(why) => format!("left out: {why}"),
            Verdict::Failed(error) => {
                failed.push(*name);
                format!("FAILED: {error:#}")
            }
        };
        println!("{name:12} {:7.1} s  {word}", took.as_secs_f64());
    }
    println!("\n{count}");
    if is_interrupted() {
        bail!("interrupted");
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

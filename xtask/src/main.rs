//! Tasks of this repository, run as `cargo xtask TASK`.
//!
//! xtask is for developers and the gate: it starts real components for the tests, checks the
//! house rules that the compiler does not know, and strings the steps of `.ci/run` together.
//! It knows no room of fleetfoot but the core, for what documents take from it; what it says about
//! the others it reads from `cargo metadata`, from their sources and from `docs/`. Start at [`ci`] and
//! follow it to the single steps.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program for developers: it talks on the terminal, starts programs and waits for them"
)]

mod ci;
mod components;
mod conformance;
mod crash;
mod defects;
mod order;
mod package;
mod process;
mod tests_run;
mod tidy;
mod unix_http;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the fleetfoot repository")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run all tests against the real components of this machine
    Test(tests_run::Args),
    /// Check the house rules: who may know whom, file lengths, forbidden words, stale snapshots
    Tidy {
        /// Shrink the list of long files to what they are today
        #[arg(long)]
        update: bool,
    },
    /// Check that the tables in docs/conformance name tests that exist
    Conformance,
    /// Check that simulated worlds find every defect that was planted
    Defects(defects::Args),
    /// End the real binary at every crash point, start it again, and check that nothing was lost
    Crash(crash::Args),
    /// Run every step of the gate
    Ci,
    /// Make deb, rpm and tar packages with static binaries, and check what is in them
    Package(package::Args),
    /// List the functions that a daemon runs, for the linker to lay beside each other
    Order(order::Args),
    /// Start the real components that tests drive, and print what tests are told
    Components(ComponentsArgs),
}

#[derive(clap::Args)]
struct ComponentsArgs {
    /// Install what is missing (Debian or Ubuntu, root)
    #[arg(long)]
    install: bool,
    /// Leave them running; `--stop DIR` ends them
    #[arg(long)]
    keep: bool,
    /// Write the variables to a file that a shell can source
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Stop a set that was kept, by its directory
    #[arg(long, value_name = "DIR", conflicts_with_all = ["install", "keep", "env_file"])]
    stop: Option<PathBuf>,
}

fn main() -> ExitCode {
    let task = Cli::parse().task;
    let result = process::note_interrupts().and_then(|()| match task {
        Task::Test(args) => test_task(&args),
        Task::Tidy { update } => tidy::run(update),
        Task::Conformance => conformance::run(),
        Task::Defects(args) => defects::run(&args),
        Task::Crash(args) => crash::run(&args),
        Task::Ci => ci::run(),
        Task::Package(args) => package::run(&args),
        Task::Order(args) => order::run(&args),
        Task::Components(args) => components_task(&args),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn test_task(args: &tests_run::Args) -> Result<()> {
    let (count, result) = tests_run::run(args);
    println!("{count}");
    result
}

fn components_task(args: &ComponentsArgs) -> Result<()> {
    if let Some(dir) = &args.stop {
        return components::stop_kept(dir);
    }
    if args.install {
        components::install(&components::Kind::ALL)?;
    }
    let mut set = components::Set::new()?;
    for kind in components::Kind::ALL {
        set.start(kind);
    }
    let mut text = String::new();
    for (name, value) in &set.env {
        let _ = writeln!(text, "export {name}='{value}'");
    }
    let _ = writeln!(text, "export FLEETFOOT_TEST_REQUIRE='{}'", set.up());
    for line in components::table(&set.outcomes).lines() {
        println!("# {line}");
    }
    println!("# directory: {}", set.dir().display());
    print!("{text}");
    if let Some(file) = &args.env_file {
        std::fs::write(file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if args.keep {
        return set.keep();
    }
    println!("# Ctrl-C stops them");
    while !process::is_interrupted() {
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `cargo xtask …` of a page is one of ours, in blocks and between backquotes.
    #[test]
    fn the_commands_of_the_pages_are_ours() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut pages = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
        for directory in ["docs", "docs/decisions", "docs/conformance"] {
            let entries = std::fs::read_dir(root.join(directory)).unwrap().flatten();
            pages.extend(entries.map(|entry| entry.path()).filter(|path| path.is_file()));
        }
        let mut count = 0;
        for page in pages {
            let text = std::fs::read_to_string(&page).unwrap();
            for rest in text.split("cargo xtask ").skip(1) {
                let line = rest.split(['`', '\n', '#']).next().unwrap_or_default();
                let words = line.split_whitespace();
                let words = std::iter::once("xtask").chain(words);
                if let Err(error) = Cli::try_parse_from(words) {
                    panic!("{}: cargo xtask {line}: {error}", page.display());
                }
                count += 1;
            }
        }
        assert!(count > 15, "{count}");
    }
}

//! Which program this is: by the name it was called, or its first word.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use crate::commands;

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let called = words.first().map(|word| file_name(word)).unwrap_or_default();
    // Light roles first: they read no configuration and start no runtime of many threads. Ours are started by the daemon
    // under whatever name it was installed.
    match words.get(1).and_then(|word| word.to_str()) {
        Some("__runner") => return fleetfoot_sim::runner::main(words.into_iter().skip(2)),
        Some("__shim") => {
            return fleetfoot_provisioner_process::shim::main(words.into_iter().skip(2));
        }
        Some(fleetfoot_provisioner_tart::keeper::WORD) => {
            return fleetfoot_provisioner_tart::keeper::main(words.into_iter().skip(2));
        }
        Some(_) | None => {}
    }
    if called == "run.sh" {
        return fleetfoot_sim::runner::main(words.into_iter().skip(1));
    }
    if called == commands::bench::shoes::plugin::NAME {
        return commands::bench::shoes::plugin::main();
    }
    if called == "outrunner" {
        return commands::outrunner::main(words.get(1..).unwrap_or_default());
    }
    if called == "myshoes" {
        return commands::myshoes::main(words.get(1..).unwrap_or_default());
    }
    match words.get(1).and_then(|word| word.to_str()) {
        Some("myshoes") => commands::myshoes::main(words.get(2..).unwrap_or_default()),
        Some("outrunner") => commands::outrunner::main(words.get(2..).unwrap_or_default()),
        Some(_) | None => commands::call(words),
    }
}

fn file_name(word: &OsStr) -> String {
    Path::new(word).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

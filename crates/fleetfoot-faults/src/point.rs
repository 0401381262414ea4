//! Crash points: places where a test may end the program.
//!
//! In a process of its own the environment chooses one (`FLEETFOOT_CRASH_AT=name` or `name#pass`), and the
//! process ends there by SIGKILL. `FLEETFOOT_POINTS_TO=file` has each passed point written to a file, the
//! one that ended the process with a `!` behind it. In a simulated world a hook of the thread decides.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Hears of each point that its thread passes.
type Hook = Box<dyn FnMut(&'static str)>;

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// The variable that names the point to crash at.
const VARIABLE: &str = "FLEETFOOT_CRASH_AT";

/// The variable that names the file for passed points.
const TRACE: &str = "FLEETFOOT_POINTS_TO";

/// Calls `hook` at each point that this thread passes from now on; it may panic to unwind the caller.
pub fn hook(hook: Option<Box<dyn FnMut(&'static str)>>) {
    HOOK.with_borrow_mut(|own| *own = hook);
}

/// A point at which a test may want the program to end.
pub fn point(name: &'static str) {
    // Taken out while it runs: it may panic, and it may pass a point itself.
    if let Some(mut own) = HOOK.with_borrow_mut(Option::take) {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| own(name)));
        HOOK.with_borrow_mut(|place| {
            place.get_or_insert(own);
        });
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
        return;
    }
    trace(name, "\n");
    let Some((wanted, pass)) = chosen() else { return };
    if wanted == name && passes(name) >= *pass {
        trace(name, "!\n");
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // The signal ends the process before anything after the point is done.
        loop {
            std::thread::park();
        }
    }
}

/// Writes a line for whoever watches this process from outside.
fn trace(name: &str, end: &str) {
    static FILE: OnceLock<Option<File>> = OnceLock::new();
    let open = || {
        let path = std::env::var_os(TRACE)?;
        File::options().create(true).append(true).open(path).ok()
    };
    if let Some(mut file) = FILE.get_or_init(open).as_ref() {
        // One write, so that lines of several threads and processes stay whole. Who watches does without
        // a line that cannot be written.
        let _ = file.write_all(format!("{name}{end}").as_bytes());
    }
}

/// The point that the environment names, and at which pass of it.
fn chosen() -> Option<&'static (String, u64)> {
    static CHOSEN: OnceLock<Option<(String, u64)>> = OnceLock::new();
    let parse = || {
        let wanted = std::env::var(VARIABLE).ok()?;
        let (name, pass) = wanted.split_once('#').unwrap_or((&wanted, "1"));
        Some((name.to_owned(), pass.parse().unwrap_or(1)))
    };
    CHOSEN.get_or_init(parse).as_ref()
}

/// How often this process passed the point, this time included.
fn passes(name: &'static str) -> u64 {
    static PASSES: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());
    let mut passes = PASSES.lock().unwrap_or_else(PoisonError::into_inner);
    let count = passes.entry(name).or_default();
    *count += 1;
    *count
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn a_hook_hears_of_points_and_may_unwind_their_caller() {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let heard = seen.clone();
        hook(Some(Box::new(move |name| {
            heard.borrow_mut().push(name);
            assert_ne!(name, "b", "crash");
        })));
        point("a");
        assert!(std::panic::catch_unwind(|| point("b")).is_err());
        point("c");
        hook(None);
        point("d");
        assert_eq!(*seen.borrow(), ["a", "b", "c"]);
    }
}

//! The cases, each by name. A case returns what it saw, or why the contract does not hold.

mod drops;
mod others;
mod plain;

use futures_util::future::BoxFuture;

use super::Verdict;
use super::ground::{Ground, Outcome};

type Case = for<'a> fn(&'a Ground<'a>) -> BoxFuture<'a, Outcome<Verdict>>;

macro_rules! cases {
    ($($name:literal => $path:path,)*) => {
        &[$(($name, |ground| Box::pin($path(ground)))),*]
    };
}

pub(super) const ALL: &[(&str, Case)] = cases! {
    "create and launch show in the list" => plain::create_shows,
    "create is idempotent by name" => plain::create_twice,
    "a second launch is refused or harmless" => plain::launch_twice,
    "delete of what is gone succeeds" => plain::delete_gone,
    "delete stops what runs" => plain::delete_running,
    "the list is complete, dead ones too" => plain::complete_list,
    "a list that is cut is an error, not a part" => others::cut_list,
    "the identity is stable over provisioners" => plain::identity,
    "the exit code is reported" => plain::exit_code,
    "watch sees exits" => plain::watch_exits,
    "watch goes on after its connection broke" => others::watch_resyncs,
    "logs returns the tail" => plain::logs_tail,
    "an environment survives its provisioner" => plain::survives,
    "twenty at once" => others::twenty,
    "foreign things are not touched" => others::foreign,
    "create can be dropped at every await" => drops::create,
    "launch can be dropped at every await" => drops::launch,
    "delete can be dropped at every await" => drops::delete,
    "an answer that comes late is found in the list" => drops::late_answer,
    "a frozen backend goes on where it was" => others::frozen,
    "check finds nothing wrong here" => plain::check,
};

fn passed(detail: impl Into<String>) -> Outcome<Verdict> {
    Ok(Verdict::Passed(detail.into()))
}

fn want(holds: bool, why: impl FnOnce() -> String) -> Outcome<()> {
    if holds { Ok(()) } else { Err(why()) }
}

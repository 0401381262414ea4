//! What one environment does in its life.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;

use super::{passed, want};
use crate::conformance::ground::{Ground, LOOK, Outcome};
use crate::conformance::{Play, Verdict};
use crate::provisioner::{Deletion, EnvironmentState, Event, Severity};

pub(super) fn running(state: Option<&EnvironmentState>) -> bool {
    state == Some(&EnvironmentState::Running)
}

pub(super) fn ended(state: Option<&EnvironmentState>) -> bool {
    matches!(state, Some(EnvironmentState::Ended(_)))
}

pub(super) async fn create_shows(ground: &Ground<'_>) -> Outcome<Verdict> {
    let provisioner = ground.provisioner().await;
    let spec = ground.spec();
    let play = Play::wait();
    let handle = ground.create(&*provisioner, &spec, &play).await?;
    if !ground.capabilities.list {
        return Ok(Verdict::NotDeclared("list"));
    }
    let Some(info) = ground.listed(&*provisioner, &spec.name).await? else {
        return Err("not listed right after create".to_owned());
    };
    want(info.handle == handle, || {
        format!("create answered {handle:?}, the list says {:?}", info.handle)
    })?;
    want(info.pool.is_none() || info.pool.as_ref() == Some(&spec.pool), || {
        format!("wrong pool: {info:?}")
    })?;
    if ground.capabilities.late_binding {
        want(info.state == EnvironmentState::Created, || {
            format!("not listed as created: {info:?}")
        })?;
        let jit = ground.harness.jit(&play);
        ground.within("launch", provisioner.launch(&spec, &handle, &jit)).await?;
    } else {
        let early = ground.harness.jit(&play);
        let refused = provisioner.launch(&spec, &handle, &early).await.is_err();
        want(refused, || "a single-step backend took `launch`".to_owned())?;
    }
    ground.listed_as(&*provisioner, &spec.name, "running", running).await?;
    ground.delete(&*provisioner, &spec.name).await?;
    passed("")
}

pub(super) async fn create_twice(ground: &Ground<'_>) -> Outcome<Verdict> {
    if !ground.capabilities.idempotent_create {
        return Ok(Verdict::NotDeclared("idempotent_create"));
    }
    let provisioner = ground.provisioner().await;
    let spec = ground.spec();
    let first = ground.create(&*provisioner, &spec, &Play::wait()).await?;
    let second = ground.create(&*provisioner, &spec, &Play::wait()).await?;
    want(first == second, || format!("two handles: {first:?} and {second:?}"))?;
    // Both at once, under a fresh name.
    let spec = ground.spec();
    let play = Play::wait();
    let (first, second) = tokio::join!(
        ground.create(&*provisioner, &spec, &play),
        ground.create(&*provisioner, &spec, &play)
    );
    let (first, second) = (first?, second?);
    want(first == second, || format!("two handles at once: {first:?} and {second:?}"))?;
    ground.listed(&*provisioner, &spec.name).await?;
    passed("one after the other and at once")
}

pub(super) async fn launch_twice(ground: &Ground<'_>) -> Outcome<Verdict> {
    if !ground.capabilities.late_binding {
        return Ok(Verdict::NotDeclared("late_binding"));
    }
    let provisioner = ground.provisioner().await;
    let spec = ground.spec();
    let handle = ground.start(&*provisioner, &spec, &Play::wait()).await?;
    ground.listed_as(&*provisioner, &spec.name, "running", running).await?;
    let jit = ground.harness.jit(&Play::exit(9));
    let second = provisioner.launch(&spec, &handle, &jit).await;
    // Were the second runner played, it would exit with 9.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let info = ground.listed(&*provisioner, &spec.name).await?;
    want(running(info.as_ref().map(|it| &it.state)), || {
        format!("the first runner was disturbed: {info:?}")
    })?;
    passed(if second.is_err() { "refused" } else { "harmless" })
}

pub(super) async fn delete_gone(ground: &Ground<'_>) -> Outcome<Verdict> {
    let provisioner = ground.provisioner().await;
    let spec = ground.spec();
    // Absence is proven by lists; who has none is believed either way.
    let told = |what, deletion, wanted| {
        want(deletion == wanted || !ground.capabilities.list, || {
            format!("{what} says {deletion:?}")
        })
    };
    let never = ground.within("delete of what never was", provisioner.delete(&spec.name)).await?;
    told("delete of what never was", never, Deletion::WasAbsent)?;
    ground.create(&*provisioner, &spec, &Play::wait()).await?;
    let first = ground.within("delete", provisioner.delete(&spec.name)).await?;
    told("delete", first, Deletion::Removed)?;
    let again = ground.within("delete of what is gone", provisioner.delete(&spec.name)).await?;
    told("delete of what is gone", again, Deletion::WasAbsent)?;
    passed("never made, and deleted before")
}

pub(super) async fn delete_running(ground: &Ground<'_>) -> Outcome<Verdict> {
    let provisioner = ground.provisioner().await;
    let spec = ground.spec();
    ground.start(&*provisioner, &spec, &Play::wait()).await?;
    let begun = tokio::time::Instant::now();
    // Two at once: whoever comes second finds the removal in progress.
    let (first, second) = tokio::join!(
        ground.within("delete", provisioner.delete(&spec.name)),
        ground.within("delete beside another", provisioner.delete(&spec.name))
    );
    let both = [first?, second?];
    want(both.contains(&Deletion::Removed), || "neither says that it removed it".to_owned())?;
    let took = begun.elapsed();
    if ground.capabilities.list {
        let info = ground.listed(&*provisioner, &spec.name).await?;
        want(info.is_none(), || format!("still listed: {info:?}"))?;
    }
    passed(format!("within {} ms, twice at once", took.as_millis()))
}

pub(super) async fn complete_list(ground: &Ground<'_>) -> Outcome<Verdict> {
    if !ground.capabilities.list {
        return Ok(Verdict::NotDeclared("list"));
    }
    let provisioner = ground.provisioner().await;
    let mut wanted = BTreeMap::new();
    for play in [Play::wait(), Play::exit(0), Play::exit(3)] {
        let spec = ground.spec();
        ground.start(&*provisioner, &spec, &play).await?;
        wanted.insert(spec.name, play);
    }
    if ground.capabilities.late_binding {
        let spec = ground.spec();
        ground.create(&*provisioner, &spec, &Play::wait()).await?;
        let info = ground.listed(&*provisioner, &spec.name).await?;
        want(info.is_some(), || "one that was only made is not listed".to_owned())?;
    }
    for (name, play) in &wanted {
        match play.ending {
            crate::conformance::Ending::Wait => {
                ground.listed_as(&*provisioner, name, "running", running).await?;
            }
            crate::conformance::Ending::Exit { .. } => {
                ground.listed_as(&*provisioner, name, "ended", ended).await?;
            }
        }
    }
    passed("made, running and ended ones")
}

pub(super) async fn identity(ground: &Ground<'_>) -> Outcome<Verdict> {
    if !ground.capabilities.list {
        return Ok(Verdict::NotDeclared("list"));
    }
    let (first, second) = (ground.provisioner().await, ground.provisioner().await);
    let one = ground.list(&*first).await?.identity;
    let other = ground.list(&*second).await?.identity;
    want(!one.is_empty(), || "the identity is empty".to_owned())?;
    want(one == other, || format!("identity `{one}`, then `{other}`"))?;
    want(first.connection() == second.connection(), || "two names for one connection".to_owned())?;
    passed(one)
}

pub(super) async fn exit_code(ground: &Ground<'_>) -> Outcome<Verdict> {
    if !ground.capabilities.list {
        return Ok(Verdict::NotDeclared("list"));
    }
    let provisioner = ground.provisioner().await;
    for code in [0, 3] {
        let spec = ground.spec();
        ground.start(&*provisioner, &spec, &Play::exit(code)).await?;
        let info = ground.listed_as(&*provisioner, &spec.name, "ended", ended).await?;
        let Some(EnvironmentState::Ended(exit)) = info.map(|it| it.state) else { continue };
        want(exit.code == Some(code), || format!("ended with {code}, listed as {exit:?}"))?;
        want(!exit.out_of_memory, || format!("had memory enough, listed as {exit:?}"))?;
    }
    passed("0 and 3")
}

pub(super) async fn watch_exits(ground: &Ground<'_>) -> Outcome<Verdict> {
    if !ground.capabilities.watch {
        return Ok(Verdict::NotDeclared("watch"));
    }
    let provisioner = ground.provisioner().await;
    let mut events = ground.within("watch", provisioner.watch()).await?;
    let mut wanted = BTreeMap::new();
    for code in [0, 5] {
        let spec = ground.spec();
        ground.start(&*provisioner, &spec, &Play::exit(code)).await?;
        wanted.insert(spec.name, code);
    }
    let end = tokio::time::Instant::now() + ground.harness.bound();
    while !wanted.is_empty() {
        let next = tokio::time::timeout_at(end, events.next()).await;
        match next {
            Err(_) => return Err(format!("no event for {:?}", wanted.keys())),
            Ok(None) => return Err("the stream ended".to_owned()),
            Ok(Some(Event::Resynced)) => {}
            Ok(Some(Event::Ended { name, exit })) => {
                if let Some(code) = wanted.remove(&name) {
                    want(exit.code == Some(code), || {
                        format!("ended with {code}, the event says {exit:?}")
                    })?;
                }
            }
        }
    }
    passed("with their codes")
}

pub(super) async fn logs_tail(ground: &Ground<'_>) -> Outcome<Verdict> {
    if !ground.capabilities.logs {
        return Ok(Verdict::NotDeclared("logs"));
    }
    let provisioner = ground.provisioner().await;
    let (spec, ended_spec) = (ground.spec(), ground.spec());
    let (waits, exits) = (Play::wait().printing(30), Play::exit(3).printing(5));
    tokio::try_join!(
        ground.start(&*provisioner, &spec, &waits),
        ground.start(&*provisioner, &ended_spec, &exits),
    )?;
    let end = tokio::time::Instant::now() + ground.harness.bound();
    let wanted = "line 28\nline 29\nline 30";
    loop {
        let tail = ground.within("logs", provisioner.logs(&spec.name, 3)).await?;
        if tail.trim_end() == wanted {
            break;
        }
        want(tokio::time::Instant::now() < end, || format!("the tail is {tail:?}"))?;
        tokio::time::sleep(LOOK).await;
    }
    let all = ground.within("logs", provisioner.logs(&spec.name, 1000)).await?;
    want(all.lines().count() == 30, || format!("{} of 30 lines", all.lines().count()))?;
    if !ground.capabilities.list {
        return passed("3 and all of 30 lines");
    }
    ground.listed_as(&*provisioner, &ended_spec.name, "ended", ended).await?;
    let tail = ground.within("logs", provisioner.logs(&ended_spec.name, 2)).await?;
    want(tail.trim_end() == "line 4\nline 5", || format!("after the end the tail is {tail:?}"))?;
    passed("3 and all of 30 lines, 2 after the end")
}

pub(super) async fn survives(ground: &Ground<'_>) -> Outcome<Verdict> {
    if !ground.capabilities.list {
        return Ok(Verdict::NotDeclared("list"));
    }
    let (running_spec, ended_spec) = (ground.spec(), ground.spec());
    let before = ground.provisioner().await;
    ground.start(&*before, &running_spec, &Play::wait()).await?;
    ground.start(&*before, &ended_spec, &Play::exit(7)).await?;
    drop(before);
    let after = ground.provisioner().await;
    ground.listed_as(&*after, &running_spec.name, "running", running).await?;
    let info = ground.listed_as(&*after, &ended_spec.name, "ended", ended).await?;
    let code = info.and_then(|it| match it.state {
        EnvironmentState::Ended(exit) => exit.code,
        EnvironmentState::Created | EnvironmentState::Running => None,
    });
    want(code == Some(7), || format!("the exit code is lost: {code:?}"))?;
    ground.delete(&*after, &running_spec.name).await?;
    passed("running and ended ones")
}

pub(super) async fn check(ground: &Ground<'_>) -> Outcome<Verdict> {
    let findings = ground.provisioner().await.check().await;
    let errors: Vec<_> = findings.iter().filter(|it| it.severity == Severity::Error).collect();
    want(errors.is_empty(), || format!("{errors:?}"))?;
    let warnings: Vec<_> = findings.iter().map(|it| it.message.as_str()).collect();
    passed(warnings.join("; "))
}

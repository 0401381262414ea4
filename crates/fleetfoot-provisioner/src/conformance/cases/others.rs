//! Many at once, things that are not ours, and a backend that misbehaves.

use std::time::Duration;

use fleetfoot_core::InstanceName;
use futures_util::StreamExt as _;
use futures_util::future::join_all;

use super::plain::running;
use super::{passed, want};
use crate::conformance::ground::{Ground, Outcome};
use crate::conformance::{Foreign, Play, Verdict};
use crate::error::ErrorKind;
use crate::provisioner::{Event, Provisioner};

pub(super) async fn twenty(ground: &Ground<'_>) -> Outcome<Verdict> {
    let provisioner = ground.provisioner().await;
    let specs: Vec<_> = (0..20).map(|_| ground.spec()).collect();
    let play = Play::wait();
    // What one takes by itself here and now says what twenty may: as long as one after the other.
    let (alone, begun) = (ground.spec(), tokio::time::Instant::now());
    ground.start(&*provisioner, &alone, &play).await?;
    ground.delete(&*provisioner, &alone.name).await?;
    ground.allow_longer(begun.elapsed() * 20);
    let begun = tokio::time::Instant::now();
    let started = join_all(specs.iter().map(|spec| ground.start(&*provisioner, spec, &play))).await;
    let up = begun.elapsed();
    for one in started {
        one?;
    }
    if ground.capabilities.list {
        for spec in &specs {
            ground.listed_as(&*provisioner, &spec.name, "running", running).await?;
        }
    }
    let deleted = join_all(specs.iter().map(|spec| ground.delete(&*provisioner, &spec.name))).await;
    for one in deleted {
        one?;
    }
    passed(format!("started in {} ms", up.as_millis()))
}

pub(super) async fn foreign(ground: &Ground<'_>) -> Outcome<Verdict> {
    let mut tried = Vec::new();
    for kind in [Foreign::Unlabelled, Foreign::OtherInstallation] {
        // Not one of the ground's own names: its clearing must not be what deletes it.
        let name = InstanceName::of_pool(&ground.harness.pool(), fastrand::u32(..));
        if ground.harness.create_foreign(&name, kind).await.is_none() {
            continue;
        }
        let outcome = spare(ground, &name, kind).await;
        ground.harness.remove_foreign(&name).await;
        outcome?;
        tried.push(format!("{kind:?}"));
    }
    if tried.is_empty() {
        return Ok(Verdict::NotApplicable("this backend has no foreign things"));
    }
    passed(tried.join(", "))
}

async fn spare(ground: &Ground<'_>, name: &InstanceName, kind: Foreign) -> Outcome<()> {
    let provisioner = ground.provisioner().await;
    let mut spec = ground.spec();
    spec.name = name.clone();
    if ground.capabilities.list {
        let info = ground.listed(&*provisioner, name).await?;
        want(info.is_none(), || format!("{kind:?}: listed as ours: {info:?}"))?;
    }
    let jit = ground.harness.jit(&Play::wait());
    let created = provisioner.create(&spec, ground.jit_at_create(&jit)).await;
    match created {
        Ok(handle) => return Err(format!("{kind:?}: create took it over as {handle:?}")),
        Err(error) => {
            want(error.kind == ErrorKind::NameTaken, || format!("{kind:?}: create says {error}"))?
        }
    }
    want(ground.harness.foreign_intact(name).await, || format!("{kind:?}: touched by create"))?;
    let deleted = tokio::time::timeout(ground.harness.bound(), provisioner.delete(name)).await;
    want(deleted.is_ok(), || format!("{kind:?}: delete hangs"))?;
    want(ground.harness.foreign_intact(name).await, || format!("{kind:?}: touched by delete"))?;
    if ground.capabilities.logs {
        let read = provisioner.logs(name, 10).await;
        want(read.is_err(), || format!("{kind:?}: its output was read"))?;
    }
    Ok(())
}

pub(super) async fn cut_list(ground: &Ground<'_>) -> Outcome<Verdict> {
    if !ground.capabilities.list {
        return Ok(Verdict::NotDeclared("list"));
    }
    let provisioner = ground.provisioner().await;
    let spec = ground.spec();
    ground.create(&*provisioner, &spec, &Play::wait()).await?;
    if !ground.harness.cut_next_list().await {
        return Ok(Verdict::NotApplicable("the harness cannot cut a list"));
    }
    let cut = tokio::time::timeout(ground.harness.bound(), provisioner.list()).await;
    want(matches!(cut, Ok(Err(_))), || format!("a cut list answered {cut:?}"))?;
    let info = ground.listed(&*provisioner, &spec.name).await?;
    want(info.is_some(), || "the next list is not complete".to_owned())?;
    passed("")
}

pub(super) async fn watch_resyncs(ground: &Ground<'_>) -> Outcome<Verdict> {
    if !ground.capabilities.watch {
        return Ok(Verdict::NotDeclared("watch"));
    }
    let provisioner = ground.provisioner().await;
    let mut events = ground.within("watch", provisioner.watch()).await?;
    if !ground.harness.break_watch().await {
        return Ok(Verdict::NotApplicable("the harness cannot break a watch"));
    }
    let end = tokio::time::Instant::now() + ground.harness.bound();
    loop {
        match tokio::time::timeout_at(end, events.next()).await {
            Err(_) => return Err("the stream says nothing of the break".to_owned()),
            Ok(None) => return Err("the stream ended".to_owned()),
            Ok(Some(Event::Resynced)) => break,
            Ok(Some(Event::Ended { .. })) => {}
        }
    }
    let spec = ground.spec();
    ground.start(&*provisioner, &spec, &Play::exit(4)).await?;
    loop {
        match tokio::time::timeout_at(end, events.next()).await {
            Err(_) => return Err("no exits after the break".to_owned()),
            Ok(None) => return Err("the stream ended".to_owned()),
            Ok(Some(Event::Ended { name, .. })) if name == spec.name => return passed(""),
            Ok(Some(Event::Ended { .. } | Event::Resynced)) => {}
        }
    }
}

pub(super) async fn frozen(ground: &Ground<'_>) -> Outcome<Verdict> {
    let provisioner = ground.provisioner().await;
    let spec = ground.spec();
    if !ground.harness.freeze().await {
        return Ok(Verdict::NotApplicable("the harness cannot freeze the backend"));
    }
    let outcome = create_frozen(ground, &*provisioner, &spec).await;
    ground.harness.thaw().await;
    outcome?;
    // It may still land now; a repeat under the same name must not make a second one.
    ground.start_again(&*provisioner, &spec).await?;
    ground.listed_as(&*provisioner, &spec.name, "running", running).await?;
    ground.delete(&*provisioner, &spec.name).await?;
    passed("")
}

async fn create_frozen(
    ground: &Ground<'_>,
    provisioner: &dyn Provisioner,
    spec: &crate::provisioner::EnvironmentSpec,
) -> Outcome<()> {
    let jit = ground.harness.jit(&Play::wait());
    let short = Duration::from_millis(500);
    let created =
        tokio::time::timeout(short, provisioner.create(spec, ground.jit_at_create(&jit))).await;
    want(!matches!(created, Ok(Ok(_))), || "a frozen backend created".to_owned())?;
    if ground.capabilities.list {
        let listed = tokio::time::timeout(short, provisioner.list()).await;
        want(!matches!(listed, Ok(Ok(_))), || "a frozen backend listed".to_owned())?;
    }
    Ok(())
}

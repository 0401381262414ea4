//! Calls whose caller went away.

use super::plain::running;
use super::{passed, want};
use crate::conformance::cancel::{Dropped, dropped_after, polls_of};
use crate::conformance::ground::{Ground, LOOK, Outcome};
use crate::conformance::{Play, Verdict};
use crate::provisioner::{EnvironmentSpec, EnvironmentState, Provisioner};

/// More points than this are spread evenly.
const POINTS_MAX: usize = 12;

fn points(polls: usize) -> Vec<usize> {
    let all = polls.max(1);
    if all <= POINTS_MAX {
        return (1..=all).collect();
    }
    (0..POINTS_MAX).map(|index| 1 + index * (all - 1) / (POINTS_MAX - 1)).collect()
}

pub(super) async fn create(ground: &Ground<'_>) -> Outcome<Verdict> {
    if !ground.capabilities.idempotent_create {
        return Ok(Verdict::NotDeclared("idempotent_create"));
    }
    let provisioner = ground.provisioner().await;
    let jit = ground.harness.jit(&Play::wait());
    let spec = ground.spec();
    let (polls, whole) = polls_of(provisioner.create(&spec, ground.jit_at_create(&jit))).await;
    whole.map_err(|error| error.to_string())?;
    let mut dropped = 0;
    for point in points(polls) {
        let spec = ground.spec();
        let call = provisioner.create(&spec, ground.jit_at_create(&jit));
        if let Dropped::Pending = dropped_after(call, point).await {
            dropped += 1;
        }
        ground
            .start_again(&*provisioner, &spec)
            .await
            .map_err(|why| format!("dropped at {point}: {why}"))?;
        ground
            .listed_as(&*provisioner, &spec.name, "running", running)
            .await
            .map_err(|why| format!("dropped at {point}: {why}"))?;
        ground
            .delete(&*provisioner, &spec.name)
            .await
            .map_err(|why| format!("dropped at {point}: {why}"))?;
    }
    passed(format!("dropped at {dropped} points"))
}

pub(super) async fn launch(ground: &Ground<'_>) -> Outcome<Verdict> {
    if !ground.capabilities.late_binding {
        return Ok(Verdict::NotDeclared("late_binding"));
    }
    let provisioner = ground.provisioner().await;
    let jit = ground.harness.jit(&Play::wait());
    let spec = ground.spec();
    let handle = ground.create(&*provisioner, &spec, &Play::wait()).await?;
    let (polls, whole) = polls_of(provisioner.launch(&spec, &handle, &jit)).await;
    whole.map_err(|error| error.to_string())?;
    let mut dropped = 0;
    for point in points(polls) {
        let spec = ground.spec();
        let handle = ground.create(&*provisioner, &spec, &Play::wait()).await?;
        if let Dropped::Pending =
            dropped_after(provisioner.launch(&spec, &handle, &jit), point).await
        {
            dropped += 1;
        }
        // Launched or not: the list says so sooner or later, and a repeat does no harm.
        let repeated = provisioner.launch(&spec, &handle, &jit).await;
        ground
            .listed_as(&*provisioner, &spec.name, "running", running)
            .await
            .map_err(|why| format!("dropped at {point}, repeated with {repeated:?}: {why}"))?;
        ground
            .delete(&*provisioner, &spec.name)
            .await
            .map_err(|why| format!("dropped at {point}: {why}"))?;
    }
    passed(format!("dropped at {dropped} points"))
}

pub(super) async fn delete(ground: &Ground<'_>) -> Outcome<Verdict> {
    let provisioner = ground.provisioner().await;
    let spec = ground.spec();
    ground.start(&*provisioner, &spec, &Play::wait()).await?;
    let (polls, whole) = polls_of(provisioner.delete(&spec.name)).await;
    whole.map_err(|error| error.to_string())?;
    let mut dropped = 0;
    for point in points(polls) {
        let spec = ground.spec();
        ground.start(&*provisioner, &spec, &Play::wait()).await?;
        if let Dropped::Pending = dropped_after(provisioner.delete(&spec.name), point).await {
            dropped += 1;
        }
        ground
            .delete(&*provisioner, &spec.name)
            .await
            .map_err(|why| format!("dropped at {point}: {why}"))?;
        let left = ground.harness.leftovers(std::slice::from_ref(&spec.name)).await;
        want(left.is_empty(), || {
            format!("dropped at {point}, repeated, left behind: {}", left.join("; "))
        })?;
    }
    passed(format!("dropped at {dropped} points"))
}

/// No repeat here: whatever the dropped call made is either listed or not there at all.
pub(super) async fn late_answer(ground: &Ground<'_>) -> Outcome<Verdict> {
    if !ground.capabilities.list {
        return Ok(Verdict::NotDeclared("list"));
    }
    let provisioner = ground.provisioner().await;
    let jit = ground.harness.jit(&Play::wait());
    let spec = ground.spec();
    let (polls, whole) = polls_of(provisioner.create(&spec, ground.jit_at_create(&jit))).await;
    whole.map_err(|error| error.to_string())?;
    let (mut landed, mut never) = (0, 0);
    for point in points(polls).into_iter().rev().take(4) {
        let spec = ground.spec();
        let _ = dropped_after(provisioner.create(&spec, ground.jit_at_create(&jit)), point).await;
        let end = tokio::time::Instant::now() + ground.harness.landing_time();
        let name = std::slice::from_ref(&spec.name);
        let listed = loop {
            if ground.listed(&*provisioner, &spec.name).await?.is_some() {
                break true;
            }
            if tokio::time::Instant::now() > end {
                break false;
            }
            tokio::time::sleep(LOOK).await;
        };
        if listed {
            landed += 1;
        } else {
            never += 1;
            let left = ground.harness.leftovers(name).await;
            want(left.is_empty(), || {
                format!("dropped at {point}: there but not listed: {}", left.join("; "))
            })?;
        }
        ground.delete(&*provisioner, &spec.name).await?;
    }
    passed(format!("{landed} landed and were listed, {never} never came to be"))
}

impl Ground<'_> {
    /// Creates and launches under a name that an earlier, dropped call may have made or may still make.
    pub(super) async fn start_again(
        &self,
        provisioner: &dyn Provisioner,
        spec: &EnvironmentSpec,
    ) -> Outcome<()> {
        let play = Play::wait();
        let handle = self.create(provisioner, spec, &play).await?;
        if self.capabilities.late_binding && self.capabilities.list {
            let info = self.listed(provisioner, &spec.name).await?;
            if info.is_some_and(|it| it.state == EnvironmentState::Created) {
                let jit = self.harness.jit(&play);
                self.within("launch", provisioner.launch(spec, &handle, &jit)).await?;
            }
        }
        Ok(())
    }
}

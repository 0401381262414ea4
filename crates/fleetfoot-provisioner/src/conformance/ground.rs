//! What every case stands on: fresh names, bounded calls, the look for a level, and a clean end.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleetfoot_core::InstanceName;

use super::{Harness, Play};
use crate::error::BackendError;
use crate::provisioner::{
    Capabilities, EnvironmentInfo, EnvironmentSpec, EnvironmentState, Handle, JitConfig, Listing,
    Provisioner,
};

pub(super) const LOOK: Duration = Duration::from_millis(50);

pub(super) struct Ground<'a> {
    pub(super) harness: &'a dyn Harness,
    pub(super) capabilities: Capabilities,
    names: Mutex<Vec<InstanceName>>,
    /// What calls may take longer than the harness says.
    longer_ms: AtomicU64,
}

/// `Ok` or the words of a failed case.
pub(super) type Outcome<T> = Result<T, String>;

impl<'a> Ground<'a> {
    pub(super) fn new(harness: &'a dyn Harness, capabilities: Capabilities) -> Self {
        Self { harness, capabilities, names: Mutex::default(), longer_ms: AtomicU64::new(0) }
    }

    /// The bound of one call.
    pub(super) fn bound(&self) -> Duration {
        self.harness.bound() + Duration::from_millis(self.longer_ms.load(Ordering::Relaxed))
    }

    /// From here on calls may take so much longer: more is done at one time than one thing.
    pub(super) fn allow_longer(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.longer_ms.store(by, Ordering::Relaxed);
    }

    pub(super) async fn provisioner(&self) -> Arc<dyn Provisioner> {
        self.harness.provisioner().await
    }

    /// A spec under a name that was never used.
    pub(super) fn spec(&self) -> EnvironmentSpec {
        let name = InstanceName::of_pool(&self.harness.pool(), fastrand::u32(..));
        self.names.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
        EnvironmentSpec {
            name,
            pool: self.harness.pool(),
            installation: self.harness.installation(),
        }
    }

    /// A call within the harness's bound.
    pub(super) async fn within<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, BackendError>>,
    ) -> Outcome<T> {
        let bound = self.bound();
        match tokio::time::timeout(bound, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(format!("{what}: {error}")),
            Err(_) => Err(format!("{what}: no answer within {} s", bound.as_secs())),
        }
    }

    /// Creates, in whichever shape the backend has, without launching where that is possible.
    pub(super) async fn create(
        &self,
        provisioner: &dyn Provisioner,
        spec: &EnvironmentSpec,
        play: &Play,
    ) -> Outcome<Handle> {
        let jit = self.harness.jit(play);
        self.within("create", provisioner.create(spec, self.jit_at_create(&jit))).await
    }

    /// Creates and launches.
    pub(super) async fn start(
        &self,
        provisioner: &dyn Provisioner,
        spec: &EnvironmentSpec,
        play: &Play,
    ) -> Outcome<Handle> {
        let handle = self.create(provisioner, spec, play).await?;
        if self.capabilities.late_binding {
            let jit = self.harness.jit(play);
            self.within("launch", provisioner.launch(spec, &handle, &jit)).await?;
        }
        Ok(handle)
    }

    pub(super) fn jit_at_create<'j>(&self, jit: &'j JitConfig) -> Option<&'j JitConfig> {
        (!self.capabilities.late_binding).then_some(jit)
    }

    /// A complete list. One that fails is asked for again: that is what the contract allows, and Podman's fails
    /// when a container goes in its middle.
    pub(super) async fn list(&self, provisioner: &dyn Provisioner) -> Outcome<Listing> {
        let end = tokio::time::Instant::now() + self.bound();
        loop {
            let answer = self.within("list", provisioner.list()).await;
            if answer.is_ok() || tokio::time::Instant::now() > end {
                return answer;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The one entry of `name` in a complete list; an error if there are two.
    pub(super) async fn listed(
        &self,
        provisioner: &dyn Provisioner,
        name: &InstanceName,
    ) -> Outcome<Option<EnvironmentInfo>> {
        let listing = self.list(provisioner).await?;
        let mut found = listing.environments.into_iter().filter(|it| it.name == *name);
        let first = found.next();
        match found.next() {
            Some(_) => Err(format!("`{name}` is listed twice")),
            None => Ok(first),
        }
    }

    /// Looks again until `name` is listed as `wanted` says, within the bound.
    pub(super) async fn listed_as(
        &self,
        provisioner: &dyn Provisioner,
        name: &InstanceName,
        what: &str,
        wanted: impl Fn(Option<&EnvironmentState>) -> bool,
    ) -> Outcome<Option<EnvironmentInfo>> {
        let end = tokio::time::Instant::now() + self.bound();
        loop {
            let info = self.listed(provisioner, name).await?;
            if wanted(info.as_ref().map(|it| &it.state)) {
                return Ok(info);
            }
            if tokio::time::Instant::now() > end {
                return Err(format!("`{name}` is not listed as {what}: {info:?}"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Deletes and sees that it is not listed any more.
    pub(super) async fn delete(
        &self,
        provisioner: &dyn Provisioner,
        name: &InstanceName,
    ) -> Outcome<()> {
        self.within("delete", provisioner.delete(name)).await?;
        if self.capabilities.list
            && let Some(info) = self.listed(provisioner, name).await?
        {
            return Err(format!("still listed after delete: {info:?}"));
        }
        Ok(())
    }

    /// Deletes everything the case made; says what is left, by other means than `list`.
    pub(super) async fn clear(&self) -> Outcome<()> {
        let provisioner = self.provisioner().await;
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for name in &names {
            self.within("delete at the end", provisioner.delete(name)).await?;
        }
        let end = tokio::time::Instant::now() + Duration::from_secs(5);
        loop {
            let left = self.harness.leftovers(&names).await;
            if left.is_empty() {
                return Ok(());
            }
            if tokio::time::Instant::now() > end {
                return Err(format!("left behind: {}", left.join("; ")));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

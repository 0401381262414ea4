//! The end of a container at its engine.

use std::time::Duration;

use crate::engine::Talk;
use crate::http::{Call, CallError};
use crate::look;

/// While another call of the same name is under way, its outcome is looked for this often and this long.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(50);
pub(crate) const LOOKS_MAX: u32 = 200;

/// How a container is removed, with its anonymous volumes.
pub(crate) fn path(id: &str) -> String {
    format!("/containers/{id}?force=1&v=1")
}

/// Removes a container with its anonymous volumes and sees that it is gone.
pub(crate) async fn remove(talk: &mut Talk<'_>, id: &str) -> Result<(), CallError> {
    let mut last = None;
    for _ in 0..LOOKS_MAX {
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("docker.remove.before");
        let removed = talk.call(Call::delete(path(id))).await;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("docker.remove.after");
        match removed {
            Ok(_) => return Ok(()),
            Err(error) if error.is_no_container() => return Ok(()),
            // 409: somebody removes it already; Podman has 500 for the same.
            Err(error) if error.status() == Some(409) => last = Some(error),
            Err(error) if error.status() == Some(500) && talk.version.podman => last = Some(error),
            Err(error) => return Err(error),
        }
        if look::inspect(talk, id).await?.is_none() {
            return Ok(());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Err(last.unwrap_or_else(|| CallError::Odd("the container does not go".to_owned())))
}

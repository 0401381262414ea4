//! A release on its way: fetched, verified, unpacked.

use std::io;

use fleetfoot_github::{Connection, GithubError, RunnerArchive};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use crate::shelf::{Shelf, remove};

/// Ten times what a release has.
const ARCHIVE_MAX: u64 = 2 << 30;

/// A release could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// GitHub, or where it sends one.
    #[error("{}", .0.chain())]
    Github(GithubError),
    /// What came is not what GitHub states.
    #[error("runner {version} is refused: its SHA-256 is {found}, GitHub states {stated}")]
    Checksum {
        /// The release.
        version: String,
        /// What GitHub states.
        stated: String,
        /// What came.
        found: String,
    },
    /// It does not end.
    #[error("runner {version} is refused: it is longer than {} MiB", ARCHIVE_MAX >> 20)]
    TooLong {
        /// The release.
        version: String,
    },
    /// GitHub has no such release for this host.
    #[error("GitHub offers no runner {version} for this host")]
    NotOffered {
        /// What was asked for.
        version: String,
    },
    /// This host cannot keep it.
    #[error("failed to keep runner {version} in {dir}: {source}")]
    Disk {
        /// The release.
        version: String,
        /// The directory.
        dir: String,
        /// Why.
        source: io::Error,
    },
}

/// Fetches an archive and puts its contents on the shelf, if they are what GitHub states.
pub(crate) async fn fetch(
    shelf: &Shelf,
    connection: &Connection,
    archive: &RunnerArchive,
) -> Result<(), FetchError> {
    let version = &archive.version;
    let disk = |source| FetchError::Disk {
        version: version.clone(),
        dir: shelf.dir().display().to_string(),
        source,
    };
    tokio::fs::create_dir_all(shelf.dir()).await.map_err(disk)?;
    let part = shelf.part(version);
    let found = receive(connection, archive, &part, &disk).await;
    let found = match found {
        Ok(found) if found == archive.sha256 => found,
        Ok(found) => {
            remove(&part).map_err(disk)?;
            let (version, stated) = (version.clone(), archive.sha256.clone());
            return Err(FetchError::Checksum { version, stated, found });
        }
        Err(error) => {
            remove(&part).map_err(disk)?;
            return Err(error);
        }
    };
    let (shelf, name) = (shelf.clone(), version.clone());
    let kept = tokio::task::spawn_blocking(move || shelf.take_in(&name, &part)).await;
    kept.map_err(|lost| disk(io::Error::other(lost)))?.map_err(disk)?;
    tracing::info!(version, sha256 = found, "runner release unpacked");
    Ok(())
}

/// Writes what comes to `part`; its SHA-256.
async fn receive(
    connection: &Connection,
    archive: &RunnerArchive,
    part: &std::path::Path,
    disk: &(impl Fn(io::Error) -> FetchError + Sync),
) -> Result<String, FetchError> {
    let mut download = connection.download_runner(archive).await.map_err(FetchError::Github)?;
    let mut file = tokio::fs::File::create(part).await.map_err(disk)?;
    let mut sum = Sha256::new();
    let mut length: u64 = 0;
    while let Some(bytes) = download.part().await.map_err(FetchError::Github)? {
        length = length.saturating_add(bytes.len() as u64);
        if length > ARCHIVE_MAX {
            return Err(FetchError::TooLong { version: archive.version.clone() });
        }
        sum.update(&bytes);
        file.write_all(&bytes).await.map_err(disk)?;
    }
    file.flush().await.map_err(disk)?;
    Ok(sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

//! Where the shoes plugin is: a path of this host, or a download that is checked and put into its place whole.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleetfoot_myshoes::environment::{Plugin, Settings};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::Environment;

/// A download is over within this.
const DOWNLOAD_MAX: Duration = Duration::from_secs(10 * 60);

/// The plugin cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// It cannot be downloaded.
    #[error("PLUGIN: failed to download {url}: {reason}")]
    Download {
        /// From where.
        url: String,
        /// Why.
        reason: String,
    },
    /// It cannot be read or written here.
    #[error("PLUGIN: failed to use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is another program.
    #[error("PLUGIN_SHA256: {} has the checksum {found}, not {wanted}", path.display())]
    Checksum {
        /// The file, or its address.
        path: PathBuf,
        /// What it has.
        found: String,
        /// What it should have.
        wanted: String,
    },
}

/// The plugin's program, as an absolute path.
///
/// # Errors
/// If there is none, or another one than the checksum says.
pub async fn find(environment: &Environment) -> Result<PathBuf, PluginError> {
    let Settings { plugin, plugin_output, .. } = &environment.settings;
    let wanted = environment.own.plugin_sha256.as_deref();
    let path = match plugin {
        Plugin::Path(path) => {
            if wanted.is_some() {
                let bytes = std::fs::read(path).map_err(failed(path))?;
                check(path, &bytes, wanted)?;
            }
            make_executable(path)?;
            path.clone()
        }
        Plugin::Url(url) => download(url, plugin_output, wanted).await?,
    };
    let path = std::path::absolute(&path).map_err(failed(&path))?;
    tracing::info!("use plugin path is {}", path.display());
    Ok(path)
}

/// The original makes every plugin executable, so one that was copied without its bits starts.
fn make_executable(path: &Path) -> Result<(), PluginError> {
    let mode = std::fs::metadata(path).map_err(failed(path))?.permissions().mode();
    if mode & 0o111 == 0 {
        let mode = PermissionsExt::from_mode(mode & 0o7777 | 0o755);
        std::fs::set_permissions(path, mode).map_err(failed(path))?;
    }
    Ok(())
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> PluginError + use<> {
    let path = path.to_owned();
    move |source| PluginError::File { path: path.clone(), source }
}

fn check(path: &Path, bytes: &[u8], wanted: Option<&str>) -> Result<(), PluginError> {
    let Some(wanted) = wanted else { return Ok(()) };
    let found: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if found == wanted {
        return Ok(());
    }
    Err(PluginError::Checksum { path: path.to_owned(), found, wanted: wanted.to_owned() })
}

/// Under the last part of the address, in place of one that was there; a running one keeps its own file.
async fn download(url: &Url, output: &Path, wanted: Option<&str>) -> Result<PathBuf, PluginError> {
    let refused = |reason: String| PluginError::Download { url: url.to_string(), reason };
    let name = url.path_segments().and_then(Iterator::last).unwrap_or_default();
    if name.is_empty() {
        return Err(refused("the address ends without a name".to_owned()));
    }
    let path = output.join(name);
    let bytes = tokio::time::timeout(DOWNLOAD_MAX, fetch(url))
        .await
        .map_err(|_| refused("it takes too long".to_owned()))?
        .map_err(refused)?;
    check(&path, &bytes, wanted)?;
    let mut file = tempfile::NamedTempFile::new_in(output).map_err(failed(output))?;
    let written = file.write_all(&bytes).and_then(|()| {
        file.as_file().set_permissions(PermissionsExt::from_mode(0o755))?;
        file.as_file().sync_all()
    });
    written.map_err(failed(&path))?;
    file.persist(&path).map_err(|error| failed(&path)(error.error))?;
    Ok(path)
}

async fn fetch(url: &Url) -> Result<Vec<u8>, String> {
    let client = reqwest::Client::builder().build().map_err(|error| error.to_string())?;
    let answer = client.get(url.clone()).send().await.map_err(|error| crate::chain(&error))?;
    if answer.status().as_u16() != 200 {
        return Err(format!("the server answers {}", answer.status()));
    }
    let bytes = answer.bytes().await.map_err(|error| crate::chain(&error))?;
    Ok(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_without_its_bits_gets_them_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shoes");
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        for (before, after) in [(0o644, 0o755), (0o600, 0o755), (0o700, 0o700), (0o711, 0o711)] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(before)).unwrap();
            make_executable(&path).unwrap();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, after, "{before:o}");
        }
        assert!(make_executable(&dir.path().join("none")).is_err());
    }
}

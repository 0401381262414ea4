//! Releases of GitHub's runner: which one is the newest, what its checksum is, and its archive.
//!
//! The downloads endpoint of a scope names the newest release only, with its checksums. What an older one's are stands
//! in its notes, between comments.

use std::time::{Duration, SystemTime};

use reqwest::header::LOCATION;
use secrecy::SecretString;
use url::Url;

use crate::connection::Connection;
use crate::error::{ErrorKind, GithubError, Result, Subject, classify, refused, transport};
use crate::wire;

/// An address that leads to another one more often than this leads nowhere.
const REDIRECTS_MAX: usize = 5;

/// Nothing came for so long: the rest will not come either.
const STALL_MAX: Duration = Duration::from_secs(60);

const DOWNLOAD: &str = "download the runner";
const NEWEST: &str = "look up the newest runner";

/// What runs a runner, in GitHub's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunnerPlatform {
    /// `linux`, `osx` or `win`.
    pub os: &'static str,
    /// `x64`, `arm64` or `arm`.
    pub architecture: &'static str,
}

impl RunnerPlatform {
    /// This host's, if there is a runner for it.
    #[must_use]
    pub fn of_this_host() -> Option<Self> {
        let os = match std::env::consts::OS {
            "linux" => "linux",
            "macos" => "osx",
            "windows" => "win",
            _ => return None,
        };
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "x64",
            "aarch64" => "arm64",
            "arm" => "arm",
            _ => return None,
        };
        Some(Self { os, architecture })
    }

    fn file_name(self, version: &str) -> String {
        let Self { os, architecture } = self;
        let form = if os == "win" { "zip" } else { "tar.gz" };
        format!("actions-runner-{os}-{architecture}-{version}.{form}")
    }
}

/// Where an archive of the runner is, and what it must be.
#[derive(Debug, Clone)]
pub struct RunnerArchive {
    /// Its version, such as `2.336.0`.
    pub version: String,
    /// Its SHA-256 as GitHub states it: 64 hexadecimal digits.
    pub sha256: String,
    url: String,
    token: Option<SecretString>,
}

/// The newest release for one platform, for machines that fetch its archive by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerOffer {
    /// `linux`, `osx` or `win`.
    pub os: String,
    /// `x64`, `arm64` or `arm`.
    pub architecture: String,
    /// Its version, such as `2.336.0`.
    pub version: String,
    /// Its SHA-256, where GitHub states it: older servers do not.
    pub sha256: Option<String>,
}

/// What GitHub says of one release.
#[derive(Debug, Clone)]
pub struct RunnerNotes {
    /// When it was published.
    pub published: Option<SystemTime>,
    /// Its archive for the platform that was asked for.
    pub archive: Option<RunnerArchive>,
}

/// An archive on its way.
#[derive(Debug)]
pub struct RunnerDownload {
    response: reqwest::Response,
}

impl RunnerDownload {
    /// The next part; none after the last one.
    pub async fn part(&mut self) -> Result<Option<Vec<u8>>> {
        let part = tokio::time::timeout(STALL_MAX, self.response.chunk()).await;
        let part = part.map_err(|_| {
            let detail = format!("nothing came for {} s", STALL_MAX.as_secs());
            GithubError::new(DOWNLOAD, ErrorKind::Timeout, detail)
        })?;
        let part = part.map_err(|error| transport(DOWNLOAD, error))?;
        Ok(part.map(|bytes| bytes.to_vec()))
    }
}

impl Connection {
    /// The newest release that GitHub offers to this scope for the platform; none if it has none for it.
    pub async fn newest_runner(&self, platform: RunnerPlatform) -> Result<Option<RunnerArchive>> {
        const OPERATION: &str = NEWEST;
        let listed = self.list_downloads().await?;
        let fits = |one: &wire::RestDownload| {
            one.os == platform.os && one.architecture == platform.architecture
        };
        let Some(found) = listed.into_iter().find(fits) else { return Ok(None) };
        let unusable = |detail: String| GithubError::new(OPERATION, ErrorKind::Unusable, detail);
        let version = version_of(&found.filename)
            .ok_or_else(|| unusable(format!("`{}` names no version", found.filename)))?;
        let sha256 = checksum(&found.sha256_checksum)
            .ok_or_else(|| unusable(format!("`{}` has no SHA-256", found.filename)))?;
        let token = found.temp_download_token;
        Ok(Some(RunnerArchive { version, sha256, url: found.download_url, token }))
    }

    /// The newest release for every platform that GitHub offers to this scope.
    pub async fn newest_runners(&self) -> Result<Vec<RunnerOffer>> {
        let offer = |listed: wire::RestDownload| {
            Some(RunnerOffer {
                version: version_of(&listed.filename)?,
                sha256: checksum(&listed.sha256_checksum),
                os: listed.os,
                architecture: listed.architecture,
            })
        };
        Ok(self.list_downloads().await?.into_iter().filter_map(offer).collect())
    }

    async fn list_downloads(&self) -> Result<Vec<wire::RestDownload>> {
        let path = format!("{}/actions/runners/downloads", self.url().scope().rest_path());
        let answer = self.admin().rest(NEWEST, &path).await?;
        if !answer.is_success() {
            return Err(refused(NEWEST, &answer, Subject::Other));
        }
        wire::read(NEWEST, &answer)
    }

    /// What GitHub says of a release of `actions/runner`.
    pub async fn runner_notes(
        &self,
        version: &str,
        platform: RunnerPlatform,
    ) -> Result<RunnerNotes> {
        const OPERATION: &str = "read the notes of a runner's release";
        let path = format!("/repos/actions/runner/releases/tags/v{version}");
        let answer = self.admin().rest(OPERATION, &path).await?;
        if !answer.is_success() {
            return Err(refused(OPERATION, &answer, Subject::Other));
        }
        let notes: wire::RestRelease = wire::read(OPERATION, &answer)?;
        let name = platform.file_name(version);
        let asset = notes.assets.into_iter().find(|asset| asset.name == name);
        let archive = asset.and_then(|asset| {
            Some(RunnerArchive {
                version: version.to_owned(),
                sha256: checksum_in_notes(&notes.body, platform)?,
                url: asset.browser_download_url,
                token: None,
            })
        });
        Ok(RunnerNotes { published: notes.published_at.map(SystemTime::from), archive })
    }

    /// Begins to fetch an archive. The credential of this connection does not go there.
    pub async fn download_runner(&self, archive: &RunnerArchive) -> Result<RunnerDownload> {
        let unusable = |detail: &str| GithubError::new(DOWNLOAD, ErrorKind::Unusable, detail);
        let mut url =
            Url::parse(&archive.url).map_err(|_| unusable("its address is no address"))?;
        let mut token = archive.token.as_ref();
        for _ in 0..=REDIRECTS_MAX {
            let response = self.admin().begin_download(DOWNLOAD, url.clone(), token).await?;
            let status = response.status();
            if status.is_success() {
                return Ok(RunnerDownload { response });
            }
            if !status.is_redirection() {
                let kind = classify(status.as_u16(), "", Subject::Other);
                let place = url.host_str().unwrap_or_default();
                return Err(GithubError::new(
                    DOWNLOAD,
                    kind,
                    format!("status {status} at {place}"),
                ));
            }
            let place = response.headers().get(LOCATION).and_then(|place| place.to_str().ok());
            let next = place.and_then(|place| url.join(place).ok());
            let next = next.ok_or_else(|| unusable("it was sent on to nowhere"))?;
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(unusable("it was sent on to an address that is not encrypted"));
            }
            if next.host_str() != url.host_str() {
                token = None;
            }
            url = next;
        }
        Err(unusable("it was sent on again and again"))
    }
}

/// `actions-runner-linux-x64-2.336.0.tar.gz` is of version `2.336.0`.
fn version_of(file_name: &str) -> Option<String> {
    let name = file_name.strip_suffix(".tar.gz").or_else(|| file_name.strip_suffix(".zip"))?;
    let (_, version) = name.rsplit_once('-')?;
    let plain = version
        .split('.')
        .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    (plain && version.starts_with(|first: char| first.is_ascii_digit())).then(|| version.to_owned())
}

fn checksum(text: &str) -> Option<String> {
    let text = text.trim();
    let is_sum = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_sum.then(|| text.to_ascii_lowercase())
}

/// `<!-- BEGIN SHA linux-x64 -->…<!-- END SHA linux-x64 -->`.
fn checksum_in_notes(notes: &str, platform: RunnerPlatform) -> Option<String> {
    let RunnerPlatform { os, architecture } = platform;
    let (_, rest) = notes.split_once(&format!("<!-- BEGIN SHA {os}-{architecture} -->"))?;
    let (sum, _) = rest.split_once("<!-- END SHA")?;
    checksum(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX: RunnerPlatform = RunnerPlatform { os: "linux", architecture: "x64" };

    #[test]
    fn versions_and_checksums_are_read_as_github_writes_them() {
        let name = LINUX.file_name("2.336.0");
        assert_eq!(name, "actions-runner-linux-x64-2.336.0.tar.gz");
        for (name, version) in [
            (name.as_str(), Some("2.336.0")),
            ("actions-runner-win-x64-2.336.0.zip", Some("2.336.0")),
            ("actions-runner-linux-x64-../../etc.tar.gz", None),
            ("actions-runner-linux-x64-2..0.tar.gz", None),
            ("actions-runner.tar.gz", None),
            ("2.336.0", None),
        ] {
            assert_eq!(version_of(name).as_deref(), version, "{name}");
        }
        let sum = "AB".repeat(32);
        let notes = format!(
            "- x <!-- BEGIN SHA linux-arm64 -->00<!-- END SHA linux-arm64 -->\n\
             - y <!-- BEGIN SHA linux-x64 -->{sum}<!-- END SHA linux-x64 -->"
        );
        assert_eq!(checksum_in_notes(&notes, LINUX), Some("ab".repeat(32)));
        let arm = RunnerPlatform { os: "linux", architecture: "arm64" };
        assert_eq!(checksum_in_notes(&notes, arm), None);
    }
}

//! Releases of the runner: which there are, their notes, and their archives.
//!
//! An archive holds `run.sh`, a link to the stand-in runner, and `bin/release` with the version, so that one can see
//! which release a runner is of.

use std::io;

use axum::body::Body;
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::clock::rfc3339;
use crate::config::{RunnerRelease, Settings};
use crate::state::State;

use super::{Call, answer};

/// What the endpoint lists: platforms in its words, and in the words of file names.
const PLATFORMS: [(&str, &str, &str); 3] = [
    ("linux", "x64", "linux-x64"),
    ("linux", "arm64", "linux-arm64"),
    ("osx", "arm64", "osx-arm64"),
];

const DAY_US: u64 = 86_400_000_000;

fn file_name(platform: &str, version: &str) -> String {
    format!("actions-runner-{platform}-{version}.tar.gz")
}

/// The archives of the newest release.
pub(crate) fn downloads(settings: &Settings, call: &Call) -> Response {
    let Some(release) = settings.runner_releases.last() else {
        return answer::json(200, &json!([]));
    };
    let Ok(sum) = checksum(release) else { return answer::message(500, "no archive") };
    let listed: Vec<_> = PLATFORMS
        .iter()
        .map(|(os, architecture, platform)| {
            let name = file_name(platform, &release.version);
            json!({
                "os": os,
                "architecture": architecture,
                "download_url": format!(
                    "{}/actions/runner/releases/download/v{}/{name}", call.base, release.version
                ),
                "filename": name,
                "sha256_checksum": sum,
            })
        })
        .collect();
    answer::json(200, &listed)
}

/// The notes of a release, with the checksums between comments.
pub(crate) fn notes(state: &State, scope: &str, tag: &str, call: &Call) -> Response {
    let known = &state.settings.runner_releases;
    let Some(release) = known.iter().find(|release| {
        scope == "actions/runner" && tag.strip_prefix('v') == Some(&release.version)
    }) else {
        return answer::message(404, "Not Found");
    };
    let Ok(sum) = checksum(release) else { return answer::message(500, "no archive") };
    let sums: String = PLATFORMS
        .iter()
        .map(|(_, _, platform)| {
            format!("- {platform} <!-- BEGIN SHA {platform} -->{sum}<!-- END SHA {platform} -->\n")
        })
        .collect();
    let published = state.now_us().saturating_sub(release.days.saturating_mul(DAY_US));
    let assets: Vec<_> = PLATFORMS
        .iter()
        .map(|(_, _, platform)| {
            let name = file_name(platform, &release.version);
            let url = format!("{}/actions/runner/releases/download/{tag}/{name}", call.base);
            json!({ "name": name, "browser_download_url": url })
        })
        .collect();
    let body = format!("## SHA-256 Checksums\n\n{sums}");
    answer::json(
        200,
        &json!({
            "tag_name": tag, "published_at": rfc3339(published), "body": body, "assets": assets,
        }),
    )
}

/// The archive of that name; at its stated place one is sent on, as by GitHub.
pub(crate) fn archive(settings: &Settings, name: &str, moved: bool, call: &Call) -> Response {
    let release = settings.runner_releases.iter().find(|release| {
        PLATFORMS.iter().any(|(_, _, platform)| file_name(platform, &release.version) == name)
    });
    let Some(release) = release else { return answer::message(404, "Not Found") };
    if !moved {
        let mut response = answer::empty(302);
        let place = format!("{}/release-assets/{name}", call.base);
        answer::set(response.headers_mut(), "location", &place);
        return response;
    }
    match pack(release) {
        Ok(bytes) => Response::new(Body::from(bytes)),
        Err(error) => answer::message(500, &error.to_string()),
    }
}

fn checksum(release: &RunnerRelease) -> io::Result<String> {
    if let Some(stated) = &release.sha256 {
        return Ok(stated.clone());
    }
    Ok(Sha256::digest(pack(release)?).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The same bytes each time.
fn pack(release: &RunnerRelease) -> io::Result<Vec<u8>> {
    let mut archive = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut link = Header::new_gnu();
    link.set_entry_type(EntryType::Symlink);
    link.set_size(0);
    archive.append_link(&mut link, "run.sh", &release.program)?;
    let mut file = Header::new_gnu();
    file.set_mode(0o644);
    file.set_size(release.version.len() as u64);
    archive.append_data(&mut file, "bin/release", release.version.as_bytes())?;
    archive.into_inner()?.finish()
}

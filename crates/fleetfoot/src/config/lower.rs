//! From typed tables to the checked [`Config`]: the rules that a type cannot say.

mod backend;
mod libvirt;
mod myshoes;
mod runner;
mod table;
mod top;

use std::path::Path;

use super::findings::{Class, Findings};
use super::shape::Table;
use super::types::Config;
use super::{Flavor, LoadOptions};

/// Lowers the file; whether the result may be used, the findings say.
pub(crate) fn lower(
    path: &Path,
    file: Option<&Table>,
    options: &LoadOptions,
    findings: &mut Findings,
) -> Option<Config> {
    let mut lowering = Lowering { options, findings };
    let Some(file) = file else {
        lowering.no_runners(path, None);
        return None;
    };
    let github = lowering.github(file.table("github"), "github");
    let config = Config {
        path: path.to_owned(),
        url: lowering.url(file, ""),
        token_file: file.path("token_file"),
        state_dir: file.path("state_dir"),
        store_url_file: file.path("store_url_file"),
        takeover: file.boolean("takeover").unwrap_or(options.flavor == Flavor::Outrunner),
        listen: lowering.listen(file),
        history: lowering.history(file.table("history")),
        runner_releases: lowering.runner_releases(file.table("runner_releases")),
        host: lowering.host(file.table("host")),
        myshoes: file.table("myshoes").map(|table| lowering.myshoes(table)),
        log: lowering.log(file.table("log")),
        runners: lowering.runners(path, file, &github),
        github,
    };
    if let (Some(_), Some(_)) = (&config.github.app, &config.token_file) {
        let position = file.key_position("token_file");
        lowering
            .findings
            .warning(
                Class::Conflict,
                "token_file",
                position,
                "both `github.app` and `token_file` are given; the App is used",
            )
            .suggest("remove one of the two");
    }
    Some(config)
}

/// What every lowering step needs at hand.
pub(super) struct Lowering<'a> {
    pub(super) options: &'a LoadOptions,
    pub(super) findings: &'a mut Findings,
}

pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

//! What is missing on this host, each with its remedy.

use std::path::Path;

use fleetfoot_provisioner::{Finding, Severity};

use crate::create::OUTPUT_MAX;
use crate::host::TartHost;
use crate::pool::{JitDelivery, TartPool};

pub(crate) async fn check(host: &TartHost, pool: &TartPool) -> Vec<Finding> {
    let mut findings = Vec::new();
    match host.tart("ask tart", &["--version".to_owned()]).await {
        Ok(done) if done.succeeded() => {}
        Ok(done) => findings.push(error(
            format!("`tart --version` fails: {}", done.said()),
            "reinstall tart: brew install cirruslabs/cli/tart",
        )),
        Err(_) => findings.push(error(
            "`tart` is not in PATH".to_owned(),
            "on a Mac with Apple silicon: brew install cirruslabs/cli/tart",
        )),
    }
    image(host, pool, &mut findings);
    for mount in &pool.mounts {
        if !Path::new(&mount.source).is_dir() {
            findings.push(error(
                format!("the mount `{}` has no directory {}", mount.name, mount.source),
                "make the directory, or correct `source`",
            ));
        }
    }
    if pool.jit == JitDelivery::Argument {
        findings.push(warning(
            "the JIT config of a runner is an argument of `tart exec`, which every user of this host can read",
            "set `jit: stdin`",
        ));
    }
    if let Ok(free) = rustix::fs::statvfs(&host.root)
        && free.f_bavail.saturating_mul(free.f_frsize) < OUTPUT_MAX
    {
        findings.push(error(
            format!("no space is left for records in {}", host.root.display()),
            "free space on that disk",
        ));
    }
    findings
}

fn image(host: &TartHost, pool: &TartPool, findings: &mut Vec<Finding>) {
    let image = &pool.image;
    if host.image(image).is_some() {
        return;
    }
    if image.contains('/') {
        findings.push(warning(
            &format!(
                "the image {image} is not on this host yet: it is pulled before the first start"
            ),
            &format!("tart pull {image}"),
        ));
    } else {
        findings.push(error(
            format!("there is no local machine `{image}`"),
            "see `tart list`, or name an image of a registry",
        ));
    }
}

fn error(message: String, hint: &str) -> Finding {
    Finding { severity: Severity::Error, message, hint: hint.to_owned() }
}

fn warning(message: &str, hint: &str) -> Finding {
    Finding { severity: Severity::Warning, message: message.to_owned(), hint: hint.to_owned() }
}

//! Where cgroups of instances can be made on this host, and what goes into them.
//!
//! Version 2 is used for limits where its controllers are delegated to us (systemd: `Delegate=yes` and
//! `DelegateSubgroup=daemon`) or we are root, else the version 1 hierarchies, each for its own controller. A version 2
//! hierarchy without controllers still tracks and kills.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::cgroup::Group;

/// A limit that a cgroup may enforce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Controller {
    Cpu,
    Memory,
    Pids,
}

impl Controller {
    const ALL: [Self; 3] = [Self::Cpu, Self::Memory, Self::Pids];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }
}

/// Where cgroups of instances can be made on this host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Layout {
    /// The version 2 directory below which we may make groups.
    v2: Option<PathBuf>,
    /// Whether that directory hands its controllers to our groups.
    v2_controllers: bool,
    /// Version 1 directories, one for each controller.
    v1: Vec<(Controller, PathBuf)>,
}

/// The limits of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Limits {
    pub(crate) cpus: Option<f64>,
    pub(crate) memory: Option<u64>,
    pub(crate) pids: Option<u32>,
}

impl Layout {
    /// Looks at this host.
    pub(crate) fn detect() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mut layout = Self::default();
        for (hierarchy, mount, directory) in own_directories(&mounts, &own) {
            match hierarchy {
                Hierarchy::V2 => {
                    let root = rustix::process::geteuid().is_root();
                    (layout.v2, layout.v2_controllers) =
                        v2_base(&directory, root.then_some(&*mount));
                }
                Hierarchy::V1(controller) if writable(&directory) => {
                    layout.v1.push((controller, directory))
                }
                Hierarchy::V1(_) => {}
            }
        }
        layout
    }

    /// Whether limits of this kind take effect.
    pub(crate) fn enforces(&self, controller: Controller) -> bool {
        (self.v2.is_some() && self.v2_controllers)
            || self.v1.iter().any(|(have, _)| *have == controller)
    }

    /// The groups of an instance with these limits; `leaf` is their name.
    pub(crate) fn plan(&self, leaf: &str, limits: &Limits) -> Vec<Group> {
        let mut groups = Vec::new();
        if let Some(base) = &self.v2 {
            let settings = if self.v2_controllers { v2_settings(limits) } else { Vec::new() };
            groups.push(Group { directory: base.join(leaf), settings });
        }
        if !self.v2_controllers {
            for (controller, base) in &self.v1 {
                let settings = v1_settings(*controller, limits);
                // Without version 2 any hierarchy is good enough to find the tree in.
                if !settings.is_empty() || groups.is_empty() {
                    groups.push(Group { directory: base.join(leaf), settings });
                }
            }
        }
        groups
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hierarchy {
    V2,
    V1(Controller),
}

/// Our own directory in each mounted hierarchy that matters, from `mountinfo` and `/proc/self/cgroup`.
fn own_directories(mounts: &str, own: &str) -> Vec<(Hierarchy, PathBuf, PathBuf)> {
    let mut found: Vec<(Hierarchy, PathBuf, PathBuf)> = Vec::new();
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let (Some(root), Some(point), Some(kind)) = (left.get(3), left.get(4), right.first())
        else {
            continue;
        };
        let options: Vec<&str> =
            right.get(2).map(|options| options.split(',').collect()).unwrap_or_default();
        let hierarchies: Vec<Hierarchy> = match *kind {
            "cgroup2" => vec![Hierarchy::V2],
            "cgroup" => Controller::ALL
                .into_iter()
                .filter(|c| options.contains(&c.name()))
                .map(Hierarchy::V1)
                .collect(),
            _ => continue,
        };
        for hierarchy in hierarchies {
            if found.iter().any(|(have, _, _)| *have == hierarchy) {
                continue;
            }
            let Some(path) = own_path(own, hierarchy) else { continue };
            let inside = path
                .strip_prefix(root.trim_end_matches('/'))
                .unwrap_or(path)
                .trim_start_matches('/');
            found.push((hierarchy, point.into(), Path::new(point).join(inside)));
        }
    }
    found
}

fn own_path(own: &str, hierarchy: Hierarchy) -> Option<&str> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let matches = match hierarchy {
            Hierarchy::V2 => controllers.is_empty(),
            Hierarchy::V1(controller) => {
                controllers.split(',').any(|name| name == controller.name())
            }
        };
        matches.then_some(path)
    })
}

/// Where groups go in version 2, and whether they get controllers. Our own group holds the daemon itself, so it cannot hand
/// out controllers; its parent can, if it is delegated and we are in its subgroup `daemon`. Without a delegation, root (who is
/// given the hierarchy's `mount` for it) makes a group of ours at the top, as container engines do.
fn v2_base(own: &Path, mount: Option<&Path>) -> (Option<PathBuf>, bool) {
    let delegated = own.parent().filter(|_| own.file_name().is_some_and(|name| name == "daemon"));
    for base in delegated.into_iter().chain([own]) {
        if writable(base) && hands_out_controllers(base) {
            return (Some(base.to_owned()), true);
        }
    }
    if let Some(mount) = mount
        && hands_out_controllers(mount)
    {
        let base = mount.join("fleetfoot");
        // There from an earlier start, or refused: the next line tells.
        let _ = fs::create_dir(&base);
        if hands_out_controllers(&base) {
            return (Some(base), true);
        }
    }
    (writable(own).then(|| own.to_owned()), false)
}

fn hands_out_controllers(base: &Path) -> bool {
    let control = base.join("cgroup.subtree_control");
    let available = fs::read_to_string(base.join("cgroup.controllers")).unwrap_or_default();
    let wanted = Controller::ALL.map(Controller::name);
    if !wanted.iter().all(|name| available.split_ascii_whitespace().any(|have| have == *name)) {
        return false;
    }
    let enabled = || {
        let control = fs::read_to_string(&control).unwrap_or_default();
        wanted.iter().all(|name| control.split_ascii_whitespace().any(|have| have == *name))
    };
    enabled() || (fs::write(&control, "+cpu +memory +pids").is_ok() && enabled())
}

fn writable(directory: &Path) -> bool {
    rustix::fs::accessat(
        rustix::fs::CWD,
        directory.join("cgroup.procs"),
        Access::WRITE_OK,
        rustix::fs::AtFlags::EACCESS,
    )
    .is_ok()
        && rustix::fs::accessat(
            rustix::fs::CWD,
            directory,
            Access::WRITE_OK,
            rustix::fs::AtFlags::EACCESS,
        )
        .is_ok()
}

/// Periods of 100 ms, as the kernel's default.
const PERIOD_US: f64 = 100_000.0;

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what the kernel takes"
)]
fn quota_us(cpus: f64) -> u64 {
    (cpus * PERIOD_US).clamp(1_000.0, 1e12) as u64
}

fn v2_settings(limits: &Limits) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    if let Some(cpus) = limits.cpus {
        settings.push(("cpu.max".to_owned(), format!("{} {PERIOD_US}", quota_us(cpus))));
    }
    if let Some(memory) = limits.memory {
        settings.push(("memory.max".to_owned(), memory.to_string()));
        settings.push(("memory.swap.max".to_owned(), "0".to_owned()));
    }
    if let Some(pids) = limits.pids {
        settings.push(("pids.max".to_owned(), pids.to_string()));
    }
    settings
}

fn v1_settings(controller: Controller, limits: &Limits) -> Vec<(String, String)> {
    match controller {
        Controller::Cpu => limits.cpus.map_or_else(Vec::new, |cpus| {
            vec![
                ("cpu.cfs_period_us".to_owned(), PERIOD_US.to_string()),
                ("cpu.cfs_quota_us".to_owned(), quota_us(cpus).to_string()),
            ]
        }),
        Controller::Memory => limits.memory.map_or_else(Vec::new, |memory| {
            vec![
                ("memory.limit_in_bytes".to_owned(), memory.to_string()),
                // Memory and swap together; must not be below the line above, so it comes after it.
                ("memory.memsw.limit_in_bytes".to_owned(), memory.to_string()),
            ]
        }),
        Controller::Pids => limits
            .pids
            .map_or_else(Vec::new, |pids| vec![("pids.max".to_owned(), pids.to_string())]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
    const OWN: &str = "4:memory:/docker/abc/x\n1:cpu,cpuacct:/\n0::/a.slice/daemon";

    #[test]
    fn finds_our_own_directory_in_each_hierarchy() {
        let found = own_directories(HYBRID, OWN);
        let path = |hierarchy| {
            found
                .iter()
                .find(|(have, _, _)| *have == hierarchy)
                .map(|(_, _, path)| path.to_str().unwrap())
        };
        assert_eq!(path(Hierarchy::V1(Controller::Cpu)), Some("/sys/fs/cgroup/cpu/"));
        assert_eq!(path(Hierarchy::V1(Controller::Memory)), Some("/sys/fs/cgroup/memory/x"));
        assert_eq!(path(Hierarchy::V2), Some("/sys/fs/cgroup/unified/a.slice/daemon"));
        assert_eq!(path(Hierarchy::V1(Controller::Pids)), None);
    }

    #[test]
    fn a_delegated_parent_hands_out_controllers() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("daemon");
        fs::create_dir(&own).unwrap();
        for directory in [root.path(), &own] {
            fs::write(directory.join("cgroup.procs"), "").unwrap();
            fs::write(directory.join("cgroup.controllers"), "cpu io memory pids").unwrap();
        }
        assert_eq!(v2_base(&own, None), (Some(own.clone()), false));
        fs::write(root.path().join("cgroup.subtree_control"), "cpu memory pids").unwrap();
        assert_eq!(v2_base(&own, None), (Some(root.path().to_owned()), true));
    }

    #[test]
    fn root_without_a_delegation_makes_a_group_at_the_top() {
        let mount = tempfile::tempdir().unwrap();
        let (own, ours) = (mount.path().join("a.scope"), mount.path().join("fleetfoot"));
        for directory in [&own, &ours] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join("cgroup.procs"), "").unwrap();
        }
        assert_eq!(v2_base(&own, Some(mount.path())), (Some(own.clone()), false));
        for directory in [mount.path(), &ours] {
            fs::write(directory.join("cgroup.controllers"), "cpu memory pids").unwrap();
            fs::write(directory.join("cgroup.subtree_control"), "cpu memory pids").unwrap();
        }
        assert_eq!(v2_base(&own, Some(mount.path())), (Some(ours), true));
    }

    #[test]
    fn plans_only_the_groups_it_needs() {
        let limits = Limits { cpus: Some(1.5), memory: Some(1 << 20), pids: None };
        let v1 = vec![
            (Controller::Cpu, "/c".into()),
            (Controller::Memory, "/m".into()),
            (Controller::Pids, "/p".into()),
        ];
        let layout = Layout { v2: Some("/u".into()), v2_controllers: false, v1 };
        let plan = layout.plan("fleetfoot-a-1", &limits);
        let directories: Vec<_> =
            plan.iter().map(|group| group.directory.to_str().unwrap()).collect();
        assert_eq!(directories, ["/u/fleetfoot-a-1", "/c/fleetfoot-a-1", "/m/fleetfoot-a-1"]);
        assert_eq!(plan[1].settings[1], ("cpu.cfs_quota_us".to_owned(), "150000".to_owned()));
        let layout = Layout { v2: Some("/u".into()), v2_controllers: true, v1: Vec::new() };
        assert_eq!(
            layout.plan("fleetfoot-a-1", &limits)[0].settings[0],
            ("cpu.max".to_owned(), "150000 100000".to_owned())
        );
        assert!(layout.enforces(Controller::Pids) && !Layout::default().enforces(Controller::Pids));
        assert!(Layout::default().plan("fleetfoot-a-1", &limits).is_empty());
    }
}

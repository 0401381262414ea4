//! What is on disk: a directory for each release, a link to the newest.
//!
//! Names that begin with a dot are ours in the making: an archive that is on its way, a release that is being unpacked,
//! and the mark of one that nobody wants any more. A release gets its name only when it is whole.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::archive;
use crate::version::is_version;

/// An instance that was begun just before a release was replaced may still be read from it.
const GRACE: Duration = Duration::from_secs(10 * 60);

/// Which release a pool wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The newest that GitHub offers, whichever that is.
    Latest,
    /// This one.
    Exact(String),
}

/// The directory of all releases.
#[derive(Debug, Clone)]
pub struct Shelf {
    dir: PathBuf,
}

impl Shelf {
    /// The shelf in that directory, which is made when it is needed.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Where a pool finds the release it wants: a directory, or a link to one. `host` is whose newest it is:
    /// github.com and a server of one's own need not offer the same.
    #[must_use]
    pub fn place(&self, wanted: &Wanted, host: &str) -> PathBuf {
        match wanted {
            Wanted::Latest if host == "github.com" => self.dir.join("latest"),
            Wanted::Latest => self.dir.join(format!("latest-{host}")),
            Wanted::Exact(version) => self.dir.join(version),
        }
    }

    /// The version that a place leads to, if something is there.
    #[must_use]
    pub(crate) fn version_at(&self, place: &Path) -> Option<String> {
        let release = fs::canonicalize(place).ok().filter(|path| path.is_dir())?;
        let name = release.file_name()?.to_str()?;
        is_version(name).then(|| name.to_owned())
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn holds(&self, version: &str) -> bool {
        self.dir.join(version).is_dir()
    }

    /// Where an archive is while it is on its way.
    pub(crate) fn part(&self, version: &str) -> PathBuf {
        self.dir.join(format!(".{version}.part"))
    }

    /// Unpacks an archive that was verified, and gives the release its name. Blocking.
    pub(crate) fn take_in(&self, version: &str, archive: &Path) -> io::Result<()> {
        let unfinished = self.dir.join(format!(".{version}.unfinished"));
        remove(&unfinished)?;
        fs::create_dir_all(&unfinished)?;
        archive::unpack(archive, &unfinished)?;
        // What has the name is whole, after a power cut, too.
        #[cfg(target_os = "linux")]
        rustix::fs::syncfs(fs::File::open(&unfinished)?)?;
        fs::rename(&unfinished, self.dir.join(version))?;
        remove(&self.mark(version))?;
        fs::remove_file(archive)
    }

    /// Lets a link lead to a release that is there; whoever read it before keeps the one it read.
    pub(crate) fn lead(&self, link: &Path, version: &str) -> io::Result<()> {
        let next = self.dir.join(format!(".{version}.link"));
        remove(&next)?;
        std::os::unix::fs::symlink(version, &next)?;
        fs::rename(&next, link)
    }

    fn mark(&self, version: &str) -> PathBuf {
        self.dir.join(format!(".{version}.unwanted"))
    }

    /// Removes releases that nobody wants and that no instance can use: all that live began after it was replaced.
    /// Says which. Blocking.
    pub(crate) fn prune(
        &self,
        wanted: &BTreeSet<String>,
        oldest_instance: Option<SystemTime>,
        now: SystemTime,
    ) -> io::Result<Vec<String>> {
        let mut removed = Vec::new();
        for version in self.versions()? {
            let mark = self.mark(&version);
            if wanted.contains(&version) {
                remove(&mark)?;
                continue;
            }
            let marked = fs::symlink_metadata(&mark).and_then(|meta| meta.modified());
            let Ok(replaced) = marked else {
                fs::write(&mark, "")?;
                continue;
            };
            let is_used = oldest_instance.is_some_and(|began| began <= replaced);
            let is_recent = now < replaced + GRACE;
            if !is_used && !is_recent {
                remove(&self.dir.join(&version))?;
                remove(&mark)?;
                removed.push(version);
            }
        }
        Ok(removed)
    }

    fn versions(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut versions = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            versions.extend(name.to_str().filter(|name| is_version(name)).map(str::to_owned));
        }
        Ok(versions)
    }
}

/// Removes a file, a link or a directory; what is not there is removed.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf() -> (tempfile::TempDir, Shelf) {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(dir.path().join("runners"));
        fs::create_dir_all(shelf.dir().join("2.335.0")).unwrap();
        fs::create_dir_all(shelf.dir().join("2.336.0")).unwrap();
        (dir, shelf)
    }

    #[test]
    fn a_link_leads_from_one_release_to_the_next() {
        let (_dir, shelf) = shelf();
        let link = shelf.place(&Wanted::Latest, "github.com");
        assert_eq!(shelf.version_at(&link), None);
        for version in ["2.335.0", "2.336.0", "2.335.0"] {
            shelf.lead(&link, version).unwrap();
            assert_eq!(shelf.version_at(&link).as_deref(), Some(version));
        }
        let exact = Wanted::Exact("2.336.0".to_owned());
        assert_eq!(
            shelf.version_at(&shelf.place(&exact, "github.com")).as_deref(),
            Some("2.336.0")
        );
        assert_ne!(shelf.place(&Wanted::Latest, "ghes.example"), link);
    }

    #[test]
    fn a_release_goes_when_no_instance_can_use_it_any_more() {
        let (_dir, shelf) = shelf();
        let wanted = BTreeSet::from(["2.336.0".to_owned()]);
        let now = SystemTime::now();
        let (before, after) = (now - Duration::from_secs(60), now + Duration::from_secs(60));
        let later = now + GRACE + Duration::from_secs(60);
        let none = Vec::<String>::new();
        assert_eq!(shelf.prune(&wanted, None, later).unwrap(), none, "only marked");
        assert_eq!(shelf.prune(&wanted, None, now).unwrap(), none, "something may be copied");
        assert_eq!(shelf.prune(&wanted, Some(before), later).unwrap(), none, "in use");
        assert_eq!(shelf.prune(&wanted, Some(after), later).unwrap(), ["2.335.0"]);
        assert!(shelf.holds("2.336.0") && !shelf.holds("2.335.0"));
        assert_eq!(fs::read_dir(shelf.dir()).unwrap().count(), 1, "no mark is left");
    }

    #[test]
    fn what_is_wanted_again_loses_its_mark() {
        let (_dir, shelf) = shelf();
        let newest = BTreeSet::from(["2.336.0".to_owned()]);
        let both: BTreeSet<String> = newest.iter().cloned().chain(["2.335.0".to_owned()]).collect();
        let later = SystemTime::now() + GRACE + Duration::from_secs(60);
        for wanted in [&newest, &both, &newest] {
            assert!(shelf.prune(wanted, None, later).unwrap().is_empty());
        }
        assert!(shelf.holds("2.335.0"));
    }
}

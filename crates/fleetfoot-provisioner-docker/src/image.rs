//! Images made here, from scratch, without a registry: for `demo --docker` and for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::engine::DockerEngine;
use crate::http::{Call, CallError, Messages, encoded};
use crate::pull::name_and_tag;
use crate::resolve::hex;

/// The label that says what an image was made of.
const LABEL_CONTENT: &str = "fleetfoot.content";

/// An image cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file that belongs into it cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The archive cannot be written.
    #[error("cannot pack the image")]
    Pack(#[source] io::Error),
    /// The engine did not take it.
    #[error("cannot import the image `{tag}`: {message}")]
    Engine {
        /// Its tag.
        tag: String,
        /// The engine's words.
        message: String,
    },
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> ImageError + use<> {
    let path = path.to_owned();
    move |source| ImageError::Read { path, source }
}

/// A file of an image.
#[derive(Debug, Clone)]
pub struct ImageFile {
    /// Its absolute path inside.
    pub path: PathBuf,
    /// Its permissions.
    pub mode: u32,
    /// What is in it.
    pub content: ImageContent,
}

/// What is in a file of an image.
#[derive(Debug, Clone)]
pub enum ImageContent {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The same as in this file of the host.
    File(PathBuf),
    /// It is a symbolic link to this path.
    Link(PathBuf),
    /// It is a directory.
    Directory,
}

/// Imports an image of these files under `tag`. `changes` are lines of a Dockerfile (`WORKDIR /x`, `ENV A=b`).
pub async fn import(
    engine: &DockerEngine,
    tag: &str,
    files: &[ImageFile],
    changes: &[String],
) -> Result<(), ImageError> {
    let refused =
        |error: CallError| ImageError::Engine { tag: tag.to_owned(), message: error.to_string() };
    let tar = pack(files)?;
    // The tag belongs to `repo`: Podman does not heed `tag` here.
    let (name, version) = name_and_tag(tag);
    let repository = format!("{name}:{version}");
    let mut path = format!("/images/create?fromSrc=-&repo={}", encoded(&repository));
    for change in changes {
        path.push_str(&format!("&changes={}", encoded(change)));
    }
    let answer = engine.call(Call::post(path).tar(tar)).await.map_err(refused)?;
    let mut messages = Messages::new(answer);
    while let Some(message) = messages.next::<Message>().await.map_err(refused)? {
        if let Some(message) = message.error {
            return Err(ImageError::Engine { tag: tag.to_owned(), message });
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    error: Option<String>,
}

/// Makes an image of a program of this host and the shared libraries that this very process uses, at the same
/// places; meant for the running program. The program is `name_in_image` (absolute), its directory the working
/// directory. An image of the same content is kept: `false` says so.
pub async fn from_program(
    engine: &DockerEngine,
    tag: &str,
    program: &Path,
    name_in_image: &Path,
) -> Result<bool, ImageError> {
    let libraries = libraries_of_this_process(program)?;
    let content = digest(program, name_in_image, &libraries)?;
    let before = made_here(engine, tag).await?;
    if before.as_ref().is_some_and(|image| image.content == content) {
        return Ok(false);
    }
    let directories: BTreeSet<_> = libraries.keys().filter_map(|path| path.parent()).collect();
    let home = name_in_image.parent().unwrap_or(Path::new("/"));
    let mut changes =
        vec![format!("LABEL {LABEL_CONTENT}={content}"), format!("WORKDIR {}", home.display())];
    if !directories.is_empty() {
        let path: Vec<_> =
            directories.iter().map(|directory| directory.display().to_string()).collect();
        changes.push(format!("ENV LD_LIBRARY_PATH={}", path.join(":")));
    }
    import(engine, tag, &files_of(program, name_in_image, libraries), &changes).await?;
    if let Some(image) = before {
        // It lost its tag just now. What still runs from it keeps it: the engine refuses.
        let _ = engine.call(Call::delete(format!("/images/{}", encoded(&image.id)))).await;
    }
    Ok(true)
}

/// A program of this host with the shared libraries that this very process uses, as files of an image, with a
/// `/tmp` and a user `root`.
pub fn program_files(program: &Path, name_in_image: &Path) -> Result<Vec<ImageFile>, ImageError> {
    let libraries = libraries_of_this_process(program)?;
    Ok(files_of(program, name_in_image, libraries))
}

fn files_of(
    program: &Path,
    name_in_image: &Path,
    libraries: BTreeMap<PathBuf, PathBuf>,
) -> Vec<ImageFile> {
    let passwd = b"root:x:0:0:root:/:/bin/false\n".to_vec();
    let mut files = vec![
        ImageFile { path: "/tmp".into(), mode: 0o1777, content: ImageContent::Directory },
        ImageFile { path: "/etc/passwd".into(), mode: 0o644, content: ImageContent::Bytes(passwd) },
        ImageFile {
            path: name_in_image.into(),
            mode: 0o755,
            content: ImageContent::File(program.into()),
        },
    ];
    let libraries = libraries.into_iter();
    files.extend(libraries.map(|(path, source)| ImageFile {
        path,
        mode: 0o755,
        content: ImageContent::File(source),
    }));
    files
}

/// An image that says what it was made of.
struct Made {
    id: String,
    content: String,
}

async fn made_here(engine: &DockerEngine, tag: &str) -> Result<Option<Made>, ImageError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Image {
        id: String,
        #[serde(default)]
        config: Option<Config>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Config {
        #[serde(default)]
        labels: Option<BTreeMap<String, String>>,
    }
    let refused =
        |error: CallError| ImageError::Engine { tag: tag.to_owned(), message: error.to_string() };
    let path = tag.split('/').map(encoded).collect::<Vec<_>>().join("/");
    match engine.call(Call::get(format!("/images/{path}/json"))).await {
        Ok(answer) => {
            let image: Image = answer.json().await.map_err(refused)?;
            let labels = image.config.and_then(|config| config.labels);
            let content = labels.and_then(|mut labels| labels.remove(LABEL_CONTENT));
            Ok(content.map(|content| Made { id: image.id, content }))
        }
        Err(error) if error.status() == Some(404) => Ok(None),
        Err(error) => Err(refused(error)),
    }
}

/// Path in the image and file of the host: what is mapped into this process, the loader under the name that
/// the program asks for, and each library under the names that link to it.
fn libraries_of_this_process(program: &Path) -> Result<BTreeMap<PathBuf, PathBuf>, ImageError> {
    let maps = Path::new("/proc/self/maps");
    let text = std::fs::read_to_string(maps).map_err(unreadable(maps))?;
    let own = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let mut files = BTreeMap::new();
    for line in text.lines() {
        // address perms offset dev inode path
        let Some(path) = line.split_ascii_whitespace().nth(5).filter(|path| path.starts_with('/'))
        else {
            continue;
        };
        let path = PathBuf::from(path);
        let is_library =
            path.file_name().is_some_and(|name| name.to_string_lossy().contains(".so"));
        if !is_library || path == own || path == program {
            continue;
        }
        for name in names_of(&path) {
            files.insert(name, path.clone());
        }
    }
    let head = read_head(program).map_err(unreadable(program))?;
    match interpreter(&head) {
        Some(loader) => {
            let target = std::fs::canonicalize(&loader).map_err(unreadable(&loader))?;
            files.insert(loader, target);
            Ok(files)
        }
        // A static program needs none of them.
        None => Ok(BTreeMap::new()),
    }
}

/// The names in its own directory under which a library is found.
fn names_of(path: &Path) -> Vec<PathBuf> {
    let mut names = vec![path.to_owned()];
    let Some(directory) = path.parent() else { return names };
    let Ok(entries) = std::fs::read_dir(directory) else { return names };
    let links = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
    names.extend(links.map(|entry| entry.path()).filter(|link| {
        link.to_string_lossy().contains(".so")
            && std::fs::canonicalize(link).is_ok_and(|target| target == path)
    }));
    names
}

fn read_head(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut head = Vec::new();
    std::fs::File::open(path)?.take(64 << 10).read_to_end(&mut head)?;
    Ok(head)
}

/// The loader that a 64-bit little-endian ELF program asks for.
fn interpreter(head: &[u8]) -> Option<PathBuf> {
    const PROGRAM_INTERPRETER: u32 = 3;
    let word = |at: usize, length: usize| -> Option<usize> {
        let bytes = head.get(at..at + length)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte)))
    };
    if head.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, size, count) = (word(32, 8)?, word(54, 2)?, word(56, 2)?);
    let entry = (0..count)
        .map(|index| table + index * size)
        .find(|at| word(*at, 4) == Some(PROGRAM_INTERPRETER as usize))?;
    let (offset, length) = (word(entry + 8, 8)?, word(entry + 32, 8)?);
    let text = head.get(offset..offset + length.saturating_sub(1))?;
    Some(PathBuf::from(std::str::from_utf8(text).ok()?))
}

fn digest(
    program: &Path,
    name: &Path,
    libraries: &BTreeMap<PathBuf, PathBuf>,
) -> Result<String, ImageError> {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut add = |path: &Path, source: &Path| -> io::Result<()> {
        use io::Read as _;
        context.update(path.as_os_str().as_encoded_bytes());
        let mut file = std::fs::File::open(source)?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            context.update(buffer.get(..count).unwrap_or_default());
        }
    };
    add(name, program).map_err(unreadable(program))?;
    for (path, source) in libraries {
        add(path, source).map_err(unreadable(source))?;
    }
    Ok(hex(context.finish().as_ref()))
}

pub(crate) fn pack(files: &[ImageFile]) -> Result<Vec<u8>, ImageError> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut made = BTreeSet::new();
    let mut packed = BTreeSet::new();
    for file in files.iter().filter(|file| packed.insert(&file.path)) {
        let inside: PathBuf =
            file.path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        let mut parents: Vec<_> =
            inside.ancestors().skip(1).filter(|it| !it.as_os_str().is_empty()).collect();
        parents.reverse();
        for parent in parents {
            if made.insert(parent.to_owned()) {
                entry(&mut archive, parent, 0o755, tar::EntryType::Directory, &[])
                    .map_err(ImageError::Pack)?;
            }
        }
        match &file.content {
            ImageContent::Directory => {
                made.insert(inside.clone());
                entry(&mut archive, &inside, file.mode, tar::EntryType::Directory, &[])
                    .map_err(ImageError::Pack)?;
            }
            ImageContent::Bytes(bytes) => {
                entry(&mut archive, &inside, file.mode, tar::EntryType::Regular, bytes)
                    .map_err(ImageError::Pack)?;
            }
            ImageContent::File(source) => {
                let bytes = std::fs::read(source).map_err(unreadable(source))?;
                entry(&mut archive, &inside, file.mode, tar::EntryType::Regular, &bytes)
                    .map_err(ImageError::Pack)?;
            }
            ImageContent::Link(target) => {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                header.set_size(0);
                archive.append_link(&mut header, &inside, target).map_err(ImageError::Pack)?;
            }
        }
    }
    archive.into_inner().map_err(ImageError::Pack)
}

fn entry(
    archive: &mut tar::Builder<Vec<u8>>,
    path: &Path,
    mode: u32,
    kind: tar::EntryType,
    bytes: &[u8],
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_s_loader_and_libraries_are_found() {
        let program = std::fs::read_link("/proc/self/exe").unwrap();
        let files = libraries_of_this_process(&program).unwrap();
        let names: Vec<_> = files.keys().map(|path| path.display().to_string()).collect();
        assert!(names.iter().any(|name| name.contains("ld-linux")), "{names:?}");
        assert!(names.iter().any(|name| name.ends_with("libc.so.6")), "{names:?}");
    }
}

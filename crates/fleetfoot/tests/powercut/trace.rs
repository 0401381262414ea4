//! What strace wrote down, as events of files and of the world outside.

use std::collections::HashMap;

/// Something the traced program did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Opened {
        path: String,
        create: bool,
        truncate: bool,
    },
    /// At this offset, or where the last write of the file ended.
    Wrote {
        path: String,
        offset: Option<usize>,
        data: Vec<u8>,
    },
    Cut {
        path: String,
        length: usize,
    },
    Renamed {
        from: String,
        to: String,
    },
    Linked {
        from: String,
        to: String,
    },
    Unlinked {
        path: String,
    },
    Synced {
        path: String,
    },
    /// A message was deleted at GitHub: what it says must be in the store.
    Acknowledged {
        message: i64,
    },
    /// A runner of this name was asked for at GitHub: the name must be in the store.
    Named {
        name: String,
    },
}

/// The calls that have to be traced.
pub(crate) const CALLS: &str = "trace=openat,open,creat,write,pwrite64,writev,pwritev,pwritev2,\
    ftruncate,truncate,fallocate,copy_file_range,sendfile,rename,renameat,renameat2,link,linkat,\
    unlink,unlinkat,fsync,fdatasync,sync_file_range,sendto,sendmsg";

/// The events of a trace, in the order in which the calls came back.
pub(crate) fn read(text: &str, state_dir: &str) -> Vec<Event> {
    let mut begun: HashMap<&str, String> = HashMap::new();
    let mut events = Vec::new();
    for line in text.lines() {
        let Some((pid, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        let whole = if let Some(start) = call.strip_suffix("<unfinished ...>") {
            begun.insert(pid, start.to_owned());
            continue;
        } else if call.starts_with("<... ") {
            let rest = call.split_once(" resumed>").map_or("", |(_, rest)| rest);
            begun.remove(pid).unwrap_or_default() + rest
        } else {
            call.to_owned()
        };
        events.extend(event(&whole, state_dir));
    }
    events
}

fn event(call: &str, state_dir: &str) -> Option<Event> {
    let (name, rest) = call.split_once('(')?;
    // A call that failed ends with its error in brackets, and has done nothing.
    let (arguments, result) = rest.rsplit_once(')')?;
    let result = result.trim_start().strip_prefix("= ")?;
    let count = result.split(|c: char| !c.is_ascii_digit()).next()?;
    let count: usize = count.parse().ok()?;
    let texts = quoted(arguments);
    let path_of =
        |at: usize| texts.get(at).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let own = || annotated(arguments).filter(|path| path.starts_with(state_dir));
    let last_number = || arguments.rsplit(", ").next()?.trim().parse().ok();
    let data = || {
        let mut data = texts.concat();
        data.truncate(count);
        data
    };
    match name {
        "openat" | "open" | "creat" => {
            let path = path_of(0).filter(|path| path.starts_with(state_dir))?;
            let create = arguments.contains("O_CREAT") || name == "creat";
            Some(Event::Opened { path, create, truncate: arguments.contains("O_TRUNC") })
        }
        "write" | "writev" | "sendto" | "sendmsg" => match own() {
            Some(path) => Some(Event::Wrote { path, offset: None, data: data() }),
            None if annotated(arguments)?.starts_with("socket:") => outside(&texts.concat()),
            None => None,
        },
        "pwrite64" | "pwritev" => {
            Some(Event::Wrote { path: own()?, offset: Some(last_number()?), data: data() })
        }
        "ftruncate" => Some(Event::Cut { path: own()?, length: last_number()? }),
        "rename" | "renameat" | "renameat2" => {
            let from = path_of(0).filter(|path| path.starts_with(state_dir))?;
            Some(Event::Renamed { from, to: path_of(1)? })
        }
        "link" | "linkat" => {
            let from = path_of(0).filter(|path| path.starts_with(state_dir))?;
            Some(Event::Linked { from, to: path_of(1)? })
        }
        "unlink" | "unlinkat" => {
            let path = path_of(0).filter(|path| path.starts_with(state_dir))?;
            Some(Event::Unlinked { path })
        }
        "fsync" | "fdatasync" => Some(Event::Synced { path: own()? }),
        other => {
            let path = own()?;
            assert!(path.contains("/instances"), "{other} on {path} is not replayed");
            None
        }
    }
}

/// What a request tells the world.
fn outside(payload: &[u8]) -> Option<Event> {
    let text = String::from_utf8_lossy(payload);
    let first = text.lines().next()?;
    if let Some((_, rest)) =
        first.strip_prefix("DELETE ").and_then(|path| path.split_once("/queue/"))
    {
        // The scale set, the session's queue, the message.
        let path = rest.split(['?', ' ']).next()?;
        return Some(Event::Acknowledged { message: path.rsplit('/').next()?.parse().ok()? });
    }
    // Head and body may come in one write or in two.
    let (_, rest) = text.split_once("{\"name\":\"")?;
    let name = rest.split('"').next()?.to_owned();
    Some(Event::Named { name })
}

/// The path that `-y` shows beside the first descriptor.
fn annotated(arguments: &str) -> Option<String> {
    let (_, rest) = arguments.split_once('<')?;
    let (path, _) = rest.split_once('>')?;
    let path = String::from_utf8_lossy(&unhex(path)).into_owned();
    (!path.ends_with(" (deleted)")).then_some(path)
}

/// Every text in quotation marks.
fn quoted(arguments: &str) -> Vec<Vec<u8>> {
    arguments.split('"').skip(1).step_by(2).map(unhex).collect()
}

/// `\x41\x42`; what is not in this form stands for itself.
fn unhex(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len() / 4);
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 2..at + 4).filter(|_| bytes[at..].starts_with(b"\\x"));
        let number = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match number.and_then(|number| u8::from_str_radix(number, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

#[test]
fn lines_become_events() {
    let text = "1 openat(AT_FDCWD<\\x2f>, \"\\x2f\\x73\\x2f\\x61\", O_WRONLY|O_CREAT|O_TRUNC, 0600) = 3<\\x2f\\x73\\x2f\\x61>\n\
                1 pwrite64(3<\\x2f\\x73\\x2f\\x61>, \"\\x61\\x62\", 2, 7 <unfinished ...>\n\
                2 fsync(4</s>) = 0\n\
                1 <... pwrite64 resumed>)             = 2\n\
                1 rename(\"/s/a\", \"/s/b\") = -1 ENOENT (No such file or directory)\n\
                1 sendto(9<socket:[77]>, \"DELETE /t/1/queue/2/cb63-05/12?queue=box HTTP/1.1\", 5, 0, NULL, 0) = 5\n";
    let path = "/s/a".to_owned();
    let expected = [
        Event::Opened { path: path.clone(), create: true, truncate: true },
        Event::Synced { path: "/s".to_owned() },
        Event::Wrote { path, offset: Some(7), data: b"ab".to_vec() },
        Event::Acknowledged { message: 12 },
    ];
    assert_eq!(read(text, "/s"), expected);
}

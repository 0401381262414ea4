//! Reading the end of an instance's output.

use std::fs::File;
use std::io::{self, Seek};
use std::os::unix::fs::OpenOptionsExt;

use crate::directory::{Directory, no_follow};

/// The last lines of the older and the newer half together.
pub(crate) fn last_lines(directory: &Directory, lines: usize, bytes: u64) -> io::Result<String> {
    let mut output = Vec::new();
    for path in [directory.older_output(), directory.output()] {
        match File::options().read(true).custom_flags(no_follow()).open(&path) {
            Ok(mut file) => output.extend(tail(&mut file, bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let text = String::from_utf8_lossy(&output);
    let skipped = text.lines().count().saturating_sub(lines);
    Ok(text.lines().skip(skipped).map(|line| format!("{line}\n")).collect())
}

/// The last `bytes` of a file.
fn tail(file: &mut File, bytes: u64) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(io::SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut end = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, bytes), &mut end)?;
    Ok(end)
}

//! Printing: data on standard output, talk on standard error. A reader that leaves ends us quietly.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::exit::{CommandError, Exit};

/// Prints text on standard output, followed by a line end if it has none.
///
/// # Errors
/// Quietly when the reader has left; else when standard output cannot be written.
pub fn print(text: &str) -> Result<(), CommandError> {
    write_to(&mut io::stdout().lock(), text)
}

/// Prints a value as one JSON document: on one line for programs, on several for people who look at it.
///
/// # Errors
/// As [`print()`].
pub fn print_json(value: &impl Serialize) -> Result<(), CommandError> {
    let stdout = io::stdout();
    let json = if stdout.is_terminal() {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    print(&json.map_err(|error| CommandError::from_error(Exit::Failure, &error))?)
}

/// Tells people something on standard error. Nothing depends on it being read.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", visible(text));
}

fn write_to(out: &mut impl Write, text: &str) -> Result<(), CommandError> {
    let end = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
    let written = out
        .write_all(text.as_bytes())
        .and_then(|()| out.write_all(end.as_bytes()))
        .and_then(|()| out.flush());
    written.map_err(|error| {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return CommandError::reader_left();
        }
        CommandError::new(Exit::Failure, format!("standard output cannot be written: {error}"))
    })
}

/// Names that GitHub hands on are strangers' words: no terminal codes among them.
#[must_use]
pub fn visible(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

/// Columns under their heads, as wide as their widest cell; the last one is not padded.
#[must_use]
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let cells = |row: &[String]| -> Vec<String> {
        row.iter().map(|cell| visible(cell).replace('\n', " ")).collect()
    };
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rows: Vec<Vec<String>> =
        std::iter::once(head).chain(rows.iter().map(|row| cells(row))).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fails(io::ErrorKind);

    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_left_is_no_failure() {
        let left = write_to(&mut Fails(io::ErrorKind::BrokenPipe), "x").unwrap_err();
        assert_eq!(left.exit, Exit::ReaderLeft);
        let full = write_to(&mut Fails(io::ErrorKind::StorageFull), "x").unwrap_err();
        assert_eq!(full.exit, Exit::Failure);
    }

    #[test]
    fn data_ends_with_one_line_end() {
        for text in ["a", "a\n"] {
            let mut out = Vec::new();
            write_to(&mut out, text).unwrap();
            assert_eq!(out, b"a\n");
        }
    }

    #[test]
    fn a_table_is_aligned_and_holds_no_codes() {
        let rows =
            [vec!["ä".to_owned(), "1".to_owned()], vec!["long".to_owned(), "\u{1b}[2J".to_owned()]];
        let text = table(&["A", "B"], &rows);
        assert_eq!(text, "A     B\nä     1\nlong  \u{fffd}[2J\n");
    }
}

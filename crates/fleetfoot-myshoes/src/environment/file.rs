//! An environment file, as a unit's `EnvironmentFile=` names one: lines `NAME=value`, comments, quotes.

/// A line that is neither a variable nor a comment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is no `NAME=value`")]
pub struct FileError {
    /// Its number, from 1.
    pub line: usize,
}

/// Reads the variables of a file, in order; of a repeated one the last counts.
///
/// # Errors
///
/// The first line that cannot be read. It is not repeated: it may hold a secret.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, FileError> {
    let mut variables = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let refused = FileError { line: at + 1 };
        let (name, value) = line.split_once('=').ok_or(refused.clone())?;
        let name = name.trim();
        let is_name = |it: char| it.is_ascii_alphanumeric() || it == '_';
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(refused);
        }
        variables.push((name.to_owned(), unquoted(value.trim())));
    }
    Ok(variables)
}

/// Without the quotes around it; in double ones a backslash takes what follows as it is.
fn unquoted(value: &str) -> String {
    let inside = |quote: char| {
        let rest = value.strip_prefix(quote)?;
        rest.strip_suffix(quote)
    };
    if let Some(text) = inside('\'') {
        return text.to_owned();
    }
    let Some(text) = inside('"') else { return value.to_owned() };
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(it) = rest.next() {
        out.push(if it == '\\' { rest.next().unwrap_or(it) } else { it });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_a_unit_reads_it() {
        let text = "# the original's\n\nPORT=8080\n ; other\nMYSQL_URL=u:p@tcp(db)/x?a=b\nA = 'b c'\nB=\"say \\\"it\\\"\"\nEMPTY=\n";
        let read = parse(text).unwrap();
        let pairs: Vec<_> =
            read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected = [
            ("PORT", "8080"),
            ("MYSQL_URL", "u:p@tcp(db)/x?a=b"),
            ("A", "b c"),
            ("B", "say \"it\""),
            ("EMPTY", ""),
        ];
        assert_eq!(pairs, expected);
        for bad in ["export A=b", "A", "=x"] {
            let error = parse(&format!("\n{bad}")).unwrap_err();
            assert_eq!(error.to_string(), "line 2 is no `NAME=value`");
        }
    }
}

//! From the bytes of a file to text, as the original's YAML library does it.

/// A file larger than this is no configuration.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Decodes UTF-8 (with or without a byte order mark) and UTF-16 (by its mark).
///
/// The error is a message and the line it is on.
pub(crate) fn decode(bytes: &[u8]) -> Result<String, (String, u32)> {
    if bytes.len() > BYTES_MAX {
        return Err((format!("larger than {} MiB", BYTES_MAX / 1024 / 1024), 1));
    }
    let text = if let Some(rest) = bytes.strip_prefix(&[0xff, 0xfe]) {
        utf16(rest, u16::from_le_bytes)?
    } else if let Some(rest) = bytes.strip_prefix(&[0xfe, 0xff]) {
        utf16(rest, u16::from_be_bytes)?
    } else {
        let rest = bytes.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(bytes);
        utf8(rest)?
    };
    match text.char_indices().find(|(_, c)| !allowed(*c)) {
        None => Ok(text),
        Some((at, c)) => {
            let line = line_of(text.get(..at).unwrap_or(""));
            let message = format!("control characters are not allowed (found U+{:04X})", c as u32);
            Err((message, line))
        }
    }
}

fn utf8(bytes: &[u8]) -> Result<String, (String, u32)> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => {
            let good = bytes.get(..error.valid_up_to()).unwrap_or(&[]);
            let line = line_of(&String::from_utf8_lossy(good));
            Err(("invalid UTF-8".to_owned(), line))
        }
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, (String, u32)> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(("incomplete UTF-16 character".to_owned(), 1));
    }
    let mut text = String::with_capacity(pairs.len());
    for decoded in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        match decoded {
            Ok(c) => text.push(c),
            Err(_) => return Err(("invalid UTF-16 surrogate".to_owned(), line_of(&text))),
        }
    }
    Ok(text)
}

fn allowed(c: char) -> bool {
    matches!(c,
        '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}'
        | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}')
}

fn line_of(before: &str) -> u32 {
    u32::try_from(before.matches('\n').count() + 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_byte_order_marks() {
        assert_eq!(decode(b"\xef\xbb\xbfa: 1").unwrap(), "a: 1");
        assert_eq!(decode(b"\xff\xfea\0:\0").unwrap(), "a:");
        assert_eq!(decode(b"\xfe\xff\0a\0:").unwrap(), "a:");
        assert_eq!(decode(b"a\n\xff").unwrap_err().1, 2);
        assert_eq!(decode(b"a\n\nb\0").unwrap_err().1, 3);
        assert!(decode(b"\xff\xfea").is_err());
    }
}

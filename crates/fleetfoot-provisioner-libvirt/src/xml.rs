//! Just enough XML: a writer that escapes everything, and a reader of tags and their attributes.

use std::fmt::Write as _;

/// Writes elements; every value is escaped.
#[derive(Debug, Default)]
pub(crate) struct XmlWriter {
    text: String,
    open: Vec<&'static str>,
}

impl XmlWriter {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn tag(&mut self, name: &str, attributes: &[(&str, &str)], end: &str) {
        self.text.push('<');
        self.text.push_str(name);
        for (key, value) in attributes {
            let _ = write!(self.text, " {key}='{}'", escaped(value));
        }
        self.text.push_str(end);
    }

    /// An element without content.
    pub(crate) fn empty(&mut self, name: &'static str, attributes: &[(&str, &str)]) -> &mut Self {
        self.tag(name, attributes, "/>");
        self
    }

    /// An element with text.
    pub(crate) fn text(
        &mut self,
        name: &'static str,
        attributes: &[(&str, &str)],
        text: &str,
    ) -> &mut Self {
        self.tag(name, attributes, ">");
        let _ = write!(self.text, "{}</{name}>", escaped(text));
        self
    }

    /// Opens an element; [`end`](Self::end) closes it.
    pub(crate) fn begin(&mut self, name: &'static str, attributes: &[(&str, &str)]) -> &mut Self {
        self.tag(name, attributes, ">");
        self.open.push(name);
        self
    }

    /// Closes the element that was opened last.
    pub(crate) fn end(&mut self) -> &mut Self {
        if let Some(name) = self.open.pop() {
            let _ = write!(self.text, "</{name}>");
        }
        self
    }

    pub(crate) fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.end();
        }
        self.text
    }
}

/// Text for an element or an attribute. What XML cannot say at all is left out.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '\'' => safe.push_str("&apos;"),
            '"' => safe.push_str("&quot;"),
            '\t' | '\n' | '\r' => {
                let _ = write!(safe, "&#{};", u32::from(character));
            }
            control if control < ' ' => {}
            '\u{fffe}' | '\u{ffff}' => {}
            other => safe.push(other),
        }
    }
    safe
}

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        let Some((entity, behind)) = after.split_once(';') else {
            plain.push('&');
            rest = after;
            continue;
        };
        let number = entity.strip_prefix('#').and_then(|digits| {
            let parsed = match digits.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => digits.parse(),
            };
            parsed.ok().and_then(char::from_u32)
        });
        match (entity, number) {
            ("amp", _) => plain.push('&'),
            ("lt", _) => plain.push('<'),
            ("gt", _) => plain.push('>'),
            ("apos", _) => plain.push('\''),
            ("quot", _) => plain.push('"'),
            (_, Some(character)) => plain.push(character),
            (_, None) => {
                plain.push('&');
                rest = after;
                continue;
            }
        }
        rest = behind;
    }
    plain.push_str(rest);
    plain
}

/// A tag that opens, with where its path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tag {
    /// Names from the root, with their prefixes.
    pub(crate) path: Vec<String>,
    pub(crate) attributes: Vec<(String, String)>,
    /// The text right behind it.
    pub(crate) text: String,
}

impl Tag {
    pub(crate) fn name(&self) -> &str {
        self.path.last().map_or("", String::as_str)
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_at(&self, path: &[&str]) -> bool {
        self.path.iter().map(String::as_str).eq(path.iter().copied())
    }
}

/// All tags of a document in order. Total: what is not XML gives fewer tags.
pub(crate) fn tags(document: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let mut rest = document;
    while let Some((_, after)) = rest.split_once('<') {
        if let Some(comment) = after.strip_prefix("!--") {
            rest = comment.split_once("-->").map_or("", |(_, behind)| behind);
            continue;
        }
        let Some(end) = end_of_tag(after) else { break };
        let (inside, behind) = after.split_at(end);
        let behind = behind.get(1..).unwrap_or_default();
        rest = behind;
        if inside.starts_with('?') || inside.starts_with('!') {
            continue;
        }
        if inside.starts_with('/') {
            path.pop();
            continue;
        }
        let (inside, closed) = match inside.strip_suffix('/') {
            Some(inside) => (inside, true),
            None => (inside, false),
        };
        let name_end = inside.find(char::is_whitespace).unwrap_or(inside.len());
        let (name, attributes) = inside.split_at(name_end);
        path.push(name.to_owned());
        let text = behind.split('<').next().unwrap_or_default();
        tags.push(Tag {
            path: path.clone(),
            attributes: attributes_of(attributes),
            text: if closed { String::new() } else { unescaped(text.trim()) },
        });
        if closed {
            path.pop();
        }
    }
    tags
}

/// Where the tag ends: `>` outside quotes.
fn end_of_tag(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at),
            (None, b'\'' | b'"') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
    }
    None
}

fn attributes_of(mut text: &str) -> Vec<(String, String)> {
    let mut attributes = Vec::new();
    while let Some((key, after)) = text.split_once('=') {
        let after = after.trim_start();
        let Some(quote) = after.chars().next().filter(|it| matches!(it, '\'' | '"')) else { break };
        let Some((value, behind)) = after.get(1..).and_then(|it| it.split_once(quote)) else {
            break;
        };
        attributes.push((key.trim().to_owned(), unescaped(value)));
        text = behind;
    }
    attributes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut xml = XmlWriter::new();
        xml.begin("domain", &[("type", "q<e>mu & 'co'")]);
        xml.text("name", &[], "a&b \"c\" <d>");
        xml.begin("devices", &[]).empty("disk", &[("file", "/tmp/a b.qcow2")]);
        let text = xml.finish();
        let tags = tags(&text);
        assert_eq!(tags[0].attribute("type"), Some("q<e>mu & 'co'"));
        assert_eq!(tags[1].text, "a&b \"c\" <d>");
        assert!(tags[2].is_at(&["domain", "devices"]));
        assert_eq!(tags[3].attribute("file"), Some("/tmp/a b.qcow2"));
        assert_eq!(tags[3].name(), "disk");
    }

    proptest! {
        #[test]
        fn every_value_comes_back(value in "[^\u{0}-\u{8}\u{b}\u{c}\u{e}-\u{1f}\u{fffe}\u{ffff}]*") {
            let mut xml = XmlWriter::new();
            xml.begin("a", &[("b", &value)]).text("c", &[], value.trim());
            let tags = tags(&xml.finish());
            prop_assert_eq!(tags[0].attribute("b"), Some(value.as_str()));
            prop_assert_eq!(&tags[1].text, value.trim());
        }

        #[test]
        fn no_text_panics(text in "[<>/='\"&;#xa-c \u{e9}!?-]*") {
            let _ = tags(&text);
        }
    }
}

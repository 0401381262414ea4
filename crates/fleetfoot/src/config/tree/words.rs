//! What the original's YAML library says of a text that is no YAML, for the mistakes that people make.
//!
//! Both parsers descend from libyaml, so what one says leads to what the other does; what does not, has no words of the
//! original here. The line is the library's too: that of the collection or the scalar that it was in, or else, if that
//! began in the first line, that of the mistake; a grammar's mistake is told one line too early, and none in the first.

/// What is open where the parser gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) kind: Kind,
    /// Where it began: line and column, from zero.
    pub(super) line: usize,
    pub(super) column: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Mapping,
    Sequence,
    FlowMapping,
    FlowSequence,
}

/// Who of the two halves gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Scanner,
    Grammar,
}

const KEY: &str = "did not find expected key";
const NO_TOKEN: &str = "found character that cannot start any token";
const NODE: &str = "did not find expected node content";

/// The library's words for our parser's `info`, at `line` and `column` from zero, inside of `open`.
pub(super) fn words(
    info: &str,
    text: &str,
    (line, column): (usize, usize),
    open: Option<Open>,
) -> Option<String> {
    let place = Place { text, line, column, open };
    let what = info.rsplit_once(", ").map_or(info, |(_, what)| what);
    match what {
        "mapping values are not allowed in this context"
        | "mapping keys are not allowed in this context"
        | "block sequence entries are not allowed in this context"
        | "did not find expected alphabetic or numeric character"
        | "did not find expected comment or line break"
        | "did not find expected whitespace or line break"
        | "found an indentation indicator equal to 0"
        | "did not find the expected '>'" => place.scanner(what, line, line),
        "found unknown escape character" | "found invalid Unicode character escape code" => {
            place.scanner(what, line, line)
        }
        "did not find expected hexadecimal number" => {
            place.scanner("did not find expected hexdecimal number", line, line)
        }
        "simple key expect ':'" | "simple key expected" => {
            place.scanner("could not find expected ':'", place.key_line()?, line)
        }
        "tabs disallowed within this context (block indentation)" => {
            place.scanner(NO_TOKEN, line, line)
        }
        "found a tab" => {
            place.scanner("found a tab character that violates indentation", line, place.tab()?)
        }
        "a block scalar content cannot start with a tab" => {
            let words = "found a tab character where an indentation space is expected";
            place.scanner(words, line, place.tab()?)
        }
        "found unexpected end of stream" => place.scanner(what, line, place.last_line()),
        // It reads on up to the other quote, however little it is indented.
        "invalid indentation in quoted scalar" => {
            let quote = place.rest().chars().next()?;
            let is_closed = place.rest().matches(quote).count() > 1;
            let words = "found unexpected end of stream";
            if is_closed { None } else { place.scanner(words, line, place.last_line()) }
        }
        it if it.starts_with("unexpected character: `") => place.scanner(NO_TOKEN, line, line),
        "did not find expected key" | "did not find expected '-' indicator" => {
            if place.line_before().contains('\t') {
                return place.scanner(NO_TOKEN, line, line);
            }
            place.colon_behind().or_else(|| place.in_open(what, line))
        }
        "did not find expected ',' or '}'" => place.in_open(what, line),
        "expected ',' or ']'" => place.in_open("did not find expected ',' or ']'", line),
        "did not find expected node content" => place.grammar(NODE, line, line),
        "\"-\" is only valid inside a block" => {
            let before = place.line_before();
            let is_item = before.contains(':') && before.trim_end().ends_with(['[', ',']);
            if is_item { place.grammar(NODE, line, line) } else { None }
        }
        "did not find expected <document start>" => {
            let at = place.unknown_directive()?;
            place.scanner("found unknown directive name", at, at)
        }
        "the handle wasn't declared" => place.grammar("found undefined tag handle", line, line),
        "found unknown anchor" if !place.anchor().is_empty() => {
            Some(format!("unknown anchor '{}' referenced", place.anchor()))
        }
        // What it does not know of these, it tells where the next thing should have been.
        "illegal placement of ':' indicator" | "invalid indentation in flow construct" => {
            place.after_item()
        }
        "misplaced bracket" if place.line_before().trim().is_empty() => None,
        "misplaced bracket" if place.lacks_value() => place.grammar(NODE, line, line),
        "misplaced bracket" | "invalid trailing content after double-quoted scalar" => {
            place.after_item()
        }
        "comment intercepting the multiline text" => {
            let next = place.next_content()?;
            place.in_open(KEY, next).filter(|_| place.is_in(Kind::Mapping))
        }
        _ => None,
    }
}

struct Place<'a> {
    text: &'a str,
    line: usize,
    column: usize,
    open: Option<Open>,
}

impl<'a> Place<'a> {
    fn scanner(&self, words: &str, context: usize, problem: usize) -> Option<String> {
        Some(said(Half::Scanner, words, context, problem))
    }

    fn grammar(&self, words: &str, context: usize, problem: usize) -> Option<String> {
        Some(said(Half::Grammar, words, context, problem))
    }

    /// In the collection that is open.
    fn in_open(&self, words: &str, problem: usize) -> Option<String> {
        self.grammar(words, self.open?.line, problem)
    }

    fn is_in(&self, kind: Kind) -> bool {
        self.open.is_some_and(|open| open.kind == kind)
    }

    /// Behind an item something follows that cannot follow one.
    fn after_item(&self) -> Option<String> {
        let open = self.innermost()?;
        let words = match open.kind {
            Kind::Mapping | Kind::Sequence if !self.is_on_one_line() => return None,
            Kind::Mapping | Kind::Sequence if self.colon_behind().is_some() => {
                return self.colon_behind();
            }
            Kind::Mapping => KEY,
            Kind::Sequence => "did not find expected '-' indicator",
            Kind::FlowMapping | Kind::FlowSequence => {
                // A comma, or a bracket that closes, could follow: then it minds something else, or nothing.
                let before = self.before().chars().rev().find(|it| !it.is_whitespace())?;
                let after = self.rest().chars().next()?;
                if matches!(before, ',' | '[' | '{') || matches!(after, ',' | ']' | '}') {
                    return None;
                }
                if open.kind == Kind::FlowMapping {
                    "did not find expected ',' or '}'"
                } else {
                    "did not find expected ',' or ']'"
                }
            }
        };
        self.grammar(words, open.line, self.line)
    }

    /// Behind something on the same line that could be a key it looks for its colon, and minds one that cannot be it.
    fn colon_behind(&self) -> Option<String> {
        let line = self.rest().lines().next()?.trim_end();
        let is_first = self.line_before().trim_start_matches([' ', '-']).is_empty();
        let has_colon = line.contains(": ") || line.ends_with(':');
        let words = "mapping values are not allowed in this context";
        if has_colon && !is_first { self.scanner(words, self.line, self.line) } else { None }
    }

    /// No quote that is closed here was opened further up, and no list begins below.
    fn is_on_one_line(&self) -> bool {
        let before = self.line_before();
        let is_even = |quote: char| before.matches(quote).count().is_multiple_of(2);
        let next = self.next_content().and_then(|at| self.text.lines().nth(at)).unwrap_or_default();
        is_even('"')
            && (is_even('\'') || before.contains('"'))
            && !next.trim_start().starts_with('-')
    }

    /// The innermost collection: our parser looks ahead, and may not have told of the last ones that were opened.
    fn innermost(&self) -> Option<Open> {
        let from = self.open.map_or(0, |open| offset(self.text, open.line, open.column));
        let mut opened = Vec::new();
        let (mut line, mut line_at) = position(self.text, from);
        let before = self.before();
        let mut quote = None;
        for (at, character) in before.char_indices().filter(|(at, _)| *at >= from) {
            match (character, quote) {
                ('\n', _) => (line, line_at) = (line + 1, at + 1),
                (it, Some(by)) if it == by => quote = None,
                (_, Some(_)) => {}
                ('"' | '\'', None) if is_start(before, at) => quote = Some(character),
                ('[' | '{', None) => {
                    let mapping = character == '{';
                    let kind = if mapping { Kind::FlowMapping } else { Kind::FlowSequence };
                    let column = before[line_at..at].chars().count();
                    opened.push(Open { kind, line, column });
                }
                (']' | '}', None) => drop(opened.pop()),
                (_, None) => {}
            }
        }
        opened.pop().or(self.open)
    }

    fn rest(&self) -> &'a str {
        &self.text[offset(self.text, self.line, self.column)..]
    }

    fn before(&self) -> &'a str {
        &self.text[..offset(self.text, self.line, self.column)]
    }

    /// What stands before it on its line.
    fn line_before(&self) -> &'a str {
        self.before().rsplit('\n').next().unwrap_or_default()
    }

    fn last_line(&self) -> usize {
        self.text.matches('\n').count()
    }

    /// Where the key began that a colon should follow: above, and lines that are indented deeper go on with it.
    fn key_line(&self) -> Option<usize> {
        let indented = |line: &str| line.len() - line.trim_start_matches(' ').len();
        let is_content = |line: &str| !line.trim().is_empty() && !line.trim().starts_with('#');
        let lines = self.text.lines().enumerate().take(self.line);
        let content: Vec<(usize, &str)> = lines.filter(|(_, line)| is_content(line)).collect();
        let mut above = content.into_iter().rev();
        let (mut at, mut line) = above.next()?;
        for (before_at, before) in above {
            if indented(line) <= indented(before) || before.contains(':') {
                break;
            }
            (at, line) = (before_at, before);
        }
        Some(at)
    }

    /// The first line from here on whose indentation has a tab.
    fn tab(&self) -> Option<usize> {
        let is_tabbed = |line: &str| line.trim_start_matches(' ').starts_with('\t');
        let mut lines = self.text.lines().enumerate().skip(self.line + 1);
        lines.find(|(_, line)| is_tabbed(line)).map(|(at, _)| at)
    }

    /// The first line below with anything but a comment.
    fn next_content(&self) -> Option<usize> {
        let mut lines = self.text.lines().enumerate().skip(self.line + 1);
        lines
            .find(|(_, line)| !line.trim().is_empty() && !line.trim().starts_with('#'))
            .map(|it| it.0)
    }

    /// A line above that would be a directive if it had another name.
    fn unknown_directive(&self) -> Option<usize> {
        let name = |line: &str| {
            let name = line.strip_prefix('%')?.split([' ', '\t']).next()?;
            (!name.is_empty() && name != "YAML" && name != "TAG").then_some(())
        };
        self.before().lines().position(|line| name(line).is_some())
    }

    /// A value is due here.
    fn lacks_value(&self) -> bool {
        self.before().trim_end_matches([' ', '\t']).ends_with([':', '-'])
    }

    fn anchor(&self) -> &'a str {
        let name = self.rest().trim_start_matches('*');
        let end = name.find(|it: char| !(it.is_ascii_alphanumeric() || it == '_' || it == '-'));
        &name[..end.unwrap_or(name.len())]
    }
}

/// A quote begins a scalar here.
fn is_start(text: &str, at: usize) -> bool {
    text[..at].chars().next_back().is_none_or(|it| it.is_whitespace() || "[{,:".contains(it))
}

fn said(half: Half, words: &str, context: usize, problem: usize) -> String {
    let line = if context == 0 { problem } else { context };
    match (line, half) {
        (0, _) => words.to_owned(),
        (line, Half::Grammar) => format!("line {line}: {words}"),
        (line, Half::Scanner) => format!("line {}: {words}", line + 1),
    }
}

/// Where a line's character is in the text; behind its end, the end.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start = match line {
        0 => 0,
        line => {
            let end = text.match_indices('\n').nth(line - 1);
            end.map_or(text.len(), |(at, _)| at + 1)
        }
    };
    let inner = text[start..].char_indices().nth(column);
    inner.map_or(text.len(), |(at, _)| start + at)
}

/// The line of a place in the text, and where that begins.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at];
    (before.matches('\n').count(), before.rfind('\n').map_or(0, |it| it + 1))
}

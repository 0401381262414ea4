//! The text as a tree whose every node knows its place.
//!
//! The tree keeps what the original's library keeps and other loaders drop: whether a scalar was
//! quoted, its tag, both of two equal keys, and `<<` as a key. Aliases share their anchor's node, so
//! a small file cannot become a large tree; [`super::shape`] bounds how often shared nodes are read.

mod words;

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::findings::Position;

/// Nesting beyond this is refused.
const DEPTH_MAX: usize = 100;

/// One node of the tree.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) position: Position,
    pub(crate) data: Data,
    /// The explicit tag: `int` for `!!int`, `!x` for a tag of somebody's own.
    pub(crate) tag: Option<String>,
}

#[derive(Debug)]
pub(crate) enum Data {
    Scalar {
        text: String,
        plain: bool,
    },
    Sequence(Vec<Rc<Node>>),
    Mapping(Vec<(Rc<Node>, Rc<Node>)>),
    /// An alias inside the very node that it names.
    Loop,
}

/// Why a text is not YAML.
#[derive(Debug)]
pub(crate) struct SyntaxError {
    pub(crate) position: Position,
    pub(crate) message: String,
    /// What the original's library says of it, where that is known.
    pub(crate) original: Option<String>,
}

/// Reads the first document; `None` if there is none.
pub(crate) fn parse(text: &str) -> Result<Option<Rc<Node>>, SyntaxError> {
    let mut parser = Parser::new_from_str(text);
    let mut builder = Builder::default();
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| {
            let at = (error.marker().line().saturating_sub(1), error.marker().col());
            SyntaxError {
                position: Position {
                    line: number(error.marker().line()),
                    column: number(error.marker().col() + 1),
                    width: 1,
                },
                message: error.info().to_owned(),
                original: words::words(error.info(), text, at, builder.open_at(text)),
            }
        })?;
        if builder.event(event, span)? {
            break;
        }
    }
    Ok(builder.root)
}

#[derive(Default)]
struct Builder {
    stack: Vec<Frame>,
    anchors: HashMap<usize, Rc<Node>>,
    root: Option<Rc<Node>>,
}

struct Frame {
    anchor: usize,
    position: Position,
    tag: Option<String>,
    children: Children,
}

enum Children {
    Sequence(Vec<Rc<Node>>),
    Mapping(Vec<(Rc<Node>, Rc<Node>)>, Option<Rc<Node>>),
}

impl Builder {
    /// Takes one event; true when the first document is complete.
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<bool, SyntaxError> {
        let position = position(span);
        match event {
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => {}
            Event::DocumentEnd | Event::StreamEnd => return Ok(true),
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned();
                self.place(
                    node.unwrap_or_else(|| Rc::new(Node { position, data: Data::Loop, tag: None })),
                );
            }
            Event::Scalar(text, style, anchor, tag) => {
                let data =
                    Data::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                let tag = tag.as_deref().map(short_tag);
                self.finish(anchor, Node { position, data, tag });
            }
            Event::SequenceStart(anchor, tag) => {
                let children = Children::Sequence(Vec::new());
                self.open(anchor, position, tag.as_deref(), children)?;
            }
            Event::MappingStart(anchor, tag) => {
                let children = Children::Mapping(Vec::new(), None);
                self.open(anchor, position, tag.as_deref(), children)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(frame) = self.stack.pop() {
                    let data = match frame.children {
                        Children::Sequence(list) => Data::Sequence(list),
                        Children::Mapping(pairs, _) => Data::Mapping(pairs),
                    };
                    let node = Node { position: frame.position, data, tag: frame.tag };
                    self.finish(frame.anchor, node);
                }
            }
        }
        Ok(false)
    }

    fn open(
        &mut self,
        anchor: usize,
        position: Position,
        tag: Option<&Tag>,
        children: Children,
    ) -> Result<(), SyntaxError> {
        if self.stack.len() >= DEPTH_MAX {
            return Err(SyntaxError {
                position,
                message: format!("nested deeper than {DEPTH_MAX} levels"),
                original: None,
            });
        }
        let tag = tag.map(short_tag);
        self.stack.push(Frame { anchor, position, tag, children });
        Ok(())
    }

    /// The innermost collection that is open.
    fn open_at(&self, text: &str) -> Option<words::Open> {
        let frame = self.stack.last()?;
        let place = |number: u32| usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
        let (line, column) = (place(frame.position.line), place(frame.position.column));
        let first = text.lines().nth(line).and_then(|it| it.chars().nth(column));
        let kind = match (&frame.children, first) {
            (Children::Sequence(_), Some('[')) => words::Kind::FlowSequence,
            (Children::Sequence(_), _) => words::Kind::Sequence,
            (Children::Mapping(..), Some('{')) => words::Kind::FlowMapping,
            (Children::Mapping(..), _) => words::Kind::Mapping,
        };
        Some(words::Open { kind, line, column })
    }

    fn finish(&mut self, anchor: usize, node: Node) {
        let node = Rc::new(node);
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.place(node);
    }

    fn place(&mut self, node: Rc<Node>) {
        match self.stack.last_mut().map(|frame| &mut frame.children) {
            None => self.root = Some(node),
            Some(Children::Sequence(list)) => list.push(node),
            Some(Children::Mapping(pairs, key)) => match key.take() {
                None => *key = Some(node),
                Some(key) => pairs.push((key, node)),
            },
        }
    }
}

fn short_tag(tag: &Tag) -> String {
    if tag.is_yaml_core_schema() {
        tag.suffix.clone()
    } else {
        format!("!{}{}", tag.handle.trim_start_matches('!'), tag.suffix)
    }
}

fn position(span: Span) -> Position {
    let same_line = span.start.line() == span.end.line();
    Position {
        line: number(span.start.line()),
        column: number(span.start.col() + 1),
        width: if same_line {
            number(span.end.col().saturating_sub(span.start.col())).max(1)
        } else {
            1
        },
    }
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

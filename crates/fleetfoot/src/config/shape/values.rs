//! Single values and lists of them: how text, numbers, booleans and words are read.

use std::rc::Rc;

use super::super::scalar::{Meaning, as_int, meaning, untagged, word_as_bool};
use super::super::suggest::nearest;
use super::super::tree::{Data, Node};
use super::{Placed, Shaper};

pub(super) const DURATIONS: &str = "write for example 90s, 5m, 1h30m, or a number of seconds";
pub(super) const SIZES: &str = "write for example 512MiB, 2GiB, or a number of bytes";
pub(super) const SHARES: &str = "write for example 10%, 20GiB, or a number of bytes";
pub(super) const CPUS: &str = "write for example 2, 0.5 or 500m";

impl Shaper<'_> {
    pub(super) fn text(&mut self, node: &Node) -> Option<String> {
        match &node.data {
            Data::Scalar { text, .. } => Some(text.clone()),
            Data::Sequence(_) | Data::Mapping(_) | Data::Loop => {
                self.wrong_type(node, "text");
                None
            }
        }
    }

    pub(super) fn int(&mut self, node: &Node) -> Option<i64> {
        let value = match (&node.data, meaning(node)) {
            (Data::Scalar { .. }, Ok(found)) => as_int(found),
            _ => None,
        };
        if value.is_none() {
            self.wrong_type(node, "a whole number");
            if let Data::Scalar { text, plain: false } = &node.data
                && as_int(untagged(text)).is_some()
            {
                self.findings.suggest("remove the quotes");
            }
        }
        value
    }

    pub(super) fn boolean(&mut self, node: &Node) -> Option<bool> {
        let value = match (&node.data, meaning(node)) {
            (Data::Scalar { .. }, Ok(Meaning::Bool(value))) => Some(value),
            (Data::Scalar { text, .. }, Ok(Meaning::Text)) => word_as_bool(text),
            _ => None,
        };
        if value.is_none() {
            self.wrong_type(node, "true or false");
        }
        value
    }

    pub(super) fn parsed<T>(
        &mut self,
        node: &Node,
        parse: fn(&str) -> Result<T, String>,
        example: &str,
    ) -> Option<T> {
        let text = self.text(node)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(message) => {
                self.wrong(node, message);
                self.findings.suggest(example);
                None
            }
        }
    }

    pub(super) fn choice(&mut self, node: &Node, words: &'static [&'static str]) -> Option<String> {
        let text = self.text(node)?;
        if words.contains(&text.as_str()) {
            return Some(text);
        }
        let all = words.join(", ");
        self.wrong(node, format!("`{text}` is not one of {all}"));
        if let Some(near) = nearest(&text, words.iter().copied()) {
            self.findings.suggest(format!("did you mean `{near}`?"));
        }
        None
    }

    pub(super) fn items<'n>(&mut self, node: &'n Node, due: &str) -> Option<&'n [Rc<Node>]> {
        match &node.data {
            Data::Sequence(items) => Some(items),
            Data::Scalar { .. } | Data::Mapping(_) | Data::Loop => {
                self.wrong_type(node, due);
                None
            }
        }
    }

    pub(super) fn text_list(&mut self, node: &Node) -> Option<Vec<Placed<String>>> {
        let Some(items) = self.items(node, "a list") else {
            if let Data::Scalar { text, .. } = &node.data {
                self.findings.suggest(format!("write it as a list: [{text}]"));
            }
            return None;
        };
        let mut out = Vec::new();
        for (index, item) in items.iter().enumerate() {
            if !self.visit(item) {
                break;
            }
            self.path.push(format!("[{index}]"));
            if !self.is_null(item)
                && let Some(value) = self.text(item)
            {
                out.push(Placed { position: item.position, value });
            }
            self.path.pop();
        }
        Some(out)
    }
}

//! The things that GitHub keeps, in GitHub's words.

use std::collections::BTreeSet;

use secrecy::SecretString;

use crate::wire;

/// A runner group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerGroup {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Whether it is the default one.
    pub is_default: bool,
    /// Whether public repositories may use it, where GitHub lets us know.
    pub allows_public_repositories: Option<bool>,
}

/// A label of a scale set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Its text.
    pub name: String,
    /// `System` or `User`.
    pub kind: String,
}

/// A scale set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScaleSet {
    /// Its number.
    pub id: i64,
    /// Its name, unique in its group.
    pub name: String,
    /// The number of its runner group.
    pub group_id: i64,
    /// The name of its runner group.
    pub group_name: String,
    /// The labels that jobs can ask for.
    pub labels: Vec<Label>,
}

/// A scale set to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScaleSetSpec {
    /// Its name.
    pub name: String,
    /// The number of its runner group.
    pub group_id: i64,
    /// The labels that jobs can ask for; without any the name is the label.
    pub labels: Vec<String>,
    /// Whose labels they are said to be.
    pub label_kind: LabelKind,
}

/// Whose label it is, in GitHub's word. Jobs find either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LabelKind {
    /// `User`
    #[default]
    User,
    /// `System`
    System,
}

impl LabelKind {
    fn word(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::System => "System",
        }
    }
}

/// A JIT config: the one-use credential that starts one runner.
#[derive(Debug)]
pub struct Jit {
    /// The number of the runner that it registered.
    pub runner_id: i64,
    /// For the runner, and for nobody else.
    pub config: SecretString,
}

/// A registered runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runner {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The scale set it belongs to.
    pub set_id: i64,
}

/// What became of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The runner is not registered (any more).
    Gone,
    /// It has a job, so GitHub keeps it.
    Busy,
}

/// Whether a scale set needs other labels. GitHub does not care for case, order or repetition.
#[must_use]
pub fn labels_differ(wanted: &[String], actual: &[Label]) -> bool {
    let wanted: BTreeSet<String> = wanted.iter().map(|name| name.to_lowercase()).collect();
    let actual: BTreeSet<String> = actual.iter().map(|label| label.name.to_lowercase()).collect();
    wanted != actual
}

pub(crate) fn labels(names: &[String], kind: LabelKind) -> Vec<wire::LabelBody> {
    let label =
        |name: &String| wire::LabelBody { name: name.clone(), kind: kind.word().to_owned() };
    names.iter().map(label).collect()
}

impl From<wire::ScaleSetBody> for ScaleSet {
    fn from(body: wire::ScaleSetBody) -> Self {
        let label = |label: wire::LabelBody| Label { name: label.name, kind: label.kind };
        Self {
            id: body.id,
            name: body.name,
            group_id: body.runner_group_id,
            group_name: body.runner_group_name,
            labels: body.labels.into_iter().map(label).collect(),
        }
    }
}

impl From<wire::RunnerBody> for Runner {
    fn from(body: wire::RunnerBody) -> Self {
        Self { id: body.id, name: body.name, set_id: body.runner_scale_set_id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_compared_as_case_insensitive_sets() {
        let actual = |names: &[&str]| -> Vec<Label> {
            let label = |name: &&str| Label { name: (*name).into(), kind: "System".into() };
            names.iter().map(label).collect()
        };
        let wanted =
            |names: &[&str]| -> Vec<String> { names.iter().map(|n| (*n).into()).collect() };
        for (one, other, differ) in [
            (&["a", "b"][..], &["b", "a"][..], false),
            (&["A"], &["a"], false),
            (&["a", "a"], &["a", "b"], true),
            (&["a", "a"], &["a"], false),
            (&["a"], &[], true),
        ] {
            assert_eq!(labels_differ(&wanted(one), &actual(other)), differ, "{one:?} {other:?}");
        }
    }
}

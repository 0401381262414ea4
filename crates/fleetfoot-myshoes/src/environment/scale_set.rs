//! The variables of scale set mode.

use super::{Mistake, Reader};

/// What scale set mode has of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScaleSet {
    /// `SCALESET_ENABLED`
    pub switch: Switch,
    /// `SCALESET_RUNNER_GROUP`
    pub runner_group: String,
    /// `SCALESET_MAX_RUNNERS`; with 0 nothing is polled for.
    pub max_runners: u32,
    /// `SCALESET_NAME_PREFIX`
    pub name_prefix: String,
}

/// What brings jobs to a target that says nothing of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// `true`: its scale set.
    On,
    /// `false`: the webhook, in so many words.
    Off,
    /// Nothing, or another word: the webhook, as the original has it.
    Unsaid,
}

pub(super) fn read<G: Fn(&str) -> Option<String>>(reader: &Reader<G>) -> Result<ScaleSet, Mistake> {
    Ok(ScaleSet {
        switch: switch(reader.text("SCALESET_ENABLED").as_deref()),
        runner_group: reader.text("SCALESET_RUNNER_GROUP").unwrap_or_else(|| "default".to_owned()),
        max_runners: reader.number("SCALESET_MAX_RUNNERS", 10, 0)?,
        name_prefix: reader.text("SCALESET_NAME_PREFIX").unwrap_or_else(|| "myshoes".to_owned()),
    })
}

fn switch(text: Option<&str>) -> Switch {
    match text {
        Some("true") => Switch::On,
        Some("false") => Switch::Off,
        Some(_) | None => Switch::Unsaid,
    }
}

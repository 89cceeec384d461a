//! Which events a handler wants.

use std::collections::BTreeSet;

use crate::{
    event::{self, EventSpec, Platform},
    platform,
};

/// Which events a handler wants.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Selection {
    /// One type, and the more specific ones that nobody else responds to.
    Event(&'static EventSpec),
    /// By event type with a trailing `*`, or by family as in `im/group_member`.
    Pattern(String),
    /// Everything, unknown events included.
    All,
}

impl Selection {
    pub(super) fn pattern(pattern: &str) -> Self {
        if pattern == "*" { Self::All } else { Self::Pattern(pattern.to_owned()) }
    }

    pub(super) fn matches(&self, event_type: &str, spec: Option<&'static EventSpec>) -> bool {
        match self {
            Self::All => true,
            Self::Event(wanted) => spec.is_some_and(|spec| spec == *wanted || spec.general() == Some(*wanted)),
            Self::Pattern(pattern) => match (pattern.strip_suffix('*'), pattern.split_once('/')) {
                (Some(prefix), _) => event_type.starts_with(prefix),
                (None, Some((platform, family))) => {
                    spec.is_some_and(|spec| spec.platform.as_str() == platform && spec.family == family)
                }
                (None, None) => event_type == pattern,
            },
        }
    }

    /// Whether there is any event that the selection can match.
    pub(super) fn is_known(&self) -> bool {
        match self {
            Self::All | Self::Event(_) => true,
            Self::Pattern(_) => {
                event::all().any(|spec| self.matches(spec.id, Some(spec)))
                    || unknown_types().any(|event_type| self.matches(event_type, None))
            }
        }
    }

    /// Every pattern that matches something: types, families, and what types have in common.
    pub(super) fn all_patterns() -> BTreeSet<String> {
        let mut patterns: BTreeSet<String> = unknown_types().map(str::to_owned).collect();
        for spec in event::all() {
            patterns.extend([spec.id.to_owned(), format!("{}/{}", spec.platform, spec.family)]);
            patterns.extend(spec.id.match_indices('.').map(|(at, _)| format!("{}.*", &spec.id[..at])));
        }
        patterns
    }
}

/// The types of what the catalogue does not know.
fn unknown_types() -> impl Iterator<Item = &'static str> {
    Platform::ALL.into_iter().flat_map(|platform| {
        [&[][..], &["event".into(), "".into()][..]].map(|key| platform::unknown_type(platform, key))
    })
}

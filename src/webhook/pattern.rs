//! `match`: globs of account and event type.

use crate::{
    event::{self, EventSpec, Platform},
    platform,
};

/// Which events: those that one of the patterns matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Patterns(Vec<Pattern>);

/// `mp/shop:mp.event.*`: a glob of accounts, and one of event types.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    account: String,
    event_type: String,
    /// Types that are more specific than the one that is named: a follow through a QR code is a follow.
    specific: Vec<&'static str>,
}

/// How exactly a pattern means an event: whether it has no `*`, and how much is written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    event_type: (bool, usize),
    account: (bool, usize),
}

/// Why a pattern is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PatternError {
    /// It is empty, or a part of it is.
    Empty,
    /// No configured account matches.
    NoAccount {
        /// The account as it was written.
        written: String,
    },
    /// None of the accounts that match has such an event type.
    NoType {
        /// The type as it was written.
        written: String,
        /// What the accounts have.
        types: Vec<&'static str>,
    },
}

impl Patterns {
    /// Adds a pattern, which has to match some event of one of `accounts` (`mp/shop`).
    ///
    /// # Errors
    /// [`PatternError`] when it can match nothing.
    pub(crate) fn add<'a>(
        &mut self,
        text: &str,
        accounts: impl Iterator<Item = (Platform, &'a str)>,
    ) -> Result<(), PatternError> {
        let (account, event_type) = text.split_once(':').unwrap_or((text, "*"));
        if account.is_empty() || event_type.is_empty() {
            return Err(PatternError::Empty);
        }
        let platforms: Vec<Platform> =
            accounts.filter(|(_, id)| glob(account, id)).map(|(platform, _)| platform).collect();
        if platforms.is_empty() {
            return Err(PatternError::NoAccount { written: account.to_owned() });
        }
        let mut types: Vec<&'static str> = platforms.into_iter().flat_map(event_types).collect();
        types.sort_unstable();
        types.dedup();
        if !types.iter().any(|known| glob(event_type, known)) {
            return Err(PatternError::NoType { written: event_type.to_owned(), types });
        }
        let is_more_specific = |spec: &&EventSpec| spec.general().is_some_and(|general| general.id == event_type);
        let specific = event::all().filter(is_more_specific).map(|spec| spec.id).collect();
        self.0.push(Pattern { account: account.to_owned(), event_type: event_type.to_owned(), specific });
        Ok(())
    }

    /// Whether there is none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How exactly an event is meant, if it is: the type counts before the account, and what is written out before a `*`.
    pub(crate) fn rank(&self, account: &str, event_type: &str) -> Option<Rank> {
        let matching = self.0.iter().filter(|pattern| pattern.matches(account, event_type));
        let exactly = |pattern: &str| (!pattern.contains('*'), pattern.bytes().filter(|byte| *byte != b'*').count());
        matching
            .map(|pattern| Rank { event_type: exactly(&pattern.event_type), account: exactly(&pattern.account) })
            .max()
    }

    /// Whether any event of an account may be meant.
    pub(crate) fn may_match(&self, account: &str) -> bool {
        self.0.iter().any(|pattern| glob(&pattern.account, account))
    }

    /// Whether an event of an account, `mp/shop`, is meant.
    pub(crate) fn matches(&self, account: &str, event_type: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(account, event_type))
    }
}

impl Pattern {
    fn matches(&self, account: &str, event_type: &str) -> bool {
        let of_type = || glob(&self.event_type, event_type) || self.specific.contains(&event_type);
        glob(&self.account, account) && of_type()
    }
}

/// Every type that an event of an account of this platform may have, those of unknown events included.
pub(crate) fn event_types(of: Platform) -> impl Iterator<Item = &'static str> {
    let known = std::iter::once(of).chain(of.protocol().receives_of().iter().copied());
    let known = known.flat_map(|platform| event::all().filter(move |spec| spec.platform == platform));
    let unknown = [&[][..], &["event".into()][..], &["event".into(), "".into()][..]];
    known.map(|spec| spec.id).chain(unknown.map(|key| platform::unknown_type(of, key)))
}

/// Whether a text is what a pattern says, in which `*` stands for any characters.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        // The first place is as good as any: what follows is looked for behind it.
        let Some((_, behind)) = text.split_once(part) else { return false };
        text = behind;
    }
    text.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNTS: [(Platform, &str); 3] =
        [(Platform::Mp, "mp/shop"), (Platform::Mp, "mp/news"), (Platform::Im, "im/chat")];

    fn patterns(texts: &[&str]) -> Result<Patterns, PatternError> {
        let mut patterns = Patterns::default();
        texts.iter().try_for_each(|text| patterns.add(text, ACCOUNTS.into_iter()))?;
        Ok(patterns)
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "a", true),
            ("a*", "a", true),
            ("a*", "ba", false),
            ("*a", "ba", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*a", "a", false),
            ("a*b*c", "axbxc", true),
            ("a*b*c", "axcxb", false),
            ("**", "x", true),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("*b*", "abc", true),
            ("*ab", "aab", true),
            ("*ab*ab", "xab", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn account_and_type_decide() {
        for (texts, account, event_type, expected) in [
            (&["mp/shop:mp.event.*"][..], "mp/shop", "mp.event.subscribe", true),
            (&["mp/shop:mp.event.*"], "mp/news", "mp.event.subscribe", false),
            (&["mp/shop:mp.event.*"], "mp/shop", "mp.message.text", false),
            (&["mp/*"], "mp/news", "mp.message.text", true),
            (&["*/shop"], "mp/shop", "mp.message.text", true),
            (&["*"], "im/chat", "im.unknown", true),
            (&["im/chat:im.*", "mp/*:mp.message.text"], "mp/shop", "mp.message.text", true),
            (&["*:*.text"], "mp/shop", "mp.message.text", true),
            (&["mp/*:mp.event.unknown"], "mp/shop", "mp.event.unknown", true),
        ] {
            assert_eq!(patterns(texts).unwrap().matches(account, event_type), expected, "{texts:?} {event_type}");
        }
    }

    #[test]
    fn a_type_that_is_named_means_the_more_specific_ones_too() {
        let (specific, general) = event::all()
            .filter(|spec| spec.platform == Platform::Mp)
            .find_map(|spec| Some((spec.id, spec.general()?.id)))
            .unwrap();
        let by_name = patterns(&[&format!("mp/*:{general}")]).unwrap();
        assert!(by_name.matches("mp/shop", specific) && by_name.matches("mp/shop", general));
        let narrow = patterns(&[&format!("mp/*:{specific}")]).unwrap();
        assert!(narrow.matches("mp/shop", specific) && !narrow.matches("mp/shop", general));
    }

    #[test]
    fn what_can_match_nothing_is_refused() {
        let refused = |text: &str| patterns(&[text]).unwrap_err();
        assert_eq!(refused(""), PatternError::Empty);
        assert_eq!(refused("mp/shop:"), PatternError::Empty);
        assert_eq!(refused("mp/shopp"), PatternError::NoAccount { written: "mp/shopp".to_owned() });
        for text in ["mp/*:im.*", "im/chat:mp.message.text", "*:mp.message.txet", "mp/shop:shop"] {
            assert!(matches!(refused(text), PatternError::NoType { .. }), "{text}");
        }
    }

    #[test]
    fn every_type_of_every_platform_can_be_named() {
        for platform in Platform::ALL {
            let account = format!("{platform}/a");
            for event_type in event_types(platform) {
                let mut patterns = Patterns::default();
                patterns.add(&format!("{account}:{event_type}"), [(platform, &*account)].into_iter()).unwrap();
                assert!(patterns.matches(&account, event_type), "{event_type}");
            }
        }
    }
}

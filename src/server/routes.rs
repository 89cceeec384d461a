//! Which account a path is of, and what a proxy has done to a path that is of none.

use std::{fmt, sync::Arc};

use hashbrown::HashMap;

use super::unrouted::{nearest, plain, shown};
use crate::{config::Account, delivery::Endpoint};

/// What has a route.
pub(crate) trait Routed {
    /// Its account.
    fn account(&self) -> &Account;
}

impl Routed for Endpoint {
    fn account(&self) -> &Account {
        &self.account
    }
}

impl Routed for Account {
    fn account(&self) -> &Account {
        self
    }
}

/// The routes of accounts. One look-up is all the routing there is.
#[derive(Debug)]
pub(crate) struct Routes<T> {
    exact: HashMap<String, Arc<T>>,
    patterns: Vec<Pattern<T>>,
}

/// A path with a placeholder.
#[derive(Debug)]
struct Pattern<T> {
    before: String,
    behind: String,
    routed: Arc<T>,
}

impl<T: Routed> Pattern<T> {
    /// What stands in place of the placeholder.
    fn id<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.strip_prefix(&self.before)?.strip_suffix(&self.behind)
    }
}

/// Who a request is for; with an id in the place of the placeholder, or the placeholder itself: a console may check the
/// address as it is written.
fn placed<T: Routed>(routed: Arc<T>, id: &str) -> Option<(Arc<T>, Option<&str>)> {
    let protocol = routed.account().platform.protocol();
    if protocol.placeholder()? == id {
        return Some((routed, None));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || (!protocol.routes_authorizers() && b"-_".contains(&byte));
    let is_id = (1..=64).contains(&id.len()) && id.bytes().all(allowed);
    let authorizer = Some(id).filter(|_| protocol.routes_authorizers());
    is_id.then_some((routed, authorizer))
}

impl<T: Routed> Routes<T> {
    /// Those of all that have one. What does not depend on whom it is for comes to the path that an account with a
    /// placeholder would have without one of its own.
    pub(crate) fn new(all: impl Iterator<Item = Arc<T>>) -> Self {
        let all = all.filter(|routed| routed.account().websocket.is_none());
        let mut exact: HashMap<String, Arc<T>> = all.map(|it| (it.account().path.clone(), it)).collect();
        let split = |path: &String, routed: &mut Arc<T>| {
            let (before, behind) = path.split_once(routed.account().platform.protocol().placeholder()?)?;
            Some((before.to_owned(), behind.to_owned()))
        };
        let taken: Vec<_> = exact.extract_if(|path, routed| split(path, routed).is_some()).collect();
        let mut patterns = Vec::with_capacity(taken.len());
        for (path, mut routed) in taken {
            exact.entry(routed.account().default_path()).or_insert_with(|| Arc::clone(&routed));
            if let Some((before, behind)) = split(&path, &mut routed) {
                patterns.push(Pattern { before, behind, routed });
            }
        }
        Self { exact, patterns }
    }

    /// Everybody, some of them twice.
    pub(crate) fn each(&self) -> impl Iterator<Item = &Arc<T>> {
        self.exact.values().chain(self.patterns.iter().map(|pattern| &pattern.routed))
    }

    /// The account of a path; and whose message it is, where a third-party platform is given those of others.
    pub(crate) fn find<'p>(&self, path: &'p str) -> Option<(Arc<T>, Option<&'p str>)> {
        let known = |path: &str| self.exact.get(path).map(Arc::clone);
        if let Some(routed) = known(path) {
            return Some((routed, None));
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        if let Some(routed) = known(path) {
            return Some((routed, None));
        }
        let below = |path: &'p str| {
            let (path, id) = path.rsplit_once('/')?;
            placed(known(path)?, id)
        };
        let by_pattern =
            || self.patterns.iter().find_map(|pattern| placed(Arc::clone(&pattern.routed), pattern.id(path)?));
        // As the console's own example ends.
        below(path).or_else(|| below(path.strip_suffix("/callback")?)).or_else(by_pattern)
    }

    /// Which path is most like one that no account has, and what made one of the other.
    pub(crate) fn nearest(&self, path: &str) -> Nearest {
        let with_placeholder = self.patterns.iter().map(|pattern| &*pattern.routed.account().path);
        let paths = self.exact.keys().map(|path| &**path).chain(with_placeholder);
        Nearest::among(paths, path)
    }
}

/// The path that a request at another path is most likely for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nearest {
    known: Option<String>,
    change: Option<Change>,
}

/// What something in front does to paths.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Adds(String),
    Removes(String),
}

impl Nearest {
    fn among<'p>(paths: impl Iterator<Item = &'p str> + Clone, path: &str) -> Self {
        let written = plain(path);
        let written = written.trim_end_matches('/');
        let is_whole = |rest: &str| rest.is_empty() || rest.starts_with('/');
        let added = |known: &&str| {
            written.strip_suffix(&*plain(known)).filter(|rest| !rest.is_empty() && is_whole(rest)).map(str::to_owned)
        };
        // The longest one that a prefix was added to is the one that was meant.
        let longest = paths.clone().filter(|known| added(known).is_some()).max_by_key(|known| known.len());
        if let Some((known, prefix)) = longest.and_then(|known| Some((known, added(&known)?))) {
            return Self { known: Some(known.to_owned()), change: Some(Change::Adds(prefix)) };
        }
        let removed = |known: &str| {
            let prefix = plain(known).strip_suffix(written).map(str::to_owned)?;
            (written.starts_with('/') && !prefix.is_empty()).then_some(prefix)
        };
        let shortest = paths.clone().filter(|known| removed(known).is_some()).min_by_key(|known| (known.len(), *known));
        if let Some((known, prefix)) = shortest.and_then(|known| Some((known, removed(known)?))) {
            return Self { known: Some(known.to_owned()), change: Some(Change::Removes(prefix)) };
        }
        Self { known: nearest(paths, path).map(str::to_owned), change: None }
    }

    /// What happened to the path of a request, in a sentence of its own; nothing, where only a guess can be made.
    pub(crate) fn explanation(&self, path: &str) -> Option<String> {
        let known = self.known.as_ref()?;
        let path = shown(path);
        let what = self.change.as_ref()?;
        Some(format!("the server knows {known}; the request came to {path}: {what}"))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adds(prefix) => write!(f, "something in front adds {prefix}"),
            Self::Removes(prefix) => write!(f, "something in front cuts off {prefix}"),
        }
    }
}

impl fmt::Display for Nearest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.known, &self.change) {
            (None, _) => f.write_str("none is configured"),
            (Some(known), None) => write!(f, "the nearest is {known}"),
            (Some(known), Some(change)) => write!(f, "the nearest is {known}: {change}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_proxy_did_to_a_path_is_named() {
        let paths = ["/mp/shop", "/shop", "/wecom/sales", "/callback/$APPID$/x"];
        for (path, expected) in [
            ("/callback/mp/shop", "the nearest is /mp/shop: something in front adds /callback"),
            ("/a/b/wecom/sales/", "the nearest is /wecom/sales: something in front adds /a/b"),
            ("/sales", "the nearest is /wecom/sales: something in front cuts off /wecom"),
            ("/mp/shpo", "the nearest is /mp/shop"),
            ("/xwecom/sales", "the nearest is /wecom/sales"),
            ("/", "the nearest is /shop"),
            ("", "the nearest is /shop"),
        ] {
            assert_eq!(Nearest::among(paths.into_iter(), path).to_string(), expected, "{path}");
        }
        assert_eq!(Nearest::among(std::iter::empty(), "/mp/shop").to_string(), "none is configured");
        let near = Nearest::among(paths.into_iter(), "/callback/mp/shop");
        assert_eq!(
            near.explanation("/callback/mp/shop").as_deref(),
            Some("the server knows /mp/shop; the request came to /callback/mp/shop: something in front adds /callback")
        );
        // However long it is.
        Nearest::among(paths.into_iter(), &"/é".repeat(10_000));
    }
}

//! Routes of accounts: `path`, and what no two accounts may have.

use std::collections::HashMap;

use super::{accounts::rules, reader::Section};
use crate::event::Platform;

/// What an account has for itself.
#[derive(Default)]
pub(super) struct Claims {
    /// Accounts by route.
    routes: HashMap<String, (String, Option<usize>)>,
    /// Accounts by the bot that they connect for.
    bots: HashMap<String, String>,
}

impl Claims {
    /// Has an account connect for a bot; returns the one that does already.
    pub(super) fn connect(&mut self, bot_id: &str, platform: Platform, name: &str) -> Option<String> {
        // One that is missing is a problem of its own.
        let known = if bot_id.is_empty() { None } else { self.bots.get(bot_id).cloned() };
        if known.is_none() {
            self.bots.insert(bot_id.to_owned(), format!("{platform}/{name}"));
        }
        known
    }
}

pub(super) fn path(platform: Platform, name: &str, section: &Section<'_>, claims: &mut Claims) -> String {
    const PATH: &str = "a path such as \"/callback/shop\": it begins with `/`, has letters, digits, `-`, `_`, `.` and `~` \
                        between slashes, and no empty, `.` or `..` part; requests may have a slash at the end, and a query, \
                        which are not written here";
    let placeholder = platform.protocol().placeholder();
    let written = section.matching("path", PATH, |text| is_path(text, placeholder).then(|| text.to_owned()));
    let path = written.unwrap_or_else(|| default_path(platform, name));
    if let Some(refused) = rules(platform).refused_in_paths.filter(|refused| path.contains(*refused)) {
        section
            .warning("path", format!("the console refuses `{refused}` in addresses, and {path} has one: set `path`"));
    }
    let line = section.line_of("path");
    // Beside one with a placeholder an account has its usual path, for what is for nobody.
    let usual = placeholder.filter(|placeholder| path.contains(placeholder)).map(|_| default_path(platform, name));
    for path in usual.iter().chain([&path]) {
        if let Some((other, other_line)) = claims.routes.get(path) {
            let at = other_line.map(|line| format!(" (line {line})")).unwrap_or_default();
            section.problem("path", format!("is already used by {other}{at}"));
        } else {
            claims.routes.insert(path.clone(), (format!("{platform}/{name}"), line));
        }
    }
    path
}

/// One part may be the placeholder of the platform.
fn is_path(text: &str, placeholder: Option<&str>) -> bool {
    let Some(rest) = text.strip_prefix('/') else { return false };
    let is_placeholder = |part: &&str| Some(*part) == placeholder;
    let part = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        !part.is_empty() && part != "." && part != ".." && part.bytes().all(allowed)
    };
    let placeholders = rest.split('/').filter(is_placeholder).count();
    text.len() <= 256 && placeholders <= 1 && rest.split('/').all(|it| is_placeholder(&it) || part(it))
}

pub(super) fn default_path(platform: Platform, name: &str) -> String {
    format!("/{platform}/{name}")
}

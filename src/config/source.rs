//! `source` of an account: from which addresses requests are taken.

use super::{reader::Section, server::Server};

/// What becomes of a request from an address that is not in the platform's own list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceCheck {
    /// Addresses are not looked at.
    #[default]
    Off,
    /// It is handled as any other, counted and logged.
    Warn,
    /// It is refused.
    Enforce,
}

impl SourceCheck {
    /// As in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Warn => "warn",
            Self::Enforce => "enforce",
        }
    }
}

pub(super) fn read(section: &Section<'_>, server: &Server) -> SourceCheck {
    let choices = [SourceCheck::Off, SourceCheck::Warn, SourceCheck::Enforce].map(|check| (check.as_str(), check));
    let check = section.choice("source", &choices).unwrap_or_default();
    if check == SourceCheck::Off {
        return check;
    }
    if !section.has("secret") {
        section.problem("source", "needs `secret`: the list of the platform's addresses is fetched with it");
    }
    if server.trusted_proxies.is_empty() && server.listen.ip().to_canonical().is_loopback() {
        section.warning(
            "source",
            format!(
                "`source = \"{}\"`: only this machine can reach `listen` of [server], so every request seems to come from the \
                 proxy on it; name that in `trusted_proxies`",
                check.as_str()
            ),
        );
    }
    check
}

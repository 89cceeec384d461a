//! Who calls: requests from addresses that the platform does not name as its own.
//!
//! ```text
//! the platform's API ──▶ fetch: once a day, by one node ──▶ named lease ──▶ list ◀── is this address in it? ◀── request
//! ```
//!
//! A signature proves more than an address. So whatever is not known lets requests through: no list yet, an empty one. An old
//! list is used until there is a newer one.
//!
//! | file | what it does |
//! |---|---|
//! | `list` | the addresses |
//! | `fetch` | gets them, and keeps them in the journal |

mod fetch;
mod list;

use std::{net::IpAddr, sync::Arc};

use arc_swap::ArcSwapOption;

pub(crate) use self::{fetch::Sources, list::AddressList};
use crate::{
    config::{Account, SourceCheck},
    journal::Millis,
    metrics::{Metrics, SourceMetrics},
};

/// The addresses that the requests of one account may come from.
#[derive(Debug)]
pub(crate) struct Source {
    account: Arc<str>,
    check: SourceCheck,
    list: ArcSwapOption<AddressList>,
    metrics: SourceMetrics,
}

/// An address that is not in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unexpected {
    /// Whether its requests are refused.
    pub(crate) is_refused: bool,
    /// Entries of the list.
    pub(crate) entries: usize,
}

impl Source {
    /// That of an account which looks at addresses.
    pub(crate) fn of(account: &Account, id: &Arc<str>, metrics: &Metrics) -> Option<Self> {
        let metrics =
            (account.source != SourceCheck::Off).then(|| metrics.source(account.platform.as_str(), &account.name))?;
        Some(Self { account: Arc::clone(id), check: account.source, list: ArcSwapOption::empty(), metrics })
    }

    /// Begins with what an earlier configuration of the same account knew.
    pub(crate) fn know_as(&self, earlier: &Self) {
        self.list.store(earlier.list.load_full());
    }

    /// What is done with requests from other addresses.
    pub(crate) const fn check(&self) -> SourceCheck {
        self.check
    }

    /// The list, if it is known.
    pub(crate) fn list(&self) -> Option<Arc<AddressList>> {
        self.list.load_full()
    }

    /// Counts a request from an address that is not in the list.
    pub(crate) fn unexpected(&self, client: IpAddr) -> Option<Unexpected> {
        let list = self.list.load();
        let list = list.as_ref().filter(|list| !list.contains(client))?;
        self.metrics.unexpected.increment(1);
        Some(Unexpected { is_refused: self.check == SourceCheck::Enforce, entries: list.len() })
    }

    /// Shows how much is known, and how old it is.
    pub(crate) fn show(&self, now: Millis) {
        let list = self.list.load();
        let (entries, age) = list.as_ref().map_or_else(Default::default, |list| (list.len(), list.age(now)));
        self.metrics.show(entries, age);
    }
}

/// Nothing is shown of an account that does not look at addresses any more.
impl Drop for Source {
    fn drop(&mut self) {
        self.metrics.hide();
    }
}

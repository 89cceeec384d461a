//! Which secrets of a configuration are read: a command that lists events works where those of the accounts are not at hand.
//!
//! What has a secret that was not read is kept apart from the rest, so that nothing can be signed, opened or sent with it.

use super::Account;

/// How the secrets of a table are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secrets {
    /// One that cannot be read is a problem.
    Required,
    /// What has one that cannot be read is kept apart.
    Optional,
    /// Whatever has one is kept apart.
    Skipped,
}

/// Which secrets somebody needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs<'n> {
    journal: Secrets,
    admin: Secrets,
    accounts: Secrets,
    forwards: Secrets,
    /// An account, as in `mp/shop`, whose secrets are required.
    account: Option<&'n str>,
    /// A forward whose secrets are required.
    forward: Option<&'n str>,
}

impl<'n> Needs<'n> {
    /// All of them.
    pub(crate) const ALL: Self = Self {
        journal: Secrets::Required,
        admin: Secrets::Required,
        accounts: Secrets::Required,
        forwards: Secrets::Required,
        account: None,
        forward: None,
    };
    /// None of them.
    pub(crate) const NONE: Self = Self {
        journal: Secrets::Skipped,
        admin: Secrets::Skipped,
        accounts: Secrets::Skipped,
        forwards: Secrets::Skipped,
        account: None,
        forward: None,
    };
    /// The URL of the journal.
    pub(crate) const JOURNAL: Self = Self { journal: Secrets::Required, ..Self::NONE };

    /// Those of the admin listener, if they can be read.
    #[must_use]
    pub(crate) const fn with_admin(self) -> Self {
        Self { admin: Secrets::Optional, ..self }
    }

    /// Those of one account.
    #[must_use]
    pub(crate) const fn with_account(self, id: &'n str) -> Self {
        Self { account: Some(id), ..self }
    }

    /// Those of the other accounts that can be read.
    #[must_use]
    pub(crate) const fn with_accounts(self) -> Self {
        Self { accounts: Secrets::Optional, ..self }
    }

    /// Those of one forward.
    #[must_use]
    pub(crate) const fn with_forward(self, name: &'n str) -> Self {
        Self { forward: Some(name), ..self }
    }

    /// Those of the forwards that can be read.
    #[must_use]
    pub(crate) const fn with_forwards(self) -> Self {
        Self { forwards: Secrets::Optional, ..self }
    }

    /// How those of a table outside of accounts and arrays are read.
    pub(super) fn of_section(&self, key: &str) -> Secrets {
        match key {
            "journal" => self.journal,
            "admin" => self.admin,
            _ => Secrets::Required,
        }
    }

    pub(super) fn of_account(&self, platform: &str, name: &str) -> Secrets {
        let is_it = self.account.and_then(|id| id.split_once('/')) == Some((platform, name));
        if is_it { Secrets::Required } else { self.accounts }
    }

    /// How those of `[[forward]]` and `[[answer]]` are read.
    pub(super) fn of_table(&self, key: &str, name: &str) -> Secrets {
        match (key, self.forward) {
            ("forward", Some(needed)) if needed == name => Secrets::Required,
            _ => self.forwards,
        }
    }
}

/// An account with a secret that was not read.
#[derive(Clone, Debug)]
pub(crate) struct UnreadAccount {
    /// What else is known of it.
    pub(crate) account: Account,
    /// Why the secret was not read.
    pub(crate) why: String,
}

/// A forward with a secret that was not read.
#[derive(Clone, Debug)]
pub(crate) struct UnreadForward {
    pub(crate) name: String,
    pub(crate) enabled: bool,
    /// Where it sends to, as it may be shown, if that is known.
    pub(crate) to: Option<String>,
    /// Why the secret was not read.
    pub(crate) why: String,
}

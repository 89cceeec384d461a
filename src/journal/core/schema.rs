//! Which versions of the tables a program works with.
//!
//! Each change of the tables has a number. The tables keep the number of the latest, and that of the oldest program that still
//! works with them: so a program can be replaced by the one before it, unless a change says otherwise.

use super::super::JournalError;

/// The version of the tables that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) number: usize,
    /// The version that the oldest program knows that works with them.
    pub(crate) compatible: usize,
}

/// How tables fit a program that works with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    Same,
    /// They have more than this program needs.
    Newer,
    /// They have to be migrated.
    Older,
}

/// Why a program does not work with the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misfit {
    #[error(
        "the journal has schema version {found}, which a newer echostr wrote; echostr {} works with versions up to {known}: run \
         the newer echostr, or restore a backup from before the update into an empty journal",
        env!("CARGO_PKG_VERSION")
    )]
    Newer { found: usize, known: usize },
    #[error("the journal has schema version {found}, this program needs {known}: run `echostr serve` to migrate it")]
    Older { found: usize, known: usize },
}

impl Version {
    /// How the tables fit a program that knows versions up to a number.
    pub(crate) fn fit(self, known: usize) -> Result<Fit, Misfit> {
        match self.number {
            number if number == known => Ok(Fit::Same),
            number if number < known => Ok(Fit::Older),
            _ if self.compatible <= known => Ok(Fit::Newer),
            found => Err(Misfit::Newer { found, known }),
        }
    }

    /// The same for a program that only reads, and does not migrate.
    pub(crate) fn check(self, known: usize) -> Result<(), Misfit> {
        match self.fit(known)? {
            Fit::Same | Fit::Newer => Ok(()),
            Fit::Older => Err(Misfit::Older { found: self.number, known }),
        }
    }
}

impl Misfit {
    /// The error for the operator; `journal` names the journal, where the text does not.
    pub(crate) fn explain(self, journal: &str) -> JournalError {
        let text = format!("{journal}{self}").into();
        match self {
            Self::Newer { .. } => JournalError::Newer(text),
            Self::Older { .. } => JournalError::Older(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_works_with_newer_tables_that_say_so() {
        let fit = |number, compatible, known| Version { number, compatible }.fit(known);
        assert_eq!(fit(4, 4, 4), Ok(Fit::Same));
        assert_eq!(fit(3, 3, 4), Ok(Fit::Older));
        assert_eq!(fit(5, 4, 4), Ok(Fit::Newer));
        assert_eq!(fit(9, 3, 4), Ok(Fit::Newer));
        assert_eq!(fit(5, 5, 4), Err(Misfit::Newer { found: 5, known: 4 }));
        assert_eq!(Version { number: 3, compatible: 3 }.check(4), Err(Misfit::Older { found: 3, known: 4 }));
    }
}

//! Finds names in a long list without comparing each with each.

#[cfg(test)]
mod tests;

use std::hash::{BuildHasher as _, RandomState};

use hashbrown::{HashTable, hash_table::Entry};

/// Up to so many names are compared one by one, which is faster than a table.
pub(crate) const FEW: usize = 24;

/// Where each name of a list is for the first time. Names come from outside: they are hashed with keys that nobody
/// knows, so that nobody can choose names that fall together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    hasher: RandomState,
    first: HashTable<Place>,
}

/// The hash of a name, which a table that grows would ask for again, and where the name is.
#[derive(Clone, Debug)]
struct Place {
    hash: u64,
    at: usize,
}

impl Index {
    /// With room for so many names: a table that grows is rebuilt again and again.
    pub(crate) fn with_capacity(names: usize) -> Self {
        Self { hasher: RandomState::new(), first: HashTable::with_capacity(names) }
    }

    /// Where the name is first; `name_of` gives the name at a place of the list.
    pub(crate) fn find<'n>(&self, name: &str, name_of: impl Fn(usize) -> &'n str) -> Option<usize> {
        let hash = self.hasher.hash_one(name);
        self.first.find(hash, |place| place.hash == hash && name_of(place.at) == name).map(|place| place.at)
    }

    /// Enters the name at this place, unless it is known from an earlier one.
    pub(crate) fn enter<'n>(&mut self, at: usize, name_of: impl Fn(usize) -> &'n str) {
        self.find_or_enter(name_of(at), at, &name_of);
    }

    /// Where the name is first; one that is not there is entered as being at this place, where it will be.
    pub(crate) fn find_or_enter<'n>(
        &mut self,
        name: &str,
        at: usize,
        name_of: impl Fn(usize) -> &'n str,
    ) -> Option<usize> {
        let hash = self.hasher.hash_one(name);
        let is_known = |place: &Place| place.hash == hash && name_of(place.at) == name;
        match self.first.entry(hash, is_known, |place| place.hash) {
            Entry::Occupied(known) => Some(known.get().at),
            Entry::Vacant(free) => {
                free.insert(Place { hash, at });
                None
            }
        }
    }

    /// How many different names there are.
    pub(crate) fn len(&self) -> usize {
        self.first.len()
    }
}

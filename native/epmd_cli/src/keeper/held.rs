//! What the keeper holds: descriptors by name.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::OwnedFd;

use smol_str::SmolStr;

use crate::handover::Named;

/// Descriptors by name. (The names that the virtual machine gives are short, and
/// need no memory of their own.)
#[derive(Debug, Default)]
pub(crate) struct Held {
    by_name: BTreeMap<SmolStr, OwnedFd>,
    /// Those whose name another one has, too.
    more: Vec<(SmolStr, OwnedFd)>,
}

impl Held {
    pub(crate) fn insert(&mut self, name: &str, descriptor: OwnedFd) {
        match self.by_name.entry(name.into()) {
            Entry::Vacant(free) => drop(free.insert(descriptor)),
            Entry::Occupied(taken) => self.more.push((taken.key().clone(), descriptor)),
        }
    }

    /// Closes those of a name.
    pub(crate) fn remove(&mut self, name: &str) {
        self.by_name.remove(name);
        self.more.retain(|(other, _)| other != name);
    }

    /// Closes all.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn len(&self) -> usize {
        self.by_name.len() + self.more.len()
    }

    /// Takes all out.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Named> + use<> {
        let Self { by_name, more } = std::mem::take(self);
        let all = by_name.into_iter().chain(more);
        all.map(|(name, descriptor)| Named { name: name.as_str().into(), descriptor })
    }
}

impl Extend<Named> for Held {
    fn extend<I: IntoIterator<Item = Named>>(&mut self, all: I) {
        for Named { name, descriptor } in all {
            self.insert(&name, descriptor);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn held(names: &[&str]) -> Held {
        let mut held = Held::default();
        for name in names {
            held.insert(name, File::open("/dev/null").unwrap().into());
        }
        held
    }

    #[test]
    fn all_of_a_name_are_removed_and_no_other() {
        let mut held = held(&["a", "b", "a", "c"]);
        assert_eq!(held.len(), 4);
        held.remove("a");
        held.remove("x");
        assert_eq!(held.len(), 2);
        let names: Vec<_> = held.take().map(|one| one.name).collect();
        assert_eq!(names, [Box::from("b"), "c".into()]);
        assert_eq!(held.len(), 0);
    }
}

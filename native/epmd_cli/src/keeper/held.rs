//! What the keeper holds: descriptors by name.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use crate::handover::Named;

/// Descriptors by name, of which several may have the same.
#[derive(Debug, Default)]
pub(crate) struct Held {
    by_name: BTreeMap<Box<str>, Vec<OwnedFd>>,
    count: usize,
}

impl Held {
    pub(crate) fn insert(&mut self, name: &str, descriptor: OwnedFd) {
        self.count += 1;
        match self.by_name.get_mut(name) {
            Some(descriptors) => descriptors.push(descriptor),
            None => drop(self.by_name.insert(name.into(), vec![descriptor])),
        }
    }

    /// Closes those of a name.
    pub(crate) fn remove(&mut self, name: &str) {
        self.count -= self.by_name.remove(name).map_or(0, |descriptors| descriptors.len());
    }

    /// Closes all.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// Takes all out.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Named> + use<> {
        std::mem::take(self).by_name.into_iter().flat_map(|(name, descriptors)| {
            let named = move |descriptor| Named { name: name.clone(), descriptor };
            descriptors.into_iter().map(named)
        })
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

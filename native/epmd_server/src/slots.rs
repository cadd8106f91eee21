//! The places of the descriptor store, by number. A service manager knows them by
//! short names: those of all descriptors have to fit in one variable of the
//! environment of the process that gets them back, of 128 KiB.

use std::collections::BTreeSet;

/// How many places there are at the most. Their names, of three characters and a
/// colon, fit with room to spare for the sockets of a socket unit.
pub(crate) const MAX_SLOTS: u32 = 32_000;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Which places are taken.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    /// All from here on are free.
    end: u32,
    /// Free ones before.
    free: BTreeSet<u32>,
}

impl Slots {
    /// Takes the first that is free, unless `limit` are taken.
    pub(crate) fn take(&mut self, limit: u32) -> Option<u32> {
        if self.taken() >= limit.min(MAX_SLOTS) {
            return None;
        }
        Some(self.free.pop_first().unwrap_or_else(|| {
            self.end += 1;
            self.end - 1
        }))
    }

    /// Takes this one, in which something is already.
    pub(crate) fn adopt(&mut self, slot: u32) {
        if slot >= self.end {
            self.free.extend(self.end..slot);
            self.end = slot + 1;
        } else {
            self.free.remove(&slot);
        }
    }

    /// Gives one back.
    pub(crate) fn give_back(&mut self, slot: u32) {
        if slot < self.end {
            self.free.insert(slot);
        }
    }

    /// Those that are taken.
    pub(crate) fn all_taken(self) -> Vec<u32> {
        (0..self.end).filter(|slot| !self.free.contains(slot)).collect()
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> u32 {
        self.end - u32::try_from(self.free.len()).unwrap_or(self.end)
    }
}

/// The name of a place: its number in base 62.
pub(crate) fn name(mut slot: u32) -> String {
    let mut name = Vec::new();
    loop {
        let digit = DIGITS.get(slot as usize % DIGITS.len());
        name.extend(digit.map(|&digit| char::from(digit)));
        slot /= DIGITS.len() as u32;
        if slot == 0 {
            return name.into_iter().rev().collect();
        }
    }
}

/// The place of this name, if it is the name of one.
pub(crate) fn number(name: &str) -> Option<u32> {
    let digits = name.bytes().map(|byte| DIGITS.iter().position(|&digit| digit == byte));
    let number = digits.enumerate().try_fold(0, |number, (index, digit)| {
        // No name begins with a zero, but that of place 0.
        let digit = digit.filter(|&digit| index > 0 || digit > 0 || name.len() == 1)?;
        Some(number * DIGITS.len() as u32 + digit as u32).filter(|&number| number < MAX_SLOTS)
    });
    number.filter(|_| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_one_name_of_at_most_three_characters() {
        for slot in 0..MAX_SLOTS {
            let name = name(slot);
            assert!(name.len() <= 3, "{name}");
            assert_eq!(number(&name), Some(slot));
        }
        for other in ["", "00", "0a", "-1", "epmd.socket", "stored", "ü", &name(MAX_SLOTS)] {
            assert_eq!(number(other), None, "{other}");
        }
    }

    #[test]
    fn all_names_fit_in_one_variable() {
        let bytes: usize = (0..MAX_SLOTS).map(|slot| name(slot).len() + 1).sum();
        let sockets = 16 * "epmd.socket:".len();
        assert!("LISTEN_FDNAMES=".len() + sockets + bytes < 128 * 1024, "{bytes}");
    }

    #[test]
    fn the_first_free_place_is_taken_until_the_limit() {
        let mut slots = Slots::default();
        assert_eq!([0; 3].map(|_| slots.take(3)), [Some(0), Some(1), Some(2)]);
        assert_eq!(slots.take(3), None);
        slots.give_back(1);
        assert_eq!((slots.taken(), slots.take(3)), (2, Some(1)));
    }

    #[test]
    fn places_that_are_filled_already_are_not_taken() {
        let mut slots = Slots::default();
        [5, 2, 0].into_iter().for_each(|slot| slots.adopt(slot));
        assert_eq!(slots.taken(), 3);
        assert_eq!([0; 4].map(|_| slots.take(9)), [Some(1), Some(3), Some(4), Some(6)]);
    }
}

//! The names of a run, and what the port mapper has to answer about each.

use epmd_core::Registration;
use parking_lot::RwLock;

/// What a look-up has to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// This node.
    Node(Registration),
    /// That there is none.
    Nobody,
    /// It is just being changed: either.
    Changing,
}

/// A name and what is to be answered, at some time.
#[derive(Debug, Clone)]
pub struct Entry {
    pub name: String,
    pub answer: Answer,
    /// How often it was changed.
    version: u64,
}

/// All names that were ever registered in a run.
#[derive(Debug, Default)]
pub struct Roll(RwLock<Vec<Entry>>);

impl Roll {
    /// Adds a name; its place.
    pub fn add(&self, name: &str) -> usize {
        let mut entries = self.0.write();
        entries.push(Entry { name: name.to_owned(), answer: Answer::Changing, version: 0 });
        entries.len() - 1
    }

    /// What is to be answered from now on.
    pub fn set(&self, place: usize, answer: Answer) {
        if let Some(entry) = self.0.write().get_mut(place) {
            entry.answer = answer;
            entry.version += 1;
        }
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.0.read().len()
    }

    /// What holds at a place now.
    pub fn get(&self, place: usize) -> Option<Entry> {
        self.0.read().get(place).cloned()
    }

    /// What holds everywhere now.
    pub fn all(&self) -> Vec<Entry> {
        self.0.read().clone()
    }

    /// Whether nothing has changed since: only then an answer can be judged.
    pub fn still_holds(&self, place: usize, entry: &Entry) -> bool {
        entry.answer != Answer::Changing
            && self.0.read().get(place).is_some_and(|now| now.version == entry.version)
    }
}

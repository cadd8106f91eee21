//! The registered nodes: by name, by connection, and in the order in which they
//! registered. Each has one record; what finds it has no more than its place.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::{ConnId, Creation, Name, Node, Owner};

/// Registered nodes. All changes are O(1).
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    records: Records,
    by_name: HashTable<u32>,
    /// Those that a connection registered.
    by_connection: HashTable<u32>,
    hasher: RandomState,
}

impl Nodes {
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(crate) fn get(&self, name: &str) -> Option<(&Name, &Node)> {
        self.records.get(self.find(name)?)
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Whether a connection is a registration.
    pub(crate) fn has_connection(&self, conn: ConnId) -> bool {
        self.find_connection(conn).is_some()
    }

    /// Adds a node as the newest. Neither its name nor its connection is here yet.
    pub(crate) fn insert(&mut self, name: Name, node: Node) {
        let Self { records, by_name, by_connection, hasher } = self;
        let (name_hash, owner) = (hasher.hash_one(name.as_str()), node.owner);
        let at = records.push(name, node);
        // A table that grows asks for the hash of each place.
        by_name.insert_unique(name_hash, at, |&at| {
            hasher.hash_one(records.get(at).map_or("", |(name, _)| name.as_str()))
        });
        if owner != Owner::Vm {
            by_connection.insert_unique(hasher.hash_one(owner), at, |&at| {
                hasher.hash_one(records.get(at).map_or(Owner::Vm, |(_, node)| node.owner))
            });
        }
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<(Name, Node)> {
        self.find(name).and_then(|at| self.take(at))
    }

    /// Removes what a connection registered.
    pub(crate) fn remove_connection(&mut self, conn: ConnId) -> Option<(Name, Node)> {
        self.find_connection(conn).and_then(|at| self.take(at))
    }

    /// Makes what a connection registered a node of the VM: that connection, and its creation.
    pub(crate) fn adopt(&mut self, name: &str) -> Option<(ConnId, Creation)> {
        let at = self.find(name)?;
        let node = self.records.get_mut(at)?;
        let Owner::Connection(conn) = node.owner else { return None };
        remove(&mut self.by_connection, self.hasher.hash_one(node.owner), at);
        node.owner = Owner::Vm;
        node.peer = None;
        Some((conn, node.creation))
    }

    pub(crate) fn oldest_first(&self) -> impl Iterator<Item = (&Name, &Node)> {
        self.records.walk(self.records.oldest, |record| record.newer)
    }

    pub(crate) fn newest_first(&self) -> impl Iterator<Item = (&Name, &Node)> {
        self.records.walk(self.records.newest, |record| record.older)
    }

    fn find(&self, name: &str) -> Option<u32> {
        let is_of = |at: &u32| self.records.get(*at).is_some_and(|(it, _)| it.as_str() == name);
        self.by_name.find(self.hasher.hash_one(name), is_of).copied()
    }

    fn find_connection(&self, conn: ConnId) -> Option<u32> {
        let owner = Owner::Connection(conn);
        let is_of = |at: &u32| self.records.get(*at).is_some_and(|(_, node)| node.owner == owner);
        self.by_connection.find(self.hasher.hash_one(owner), is_of).copied()
    }

    fn take(&mut self, at: u32) -> Option<(Name, Node)> {
        let (name, node) = self.records.take(at)?;
        remove(&mut self.by_name, self.hasher.hash_one(name.as_str()), at);
        remove(&mut self.by_connection, self.hasher.hash_one(node.owner), at);
        Some((name, node))
    }
}

/// Has a place found by this hash no longer, if it is.
fn remove(table: &mut HashTable<u32>, hash: u64, at: u32) {
    if let Ok(found) = table.find_entry(hash, |&other| other == at) {
        found.remove();
    }
}

/// A place where no record is.
const NOWHERE: u32 = u32::MAX;

#[derive(Debug)]
struct Record {
    /// None while it is free.
    node: Option<(Name, Node)>,
    older: u32,
    /// Of a free one: the next that is free.
    newer: u32,
}

/// Records, each linked with the one before and the one after it.
#[derive(Debug)]
struct Records {
    all: Vec<Record>,
    oldest: u32,
    newest: u32,
    free: u32,
}

impl Default for Records {
    fn default() -> Self {
        Self { all: Vec::new(), oldest: NOWHERE, newest: NOWHERE, free: NOWHERE }
    }
}

impl Records {
    fn get(&self, at: u32) -> Option<(&Name, &Node)> {
        let record = self.all.get(at as usize)?;
        record.node.as_ref().map(|(name, node)| (name, node))
    }

    fn get_mut(&mut self, at: u32) -> Option<&mut Node> {
        self.all.get_mut(at as usize)?.node.as_mut().map(|(_, node)| node)
    }

    fn walk(
        &self,
        mut at: u32,
        next: impl Fn(&Record) -> u32,
    ) -> impl Iterator<Item = (&Name, &Node)> {
        std::iter::from_fn(move || {
            let here = self.get(at)?;
            at = self.all.get(at as usize).map_or(NOWHERE, &next);
            Some(here)
        })
    }

    /// Adds a record as the newest; its place.
    fn push(&mut self, name: Name, node: Node) -> u32 {
        let record = Record { node: Some((name, node)), older: self.newest, newer: NOWHERE };
        let at = match self.all.get_mut(self.free as usize) {
            Some(free) => {
                let next = free.newer;
                *free = record;
                std::mem::replace(&mut self.free, next)
            }
            None => {
                self.all.push(record);
                self.all.len() as u32 - 1
            }
        };
        self.link(self.newest, at);
        self.link(at, NOWHERE);
        at
    }

    fn take(&mut self, at: u32) -> Option<(Name, Node)> {
        let record = self.all.get_mut(at as usize)?;
        let node = record.node.take()?;
        let (older, newer) = (record.older, record.newer);
        record.newer = std::mem::replace(&mut self.free, at);
        self.link(older, newer);
        Some(node)
    }

    /// Has the record at one place be the one before that at the other.
    fn link(&mut self, older: u32, newer: u32) {
        match self.all.get_mut(older as usize) {
            Some(record) => record.newer = newer,
            None => self.oldest = newer,
        }
        match self.all.get_mut(newer as usize) {
            Some(record) => record.older = older,
            None => self.newest = older,
        }
    }
}

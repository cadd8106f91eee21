//! What is kept outside this process, so that its end loses no node: the sockets
//! in the descriptor store, and the records of them there and on disk.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use epmd_core::{ConnId, Event, Owner, Registry};
use parking_lot::Mutex;

use crate::estate::{Place, push_down, push_up, snapshot};
use crate::journal::Journal;
use crate::listen::Listener;
use crate::notices::Notice;
use crate::platform::file_limit;
use crate::service_manager::ServiceManager;
use crate::shared::Shared;
use crate::slots;
use crate::store::{Source, Store};

/// What is kept, and where.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) store: Store,
    journals: Mutex<Journals>,
    /// Whether there is a journal.
    records: AtomicBool,
}

#[derive(Debug, Default)]
struct Journals {
    /// In the store, in this slot.
    in_store: Option<(Journal, u32)>,
    on_disk: Option<Journal>,
    /// Of the last snapshot.
    sequence: u64,
    /// The line that is appended, with its memory.
    line: Vec<u8>,
}

impl Kept {
    /// Whether changes are recorded.
    pub(crate) fn has_records(&self) -> bool {
        self.records.load(Ordering::Relaxed)
    }

    /// The number of the last snapshot.
    pub(crate) fn sequence(&self) -> u64 {
        self.journals.lock().sequence
    }

    /// Names of what is in the store besides sockets that are in use.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let records = self.journals.lock().in_store.as_ref().map(|(_, slot)| *slot);
        self.store.emptied().into_iter().chain(records).map(slots::name).collect()
    }

    /// Has snapshots count more than the one with this number.
    pub(crate) fn go_on_after(&self, sequence: u64) {
        self.journals.lock().sequence = sequence;
    }

    fn snapshot(&self, registry: &Registry, journals: &mut Journals) -> Vec<u8> {
        journals.sequence += 1;
        snapshot(registry, journals.sequence, |conn| self.store.slot(conn))
    }
}

impl Shared {
    /// Has the manager keep every socket from now on, and the records. What it has
    /// by the names of `leftovers` it may drop.
    pub(crate) fn open_store(&self, manager: &ServiceManager, leftovers: Vec<String>) {
        let Kept { store, .. } = &self.kept;
        let slots = self.config.read().stored_descriptors;
        let leftovers = leftovers.into_iter().map(|name| (slots::number(&name), name));
        let leftovers: Vec<_> = leftovers.collect();
        leftovers.iter().filter_map(|(slot, _)| *slot).for_each(|slot| store.adopt(slot));
        for listener in self.listeners.lock().iter() {
            if let Place::Slot(slot) = *listener.place.lock() {
                store.adopt(slot);
            }
        }
        // Nobody registers meanwhile.
        let registry = self.registry.write();
        store.open(slots);
        let connections = registry.oldest_first().filter_map(|(_, node)| match node.owner {
            Owner::Connection(conn) => Some(conn),
            Owner::Vm => None,
        });
        let new = connections.filter(|&conn| store.slot(conn).is_none());
        let new: Vec<_> =
            new.filter_map(|conn| Some((conn, store.assign(manager, conn)?))).collect();
        // Before what they speak of: of a connection alone nothing would be known.
        self.keep_records(manager, &registry);
        for (conn, slot) in new {
            store.keep_later(slot, Source::Connection(conn));
        }
        // Nodes that have ended before the store was open.
        for conn in store.connections() {
            if !registry.is_registered(conn) {
                store.drop_connection(conn);
            }
        }
        drop(registry);
        self.keep_listeners();
        for (slot, name) in leftovers {
            match slot {
                Some(slot) => store.drop_slot(slot),
                None => store.drop_name(name),
            }
        }
        let limit = file_limit();
        if u64::from(slots) < limit {
            self.notices.push(Notice::StoreTooSmall { slots, limit });
        }
    }

    fn keep_records(&self, manager: &ServiceManager, registry: &Registry) {
        let mut journals = self.kept.journals.lock();
        let Some(slot) = self.kept.store.take_slot(manager) else { return };
        match Journal::in_memory(&self.kept.snapshot(registry, &mut journals)) {
            Ok(journal) => {
                self.kept.store.keep(manager, slot, journal.file().as_fd());
                journals.in_store = Some((journal, slot));
                self.kept.records.store(true, Ordering::Relaxed);
            }
            Err(error) => self.not_recorded(None, &error),
        }
    }

    /// The file to record nodes in, if there is to be one.
    pub(crate) fn state_file(&self) -> Option<PathBuf> {
        // First: it has locks of its own, of the configuration too.
        let port = self.port();
        self.config.read().state_file.path("nodes", port)
    }

    /// Records every change in the file for that from now on, if there is one.
    pub(crate) fn open_state_file(&self) {
        let registry = self.registry.write();
        self.renew_on_disk(&registry, &mut self.kept.journals.lock());
    }

    fn not_recorded(&self, file: Option<&Path>, error: &std::io::Error) {
        let file = file.map(Path::to_path_buf);
        self.notices.push(Notice::NotRecorded { file, error: error.to_string() });
    }

    /// Records a change of the registry, by whoever holds its lock.
    pub(crate) fn record(&self, registry: &Registry, event: &Event) {
        if !self.kept.has_records() {
            return;
        }
        let mut journals = self.kept.journals.lock();
        let mut line = std::mem::take(&mut journals.line);
        line.clear();
        match event {
            Event::Up { name, .. } => {
                if let Some(node) = registry.lookup(name.as_str()) {
                    push_up(&mut line, name, node, self.assign_slot(node.owner));
                }
            }
            Event::Down { name, .. } => push_down(&mut line, name),
        }
        let Journals { in_store, on_disk, .. } = &mut *journals;
        let appended = [in_store.as_mut().map(|(journal, _)| journal), on_disk.as_mut()]
            .map(|journal| journal.is_none_or(|journal| journal.append(&line)));
        journals.line = line;
        let [in_store, on_disk] = appended;
        if !in_store {
            self.renew_in_store(registry, &mut journals);
        }
        if !on_disk {
            self.renew_on_disk(registry, &mut journals);
        }
    }

    fn assign_slot(&self, owner: Owner) -> Option<u32> {
        let Owner::Connection(conn) = owner else { return None };
        let slot = self.kept.store.assign(self.reports.manager()?, conn);
        if slot.is_none() && self.kept.store.is_open() {
            self.counters.not_kept.add_one();
        }
        slot
    }

    /// Replaces the records in the store, if the manager takes them at once: until
    /// it has the new ones, the old ones count.
    fn renew_in_store(&self, registry: &Registry, journals: &mut Journals) {
        let Kept { store, .. } = &self.kept;
        let Some(manager) = self.reports.manager() else { return };
        let Some(slot) = store.take_slot(manager) else { return };
        let renewed = Journal::in_memory(&self.kept.snapshot(registry, journals));
        match renewed {
            Ok(journal) if store.keep_at_once(manager, slot, journal.file().as_fd()) => {
                if let Some((_, old)) = journals.in_store.replace((journal, slot)) {
                    store.drop_slot(old);
                }
            }
            _ => {
                store.give_back(slot);
                if let Some((journal, _)) = &mut journals.in_store {
                    journal.put_off();
                }
            }
        }
    }

    fn renew_on_disk(&self, registry: &Registry, journals: &mut Journals) {
        let Some(path) = self.state_file() else { return };
        let snapshot = self.kept.snapshot(registry, journals);
        let has_directory = self.config.read().state_file.make_directory();
        match has_directory.and_then(|()| Journal::on_disk(&path, &snapshot)) {
            Ok(journal) => {
                journals.on_disk = Some(journal);
                self.kept.records.store(true, Ordering::Relaxed);
            }
            Err(error) => {
                self.not_recorded(Some(&path), &error);
                if let Some(journal) = &mut journals.on_disk {
                    journal.put_off();
                }
            }
        }
    }

    /// Whether the manager has been sent everything that it is to keep.
    pub(crate) fn has_all_kept(&self) -> bool {
        if self.config.read().stored_descriptors == 0 {
            return true;
        }
        // The store is opened and what it lacks is put in its queue under this lock.
        let _registry = self.registry.read();
        self.kept.store.is_open() && self.kept.store.has_time()
    }

    /// Keeps the connection of a registration, before it is answered.
    pub(crate) fn keep(&self, conn: ConnId, socket: BorrowedFd<'_>) {
        if self.kept.store.is_open()
            && let Some(manager) = self.reports.manager()
        {
            self.kept.store.keep_connection(manager, conn, socket);
        }
    }

    /// Has a connection kept no longer, if it is.
    pub(crate) fn keep_no_longer(&self, conn: ConnId) {
        if self.kept.store.is_open() {
            self.kept.store.drop_connection(conn);
        }
    }

    /// Keeps the listening sockets that the manager does not have.
    pub(crate) fn keep_listeners(&self) {
        let Kept { store, .. } = &self.kept;
        let Some(manager) = self.reports.manager().filter(|_| store.is_open()) else { return };
        for listener in self.listeners.lock().iter() {
            let mut place = listener.place.lock();
            if *place == Place::Nowhere
                && let Some(slot) = store.take_slot(manager)
            {
                store.keep(manager, slot, listener.socket.as_fd());
                *place = Place::Slot(slot);
            }
        }
    }

    /// Has a listening socket kept no longer.
    pub(crate) fn keep_listener_no_longer(&self, listener: &Listener) {
        let place = std::mem::replace(&mut *listener.place.lock(), Place::Nowhere);
        if let (Place::Slot(slot), Some(manager)) = (place, self.reports.manager()) {
            self.kept.store.drop_slot(slot);
            // Who connects meanwhile would wait for nothing.
            self.kept.store.tell_of_emptied(manager);
        }
    }

    /// Has everything kept anew that a successor was to keep, and did not.
    pub(crate) fn keep_again(&self) {
        self.open_state_file();
        if let Some(manager) = self.reports.take_back_stopping()
            && self.kept.store.is_open()
        {
            self.kept.store.forget();
            for listener in self.listeners.lock().iter() {
                *listener.place.lock() = Place::Nowhere;
            }
            self.open_store(manager, Vec::new());
        }
    }

    /// Has nothing kept any longer: the end is meant for the nodes, too. A
    /// connection of theirs would live on with the copy that is kept.
    pub(crate) fn end_keeping(&self) {
        let Some(manager) = self.reports.manager().filter(|_| self.kept.store.is_open()) else {
            return;
        };
        self.held.shut_down();
        self.kept.records.store(false, Ordering::Relaxed);
        // A keeper drops everything when it is told of the end.
        if !manager.is_keeper() {
            self.kept.store.empty(manager);
        }
    }
}

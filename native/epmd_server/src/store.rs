//! The descriptor store: whoever started this process keeps its sockets, and hands
//! them back to the next one when this one is killed.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use epmd_core::ConnId;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::platform::Held;
use crate::service_manager::ServiceManager;
use crate::slots::{self, Slots};

/// So many names fit in a message.
const NAMES_AT_A_TIME: usize = 100;

/// What this process has in the store.
#[derive(Debug, Default)]
pub(crate) struct Store {
    is_open: AtomicBool,
    contents: Mutex<Contents>,
    /// Tells that a message waits.
    pub(crate) waiting: Notify,
}

#[derive(Debug, Default)]
struct Contents {
    slots: Slots,
    /// How many slots the manager has.
    limit: u32,
    connections: HashMap<ConnId, u32>,
    /// Messages that found the queue of the manager full, in their order.
    queue: VecDeque<Message>,
    /// Slots that are taken until the manager has been told that they are not: soon,
    /// of several at a time.
    emptied: Vec<u32>,
}

#[derive(Debug)]
enum Message {
    Keep(u32, Source),
    Drop(String),
}

/// Where the descriptor for a slot is.
#[derive(Debug)]
pub(crate) enum Source {
    /// With the connections that are held, soon. Copies of them could be too many.
    Connection(ConnId),
    Copy(OwnedFd),
}

impl Store {
    /// Uses the store from now on, which has so many slots.
    pub(crate) fn open(&self, limit: u32) {
        self.contents.lock().limit = limit;
        self.is_open.store(true, Ordering::Release);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// A slot for something new, unless all are taken.
    pub(crate) fn take_slot(&self, manager: &ServiceManager) -> Option<u32> {
        self.contents.lock().take_slot(manager)
    }

    /// Takes in that something is in this slot.
    pub(crate) fn adopt(&self, slot: u32) {
        self.contents.lock().slots.adopt(slot);
    }

    /// The same of a connection.
    pub(crate) fn adopt_connection(&self, conn: ConnId, slot: u32) {
        let mut contents = self.contents.lock();
        contents.slots.adopt(slot);
        contents.connections.insert(conn, slot);
    }

    /// The connections that have a slot.
    pub(crate) fn connections(&self) -> Vec<ConnId> {
        self.contents.lock().connections.keys().copied().collect()
    }

    /// The slot of a connection.
    pub(crate) fn slot(&self, conn: ConnId) -> Option<u32> {
        self.contents.lock().connections.get(&conn).copied()
    }

    /// The slot for a new connection, if the store is open and has one.
    pub(crate) fn assign(&self, manager: &ServiceManager, conn: ConnId) -> Option<u32> {
        if !self.is_open() {
            return None;
        }
        let mut contents = self.contents.lock();
        let slot = contents.take_slot(manager)?;
        contents.connections.insert(conn, slot);
        Some(slot)
    }

    /// Puts a descriptor in its slot.
    pub(crate) fn keep(&self, manager: &ServiceManager, slot: u32, descriptor: BorrowedFd<'_>) {
        if !self.keep_at_once(manager, slot, descriptor)
            && let Ok(copy) = descriptor.try_clone_to_owned()
        {
            self.keep_later(slot, Source::Copy(copy));
        }
    }

    /// Puts a connection that is about to be held in its slot, if it has one.
    pub(crate) fn keep_connection(
        &self,
        manager: &ServiceManager,
        conn: ConnId,
        socket: BorrowedFd<'_>,
    ) {
        // At once: another thread may be taking the slot away, and what would be put
        // there, or wait for it, afterwards would stay.
        let mut contents = self.contents.lock();
        let Some(&slot) = contents.connections.get(&conn) else { return };
        if !contents.keep_at_once(manager, slot, socket) {
            contents.queue.push_back(Message::Keep(slot, Source::Connection(conn)));
            self.waiting.notify_one();
        }
    }

    /// Puts something in a slot after all that waits.
    pub(crate) fn keep_later(&self, slot: u32, source: Source) {
        self.contents.lock().queue.push_back(Message::Keep(slot, source));
        self.waiting.notify_one();
    }

    /// Puts a descriptor in its slot, unless that had to wait; whether it is there.
    pub(crate) fn keep_at_once(
        &self,
        manager: &ServiceManager,
        slot: u32,
        descriptor: BorrowedFd<'_>,
    ) -> bool {
        self.contents.lock().keep_at_once(manager, slot, descriptor)
    }

    /// Empties the slot of a connection, if it has one.
    pub(crate) fn drop_connection(&self, conn: ConnId) {
        let mut contents = self.contents.lock();
        if let Some(slot) = contents.connections.remove(&conn) {
            self.drop_slot_of(&mut contents, slot);
        }
    }

    /// Empties a slot.
    pub(crate) fn drop_slot(&self, slot: u32) {
        self.drop_slot_of(&mut self.contents.lock(), slot);
    }

    fn drop_slot_of(&self, contents: &mut Contents, slot: u32) {
        // What waits to be put there need not be.
        contents
            .queue
            .retain(|message| !matches!(message, Message::Keep(other, _) if *other == slot));
        contents.emptied.push(slot);
        if contents.emptied.len() == 1 {
            self.waiting.notify_one();
        }
    }

    /// The slots that the manager does not know to be empty.
    pub(crate) fn emptied(&self) -> Vec<u32> {
        self.contents.lock().emptied.clone()
    }

    /// Tells the manager of them, as far as it takes that.
    pub(crate) fn tell_of_emptied(&self, manager: &ServiceManager) {
        // What is left waits with the others.
        let _ = self.contents.lock().tell_of_emptied(manager);
    }

    /// Whether what waits to be sent can wait for more.
    pub(crate) fn has_time(&self) -> bool {
        self.contents.lock().queue.is_empty()
    }

    /// Empties every slot, at the end.
    pub(crate) fn empty(&self, manager: &ServiceManager) {
        let mut contents = self.contents.lock();
        contents.queue.clear();
        let all = std::mem::take(&mut contents.slots).all_taken();
        // A manager that does not take it has to find out that they are of no use.
        let _ = all
            .into_iter()
            .try_for_each(|slot| manager.with_patience(|| remove(manager, &[slots::name(slot)])));
    }

    /// Takes in that the manager has dropped everything.
    pub(crate) fn forget(&self) {
        *self.contents.lock() = Contents::default();
    }

    /// Gives back a slot that nothing was put in.
    pub(crate) fn give_back(&self, slot: u32) {
        self.contents.lock().slots.give_back(slot);
    }

    /// Empties whatever has this name.
    pub(crate) fn drop_name(&self, name: String) {
        self.contents.lock().queue.push_back(Message::Drop(name));
        self.waiting.notify_one();
    }

    /// Sends messages that wait, as far as they get.
    ///
    /// # Errors
    /// When one has to wait longer, or the manager cannot be reached.
    pub(crate) fn send_waiting(&self, manager: &ServiceManager, held: &Held) -> io::Result<()> {
        let mut contents = self.contents.lock();
        while let Some(message) = contents.queue.front() {
            match message {
                Message::Keep(slot, Source::Copy(copy)) => keep(manager, *slot, copy.as_fd())?,
                Message::Keep(slot, Source::Connection(conn)) => {
                    let kept = held.with(*conn, |socket| keep(manager, *slot, socket));
                    // Not yet, or it would not be in the queue any more.
                    kept.unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))?;
                }
                Message::Drop(name) => remove(manager, std::slice::from_ref(name))?,
            }
            contents.queue.pop_front();
        }
        contents.tell_of_emptied(manager)
    }
}

impl Contents {
    fn keep_at_once(
        &self,
        manager: &ServiceManager,
        slot: u32,
        descriptor: BorrowedFd<'_>,
    ) -> bool {
        self.queue.is_empty() && keep(manager, slot, descriptor).is_ok()
    }

    fn take_slot(&mut self, manager: &ServiceManager) -> Option<u32> {
        if let slot @ Some(_) = self.slots.take(self.limit) {
            return slot;
        }
        // It is tried again in any case.
        let _ = self.tell_of_emptied(manager);
        self.slots.take(self.limit)
    }

    fn tell_of_emptied(&mut self, manager: &ServiceManager) -> io::Result<()> {
        let at_a_time = if manager.is_keeper() { NAMES_AT_A_TIME } else { 1 };
        while !self.emptied.is_empty() {
            let rest = self.emptied.len().saturating_sub(at_a_time);
            let slots = self.emptied.get(rest..).unwrap_or_default();
            let names: Vec<_> = slots.iter().map(|&slot| slots::name(slot)).collect();
            remove(manager, &names)?;
            self.emptied.drain(rest..).for_each(|slot| self.slots.give_back(slot));
        }
        Ok(())
    }
}

fn keep(manager: &ServiceManager, slot: u32, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let name = slots::name(slot);
    manager.send_with(&format!("FDSTORE=1\nFDNAME={name}"), descriptor)
}

fn remove(manager: &ServiceManager, names: &[String]) -> io::Result<()> {
    let names: String = names.iter().flat_map(|name| ["\nFDNAME=", name]).collect();
    manager.send(&format!("FDSTOREREMOVE=1{names}"))
}

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
    pub(crate) fn take_slot(&self) -> Option<u32> {
        let mut contents = self.contents.lock();
        let limit = contents.limit;
        contents.slots.take(limit)
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
    pub(crate) fn assign(&self, conn: ConnId) -> Option<u32> {
        if !self.is_open() {
            return None;
        }
        let slot = self.take_slot()?;
        self.contents.lock().connections.insert(conn, slot);
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
        if let Some(slot) = self.slot(conn)
            && !self.keep_at_once(manager, slot, socket)
        {
            self.keep_later(slot, Source::Connection(conn));
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
        let contents = self.contents.lock();
        contents.queue.is_empty() && keep(manager, slot, descriptor).is_ok()
    }

    /// Empties the slot of a connection, if it has one.
    pub(crate) fn drop_connection(&self, manager: &ServiceManager, conn: ConnId) {
        let mut contents = self.contents.lock();
        if let Some(slot) = contents.connections.remove(&conn) {
            self.drop_slot_of(&mut contents, manager, slot);
        }
    }

    /// Empties a slot.
    pub(crate) fn drop_slot(&self, manager: &ServiceManager, slot: u32) {
        self.drop_slot_of(&mut self.contents.lock(), manager, slot);
    }

    fn drop_slot_of(&self, contents: &mut Contents, manager: &ServiceManager, slot: u32) {
        // What waits to be put there need not be.
        contents
            .queue
            .retain(|message| !matches!(message, Message::Keep(other, _) if *other == slot));
        contents.slots.give_back(slot);
        self.send_drop(contents, manager, slots::name(slot));
    }

    /// Empties every slot, at the end.
    pub(crate) fn empty(&self, manager: &ServiceManager) {
        let mut contents = self.contents.lock();
        contents.queue.clear();
        let all = std::mem::take(&mut contents.slots).all_taken();
        // A manager that does not take it has to find out that they are of no use.
        let _ = all
            .into_iter()
            .try_for_each(|slot| manager.with_patience(|| remove(manager, &slots::name(slot))));
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
    pub(crate) fn drop_name(&self, manager: &ServiceManager, name: String) {
        self.send_drop(&mut self.contents.lock(), manager, name);
    }

    fn send_drop(&self, contents: &mut Contents, manager: &ServiceManager, name: String) {
        let at_once = contents.queue.is_empty() && remove(manager, &name).is_ok();
        let waits = |message: &Message| matches!(message, Message::Drop(other) if *other == name);
        if !at_once && !contents.queue.iter().any(waits) {
            contents.queue.push_back(Message::Drop(name));
            self.waiting.notify_one();
        }
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
                Message::Drop(name) => remove(manager, name)?,
            }
            contents.queue.pop_front();
        }
        Ok(())
    }
}

fn keep(manager: &ServiceManager, slot: u32, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let name = slots::name(slot);
    manager.send_with(&format!("FDSTORE=1\nFDNAME={name}"), descriptor)
}

fn remove(manager: &ServiceManager, name: &str) -> io::Result<()> {
    manager.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"))
}

//! What the owner of the server is told, through one bounded queue.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use epmd_core::{Event, Name, Refusal};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::counters::Counters;
use crate::platform::Holder;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A node went up or down.
    Node(Event),
    /// A peer has connected. Told when debugging, as the next two.
    Connected {
        /// Who.
        peer: SocketAddr,
    },
    /// A peer has asked for something.
    Asked {
        /// Who.
        peer: SocketAddr,
        /// The request.
        request: &'static str,
        /// The name it is about, where it is a valid one.
        name: Option<Name>,
    },
    /// A whole request has come.
    Received {
        /// From whom.
        peer: SocketAddr,
        /// Its bytes behind the length field.
        body: Vec<u8>,
    },
    /// A request was refused.
    Refused {
        /// Who asked.
        peer: SocketAddr,
        /// Why it was refused.
        reason: Refusal,
        /// The name it was about, where it was a valid one.
        name: Option<Name>,
    },
    /// A registration was refused because there are too many.
    TooMany {
        /// Who asked.
        peer: SocketAddr,
        /// Of what.
        reason: Refusal,
        /// The name.
        name: Option<Name>,
        /// Whose it would be, where that was looked for.
        by: Holder,
    },
    /// A node that was gone but for its connection lost its name to another one.
    /// The events of both follow.
    Evicted {
        /// The name.
        name: String,
        /// The port that it listened on.
        port: u16,
        /// Where its connection comes from.
        peer: Option<SocketAddr>,
        /// Where that of the other one does; none for the VM itself.
        successor: Option<SocketAddr>,
    },
    /// A connection was closed because its request did not come in time.
    TimedOut {
        /// Whose.
        peer: SocketAddr,
    },
    /// A connection that waited for its peer was closed because there were too many.
    CrowdedOut {
        /// Whose.
        peer: SocketAddr,
    },
    /// A connection was closed by a defect of ours.
    Panicked {
        /// Whose.
        peer: SocketAddr,
    },
    /// No descriptor is left; connections wait until others close.
    OutOfDescriptors,
    /// Every connection that waited was accepted.
    DescriptorsSuffice,
    /// An address of the default ones could not be bound, and is done without.
    AddressSkipped {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: String,
    },
    /// The limit of open files could not be raised.
    FileLimitKept {
        /// What the system said.
        error: String,
    },
    /// The server goes on with what the one before has left.
    WentOn {
        /// Nodes that are registered still.
        nodes: usize,
        /// Nodes that were lost, or have ended meanwhile.
        gone: usize,
    },
    /// There may be more nodes than descriptors that the service manager keeps.
    StoreTooSmall {
        /// How many it keeps.
        slots: u32,
        /// How many descriptors this process may have.
        limit: u64,
    },
    /// What is registered could not be recorded for the case that this process is
    /// killed.
    NotRecorded {
        /// The file; none for the memory that the service manager keeps.
        file: Option<PathBuf>,
        /// What the system said.
        error: String,
    },
    /// The records in the state file make no sense: nodes that register again get
    /// new creations.
    StateFileUnreadable {
        /// Where the file is now.
        kept_as: PathBuf,
        /// What is wrong with it.
        error: String,
    },
    /// The service manager could not be told something.
    ServiceManagerUnreachable {
        /// What the system said.
        error: String,
    },
    /// The socket for a successor could not be made: nobody can take over.
    NoTakeoverSocket {
        /// Where it would be.
        path: PathBuf,
        /// What the system said.
        error: String,
        /// Whether this path was asked for.
        is_required: bool,
    },
    /// A successor has given up, or could not be given everything: the server goes
    /// on.
    NotTakenOver {
        /// Its process.
        pid: i32,
        /// What was wrong.
        reason: String,
    },
    /// A successor serves now: this server has ended.
    TakenOver {
        /// Its process.
        pid: i32,
    },
    /// A KILL was granted: the server has ended.
    Killed {
        /// Who sent it.
        peer: SocketAddr,
    },
}

/// How many notices wait for the owner at the most; those beyond are counted.
const CAPACITY: usize = 10_000;

/// The queue. The owner is woken once and then takes what there is; it is
/// woken again only after it has emptied the queue.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    queue: Mutex<Queue>,
    /// Tells the runtime to wake the owner.
    pub(crate) waiting: Notify,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Queue {
    notices: VecDeque<Notice>,
    missed: u64,
    woken: bool,
}

impl Notices {
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        Self { counters, ..Self::default() }
    }

    /// How many wait to be taken.
    pub(crate) fn len(&self) -> usize {
        self.queue.lock().notices.len()
    }

    pub(crate) fn push(&self, notice: Notice) {
        let mut queue = self.queue.lock();
        self.counters.notices.add_one();
        // Without it the end would be taken for a defect.
        let needed = matches!(notice, Notice::Killed { .. } | Notice::TakenOver { .. });
        if needed || queue.notices.len() < CAPACITY {
            queue.notices.push_back(notice);
        } else {
            queue.missed += 1;
            self.counters.notices_missed.add_one();
        }
        if !std::mem::replace(&mut queue.woken, true) {
            self.waiting.notify_one();
        }
    }

    /// Takes the oldest notices, at most `limit`, and how many were missed
    /// since the last call. An answer with fewer than `limit` means that the
    /// owner will be woken for the next one.
    pub(crate) fn take(&self, limit: usize) -> (Vec<Notice>, u64) {
        let mut queue = self.queue.lock();
        let count = queue.notices.len().min(limit);
        queue.woken = count == limit;
        self.counters.notices_taken.add(count as u64);
        (queue.notices.drain(..count).collect(), std::mem::take(&mut queue.missed))
    }

    /// Has a new owner woken if there is something to take.
    pub(crate) fn rearm(&self) {
        let mut queue = self.queue.lock();
        queue.woken = !queue.notices.is_empty() || queue.missed > 0;
        if queue.woken {
            self.waiting.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wakes(notices: &Notices) -> bool {
        let mut waiting = std::pin::pin!(notices.waiting.notified());
        waiting.as_mut().enable()
    }

    #[test]
    fn the_owner_is_woken_once_until_it_has_taken_all() {
        let notices = Notices::default();
        notices.push(Notice::OutOfDescriptors);
        assert!(wakes(&notices));
        notices.push(Notice::DescriptorsSuffice);
        assert!(!wakes(&notices));
        assert_eq!(notices.take(1), (vec![Notice::OutOfDescriptors], 0));
        notices.push(Notice::OutOfDescriptors);
        assert!(!wakes(&notices));
        assert_eq!(notices.take(9).0.len(), 2);
        notices.push(Notice::OutOfDescriptors);
        assert!(wakes(&notices));
    }

    #[test]
    fn a_full_queue_keeps_the_oldest_and_counts_the_rest() {
        let notices = Notices::default();
        for _ in 0..CAPACITY + 3 {
            notices.push(Notice::OutOfDescriptors);
        }
        let (taken, missed) = notices.take(usize::MAX);
        assert_eq!((taken.len(), missed), (CAPACITY, 3));
        assert_eq!(notices.take(1), (vec![], 0));
    }

    #[test]
    fn a_kill_is_never_missed() {
        let notices = Notices::default();
        (0..CAPACITY).for_each(|_| notices.push(Notice::OutOfDescriptors));
        let killed = Notice::Killed { peer: ([127, 0, 0, 1], 4711).into() };
        notices.push(killed.clone());
        let (taken, missed) = notices.take(usize::MAX);
        assert_eq!((taken.last(), missed), (Some(&killed), 0));
    }
}

//! Handing everything over to a successor, in another process or in this one,
//! while nodes and clients notice nothing but a reply that comes later.
//!
//! The server's thread stops accepting, which leaves who comes to the backlog of
//! the listening sockets, and puts aside the connections that wait. Then it sends
//! all it has over a Unix socket, and closes its own copies once the successor
//! serves. Until then it has closed nothing, and goes on if anything fails.

mod aside;
mod give;
mod heirs;
mod household;
mod protocol;
mod socket;
mod stand_by;
mod take;

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use self::heirs::Heirs;
use self::socket::Socket;
use crate::connection::Unfinished;

pub(crate) use give::{Offer, Successor, Within, await_successor, go_on, hand_over};
pub(crate) use household::Household;
pub use protocol::TakeoverRefusal;
pub(crate) use socket::{connect, open};
pub use stand_by::StandBy;
pub use take::TakeoverError;
pub(crate) use take::{HandedOver, Predecessor, take_in};

/// What a server has for its successor.
#[derive(Debug, Default)]
pub(crate) struct Takeover {
    /// Where a successor connects.
    socket: Mutex<Option<Socket>>,
    /// A successor that came another way.
    offered: Mutex<Option<Offer>>,
    offer: Notify,
    /// Those that wait until this one stops.
    heirs: Heirs,
    /// Whether connections that wait are to be put aside.
    begun: AtomicBool,
    begin: Notify,
    /// Tells that a connection waits no longer.
    less: Notify,
    aside: Mutex<Vec<Unfinished>>,
}

impl Takeover {
    /// Hands over to whoever is at the other end.
    pub(crate) fn offer_to(&self, successor: Offer) {
        *self.offered.lock() = Some(successor);
        self.offer.notify_one();
    }

    /// Does not hand over, unless that has begun.
    pub(crate) fn take_back_offer(&self) {
        *self.offered.lock() = None;
    }

    /// Waits until connections that wait are to be put aside.
    pub(crate) async fn begins(&self) {
        // In this order, so that it is not missed.
        let begin = self.begin.notified();
        if !self.begun.load(Ordering::Relaxed) {
            begin.await;
        }
    }

    pub(crate) fn put_aside(&self, connection: Unfinished) {
        self.aside.lock().push(connection);
    }

    pub(crate) fn one_less_waits(&self) {
        if self.begun.load(Ordering::Relaxed) {
            self.less.notify_one();
        }
    }

    /// How many stand by.
    pub(crate) fn heirs(&self) -> usize {
        self.heirs.count()
    }

    /// Nobody can take over any more.
    pub(crate) fn close(&self) {
        *self.socket.lock() = None;
        self.heirs.clear();
        self.aside.lock().clear();
    }
}

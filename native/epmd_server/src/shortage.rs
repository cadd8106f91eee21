//! When descriptors run short. The system hands out the lowest number that is free,
//! so the number of a new connection tells how many are left.
//!
//! A connection with one of the last numbers has others closed that [wait](crate::crowd)
//! for their peers, and gets one of theirs; registrations are never closed. The last
//! ones are for connections of this host, and those that are
//! [reserved](crate::platform::is_reserved) for nobody's. When there are registrations
//! alone, those of other hosts are answered if they have asked, else closed, and whoever
//! is next waits to be accepted.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use epmd_core::ConnId;
use tokio::sync::Notify;

use crate::crowd::{GRACE, Newcomer};
use crate::notices::Notice;
use crate::platform::{end_of_descriptors, is_reserved, unreserve};
use crate::shared::Shared;

/// How short they are.
#[derive(Debug, Default)]
pub(crate) struct Shortage {
    /// Where those end that other hosts may have, as of the last look.
    remote_end: AtomicI32,
    /// Whether connections wait to be accepted.
    starving: AtomicBool,
    /// Tells them that a descriptor was freed.
    freed: Notify,
}

/// Where the descriptors of connections end: those of other hosts, and all.
#[derive(Debug)]
pub(crate) struct Descriptors {
    remote_end: i32,
    end: i32,
}

/// Whether there is room for more connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Enough,
    /// Some are about to close. They need their turn for that.
    Made,
    /// Not if it stays, but it may have asked already.
    Not {
        /// Whether it has a descriptor that is nobody's.
        is_last: bool,
    },
}

impl Shared {
    /// Looks how many descriptors there are, for connections of whom.
    pub(crate) fn measure_descriptors(&self) -> Descriptors {
        let end = end_of_descriptors();
        let kept = i32::try_from(self.config.read().local_reserve).unwrap_or(i32::MAX);
        let kept = kept.min(end / 2);
        self.shortage.remote_end.store(end - kept, Ordering::Relaxed);
        self.crowd.keep_for_local(usize::try_from(kept).unwrap_or(0));
        Descriptors { remote_end: end - kept, end }
    }

    /// Whether a connection with this descriptor may be one too many.
    pub(crate) fn may_be_crowded(&self, descriptor: i32) -> bool {
        descriptor >= self.shortage.remote_end.load(Ordering::Relaxed)
    }

    /// Makes room if a connection that was just accepted has one of the last
    /// descriptors.
    pub(crate) fn make_room(&self, descriptor: i32, is_local: bool) -> Room {
        let Descriptors { remote_end, end } = self.measure_descriptors();
        let is_last = descriptor >= end || is_reserved(descriptor);
        if !is_last && (is_local || descriptor < remote_end) {
            return Room::Enough;
        }
        let newcomer = if is_local { Newcomer::Local } else { Newcomer::Remote };
        if self.crowd.make_way(newcomer) { Room::Made } else { Room::Not { is_last } }
    }

    /// Makes room when there is none to accept anybody; whether that is possible.
    pub(crate) fn make_room_for_next(&self) -> bool {
        self.crowd.make_way(Newcomer::Unknown)
    }

    /// A connection stays that there is no room for. Whether there may be for the
    /// next.
    pub(crate) fn squeeze_in(&self, conn: ConnId, is_local: bool, is_last: bool) -> bool {
        if is_local {
            return !is_last;
        }
        self.crowd.send_away(conn);
        true
    }

    /// Whether the next connection has to wait: while descriptors are short,
    /// those that are reserved stay so.
    pub(crate) fn lacks_descriptor(&self) -> bool {
        if !self.shortage.starving.load(Ordering::Relaxed) {
            return false;
        }
        let listeners = self.listeners.lock();
        let next = listeners.first().map(|listener| listener.socket.try_clone());
        next.is_some_and(|next| {
            next.map_or(true, |next| is_reserved(unreserve(next.into()).as_raw_fd()))
        })
    }

    /// Waits until accepting has a chance again: another process may free
    /// descriptors too, so it is tried every 100 ms, or when whoever waits has had
    /// the time to ask.
    pub(crate) async fn out_of_descriptors(&self) {
        self.counters.out_of_descriptors.add_one();
        if !self.shortage.starving.swap(true, Ordering::Relaxed) {
            self.notices.push(Notice::OutOfDescriptors);
        }
        let waiting = self.waiting.load(Ordering::Relaxed);
        let retry = if waiting > 0 { GRACE } else { Duration::from_millis(100) };
        // A time-out is as good as the news.
        let _ = tokio::time::timeout(retry, self.shortage.freed.notified()).await;
    }

    /// Nothing waits to be accepted any more.
    pub(crate) fn descriptors_suffice(&self) {
        let starving = &self.shortage.starving;
        if starving.load(Ordering::Relaxed) && starving.swap(false, Ordering::Relaxed) {
            self.notices.push(Notice::DescriptorsSuffice);
        }
    }

    pub(crate) fn descriptor_freed(&self) {
        if self.shortage.starving.load(Ordering::Relaxed) {
            self.shortage.freed.notify_waiters();
        }
    }
}

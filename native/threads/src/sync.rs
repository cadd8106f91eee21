//! As in `tokio::sync`.

use std::pin::Pin;
use std::task::{Context, Poll};

use loom::future::AtomicWaker;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What one thread tells another that waits for it: only that it is to look.
#[derive(Debug)]
pub struct Notify {
    one: AtomicBool,
    /// How often all were told.
    all: AtomicUsize,
    /// Who waits to be told with all: one at the most here.
    waiter: AtomicWaker,
}

impl Default for Notify {
    fn default() -> Self {
        Self { one: AtomicBool::new(false), all: AtomicUsize::new(0), waiter: AtomicWaker::new() }
    }
}

impl Notify {
    /// Wakes who waits, or the next one that will.
    pub fn notify_one(&self) {
        self.one.swap(true, Ordering::SeqCst);
    }

    /// Whether who waits is woken now.
    pub fn is_notified(&self) -> bool {
        self.one.swap(false, Ordering::SeqCst)
    }

    /// Wakes those alone that wait now.
    pub fn notify_waiters(&self) {
        self.all.fetch_add(1, Ordering::SeqCst);
        self.waiter.wake();
    }

    /// Waits to be told with all, from now on.
    pub fn notified(&self) -> Notified<'_> {
        Notified { notify: self, before: self.all.load(Ordering::SeqCst) }
    }
}

/// A wait.
#[derive(Debug)]
pub struct Notified<'a> {
    notify: &'a Notify,
    before: usize,
}

impl Notified<'_> {
    /// Whether it is over.
    pub fn enable(self: Pin<&mut Self>) -> bool {
        self.notify.all.load(Ordering::SeqCst) != self.before
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.notify.waiter.register_by_ref(context.waker());
        if self.as_mut().enable() { Poll::Ready(()) } else { Poll::Pending }
    }
}

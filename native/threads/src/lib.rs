//! The sources of `epmd_server` where threads meet, with locks and notifications of
//! loom's in the place of the real ones: it tries every order in which threads can
//! use them.

extern crate self as parking_lot;
extern crate self as tokio;

#[path = "../../epmd_server/src/counters.rs"]
#[allow(dead_code, missing_docs, reason = "only what the others need is of interest")]
mod counters;

/// What a notice may tell of: here nothing.
mod platform {
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub(crate) struct Holder;
}

#[path = "../../epmd_server/src/notices.rs"]
#[allow(dead_code, missing_docs, reason = "only what threads do with it is of interest")]
mod notices;

mod wake_up;

pub use wake_up::no_wake_up_is_lost;

/// A lock as `parking_lot` has it.
#[derive(Debug, Default)]
pub struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// Waits until nobody else has it.
    pub fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }
}

/// As in `tokio`.
pub mod sync {
    use loom::sync::atomic::{AtomicBool, Ordering};

    /// What one thread tells another that waits for it: only that it is to look.
    #[derive(Debug, Default)]
    pub struct Notify(AtomicBool);

    impl Notify {
        /// Wakes who waits, or the next one that will.
        pub fn notify_one(&self) {
            self.0.swap(true, Ordering::SeqCst);
        }

        /// Whether who waits is woken now.
        pub fn is_notified(&self) -> bool {
            self.0.swap(false, Ordering::SeqCst)
        }
    }
}

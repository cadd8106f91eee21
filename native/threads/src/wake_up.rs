//! The owner of the server, and who has something to tell it.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use crate::notices::{Notice, Notices};

/// The message box of the owner: whether it is to look.
#[derive(Default)]
struct Owner(AtomicBool);

impl Owner {
    fn wake(&self) {
        self.0.swap(true, Ordering::SeqCst);
    }

    /// Looks if it was woken, and takes two at a time as long as there are two; how
    /// many it got.
    fn look(&self, notices: &Notices) -> usize {
        let mut taken = 0;
        if self.0.swap(false, Ordering::SeqCst) {
            loop {
                let count = notices.take(2).0.len();
                taken += count;
                if count < 2 {
                    break;
                }
            }
        }
        taken
    }
}

/// Does what the server's thread does for the owner.
fn pass_on(notices: &Notices, owner: &Owner) {
    if notices.waiting.is_notified() {
        owner.wake();
    }
}

/// Two threads have something to tell while the server's one wakes the owner, which
/// looks, or is followed by another one. Whatever the order, the owner gets all in the
/// end, without anything else happening.
pub fn no_wake_up_is_lost(with_a_new_owner: bool) {
    loom::model(move || {
        let shared = Arc::new((Notices::default(), Owner::default()));
        let teller = shared.clone();
        let teller = thread::spawn(move || {
            teller.0.push(Notice::OutOfDescriptors);
            teller.0.push(Notice::DescriptorsSuffice);
        });
        let waker = shared.clone();
        let waker = thread::spawn(move || pass_on(&waker.0, &waker.1));
        let (notices, owner) = &*shared;
        notices.push(Notice::OutOfDescriptors);
        let mut taken = if with_a_new_owner {
            // What the one before was told is lost with it.
            owner.0.swap(false, Ordering::SeqCst);
            notices.rearm();
            0
        } else {
            owner.look(notices)
        };
        teller.join().unwrap();
        waker.join().unwrap();
        // From now on nobody tells anything: what is on its way has to suffice.
        pass_on(notices, owner);
        taken += owner.look(notices);
        assert_eq!(taken, 3, "the owner is not woken for the rest");
    });
}

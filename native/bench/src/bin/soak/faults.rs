//! What went wrong that may not.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// As many are told one by one.
const TOLD: u64 = 20;

/// What was found, by any thread.
#[derive(Debug, Default)]
pub struct Faults {
    count: AtomicU64,
    /// What was done last to the port mapper.
    trouble: Mutex<String>,
    first: Mutex<Option<String>>,
}

impl Faults {
    /// Tells what is done now: a fault may come of it.
    pub fn expect_of(&self, trouble: String) {
        *self.trouble.lock() = trouble;
    }

    /// Notes one.
    pub fn add(&self, fault: impl AsRef<str>) {
        let fault = self.blame(fault.as_ref());
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        if before < TOLD {
            eprintln!("soak: FAULT: {fault}");
        }
        self.first.lock().get_or_insert(fault);
    }

    /// A fault with what it may have come of.
    pub fn blame(&self, fault: &str) -> String {
        format!("{fault} (last trouble: {})", self.trouble.lock())
    }

    /// Fails if there was one.
    ///
    /// # Errors
    /// How many there were, and the first.
    pub fn check(&self) -> Result<(), String> {
        match &*self.first.lock() {
            None => Ok(()),
            Some(first) => {
                let count = self.count.load(Ordering::Relaxed);
                Err(format!("{count} faults, the first: {first}"))
            }
        }
    }
}

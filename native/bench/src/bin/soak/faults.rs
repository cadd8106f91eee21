//! What went wrong that may not.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// As many are told one by one.
const TOLD: u64 = 20;

/// What was found, by any thread.
#[derive(Debug, Default)]
pub struct Faults {
    count: AtomicU64,
    first: Mutex<Option<String>>,
}

impl Faults {
    /// Notes one.
    pub fn add(&self, fault: String) {
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        if before < TOLD {
            eprintln!("soak: FAULT: {fault}");
        }
        self.first.lock().get_or_insert(fault);
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

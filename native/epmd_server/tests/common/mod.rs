//! What the tests share: servers that stop with the test, clients that speak
//! bytes, load, and tests that need a process of their own.

#![allow(dead_code, reason = "every file of tests uses a part of it")]

pub mod c_epmd;
pub mod load;
#[cfg(target_os = "linux")]
pub mod manager;
pub mod namespace;
pub mod process;
pub mod served;
pub mod side;
pub mod takeover;
pub mod wire;

use std::time::{Duration, Instant};

/// By when whatever a server does must have happened.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Polls until something holds.
///
/// # Panics
/// When it does not at the deadline.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < DEADLINE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

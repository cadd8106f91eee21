//! How often something is done.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Result;

/// Between two looks at the clock.
const TICK: Duration = Duration::from_millis(1);

/// Does something so often a second until `over`; how often it was done. What was
/// late is made up for.
///
/// # Errors
/// The first of `work`.
pub fn keep(
    a_second: u32,
    over: impl Fn() -> bool,
    mut work: impl FnMut() -> Result<()>,
) -> Result<u64> {
    let (begun, mut done) = (Instant::now(), 0);
    while !over() {
        let due = (begun.elapsed().as_secs_f64() * f64::from(a_second)) as u64;
        if done >= due {
            sleep(TICK);
            continue;
        }
        work()?;
        done += 1;
    }
    Ok(done)
}

//! How long to wait before the virtual machine is started again.

use std::time::Duration;

/// Before the second start in a row; each one after it waits twice as long.
const FIRST: Duration = Duration::from_millis(100);

/// Nodes wait for it: to try is better than to spare the processor.
const LONGEST: Duration = Duration::from_secs(1);

/// Who has served for so long does not count among those that failed in a row: longer
/// than a start takes.
const CALM: Duration = Duration::from_millis(200);

/// The starts in a row that did not last.
#[derive(Debug, Default)]
pub(crate) struct BackOff {
    failures: u32,
}

impl BackOff {
    /// How long to wait after one that has served for so long.
    pub(crate) fn after(&mut self, served: Duration) -> Duration {
        if served >= CALM {
            self.failures = 0;
        }
        let doubled = self.failures.checked_sub(1).map(|doublings| 1 << doublings.min(16));
        self.failures = self.failures.saturating_add(1);
        doubled.map_or(Duration::ZERO, |times: u32| FIRST.saturating_mul(times).min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_at_once_then_later_and_later_until_one_lasts() {
        let mut back_off = BackOff::default();
        let brief = Duration::from_millis(199);
        let mut waits = |count| -> Vec<u128> {
            (0..count).map(|_| back_off.after(brief).as_millis()).collect()
        };
        assert_eq!(waits(7), [0, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(waits(100).last(), Some(&1000));
        assert_eq!(back_off.after(CALM), Duration::ZERO);
        assert_eq!(back_off.after(brief), FIRST);
    }
}

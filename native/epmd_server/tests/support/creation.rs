//! The rule for creations, which differ from server to server by their clocks.

use std::collections::HashMap;
use std::time::SystemTime;

/// What to say of a creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is what the rule asks for.
    Right,
    /// It is not; the number.
    Wrong(u32),
    /// The number beside a refusal.
    Refused(u32),
}

/// What the creation of each name of one server can be.
///
/// A new name starts near the clock, so that its number is known but for a
/// second or two; each reply narrows that, and each new life adds one.
#[derive(Debug, Default)]
pub struct Creations {
    possible: HashMap<Vec<u8>, Vec<u32>>,
    /// Seconds when the operation began.
    began: u32,
}

impl Creations {
    /// To be called before each operation.
    pub fn read_clock(&mut self) {
        self.began = now();
    }

    /// Judges the creation that an accepted registration got.
    pub fn accept(&mut self, name: &[u8], highest: u16, number: u32) -> Verdict {
        let seen_as = |counter: u32| if highest >= 6 { counter } else { counter % 3 + 1 };
        let possible = self.next_life(name);
        possible.retain(|&counter| seen_as(counter) == number);
        if possible.is_empty() { Verdict::Wrong(number) } else { Verdict::Right }
    }

    /// A registration whose reply nobody read.
    pub fn skip(&mut self, name: &[u8]) {
        self.next_life(name);
    }

    fn next_life(&mut self, name: &[u8]) -> &mut Vec<u32> {
        // `time` of C lags behind by up to a tick, hence a second earlier.
        let fresh = self.began - 1..=now();
        let possible = self.possible.entry(name.to_vec()).or_insert_with(|| fresh.collect());
        possible.iter_mut().for_each(|counter| *counter += 1);
        possible
    }
}

fn now() -> u32 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("a clock after 1970").as_secs() as u32
}

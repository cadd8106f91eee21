//! How long things took.

use std::time::{Duration, Instant};

/// From this wait on it is remembered when it was.
const LONG: Duration = Duration::from_micros(500);

/// Steps of the histogram in each power of two: waits are told to 6 %.
const STEPS: u32 = 16;

/// The waits of many requests.
#[derive(Debug, Default, Clone)]
pub struct Waits {
    counts: Vec<u64>,
    longest: Duration,
    long: Vec<(Instant, Duration)>,
}

impl Waits {
    /// Adds one that is over now.
    pub fn add(&mut self, begun: Instant) {
        let wait = begun.elapsed();
        let at = step(wait);
        if self.counts.len() <= at {
            self.counts.resize(at + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.longest = self.longest.max(wait);
        if wait >= LONG {
            self.long.push((begun, wait));
        }
    }

    /// Adds those of another client.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.longest = self.longest.max(other.longest);
        self.long.extend(&other.long);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The longest.
    #[must_use]
    pub const fn longest(&self) -> Duration {
        self.longest
    }

    /// What so many of 1,000 do not exceed.
    #[must_use]
    pub fn within(&self, permille: u64) -> Duration {
        let mut left = self.count() * permille / 1_000;
        for (at, &count) in self.counts.iter().enumerate() {
            if count > left {
                return start_of(at + 1).min(self.longest);
            }
            left -= count;
        }
        self.longest
    }

    /// The longest of those that were going on at some time between two instants;
    /// zero when all were short.
    #[must_use]
    pub fn longest_between(&self, begun: Instant, ended: Instant) -> Duration {
        let meets = |&&(at, wait): &&(Instant, Duration)| at <= ended && at + wait >= begun;
        self.long.iter().filter(meets).map(|&(_, wait)| wait).max().unwrap_or_default()
    }
}

/// The step of the histogram that a wait belongs to.
fn step(wait: Duration) -> usize {
    let micros = u32::try_from(wait.as_micros()).unwrap_or(u32::MAX).max(1);
    let power = micros.ilog2();
    let within = ((u64::from(micros) * u64::from(STEPS)) >> power) as u32 - STEPS;
    (power * STEPS + within) as usize
}

fn start_of(step: usize) -> Duration {
    let step = step as u64;
    let (power, within) = (step / u64::from(STEPS), step % u64::from(STEPS));
    Duration::from_micros(((u64::from(STEPS) + within) << power) / u64::from(STEPS))
}

/// Median, 99 of 100 and the greatest of some durations, in milliseconds.
#[must_use]
pub fn spread(mut durations: Vec<Duration>) -> String {
    durations.sort();
    let at = |percent: usize| {
        let at = (durations.len() * percent / 100).min(durations.len().saturating_sub(1));
        milliseconds(durations.get(at).copied().unwrap_or_default())
    };
    format!("{} | {} | {}", at(50), at(99), at(100))
}

/// A duration in milliseconds.
#[must_use]
pub fn milliseconds(duration: Duration) -> String {
    let milliseconds = duration.as_secs_f64() * 1_000.0;
    if milliseconds < 10.0 { format!("{milliseconds:.2}") } else { format!("{milliseconds:.0}") }
}

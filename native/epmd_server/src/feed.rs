//! What happens to the registry, for those who follow it: each at its own pace,
//! from one ring of what happened last. Whoever falls so far behind that it was
//! overwritten is told how much it missed, and begins anew with the nodes that
//! there are.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;

use epmd_core::{Event, Glob, Registry};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::shared::Shared;

/// How many changes are kept for those who follow. With the changes themselves, of
/// short names, some 2 MB.
const CAPACITY: usize = 16_384;

/// A change of the registry. They are counted from 1 since the server started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its number.
    pub sequence: u64,
    /// What happened.
    pub event: Event,
}

/// The nodes that are registered at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The number of the last change before it.
    pub sequence: u64,
    /// Each as the event that it registered with, oldest first.
    pub nodes: Vec<Event>,
}

/// That changes were overwritten before they were taken; so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed(pub u64);

/// What happened last.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    recent: Mutex<Recent>,
    /// Tells followers that wait.
    changed: Notify,
    /// Tells the runtime that something has changed since it looked.
    pub(crate) waiting: Notify,
}

#[derive(Debug, Default)]
struct Recent {
    /// The number of the last change.
    sequence: u64,
    /// Nothing is kept while nobody follows.
    followers: usize,
    /// Up to the last change.
    events: VecDeque<Event>,
}

impl Feed {
    /// Takes a change in, by whoever holds the registry's lock.
    pub(crate) fn push(&self, event: &Event) {
        let mut recent = self.recent.lock();
        recent.sequence += 1;
        if recent.followers == 0 {
            return;
        }
        if recent.events.len() == CAPACITY {
            recent.events.pop_front();
        }
        recent.events.push_back(event.clone());
        drop(recent);
        self.changed.notify_waiters();
        self.waiting.notify_one();
    }

    /// The registry must be this feed's, locked.
    fn follow(self: &Arc<Self>, registry: &Registry, glob: &Glob) -> (Snapshot, Follower) {
        let matching = registry.oldest_first().filter(|(name, _)| glob.matches(name.as_str()));
        let nodes = matching.map(|(name, node)| Event::up(name, node)).collect();
        let mut recent = self.recent.lock();
        recent.followers += 1;
        let sequence = recent.sequence;
        (Snapshot { sequence, nodes }, Follower { feed: self.clone(), seen: sequence })
    }
}

impl Shared {
    /// The nodes that match, and all that happens from then on.
    pub(crate) fn follow(&self, glob: &Glob) -> (Snapshot, Follower) {
        self.feed.follow(&self.registry.read(), glob)
    }
}

/// A place in what happens.
#[derive(Debug)]
pub struct Follower {
    feed: Arc<Feed>,
    /// The number of the last change that was taken.
    seen: u64,
}

impl Follower {
    /// The oldest changes that were not taken yet, at most `limit`.
    ///
    /// # Errors
    /// When there are too many. To follow on, begin anew.
    pub fn take(&mut self, limit: usize) -> Result<Vec<Change>, Missed> {
        let recent = self.feed.recent.lock();
        let behind = recent.sequence - self.seen;
        // Whatever is longer ago than it can be is overwritten.
        let skipped =
            usize::try_from(behind).ok().and_then(|it| recent.events.len().checked_sub(it));
        let Some(skipped) = skipped else { return Err(Missed(behind)) };
        let events = recent.events.iter().skip(skipped).take(limit);
        let changes: Vec<_> = (self.seen + 1..)
            .zip(events)
            .map(|(sequence, event)| Change { sequence, event: event.clone() })
            .collect();
        drop(recent);
        self.seen += changes.len() as u64;
        Ok(changes)
    }

    /// The number of the last change that was taken, or seen in the snapshot.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.seen
    }

    /// Waits until there is something to take.
    pub(crate) async fn changed(&self) {
        let mut changed = pin!(self.feed.changed.notified());
        // In this order, so that it is not missed.
        changed.as_mut().enable();
        if self.feed.recent.lock().sequence == self.seen {
            changed.await;
        }
    }

    pub(crate) fn is_of(&self, feed: &Arc<Feed>) -> bool {
        Arc::ptr_eq(&self.feed, feed)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut recent = self.feed.recent.lock();
        recent.followers -= 1;
        if recent.followers == 0 {
            recent.events = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use epmd_core::{Creation, DownReason, Name};

    use super::*;

    fn change(number: u64) -> Event {
        Event::Down {
            name: Name::new(format!("n{number}").as_bytes()).unwrap(),
            creation: Creation::from_number(4).unwrap(),
            reason: DownReason::Closed,
        }
    }

    fn follow(feed: &Arc<Feed>) -> Follower {
        feed.follow(&Registry::default(), &Glob::new("*")).1
    }

    fn expected(numbers: std::ops::RangeInclusive<u64>) -> Vec<Change> {
        numbers.map(|sequence| Change { sequence, event: change(sequence) }).collect()
    }

    #[test]
    fn each_follower_takes_every_change_once_at_its_own_pace() {
        let feed = Arc::new(Feed::default());
        (1..=3).for_each(|number| feed.push(&change(number)));
        let mut first = follow(&feed);
        assert_eq!((first.sequence(), first.take(9)), (3, Ok(vec![])));
        (4..=6).for_each(|number| feed.push(&change(number)));
        let mut second = follow(&feed);
        feed.push(&change(7));
        assert_eq!(second.take(9), Ok(expected(7..=7)));
        assert_eq!(first.take(2), Ok(expected(4..=5)));
        assert_eq!(first.take(9), Ok(expected(6..=7)));
        assert_eq!(first.take(9), Ok(vec![]));
    }

    #[test]
    fn who_falls_too_far_behind_is_told_how_much_it_missed() {
        let feed = Arc::new(Feed::default());
        let (mut slow, mut slower) = (follow(&feed), follow(&feed));
        let last = CAPACITY as u64;
        (1..=last).for_each(|number| feed.push(&change(number)));
        assert_eq!(slow.take(1), Ok(expected(1..=1)));
        feed.push(&change(last + 1));
        assert_eq!(slow.take(usize::MAX), Ok(expected(2..=last + 1)));
        assert_eq!(slower.take(1), Err(Missed(last + 1)));
        slower = follow(&feed);
        feed.push(&change(last + 2));
        assert_eq!(slower.take(9), Ok(expected(last + 2..=last + 2)));
    }

    #[test]
    fn nothing_is_kept_while_nobody_follows() {
        let feed = Arc::new(Feed::default());
        let follower = follow(&feed);
        feed.push(&change(1));
        drop(follower);
        feed.push(&change(2));
        assert_eq!(feed.recent.lock().events.capacity(), 0);
        assert_eq!(follow(&feed).sequence(), 2);
    }
}

//! The connections that wait, as a successor gets them.

use crate::connection::{Decided, Unfinished};

/// What all readers together are still owed at the most. Each one's part is copied,
/// while as long as they wait here they share what is the same.
const MAX_OWED: usize = 32 << 20;

/// Those that a successor goes on with, and those that are owed too much for that:
/// readers that do not read, the ones with the most to come. They have to be closed, as
/// others that do not read are when memory is short.
pub(super) fn part(aside: &[Unfinished]) -> (Vec<&Unfinished>, Vec<&Unfinished>) {
    part_at(MAX_OWED, aside.iter().collect(), |one| owed(one))
}

fn part_at<T>(most: usize, mut all: Vec<T>, owed: impl Fn(&T) -> usize) -> (Vec<T>, Vec<T>) {
    all.sort_by_key(&owed);
    let sums = all.iter().scan(0_usize, |sum, one| {
        *sum = sum.saturating_add(owed(one));
        Some(*sum)
    });
    let some = sums.take_while(|&sum| sum <= most).count();
    let rest = all.split_off(some);
    (all, rest)
}

/// What is left of its reply.
fn owed(one: &Unfinished) -> usize {
    one.progress.decided.as_ref().map_or(0, |decided| decided.rest().len())
}

/// What a connection has received, or is to be sent.
pub(super) fn data(one: &Unfinished) -> &[u8] {
    let progress = &one.progress;
    progress.decided.as_ref().map_or(&progress.received.bytes, Decided::rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_owed_the_least_go_on() {
        let part = |most| part_at(most, vec![5, 0, 3, 4, 0], |&owed| owed);
        assert_eq!(part(12), (vec![0, 0, 3, 4, 5], vec![]));
        assert_eq!(part(11), (vec![0, 0, 3, 4], vec![5]));
        assert_eq!(part(0), (vec![0, 0], vec![3, 4, 5]));
    }
}

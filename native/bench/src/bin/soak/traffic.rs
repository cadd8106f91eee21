//! What goes on all the time: look-ups, and nodes that come and go.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::chance::Chance;
use crate::epmd::Epmd;
use crate::nodes::Node;
use crate::waits::Waits;

/// A client asks for a listing once in so many requests.
const LISTING: usize = 500;

/// How soon the end of a node has to be noticed.
const NOTICED: Duration = Duration::from_secs(1);

/// Between two changes.
const CHANGE: Duration = Duration::from_millis(2);

/// How long clients waited.
#[derive(Debug, Default)]
pub struct Asked {
    pub lookups: Waits,
    pub listings: Waits,
}

/// A client that asks without a pause, until it is over.
pub fn ask(epmd: &Epmd, mut chance: Chance, over: &AtomicBool) -> Asked {
    let mut asked = Asked::default();
    while !over.load(Ordering::Relaxed) {
        let _traffic = epmd.traffic();
        let listing = chance.once_in(LISTING);
        let begun = Instant::now();
        let outcome =
            if listing { epmd.list() } else { epmd.look_up(chance.below(epmd.roll.len())) };
        if listing { &mut asked.listings } else { &mut asked.lookups }.add(begun);
        if let Err(error) = outcome {
            epmd.faults.add(format!("a client gives up: {error}"));
            break;
        }
    }
    asked
}

/// What changed.
#[derive(Debug, Default)]
pub struct Changed {
    pub living: Vec<Node>,
    pub joined: usize,
    pub left: usize,
    /// Duplicates that were refused.
    pub refused: usize,
}

/// Nodes that close and register again, or whose name another one wants, until
/// it is over.
pub fn change(epmd: &Epmd, mut chance: Chance, over: &AtomicBool, nodes: Vec<Node>) -> Changed {
    let mut changed = Changed { living: nodes, ..Changed::default() };
    let mut gone = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let traffic = epmd.traffic();
        let outcome = change_one(epmd, &mut chance, &mut changed, &mut gone);
        drop(traffic);
        if let Err(error) = outcome {
            epmd.faults.add(format!("a node gives up: {error}"));
            break;
        }
        sleep(CHANGE);
    }
    changed
}

fn change_one(
    epmd: &Epmd,
    chance: &mut Chance,
    changed: &mut Changed,
    gone: &mut Vec<crate::nodes::Gone>,
) -> io::Result<()> {
    let at = chance.below(changed.living.len());
    match chance.below(3) {
        0 if changed.living.len() > 1 => {
            let one = changed.living.swap_remove(at).close(epmd, false);
            one.await_end(epmd, NOTICED)?;
            gone.push(one);
            changed.left += 1;
        }
        1 if !gone.is_empty() => {
            let one = gone.swap_remove(chance.below(gone.len()));
            changed.living.push(one.register(epmd)?.0);
            changed.joined += 1;
        }
        _ => {
            if let Some(node) = changed.living.get(at) {
                node.contest(epmd)?;
                changed.refused += 1;
            }
        }
    }
    Ok(())
}

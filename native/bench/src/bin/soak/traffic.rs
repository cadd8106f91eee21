//! What goes on all the time: look-ups, and nodes that come and go.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle, sleep};
use std::time::{Duration, Instant};

use crate::epmd::Epmd;
use crate::nodes::{Gone, Node};
use bench::chance::Chance;
use bench::waits::Waits;

/// A client asks for a listing once in so many requests.
const LISTING: usize = 500;

/// How soon the end of a node has to be noticed.
const NOTICED: Duration = Duration::from_secs(1);

/// Between two changes.
const CHANGE: Duration = Duration::from_millis(2);

/// How much of it there is.
#[derive(Debug)]
pub struct Traffic {
    /// Clients that look up and list.
    pub clients: usize,
    /// Between two requests of one.
    pub pause: Duration,
    /// Nodes that close and register again.
    pub changing: Vec<Node>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Seen {
    pub lookups: Waits,
    pub listings: Waits,
    pub living: Vec<Node>,
    pub joined: usize,
    pub left: usize,
    /// Duplicates that were refused.
    pub refused: usize,
}

impl Traffic {
    /// Lets it go on while something else is done.
    pub fn during<T>(self, epmd: &Epmd, mut chance: Chance, work: impl FnOnce() -> T) -> (T, Seen) {
        let over = &AtomicBool::new(false);
        let Self { clients, pause, changing } = self;
        thread::scope(|scope| {
            let client = |chance| scope.spawn(move || ask(epmd, chance, pause, over));
            let clients: Vec<_> = (0..clients).map(|_| client(chance.fork())).collect();
            let changer = scope.spawn(move || change(epmd, chance, over, changing));
            let done = work();
            over.store(true, Ordering::Relaxed);
            let mut seen = changer.join().unwrap_or_default();
            for (lookups, listings) in clients.into_iter().flat_map(ScopedJoinHandle::join) {
                seen.lookups.merge(&lookups);
                seen.listings.merge(&listings);
            }
            (done, seen)
        })
    }
}

/// A client; how long it waited for look-ups, and for listings.
fn ask(epmd: &Epmd, mut chance: Chance, pause: Duration, over: &AtomicBool) -> (Waits, Waits) {
    let (mut lookups, mut listings) = (Waits::default(), Waits::default());
    while !over.load(Ordering::Relaxed) {
        let traffic = epmd.traffic();
        let begun = Instant::now();
        let outcome = if chance.once_in(LISTING) {
            let outcome = epmd.list();
            listings.add(begun);
            outcome
        } else {
            let outcome = epmd.look_up(chance.below(epmd.roll.len()));
            lookups.add(begun);
            outcome
        };
        drop(traffic);
        if let Err(error) = outcome {
            epmd.faults.add(format!("a client gives up: {error}"));
            break;
        }
        if !pause.is_zero() {
            sleep(pause);
        }
    }
    (lookups, listings)
}

/// Nodes that close and register again, or whose name another one wants.
fn change(epmd: &Epmd, mut chance: Chance, over: &AtomicBool, nodes: Vec<Node>) -> Seen {
    let mut seen = Seen { living: nodes, ..Seen::default() };
    let mut gone = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let traffic = epmd.traffic();
        let outcome = change_one(epmd, &mut chance, &mut seen, &mut gone);
        drop(traffic);
        if let Err(error) = outcome {
            epmd.faults.add(format!("a node gives up: {error}"));
            break;
        }
        sleep(CHANGE);
    }
    seen
}

fn change_one(
    epmd: &Epmd,
    chance: &mut Chance,
    seen: &mut Seen,
    gone: &mut Vec<Gone>,
) -> io::Result<()> {
    let at = chance.below(seen.living.len());
    match chance.below(3) {
        0 if seen.living.len() > 1 => {
            let one = seen.living.swap_remove(at).close(epmd, false);
            one.await_end(epmd, NOTICED)?;
            gone.push(one);
            seen.left += 1;
        }
        1 if !gone.is_empty() => {
            let one = gone.swap_remove(chance.below(gone.len()));
            seen.living.push(one.register(epmd)?);
            seen.joined += 1;
        }
        _ => {
            if let Some(node) = seen.living.get(at) {
                node.contest(epmd)?;
                seen.refused += 1;
            }
        }
    }
    Ok(())
}

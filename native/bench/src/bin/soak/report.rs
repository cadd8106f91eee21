//! What a run has shown.

use std::io;
use std::time::Instant;

use crate::epmd::Epmd;
use crate::nodes::Node;
use crate::traffic::Seen;
use crate::trouble::{Event, Kind};
use bench::waits::{milliseconds, spread};

/// Prints how long clients waited, and for what.
pub fn print(epmd: &Epmd, seen: &Seen, events: &[Event]) {
    for (what, waits) in [("look-ups", &seen.lookups), ("listings", &seen.listings)] {
        println!(
            "{} {what}: median {} ms, 99 % {} ms, 99.9 % {} ms, longest {} ms",
            waits.count(),
            milliseconds(waits.within(500)),
            milliseconds(waits.within(990)),
            milliseconds(waits.within(999)),
            milliseconds(waits.longest()),
        );
    }
    let Seen { joined, left, refused, .. } = seen;
    println!(
        "{} requests were cut off by a kill and made again\n\
         {left} nodes left, {joined} joined, {refused} duplicates were refused\n\n\
         | longest wait of a look-up during a | times | median, ms | 99 % | longest |\n\
         |---|---:|---:|---:|---:|",
        epmd.cut_off()
    );
    for kind in Kind::ALL {
        let of_kind = events.iter().filter(|event| event.kind == kind);
        let waits: Vec<_> =
            of_kind.map(|event| seen.lookups.longest_between(event.begun, event.ended)).collect();
        if !waits.is_empty() {
            println!("| {} | {} | {} |", kind.title(), waits.len(), spread(waits));
        }
    }
    println!();
}

/// Looks at every node once more, and at how many there are.
///
/// # Errors
/// When the port mapper does not answer.
pub fn check<'n>(epmd: &Epmd, nodes: impl Iterator<Item = &'n Node>) -> io::Result<()> {
    let begun = Instant::now();
    let mut expected = 0;
    for node in nodes {
        node.check(epmd)?;
        expected += 1;
    }
    epmd.list()?;
    let registered = epmd.fact("nodes")?;
    if registered != expected {
        epmd.faults.add(format!("{registered} nodes are registered instead of {expected}"));
    }
    println!(
        "{expected} connections, ports and creations checked in {} ms",
        milliseconds(begun.elapsed())
    );
    Ok(())
}

//! `soak scale`: what takes long with as many nodes as one process can hold.

use std::collections::HashMap;
use std::error::Error;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::report;
use crate::stage::Stage;
use crate::traffic::Traffic;
use crate::trouble::{Kind, Trouble};
use bench::waits::milliseconds;

/// How long a client may wait while a successor takes over.
const TAKEOVER: Duration = Duration::from_millis(250);

/// Nodes that close while nobody serves.
const DOOMED: usize = 20;

/// Between two troubles.
const PAUSE: Duration = Duration::from_secs(2);

/// Runs it.
///
/// # Errors
/// When anything went wrong that may not.
pub fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let mut plan = options.troubles(&[(Kind::TakeOver, 3), (Kind::Kill, 3)])?;
    let nodes = options.number("nodes", 18_000)?;

    let mut stage = Stage::set(options)?;
    let begun = Instant::now();
    let stable = stage.register("n", nodes.saturating_sub(DOOMED))?;
    let doomed = stage.register("doomed", DOOMED)?;
    println!("{nodes} nodes registered in {} ms", milliseconds(begun.elapsed()));

    let saboteurs = stage.saboteurs()?;
    let epmd = &stage.epmd;
    stage.chance.shuffle(&mut plan);
    let chance = stage.chance.fork();
    let mut trouble = Trouble::new(epmd, &stage.subject, saboteurs, stage.chance.fork(), doomed);
    trouble.await_stored(nodes)?;
    let traffic = Traffic { clients: 1, pause: Duration::ZERO, changing: Vec::new() };
    let (made, seen) = traffic.during(epmd, chance, || {
        plan.iter().try_for_each(|&kind| {
            sleep(PAUSE);
            trouble.make(kind)
        })
    });
    let creations = trouble.creations();
    let (doomed, events) = trouble.finish();
    report::print(epmd, &seen, &events);
    made?;

    let creations: HashMap<_, _> = creations?.into_iter().collect();
    if creations.len() != nodes {
        epmd.faults.add(format!("{} nodes are registered instead of {nodes}", creations.len()));
    }
    for node in stable.iter().chain(&doomed) {
        node.check_connection(epmd);
        node.check_creation(epmd, creations.get(node.name()).copied());
    }
    for event in events.iter().filter(|event| event.kind == Kind::TakeOver) {
        let gap = seen.lookups.longest_between(event.begun, event.ended);
        if gap > TAKEOVER {
            let (gap, bound) = (milliseconds(gap), milliseconds(TAKEOVER));
            epmd.faults.add(format!("a client waited {gap} ms for a takeover, more than {bound}"));
        }
    }
    Ok(epmd.faults.check()?)
}

//! `soak rings`: nodes are registered, clients look them up without a pause, and
//! everything that can die does, in random order.

use std::error::Error;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::report;
use crate::stage::Stage;
use crate::traffic::Traffic;
use crate::trouble::{Kind, Trouble};
use bench::waits::milliseconds;

/// Clients that look up.
const CLIENTS: usize = 3;

/// Nodes that come and go all the time, and that close while nobody serves.
const CHANGING: usize = 40;
const DOOMED: usize = 20;

/// How often each trouble comes.
const TROUBLES: [(Kind, usize); 6] = [
    (Kind::Kill, 20),
    (Kind::TakeOver, 10),
    (Kind::Panic, 10),
    (Kind::Own, 90),
    (Kind::Application, 5),
    (Kind::Any, 5),
];

/// Runs it.
///
/// # Errors
/// When anything went wrong that may not.
pub fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let mut plan = options.troubles(&TROUBLES)?;
    let pause = options.number("pause-ms", 100)?;
    let nodes = options.number("nodes", 2_000)?;

    let mut stage = Stage::set(options)?;
    let begun = Instant::now();
    let stable = stage.register("n", nodes.saturating_sub(CHANGING + DOOMED))?;
    let changing = stage.register("changing", CHANGING)?;
    let doomed = stage.register("doomed", DOOMED)?;
    println!("{nodes} nodes registered in {} ms", milliseconds(begun.elapsed()));

    let saboteurs = stage.saboteurs()?;
    let mut chance = stage.chance.fork();
    chance.shuffle(&mut plan);
    let epmd = &stage.epmd;
    let mut trouble = Trouble::new(epmd, &stage.subject, saboteurs, stage.chance.fork(), doomed);
    trouble.await_stored(nodes)?;
    let traffic = Traffic { clients: CLIENTS, pause: Duration::ZERO, changing };
    let begun = Instant::now();
    let (made, seen) = traffic.during(epmd, chance.fork(), || {
        plan.iter().try_for_each(|&kind| {
            sleep(Duration::from_millis(chance.below(pause + 1) as u64));
            trouble.make(kind)
        })
    });
    println!("it took {:.0} s", begun.elapsed().as_secs_f64());
    let (doomed, events) = trouble.finish();
    report::print(epmd, &seen, &events);
    made?;
    report::check(epmd, stable.iter().chain(&seen.living).chain(&doomed))?;
    Ok(epmd.faults.check()?)
}

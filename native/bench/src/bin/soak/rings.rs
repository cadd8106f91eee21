//! `soak rings`: nodes are registered, clients look them up without a pause, and
//! everything that can die does, in random order.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::nodes::Node;
use crate::options::Options;
use crate::stage::Stage;
use crate::traffic::{Asked, Changed, ask, change};
use crate::trouble::{Event, Kind, Trouble};
use crate::waits::{milliseconds, spread};

/// Clients that look up.
const CLIENTS: usize = 3;

/// Nodes that come and go all the time, and that close while nobody serves.
const CHANGING: usize = 40;
const DOOMED: usize = 20;

/// Runs it.
///
/// # Errors
/// When anything went wrong that may not.
pub fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let mut plan = Vec::new();
    for (key, kind, default) in [
        ("kills", Kind::Kill, 20),
        ("takeovers", Kind::TakeOver, 10),
        ("panics", Kind::Panic, 10),
        ("process-kills", Kind::Own, 90),
        ("application-kills", Kind::Application, 5),
        ("any-kills", Kind::Any, 5),
    ] {
        plan.extend(vec![kind; options.number(key, default)?]);
    }
    let pause = options.number("pause-ms", 100)?;
    let nodes = options.number("nodes", 2_000)?;

    let mut stage = Stage::set(options)?;
    let begun = Instant::now();
    let stable = stage.register("n", nodes.saturating_sub(CHANGING + DOOMED))?;
    let changing = stage.register("changing", CHANGING)?;
    let doomed = stage.register("doomed", DOOMED)?;
    println!("{nodes} nodes registered in {} ms", milliseconds(begun.elapsed()));

    let saboteurs = stage.saboteurs()?;
    let mut chances = [(); 6].map(|()| stage.chance.fork()).into_iter();
    let mut chance = || chances.next().unwrap_or(crate::chance::Chance::new(0));
    let (epmd, over) = (&stage.epmd, &AtomicBool::new(false));
    let mut trouble = Trouble::new(epmd, &stage.subject, saboteurs, chance(), doomed);
    let mut order = chance();
    order.shuffle(&mut plan);
    let begun = Instant::now();
    let (made, asked, changed) = thread::scope(|scope| {
        let clients = [(); CLIENTS].map(|()| {
            let chance = chance();
            scope.spawn(move || ask(epmd, chance, over))
        });
        let changer = chance();
        let changer = scope.spawn(move || change(epmd, changer, over, changing));
        let made = plan.iter().try_for_each(|&kind| {
            thread::sleep(Duration::from_millis(order.below(pause + 1) as u64));
            trouble.make(kind).map_err(|error| format!("{}: {error}", kind.title()))
        });
        over.store(true, Ordering::Relaxed);
        let mut asked = Asked::default();
        for client in clients.into_iter().flat_map(thread::ScopedJoinHandle::join) {
            asked.lookups.merge(&client.lookups);
            asked.listings.merge(&client.listings);
        }
        (made, asked, changer.join().unwrap_or_default())
    });
    println!("it took {:.0} s", begun.elapsed().as_secs_f64());
    let (doomed, events) = trouble.finish();
    report(&stage, &asked, &changed, &events);
    made?;
    check(&stage, stable.iter().chain(&changed.living).chain(&doomed))?;
    Ok(stage.epmd.faults.check()?)
}

/// Looks at every node once more, and at how many there are.
pub fn check<'n>(
    stage: &Stage,
    nodes: impl Iterator<Item = &'n Node> + Clone,
) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    let epmd = &stage.epmd;
    for node in nodes.clone() {
        node.check(epmd)?;
    }
    epmd.list()?;
    let (expected, registered) = (nodes.count(), epmd.fact("nodes")? as usize);
    if registered != expected {
        epmd.faults.add(format!("{registered} nodes are registered instead of {expected}"));
    }
    println!(
        "{expected} connections, ports and creations checked in {} ms",
        milliseconds(begun.elapsed())
    );
    Ok(())
}

/// Prints what was seen.
pub fn report(stage: &Stage, asked: &Asked, changed: &Changed, events: &[Event]) {
    for (what, waits) in [("look-ups", &asked.lookups), ("listings", &asked.listings)] {
        println!(
            "{} {what}: median {} ms, 99 % {} ms, 99.9 % {} ms, longest {} ms",
            waits.count(),
            milliseconds(waits.within(500)),
            milliseconds(waits.within(990)),
            milliseconds(waits.within(999)),
            milliseconds(waits.longest()),
        );
    }
    println!("{} requests were cut off by a kill and made again", stage.epmd.cut_off());
    let Changed { joined, left, refused, .. } = changed;
    println!("{left} nodes left, {joined} joined, {refused} duplicates were refused");
    println!("\n| longest wait of a look-up during a | times | median, ms | 99 % | longest |");
    println!("|---|---:|---:|---:|---:|");
    for kind in Kind::ALL {
        let of_kind = events.iter().filter(|event| event.kind == kind);
        let waits: Vec<_> = of_kind
            .map(|event| asked.lookups.longest_between(event.begun, event.ended))
            .collect();
        if !waits.is_empty() {
            println!("| {} | {} | {} |", kind.title(), waits.len(), spread(waits));
        }
    }
    println!();
}

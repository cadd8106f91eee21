//! `soak long`: real nodes join, leave and die while everything else dies too,
//! slower; afterwards and in between nothing has leaked.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::leaks::{Sample, slopes};
use crate::options::Options;
use crate::otp_node::{OtpNode, come_and_go};
use crate::report;
use crate::stage::Stage;
use crate::traffic::Traffic;
use crate::trouble::{Kind, Trouble};

/// Clients that look up, and how long each waits between two look-ups.
const CLIENTS: usize = 3;
const BETWEEN_LOOKUPS: Duration = Duration::from_millis(2);

/// Nodes that come and go all the time, and that close while nobody serves.
const CHANGING: usize = 20;
const DOOMED: usize = 10;

/// How often each trouble comes, beside the others.
const TROUBLES: [(Kind, usize); 6] = [
    (Kind::Kill, 2),
    (Kind::TakeOver, 2),
    (Kind::Panic, 2),
    (Kind::Own, 4),
    (Kind::Application, 1),
    (Kind::Any, 1),
];

/// From this time on the growth of memory can be told from chance.
const LONG_ENOUGH: Duration = Duration::from_secs(300);

/// A virtual machine gives memory that only its start needed back by then.
const SETTLE: Duration = Duration::from_millis(2_500);

/// Runs it.
///
/// # Errors
/// When anything went wrong that may not.
pub fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let seconds = options.number("seconds", 60 * options.number("minutes", 10)?)?;
    let time = Duration::from_secs(seconds as u64);
    let pause = options.number("pause-ms", 2_000)?;
    let sample_every = Duration::from_secs(options.number("sample-every", 30)? as u64);
    let nodes = options.number("nodes", 300)?;
    let troubles = options.troubles(&TROUBLES)?;

    let mut stage = Stage::set(options)?;
    let stable = stage.register("n", nodes.saturating_sub(CHANGING + DOOMED))?;
    let changing = stage.register("changing", CHANGING)?;
    let doomed = stage.register("doomed", DOOMED)?;
    let saboteurs = stage.saboteurs()?;
    let mut chance = stage.chance.fork();
    let (epmd, subject) = (&stage.epmd, &stage.subject);
    let witness = OtpNode::start(epmd, "witness", None)?.ok_or("the witness was cut off")?;
    let witness = witness.note(epmd)?;
    let mut trouble = Trouble::new(epmd, subject, saboteurs, stage.chance.fork(), doomed);
    trouble.await_stored(nodes)?;
    let traffic = Traffic { clients: CLIENTS, pause: BETWEEN_LOOKUPS, changing };
    let over = &AtomicBool::new(false);
    let begun = Instant::now();
    println!("{}", Sample::HEAD);
    let ((made, mut otp_nodes), seen) = traffic.during(epmd, chance.fork(), || {
        thread::scope(|scope| {
            let pause = Duration::from_millis(pause as u64);
            let nodes_chance = chance.fork();
            let otp_nodes = scope.spawn(move || come_and_go(epmd, nodes_chance, pause, over));
            let mut make = || -> Result<Vec<Sample>, Box<dyn Error>> {
                let mut samples: Vec<Sample> = Vec::new();
                loop {
                    let last = begun.elapsed() > time;
                    let due = begun + sample_every * samples.len() as u32;
                    if last || Instant::now() >= due {
                        sleep(SETTLE);
                        let silence = epmd.silence();
                        let sample = Sample::take(epmd, subject, trouble.vm()?)?;
                        drop(silence);
                        println!("{}", sample.line(begun));
                        samples.push(sample);
                    }
                    if last {
                        return Ok(samples);
                    }
                    sleep(pause.mul_f64(chance.below(1_000) as f64 / 1_000.0));
                    if let Some(kind) = chance.pick(&troubles) {
                        trouble.make(kind)?;
                    }
                }
            };
            let made = make().map_err(|error| error.to_string());
            over.store(true, Ordering::Relaxed);
            (made, otp_nodes.join().unwrap_or_default())
        })
    });
    let (doomed, events) = trouble.finish();
    println!();
    report::print(epmd, &seen, &events);
    println!(
        "real nodes: {} joined, {} left, {} died",
        otp_nodes.joined, otp_nodes.left, otp_nodes.died
    );
    let samples = made?;
    if time >= LONG_ENOUGH {
        let [vm, keeper] = slopes(&samples);
        println!("memory in an hour: VM {vm:+.2} MiB, keeper {keeper:+.2} MiB");
    }
    let first = samples.first().ok_or("no samples were taken")?;
    for excess in samples.iter().flat_map(|sample| sample.excess(first)) {
        epmd.faults.add(excess);
    }
    for node in otp_nodes.living.iter().chain([&witness]) {
        node.check(epmd)?;
    }
    for node in otp_nodes.living.drain(..).chain([witness]) {
        node.end(epmd, rustix::process::Signal::TERM)?;
    }
    report::check(epmd, stable.iter().chain(&seen.living).chain(&doomed))?;
    Ok(epmd.faults.check()?)
}

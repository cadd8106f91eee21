//! `make bench-scale`: as many nodes as one process may have files open, held by
//! one port mapper, while many of them come and go and others are looked up.
//!
//!     scale RELEASE [--nodes N] [--seconds N] [--changes N]
//!
//! Fails if a look-up becomes dearer, memory grows, or a node is lost.

mod asker;
mod crowd;
mod member;
mod options;
mod pace;
mod windows;

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bench::cpu;
use bench::process::raise_file_limit;
use bench::server::Server;

use crate::asker::Asker;
use crate::crowd::Crowd;
use crate::options::Options;
use crate::windows::Windows;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What the virtual machine needs of its open files for itself, and for the
/// connections that come and go.
const OTHER_FILES: usize = 150;

/// How much of the changes that are asked for have to be made: the rest may be the
/// fault of a busy machine.
const IN_TIME: f64 = 0.95;

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let done = if words.first().is_some_and(|word| word == member::WORD) {
        words.remove(0);
        member::run(&words)
    } else {
        run(words)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scale: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: Vec<String>) -> Result<()> {
    let most = raise_file_limit()?.saturating_sub(OTHER_FILES);
    let options = Options::read(words, most)?;
    cpu::pin_self(cpu::CLIENTS)?;
    let server = Server::start(&options.release)?;

    let begun = Instant::now();
    let mut crowd = Crowd::gather(&server, options.nodes, options.changes)?;
    println!(
        "{} nodes are registered after {:.1} s; now {} of them a second end, and as many \
         register\n",
        options.nodes,
        begun.elapsed().as_secs_f64(),
        options.changes
    );
    let asker = Asker::of(&server, crowd.who_stays());
    let begun = Instant::now();
    crowd.begin()?;
    let windows = Windows::watch(&server, asker, Duration::from_secs(options.seconds))?;
    let time = begun.elapsed();
    let seen = crowd.finish()?;
    let rate = seen.changes as f64 / time.as_secs_f64();
    println!("\n{} nodes have ended and registered, {rate:.0} a second", seen.changes);
    println!("a registration took at the most {} ms", seen.longest.as_millis());

    let mut faults = seen.faults;
    faults.extend(crowd::compare(&server, &seen.names)?);
    faults.extend(windows.faults());
    if rate < IN_TIME * options.changes as f64 {
        faults.push(format!("{rate:.0} changes a second instead of {}", options.changes));
    }
    for fault in &faults {
        eprintln!("scale: FAULT: {fault}");
    }
    if faults.is_empty() { Ok(()) } else { Err(format!("{} faults", faults.len()).into()) }
}

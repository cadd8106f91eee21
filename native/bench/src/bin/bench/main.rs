//! `make bench`: ours, C `epmd` and the floor in alternation, in one run.
//!
//!     bench RELEASE OUTPUT [ROUNDS]
//!
//! Server and clients have a processor each. What is told is the processor time
//! of the server for one request: it is what a busy host pays, and what other
//! work on the machine changes least.

mod beside;
mod events;
mod page;
mod table;
mod works;

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use bench::process::Family;
use bench::server::{Kind, Server, ours};
use bench::{cpu, load};
use page::{Page, title};
use rustix::process::{Resource, getrlimit, setrlimit};
use table::Table;
use works::works;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Names that are held; the more of them C `epmd` cannot hold.
const POPULATIONS: [usize; 7] = [1, 10, 100, 500, 900, 10_000, 19_000];

/// What C `epmd` can hold, less some connections.
const C_LIMIT: usize = 900;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: bench RELEASE OUTPUT [ROUNDS]";
    let release = ours(&arguments.next().ok_or(usage)?)?;
    let output = arguments.next().ok_or(usage)?;
    let rounds = arguments.next().map_or(Ok(5), |rounds| rounds.parse())?;
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let Kind::Ours(root) = &release else { return Err(usage.into()) };
    // On all processors, as an operator starts it.
    let (idle, from_erlang) = (beside::idle(root)?, beside::from_erlang(root)?);
    cpu::pin_self(cpu::CLIENTS)?;

    let mut table = Table::default();
    let mut memory = String::new();
    for population in POPULATIONS {
        eprintln!("bench: {population} names");
        let mut kinds = vec![release.clone()];
        kinds.extend((population <= C_LIMIT).then_some(Kind::C));
        kinds.extend((population <= C_LIMIT).then(|| unkept(&release)).flatten());
        kinds.extend((population == 1).then_some(Kind::Floor));
        let mut subjects = Vec::new();
        for kind in kinds {
            let subject = Subject::start(kind, population)?;
            if population == *POPULATIONS.last().unwrap_or(&0)
                || population == C_LIMIT && subject.kind == Kind::C
            {
                let bytes = subject.memory_per_node(population)?;
                let _ =
                    writeln!(memory, "| {} | {population} | {bytes:.0} |", title(&subject.kind));
            }
            subjects.push(subject);
        }
        for work in works(population) {
            for round in 0..=rounds {
                for subject in &subjects {
                    if subject.kind == Kind::Floor && !work.floor
                        || matches!(subject.kind, Kind::Unkept(_)) && !work.registers
                    {
                        continue;
                    }
                    let time = subject.server.time_of(|| (work.run)(&subject.server));
                    let time = time.map_err(|error| {
                        format!("{}, {}: {error}", title(&subject.kind), work.name)
                    })?;
                    // The first warms up.
                    if round > 0 {
                        table.add(&work, &subject.kind, time);
                    }
                }
            }
        }
    }
    let page = page::write(&Page {
        table: &table,
        rounds,
        registrations: &beside::registrations(&release)?,
        latency: &beside::latencies(&release)?,
        events: &events::beside_look_ups(&release)?,
        from_erlang: &from_erlang,
        memory: &memory,
        idle: &idle,
    })?;
    print!("{page}");
    fs::write(output, page)?;
    Ok(())
}

/// A server with the names that it holds.
struct Subject {
    kind: Kind,
    server: Server,
    held: Vec<TcpStream>,
    /// Its private memory before it held them, in bytes.
    empty: u64,
}

impl Subject {
    fn start(kind: Kind, population: usize) -> Result<Self> {
        let server = Server::start(&kind)?;
        let mut held = Vec::new();
        let empty = private(&server)?;
        if kind != Kind::Floor {
            load::hold(&server, &mut held, population)?;
        }
        Ok(Self { kind, server, held, empty })
    }

    /// The bytes of user memory that each held node takes.
    fn memory_per_node(&self, population: usize) -> Result<f64> {
        debug_assert_eq!(self.held.len(), population);
        // What the rounds needed is given back once they are over.
        sleep(Duration::from_secs(3));
        let grown = private(&self.server)?.saturating_sub(self.empty);
        Ok(grown as f64 / population as f64)
    }
}

fn private(server: &Server) -> Result<u64> {
    Ok(Family::of(server.pid().try_into()?).memory()?.private)
}

/// The release where nothing is kept.
fn unkept(release: &Kind) -> Option<Kind> {
    match release {
        Kind::Ours(root) => Some(Kind::Unkept(root.clone())),
        _ => None,
    }
}

//! `make bench`: ours, C `epmd` and the floor in alternation, in one run.
//!
//!     bench RELEASE OUTPUT [ROUNDS]
//!
//! Server and clients have a processor each. What is told is the processor time
//! of the server for one request: it is what a busy host pays, and what other
//! work on the machine changes least.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::process::{Command, ExitCode};
use std::time::Duration;

use bench::process::Family;
use bench::server::{Kind, Server, ours};
use bench::{cpu, load, median};
use rustix::process::{Resource, getrlimit, setrlimit};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Names that are held; C `epmd` can hold the first three.
const POPULATIONS: [usize; 4] = [1, 100, 900, 19_000];

/// What C `epmd` can hold, less some connections.
const C_LIMIT: usize = 900;

/// Clients at a time, and requests queued at a time.
const CLIENTS: usize = 32;
const BURST: usize = 400;

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
    let latency = latencies(&release)?;
    let page = page(&table, &latency, &memory, rounds)?;
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

/// What clients do to a server.
type Run = Box<dyn Fn(&Server) -> std::io::Result<()>>;

/// Something that clients do, a number of times.
struct Work {
    name: String,
    count: usize,
    /// Whether the floor can do it.
    floor: bool,
    /// Whether it changes what is kept.
    registers: bool,
    run: Run,
}

fn works(population: usize) -> Vec<Work> {
    let work =
        |name: String, count, floor, run: Run| Work { name, count, floor, registers: false, run };
    let mut works = vec![
        work(
            format!("look-up, 1 client, {population} names"),
            2_000,
            true,
            Box::new(|server: &Server| load::one_client(server, 2_000).map(drop)),
        ),
        work(
            format!("look-up, {CLIENTS} clients, {population} names"),
            3_200,
            true,
            Box::new(|server| load::many_clients(server, CLIENTS, 3_200)),
        ),
        work(
            format!("look-up, bursts of {BURST}, {population} names"),
            5 * BURST,
            true,
            Box::new(|server| (0..5).try_for_each(|_| load::burst(server, BURST))),
        ),
    ];
    if population <= C_LIMIT {
        let run = Box::new(|server: &Server| load::register_and_close(server, 1_000));
        let work = work(format!("register and close, {population} names"), 1_000, false, run);
        works.push(Work { registers: true, ..work });
    }
    if population >= C_LIMIT {
        let count = 400_000 / population;
        works.push(work(
            format!("NAMES, {population} names"),
            count,
            false,
            Box::new(move |server| load::listings(server, count)),
        ));
    }
    works
}

/// Microseconds of a server for one request, a round each.
type Cell = (Kind, Vec<f64>);

/// What was measured, by work and server.
#[derive(Default)]
struct Table {
    rows: Vec<(String, Vec<Cell>)>,
}

impl Table {
    fn add(&mut self, work: &Work, kind: &Kind, time: Duration) {
        let microseconds = time.as_secs_f64() * 1e6 / work.count as f64;
        if self.rows.last().is_none_or(|(name, _)| *name != work.name) {
            self.rows.push((work.name.clone(), Vec::new()));
        }
        let Some((_, cells)) = self.rows.last_mut() else { return };
        match cells.iter_mut().find(|(other, _)| other == kind) {
            Some((_, times)) => times.push(microseconds),
            None => cells.push((kind.clone(), vec![microseconds])),
        }
    }

    fn lines(&self) -> String {
        let mut lines = String::new();
        for (name, cells) in &self.rows {
            let own = times_of(cells, |kind| matches!(kind, Kind::Ours(_)));
            let c = times_of(cells, |kind| *kind == Kind::C);
            let floor = times_of(cells, |kind| *kind == Kind::Floor);
            let cell =
                |times: Option<&Vec<f64>>| times.map_or("-".to_owned(), |times| spread(times));
            let ratio = |other: Option<&Vec<f64>>| match (own, other) {
                (Some(own), Some(other)) => {
                    format!("{:.2}", median(own.clone()) / median(other.clone()))
                }
                _ => "-".to_owned(),
            };
            let _ = writeln!(
                lines,
                "| {name} | {} | {} | **{}** | {} | {} |",
                cell(own),
                cell(c),
                ratio(c),
                cell(floor),
                ratio(floor)
            );
        }
        lines
    }

    /// What it costs that nodes are kept, where both was measured.
    fn keeping(&self) -> String {
        let mut lines = String::new();
        for (name, cells) in &self.rows {
            let kept = times_of(cells, |kind| matches!(kind, Kind::Ours(_)));
            let not = times_of(cells, |kind| matches!(kind, Kind::Unkept(_)));
            if let (Some(kept), Some(not)) = (kept, not) {
                let ratio = median(kept.clone()) / median(not.clone());
                let (kept, not) = (spread(kept), spread(not));
                let _ = writeln!(lines, "| {name} | {kept} | {not} | **{ratio:.2}** |");
            }
        }
        lines
    }
}

/// What was measured of one server.
fn times_of(cells: &[Cell], wanted: impl Fn(&Kind) -> bool) -> Option<&Vec<f64>> {
    cells.iter().find(|(kind, _)| wanted(kind)).map(|(_, times)| times)
}

/// The release where nothing is kept.
fn unkept(release: &Kind) -> Option<Kind> {
    match release {
        Kind::Ours(root) => Some(Kind::Unkept(root.clone())),
        _ => None,
    }
}

/// The median, the least and the greatest.
fn spread(times: &[f64]) -> String {
    let least = times.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = times.iter().copied().fold(0.0, f64::max);
    format!("{:.1} ({least:.1} to {greatest:.1})", median(times.to_vec()))
}

/// How long a client waits, at 900 names: ours and C in alternation.
fn latencies(release: &Kind) -> Result<String> {
    let own = Subject::start(release.clone(), C_LIMIT)?;
    let c = Subject::start(Kind::C, C_LIMIT)?;
    let mut waits = [Vec::new(), Vec::new()];
    for _ in 0..5 {
        for (subject, waits) in [&own, &c].into_iter().zip(&mut waits) {
            waits.extend(load::one_client(&subject.server, 1_000)?);
        }
    }
    let mut lines = String::new();
    for (subject, mut waits) in [&own, &c].into_iter().zip(waits) {
        waits.sort();
        let at = |part: usize| {
            let wait = waits.get(waits.len() * part / 100).copied().unwrap_or_default();
            wait.as_secs_f64() * 1e6
        };
        let _ = writeln!(lines, "| {} | {:.0} | {:.0} |", title(&subject.kind), at(50), at(99));
    }
    Ok(lines)
}

fn title(kind: &Kind) -> &'static str {
    match kind {
        Kind::Ours(_) => "portmapper",
        Kind::Unkept(_) => "portmapper, nothing kept",
        Kind::C => "C epmd",
        Kind::Floor => "floor",
    }
}

fn page(table: &Table, latency: &str, memory: &str, rounds: usize) -> Result<String> {
    let date = Command::new("date").arg("+%F").output()?.stdout;
    let otp = Command::new("erl")
        .args(["-noinput", "-eval", "io:put_chars(erlang:system_info(otp_release)), halt()."])
        .output()?
        .stdout;
    let info = fs::read_to_string("/proc/cpuinfo")?;
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!(
        "# Benchmarks\n\n\
         Written by `make bench` on {date}: {model}, Linux {kernel}, OTP {otp}, portmapper \
         {version}.\n\n\
         ## Processor time of the server\n\n\
         Microseconds for a request, user and system, of all threads; a connection a request. \
         Server and clients have a processor each; the servers are measured in alternation, \
         {rounds} rounds: the median (least to greatest). The floor is an epoll loop that \
         answers every request with a constant.\n\n\
         | | portmapper | C epmd | ratio | floor | ratio |\n|---|---|---|---|---|---|\n{rows}\n\
         ## What it costs to keep nodes\n\n\
         Microseconds for a registration and its end, of the virtual machine and its keeper, \
         and where nothing is kept.\n\n\
         | | kept | not kept | ratio |\n|---|---|---|---|\n{keeping}\n\
         ## How long a client waits\n\n\
         Microseconds for a look-up by one client at {C_LIMIT} names, connection and close \
         included.\n\n\
         | | median | 99 of 100 |\n|---|---:|---:|\n{latency}\n\
         ## Memory\n\n\
         Bytes of user memory that a held node takes.\n\n\
         | | nodes | bytes each |\n|---|---:|---:|\n{memory}\n\
         What an idle one takes and how long it takes to start: `make bench-footprint`.\n",
        date = String::from_utf8_lossy(&date).trim(),
        model = model.map_or("a processor of unknown model", |(_, model)| model),
        kernel = kernel.trim(),
        otp = String::from_utf8_lossy(&otp),
        version = env!("CARGO_PKG_VERSION"),
        rows = table.lines(),
        keeping = table.keeping(),
    ))
}

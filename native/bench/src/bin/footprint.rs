//! `make bench-footprint`: what an idle port mapper takes, and how long it takes
//! to start; beside a bare `erl -noinput` and C `epmd` in the same run.
//!
//!     footprint RELEASE
//!
//! Fails if ours takes more than it may.

use std::error::Error;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bench::process::{Family, running_from};
use bench::wire::{free_port, register};
use bench::{mebibytes, median};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How often each is started.
const ROUNDS: usize = 7;

/// What a start goes on with after it has answered.
const SETTLE: Duration = Duration::from_secs(3);

/// How long it is watched while idle.
const IDLE: Duration = Duration::from_secs(10);

/// What ours may take.
const MAX_RESIDENT_MIB: f64 = 28.0;
const MAX_PRIVATE_MIB: f64 = 12.5;
const MAX_RETURN_MS: f64 = 30.0;
const MAX_REGISTRATION_MS: f64 = 500.0;
const MAX_VERB_RATIO: f64 = 2.0;

/// The verbs, and the exit status that they have then.
const VERBS: &[(&[&str], i32)] = &[
    (&["-names"], 0),
    (&["-dump"], 0),
    (&["-started"], 0),
    (&["-kill"], 1),
    (&["-stop", "n1"], 1),
];

/// How often each verb is timed.
const VERB_ROUNDS: usize = 201;

/// The columns of the table.
const HEADINGS: [&str; 7] = [
    "RSS, MiB",
    "private, MiB",
    "processes",
    "threads",
    "wake-ups in 10 s",
    "-daemon returns, ms",
    "first registration, ms",
];

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("footprint: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let release = std::env::args().nth(1).ok_or("usage: footprint RELEASE")?;
    let ours = Path::new(&release).join("bin/epmd").canonicalize()?;
    // What it shares with another one would not count as private.
    if let Some(pid) = running_from(Path::new(&release))? {
        return Err(format!("process {pid} runs from {release} already: end it first").into());
    }
    // Pages that are not written back yet would count as private.
    rustix::fs::sync();
    let (mut own_starts, mut c_starts) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        own_starts.push(time_start(&ours)?);
        c_starts.push(time_start(Path::new("epmd"))?);
    }
    let own = Row::of_daemon("portmapper", &ours, &own_starts)?;
    let keeper = Row::of_keeper("of that, the keeper", &ours)?;
    let c = Row::of_daemon("C epmd", Path::new("epmd"), &c_starts)?;
    let rows = [own, keeper, Row::of_bare_vm()?, c];
    let [own, ..] = &rows;
    println!("| idle | {} |", HEADINGS.join(" | "));
    println!("|---|{}", "---:|".repeat(HEADINGS.len()));
    for row in &rows {
        println!("| {} | {} |", row.name, row.cells().join(" | "));
    }
    let mut excesses = own.excesses();
    excesses.extend(compare_verbs(&ours)?);
    for excess in &excesses {
        eprintln!("footprint: {excess}");
    }
    Ok(if excesses.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints how long the verbs take, each asked of our port mapper; which take too
/// long.
fn compare_verbs(ours: &Path) -> Result<Vec<String>> {
    let (_, family, port) = start_daemon(ours)?;
    // While it is registered, KILL and STOP are refused: they can be asked again.
    let node = register(port, "n1")?;
    let port = port.to_string();
    let time = |program: &Path, verb: &[&str], expected: i32| -> Result<f64> {
        let begun = Instant::now();
        let mut command = Command::new(program);
        command.args(["-port", &port]).args(verb).stdout(Stdio::null());
        let status = command.status()?;
        if status.code() != Some(expected) {
            return Err(format!("{} {verb:?}: {status}", program.display()).into());
        }
        Ok(begun.elapsed().as_secs_f64() * 1_000.0)
    };
    println!("\n| verb | portmapper, ms | C epmd, ms | ratio |\n|---|---:|---:|---:|");
    let mut excesses = Vec::new();
    for (verb, status) in VERBS {
        let (mut own_times, mut c_times) = (Vec::new(), Vec::new());
        for _ in 0..VERB_ROUNDS {
            own_times.push(time(ours, verb, *status)?);
            c_times.push(time(Path::new("epmd"), verb, *status)?);
        }
        let (own, c) = (median(own_times), median(c_times));
        let verb = verb.join(" ");
        println!("| {verb} | {own:.2} | {c:.2} | {:.2} |", own / c);
        if own / c > MAX_VERB_RATIO {
            excesses.push(format!("{verb} takes {:.2} times as long as C's", own / c));
        }
    }
    drop(node);
    family.kill();
    Ok(excesses)
}

/// Times of a start, in milliseconds.
#[derive(Clone, Copy)]
struct Start {
    returned: f64,
    registered: f64,
}

/// Starts a port mapper in the background on a port of its own; the caller ends
/// it.
fn start_daemon(program: &Path) -> Result<(Start, Family, u16)> {
    let port = free_port()?;
    let begun = Instant::now();
    let milliseconds = || begun.elapsed().as_secs_f64() * 1_000.0;
    let status = Command::new(program)
        .args(["-port", &port.to_string(), "-daemon"])
        .env_remove("ERL_EPMD_ADDRESS")
        .env_remove("ERL_EPMD_RELAXED_COMMAND_CHECK")
        .status()?;
    let returned = milliseconds();
    if !status.success() {
        return Err(format!("{} -daemon: {status}", program.display()).into());
    }
    // C's returns before its port accepts.
    let node = loop {
        match register(port, "first") {
            Ok(node) => break node,
            Err(_) if begun.elapsed() < Duration::from_secs(10) => {
                sleep(Duration::from_micros(200));
            }
            Err(error) => return Err(error.into()),
        }
    };
    let registered = milliseconds();
    drop(node);
    let family = Family::on_port(port).ok_or("nobody listens on the port")?;
    Ok((Start { returned, registered }, family, port))
}

fn time_start(program: &Path) -> Result<Start> {
    let (start, family, _) = start_daemon(program)?;
    family.kill();
    Ok(start)
}

/// A row of the table.
struct Row {
    name: &'static str,
    resident: f64,
    private: f64,
    processes: usize,
    threads: usize,
    wake_ups: u64,
    start: Option<Start>,
}

impl Row {
    fn of_daemon(name: &'static str, program: &Path, starts: &[Start]) -> Result<Self> {
        let (_, family, _) = start_daemon(program)?;
        let row = Self::of_idle(name, &family);
        family.kill();
        let median_of = |time: fn(&Start) -> f64| median(starts.iter().map(time).collect());
        let start = Start {
            returned: median_of(|start| start.returned),
            registered: median_of(|start| start.registered),
        };
        Ok(Self { start: Some(start), ..row? })
    }

    /// What the parent of the virtual machine takes.
    fn of_keeper(name: &'static str, program: &Path) -> Result<Self> {
        let (_, family, _) = start_daemon(program)?;
        let row = Self::of_idle(name, &family.root_alone());
        family.kill();
        row
    }

    /// The least that any Erlang program takes.
    fn of_bare_vm() -> Result<Self> {
        let mut vm = Ended(Command::new("erl").arg("-noinput").stdin(Stdio::null()).spawn()?);
        let row = Self::of_idle("erl -noinput", &Family::of(vm.0.id().try_into()?));
        vm.0.kill()?;
        row
    }

    fn of_idle(name: &'static str, family: &Family) -> Result<Self> {
        sleep(SETTLE);
        let before = family.sleeps()?;
        sleep(IDLE);
        let wake_ups = family.sleeps()? - before;
        let memory = family.memory()?;
        let (processes, threads) = family.size()?;
        let (resident, private) = (mebibytes(memory.resident), mebibytes(memory.private));
        Ok(Self { name, resident, private, processes, threads, wake_ups, start: None })
    }

    fn cells(&self) -> [String; 7] {
        let time = |time: fn(&Start) -> f64| {
            self.start
                .as_ref()
                .map_or_else(|| "-".to_owned(), |start| format!("{:.1}", time(start)))
        };
        [
            format!("{:.1}", self.resident),
            format!("{:.1}", self.private),
            self.processes.to_string(),
            self.threads.to_string(),
            self.wake_ups.to_string(),
            time(|start| start.returned),
            time(|start| start.registered),
        ]
    }

    /// What is more than it may be.
    fn excesses(&self) -> Vec<String> {
        let start = self.start.as_ref();
        let bounds = [
            ("MiB resident", Some(self.resident), MAX_RESIDENT_MIB),
            ("MiB private", Some(self.private), MAX_PRIVATE_MIB),
            ("wake-ups", Some(self.wake_ups as f64), 0.0),
            ("ms until -daemon returns", start.map(|s| s.returned), MAX_RETURN_MS),
            ("ms until a node is registered", start.map(|s| s.registered), MAX_REGISTRATION_MS),
        ];
        let excess = |(what, value, bound): (&str, Option<f64>, f64)| {
            let value = value.filter(|&value| value > bound)?;
            Some(format!("{value:.1} {what} are more than {bound}"))
        };
        bounds.into_iter().filter_map(excess).collect()
    }
}

/// A child that does not outlive an error.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

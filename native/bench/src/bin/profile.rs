//! `make bench-profile`: where the processor time goes that `make bench` measures, of
//! ours, C `epmd` and the floor: the system's calls that a request takes (strace), and
//! the part of the time that is the kernel's (perf).
//!
//!     profile RELEASE OUTPUT

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::Duration;

use bench::server::{Kind, Server, ours};
use bench::{cpu, load};
use rustix::process::{Pid, Signal, kill_process};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Requests for strace, and how long clients pause after each: strace makes the server
/// so slow that the next one would be there before it asks for it.
const TRACED: u16 = 500;
const PAUSE: Duration = Duration::from_millis(3);

/// Requests for perf.
const SAMPLED: usize = 10_000;

/// Samples in a second.
const FREQUENCY: &str = "5000";

/// What clients do.
type Run = fn(&Server, usize) -> std::io::Result<()>;
const WORKS: [(&str, Run); 2] = [
    ("look-up, 1 client, 1 name", |server, count| load::one_client(server, count).map(drop)),
    ("register and close, 1 name", load::register_and_close),
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("profile: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: profile RELEASE OUTPUT";
    let release = ours(&arguments.next().ok_or(usage)?)?;
    let output = arguments.next().ok_or(usage)?;
    cpu::pin_self(cpu::CLIENTS)?;
    let mut page = String::from(
        "# Where the time goes\n\n\
         Written by `make bench-profile`, for what [benchmarks.md](benchmarks.md) measures: the \
         system's calls that a request needs (strace; the clients pause between two), and whose code \
         the processor time goes into (perf; they do not). What is the kernel's is the \
         connection's: to establish it, to move two messages, to close it. No server that answers \
         can do without, and the floor does nothing else.\n\n\
         A registration takes more calls than C's because more comes of it: whether its port is \
         listened on (a question to the kernel, so that it can be evicted once it is gone), a \
         record of its start and of its end (two writes), the keeper's copy of its connection (a \
         message, which the keeper reads, and another one for many that have ended), and the \
         virtual machine is woken to log it.\n",
    );
    for (title, work) in WORKS {
        let kinds = [("portmapper", release.clone()), ("C epmd", Kind::C), ("floor", Kind::Floor)];
        let mut profiles = Vec::new();
        for (name, kind) in kinds {
            // The floor answers look-ups alone.
            if kind != Kind::Floor || title.starts_with("look-up") {
                profiles.push((name, Profile::of(&kind, work)?));
            }
        }
        write_work(&mut page, title, &profiles)?;
    }
    print!("{page}");
    fs::write(output, page)?;
    Ok(())
}

/// What a server does for one request.
struct Profile {
    /// Calls of the system, and those of them that failed, by name.
    calls: BTreeMap<String, (f64, f64)>,
    /// Parts of a hundred of its time, by the file that the code is in, most first.
    files: Vec<(f64, String)>,
}

impl Profile {
    fn of(kind: &Kind, work: Run) -> Result<Self> {
        let server = Server::start(kind)?;
        let mut held = Vec::new();
        if *kind != Kind::Floor {
            load::hold(&server, &mut held, 1)?;
        }
        // It warms up.
        work(&server, SAMPLED)?;
        Ok(Self { calls: trace(&server, work)?, files: sample(&server, work)? })
    }
}

fn trace(server: &Server, work: Run) -> Result<BTreeMap<String, (f64, f64)>> {
    let log = scratch("strace");
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-U", "name,calls,errors", "-o"]).arg(&log);
    for pid in server.pids() {
        command.args(["-p", &pid.to_string()]);
    }
    let tracer = Observer::start(command)?;
    for _ in 0..TRACED {
        work(server, 1)?;
        sleep(PAUSE);
    }
    tracer.finish()?;
    let mut calls = BTreeMap::new();
    for line in fs::read_to_string(&log)?.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [name, count, rest @ ..] = fields.as_slice() else { continue };
        let Ok(count) = count.parse::<f64>() else { continue };
        let failed = rest.first().and_then(|errors| errors.parse().ok()).unwrap_or(0.0);
        let each = |count: f64| count / f64::from(TRACED);
        // What a request needs is done for each of them.
        if *name != "total" && each(count) >= 0.1 {
            calls.insert((*name).to_owned(), (each(count), each(failed)));
        }
    }
    fs::remove_file(log)?;
    Ok(calls)
}

fn sample(server: &Server, work: Run) -> Result<Vec<(f64, String)>> {
    let data = scratch("perf");
    let pids: Vec<_> = server.pids().iter().map(u32::to_string).collect();
    let mut command = Command::new("perf");
    command.args(["record", "-q", "-e", "cpu-clock", "-F", FREQUENCY, "-o"]).arg(&data);
    command.args(["-p", &pids.join(",")]);
    let recorder = Observer::start(command)?;
    work(server, SAMPLED)?;
    recorder.finish()?;
    let mut command = Command::new("perf");
    command.args(["report", "--stdio", "--sort", "dso", "-i"]).arg(&data);
    let report = command.stderr(Stdio::null()).output()?.stdout;
    fs::remove_file(data)?;
    let report = String::from_utf8_lossy(&report);
    let lines = report.lines().filter_map(|line| line.trim().split_once('%'));
    let parse = |(part, file): (&str, &str)| {
        Some((part.parse().ok()?, file.trim().trim_matches(['[', ']']).to_owned()))
    };
    Ok(lines.filter_map(parse).collect())
}

/// A program that observes the server until it is interrupted.
struct Observer(Child);

impl Observer {
    fn start(mut command: Command) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        // It tells nobody when it is attached.
        sleep(Duration::from_secs(1));
        Ok(Self(child))
    }

    fn finish(mut self) -> Result<()> {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, Signal::INT)?;
        self.0.wait()?;
        Ok(())
    }
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("portmapper-profile-{}-{name}", std::process::id()))
}

fn write_work(page: &mut String, title: &str, profiles: &[(&str, Profile)]) -> Result<()> {
    let names: Vec<_> = profiles.iter().map(|(name, _)| *name).collect();
    let rule = "---:|".repeat(names.len());
    write!(page, "\n## {title}\n\nCalls of the system for one (of them failed):\n\n")?;
    writeln!(page, "| | {} |\n|---|{rule}", names.join(" | "))?;
    let mut calls: Vec<_> = profiles.iter().flat_map(|(_, it)| it.calls.keys()).collect();
    calls.sort_unstable();
    calls.dedup();
    for call in calls {
        let cells = profiles.iter().map(|(_, profile)| match profile.calls.get(call) {
            Some((count, failed)) if *failed >= 0.1 => format!("{count:.1} ({failed:.1})"),
            Some((count, _)) => format!("{count:.1}"),
            None => "-".to_owned(),
        });
        writeln!(page, "| {call} | {} |", cells.collect::<Vec<_>>().join(" | "))?;
    }
    let total = |profile: &Profile| profile.calls.values().map(|(count, _)| count).sum::<f64>();
    let totals = profiles.iter().map(|(_, profile)| format!("{:.1}", total(profile)));
    writeln!(page, "| in all | {} |", totals.collect::<Vec<_>>().join(" | "))?;
    write!(page, "\nOf a hundred parts of the processor time:\n\n| | |\n|---|---|\n")?;
    for (name, profile) in profiles {
        let files = profile.files.iter().filter(|(part, _)| *part >= 0.5);
        let files = files.map(|(part, file)| format!("{part:.0} {file}"));
        writeln!(page, "| {name} | {} |", files.collect::<Vec<_>>().join(", "))?;
    }
    Ok(())
}

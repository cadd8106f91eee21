//! Whether anything grows that may not: descriptors, threads, memory, and what
//! is kept for the next virtual machine.

use std::collections::HashMap;
use std::error::Error;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bench::process::memory;
use bench::{mebibytes, slope};
use procfs::net::{TcpState, tcp, tcp6};
use procfs::process::FDTarget;

use crate::epmd::Epmd;
use crate::process::process;
use crate::subject::Subject;

/// How long it may take until only registrations are left of all connections.
const SETTLE: Duration = Duration::from_secs(5);

/// How long it may take until all nodes are kept that registered in a row.
const STORING: Duration = Duration::from_secs(300);

/// How much more memory than at first each may have.
const VM_GROWTH: u64 = 4 << 20;
const KEEPER_GROWTH: u64 = 512 << 10;

/// What the virtual machine and the keeper have, while nobody asks for anything.
#[derive(Debug, Clone)]
pub struct Sample {
    at: Instant,
    nodes: usize,
    processes: usize,
    vm: Taken,
    keeper: Option<Taken>,
    /// What the keeper or systemd keeps, and how much that should be.
    stored: Stored,
}

/// What a process takes.
#[derive(Debug, Clone, Default)]
struct Taken {
    descriptors: usize,
    threads: usize,
    private: u64,
    sockets: Stored,
}

/// Descriptors by what they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Stored {
    nodes: usize,
    listeners: usize,
    records: usize,
}

impl Sample {
    /// Takes one. Nobody may make requests meanwhile.
    ///
    /// # Errors
    /// When the port mapper does not answer, or more connections than those of
    /// nodes are open.
    pub fn take(epmd: &Epmd, subject: &Subject, vm: u32) -> Result<Self, Box<dyn Error>> {
        let begun = Instant::now();
        let nodes = loop {
            let (nodes, open) = (epmd.fact("nodes")?, epmd.fact("open_connections")?);
            if nodes == open {
                break nodes as usize;
            }
            if begun.elapsed() > SETTLE {
                return Err(format!("{open} connections are open for {nodes} nodes").into());
            }
            sleep(Duration::from_millis(10));
        };
        let states = tcp_states()?;
        let keeper = subject.keeper(vm)?;
        let keeper = keeper.map(|keeper| Taken::of(keeper, &states)).transpose()?;
        let stored = match &keeper {
            Some(keeper) => keeper.sockets,
            None => stored_by_systemd(subject)?,
        };
        let vm = Taken::of(vm, &states)?;
        let processes = subject.processes().len();
        Ok(Self { at: begun, nodes, processes, vm, keeper, stored })
    }

    /// As a line of a table.
    pub fn line(&self, begun: Instant) -> String {
        let Taken { descriptors, threads, private, .. } = &self.vm;
        let keeper = self.keeper.as_ref();
        let keeper = |column: fn(&Taken) -> String| keeper.map_or("-".to_owned(), column);
        let Stored { nodes, listeners, records } = self.stored;
        format!(
            "| {:.0} | {} | {descriptors} | {threads} | {:.2} | {} | {} | {nodes} + {listeners} + {records} |",
            (self.at - begun).as_secs_f64(),
            self.nodes,
            mebibytes(*private),
            keeper(|taken| taken.descriptors.to_string()),
            keeper(|taken| format!("{:.2}", mebibytes(taken.private))),
        )
    }

    /// The head of that table.
    pub const HEAD: &str = "| s | nodes | VM: descriptors | threads | private, MiB | keeper: \
        descriptors | private, MiB | stored: nodes + listeners + records |\n\
        |---:|---:|---:|---:|---:|---:|---:|---:|";

    /// What it has too much of, compared with an earlier one.
    pub fn excess(&self, first: &Self) -> Vec<String> {
        let mut excess = Vec::new();
        let mut same = |what: &str, now: usize, then: usize| {
            if now != then {
                excess.push(format!("{now} {what} instead of {then}"));
            }
        };
        same("processes", self.processes, first.processes);
        same("descriptors of the VM besides nodes", self.vm_besides(), first.vm_besides());
        same("threads of the VM", self.vm.threads, first.vm.threads);
        let expected = Stored { nodes: self.nodes, ..first.stored };
        same("stored sockets of nodes", self.stored.nodes, expected.nodes);
        same("stored listening sockets", self.stored.listeners, expected.listeners);
        same("stored records", self.stored.records, expected.records);
        if let (Some(now), Some(then)) = (&self.keeper, &first.keeper) {
            let besides = |taken: &Taken, nodes| taken.descriptors.saturating_sub(nodes);
            let (now, then) = (besides(now, self.nodes), besides(then, first.nodes));
            same("descriptors of the keeper besides nodes", now, then);
        }
        let mut grown = |what: &str, now: u64, then: u64, bound| {
            if now > then + bound {
                excess.push(format!(
                    "the {what} has {:.2} MiB instead of {:.2}",
                    mebibytes(now),
                    mebibytes(then)
                ));
            }
        };
        grown("VM", self.vm.private, first.vm.private, VM_GROWTH);
        if let (Some(now), Some(then)) = (&self.keeper, &first.keeper) {
            grown("keeper", now.private, then.private, KEEPER_GROWTH);
        }
        excess
    }

    fn vm_besides(&self) -> usize {
        self.vm.descriptors.saturating_sub(self.nodes)
    }
}

impl Taken {
    fn of(pid: u32, states: &HashMap<u64, TcpState>) -> Result<Self, Box<dyn Error>> {
        let process = process(pid)?;
        let mut taken = Self {
            threads: process.tasks()?.count(),
            private: memory(&process)?.private,
            ..Self::default()
        };
        for descriptor in process.fd()? {
            taken.descriptors += 1;
            match descriptor?.target {
                FDTarget::MemFD(_) => taken.sockets.records += 1,
                FDTarget::Socket(inode) => match states.get(&inode) {
                    Some(TcpState::Listen) => taken.sockets.listeners += 1,
                    Some(_) => taken.sockets.nodes += 1,
                    None => {}
                },
                _ => {}
            }
        }
        Ok(taken)
    }
}

/// Waits until so many nodes are kept; for how long.
///
/// # Errors
/// When they are not in time.
pub fn await_stored(subject: &Subject, vm: u32, nodes: usize) -> Result<Duration, Box<dyn Error>> {
    let begun = Instant::now();
    loop {
        let stored = match subject.keeper(vm)? {
            Some(keeper) => Taken::of(keeper, &tcp_states()?)?.sockets,
            None => stored_by_systemd(subject)?,
        };
        if stored.nodes >= nodes {
            return Ok(begun.elapsed());
        }
        if begun.elapsed() > STORING {
            return Err(format!("only {} nodes of {nodes} are kept", stored.nodes).into());
        }
        sleep(Duration::from_millis(5));
    }
}

/// It tells no more than how many. One is the records, unless there are none.
fn stored_by_systemd(subject: &Subject) -> Result<Stored, Box<dyn Error>> {
    let stored = subject.stored()?;
    let records = stored.min(1);
    Ok(Stored { nodes: stored - records, listeners: 0, records })
}

/// The states of all TCP sockets.
fn tcp_states() -> Result<HashMap<u64, TcpState>, Box<dyn Error>> {
    let all = tcp()?.into_iter().chain(tcp6()?);
    Ok(all.map(|socket| (socket.inode, socket.state)).collect())
}

/// By how much the memory of the virtual machine, and of the keeper, grows in an
/// hour: the slope of the line that fits the samples best, in MiB.
pub fn slopes(samples: &[Sample]) -> [f64; 2] {
    let of = |memory: fn(&Sample) -> u64| {
        let point = |sample: &Sample| {
            let hours = samples.first().map_or(Duration::ZERO, |first| sample.at - first.at);
            (hours.as_secs_f64() / 3_600.0, mebibytes(memory(sample)))
        };
        slope(&samples.iter().map(point).collect::<Vec<_>>())
    };
    [
        of(|sample| sample.vm.private),
        of(|sample| sample.keeper.as_ref().map_or(0, |keeper| keeper.private)),
    ]
}

//! The processes that have the nodes.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use bench::server::Server;
use bench::wire;
use epmd_core::Listing;

use crate::Result;
use crate::asker::Known;
use crate::member::{self, name_of_one_who_stays};

const PROCESSES: usize = 4;

/// All of them. They end when this is dropped.
pub struct Crowd(Vec<Process>);

struct Process {
    child: Child,
    orders: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    nodes: usize,
    /// Where they listen.
    port: u16,
}

/// What they tell at the end, when all nodes are still there.
#[derive(Debug, Default)]
pub struct Seen {
    pub names: Vec<String>,
    pub faults: Vec<String>,
    pub changes: u64,
    /// How long the slowest registration took.
    pub longest: Duration,
}

impl Crowd {
    /// Starts them. All nodes are registered afterwards.
    ///
    /// # Errors
    /// When one of them fails.
    pub fn gather(server: &Server, nodes: usize, changes: u32) -> Result<Self> {
        let mut crowd = Self(Vec::new());
        for number in 0..PROCESSES {
            let nodes = (nodes + number) / PROCESSES;
            let words = [server.port as usize, number, nodes, changes as usize / PROCESSES];
            let mut command = Command::new(std::env::current_exe()?);
            command.arg(member::WORD).args(words.map(|word| word.to_string()));
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
            let orders = child.stdin.take();
            let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
            crowd.0.push(Process { child, orders, lines, nodes, port: 0 });
        }
        for process in &mut crowd.0 {
            let line = process.line()?;
            let port = line.strip_prefix("held ").ok_or("not the line that was expected")?;
            process.port = port.parse()?;
        }
        Ok(crowd)
    }

    /// The nodes that register once.
    pub fn who_stays(&self) -> Vec<Known> {
        let of = |(number, process): (usize, &Process)| {
            let port = process.port;
            let known = move |node| Known { name: name_of_one_who_stays(number, node), port };
            (0..process.nodes / 2).map(known)
        };
        self.0.iter().enumerate().flat_map(of).collect()
    }

    /// Has the others end and register again from now on.
    ///
    /// # Errors
    /// When a process has ended.
    pub fn begin(&mut self) -> Result<()> {
        self.order("begin")
    }

    /// Has them stay; what has come of all. They are there until this is dropped.
    ///
    /// # Errors
    /// When a process has ended.
    pub fn finish(&mut self) -> Result<Seen> {
        self.order("finish")?;
        let mut seen = Seen::default();
        for process in &mut self.0 {
            loop {
                let line = process.line()?;
                match line.split_once(' ').ok_or("a line of one word")? {
                    ("name", name) => seen.names.push(name.to_owned()),
                    ("fault", fault) => seen.faults.push(fault.to_owned()),
                    (_, changed) => {
                        let (changes, longest) = changed.split_once(' ').ok_or("one number")?;
                        seen.changes += changes.parse::<u64>()?;
                        seen.longest = seen.longest.max(Duration::from_micros(longest.parse()?));
                        break;
                    }
                }
            }
        }
        Ok(seen)
    }

    fn order(&mut self, order: &str) -> Result<()> {
        for orders in self.0.iter_mut().filter_map(|process| process.orders.as_mut()) {
            writeln!(orders, "{order}")?;
        }
        Ok(())
    }
}

impl Process {
    fn line(&mut self) -> Result<String> {
        Ok(self.lines.next().ok_or("a process with nodes has ended")??)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.orders = None;
        // It may be telling something that nobody has waited for.
        while self.line().is_ok() {}
        let _ = self.child.wait();
    }
}

/// How a listing differs from the names that are held.
///
/// # Errors
/// When there is none.
pub fn compare(server: &Server, names: &[String]) -> Result<Vec<String>> {
    let listing = Listing::decode(&wire::names(server.port)?).ok_or("no listing")?;
    let held: HashSet<_> = names.iter().collect();
    let listed: HashSet<_> = listing.nodes.iter().map(|(name, _)| name).collect();
    let lost = held.difference(&listed).map(|name| format!("{name} is not listed"));
    let left = listed.difference(&held).map(|name| format!("{name} is listed after its end"));
    let mut faults: Vec<_> = lost.chain(left).collect();
    if listing.nodes.len() != names.len() {
        let (listed, held) = (listing.nodes.len(), names.len());
        faults.push(format!("{listed} nodes are listed instead of {held}"));
    }
    println!("{} nodes are listed", listing.nodes.len());
    Ok(faults)
}

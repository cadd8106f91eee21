//! Real nodes, each an `erl` of its own.

use std::error::Error;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use crate::epmd::{Epmd, number};
use crate::process;
use bench::chance::Chance;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// As many at a time, without the first one.
const MOST: usize = 4;

/// How long a node may take to start on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How soon the end of a node has to be noticed.
const NOTICED: Duration = Duration::from_secs(1);

/// Many virtual machines share few processors here.
const SMALL_VM: [&str; 11] =
    ["-noinput", "-start_epmd", "false", "+S", "1:1", "+SDcpu", "1:1", "+A", "1", "+sbwt", "none"];

/// Others die, of which `global` has much to say.
const QUIET: [&str; 6] =
    ["-kernel", "logger_level", "critical", "-kernel", "prevent_overlapping_partitions", "false"];

/// A node that is registered. It ends when this is dropped.
#[derive(Debug)]
pub struct OtpNode {
    child: Child,
    name: String,
    creation: u32,
    since_ms: u64,
}

impl OtpNode {
    /// Starts one that looks another one up and connects to it. None if its
    /// registration was cut off by a kill, of which such a node ends.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(epmd: &Epmd, name: &str, peer: Option<&Self>) -> Result<Option<Self>> {
        let begun = Instant::now();
        let peer = peer.map_or("", |peer| peer.name.as_str());
        let say = format!(
            "Ping = fun(\"\") -> pong; (Peer) -> net_adm:ping(list_to_atom(Peer ++ \"@localhost\")) \
             end, io:format(\"~s ~b~n\", [Ping(\"{peer}\"), erlang:system_info(creation)])."
        );
        let mut command = Command::new("erl");
        command.args(["-sname", &format!("{name}@localhost"), "-setcookie", "soak"]);
        command.args(SMALL_VM).args(QUIET).args(["-eval", &say]);
        command.env("ERL_EPMD_PORT", epmd.port.to_string()).env("ERL_CRASH_DUMP_SECONDS", "0");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let mut node = Self { child, name: name.to_owned(), creation: 0, since_ms: 0 };
        let said = node.hear(stdout)?;
        let (ping, creation) = said.split_once(' ').unwrap_or((&said, ""));
        match (ping, creation.parse()) {
            ("pong" | "pang", Ok(creation)) => node.creation = creation,
            _ if epmd.died_since(begun) => {
                epmd.count_cut_off();
                return Ok(None);
            }
            _ => return Err(format!("{name} has not started, it says: {said}").into()),
        }
        if ping == "pang" {
            if !epmd.died_since(begun) {
                epmd.faults.add(format!("{name} has not found {peer}"));
            }
            epmd.count_cut_off();
        }
        Ok(Some(node))
    }

    /// Learns since when it is registered, which C `epmd` does not tell.
    ///
    /// # Errors
    /// When the port mapper does not answer.
    pub fn note(mut self, epmd: &Epmd) -> Result<Self> {
        self.since_ms = number(&epmd.node(&self.name)?, "since_ms")?;
        self.check(epmd)?;
        Ok(self)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its first line, or all that it said before it ended.
    fn hear(&mut self, stdout: ChildStdout) -> Result<String> {
        let timeout = Timespec::try_from(START_TIMEOUT)?;
        if poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&timeout))? == 0 {
            return Err(format!("{} does not start", self.name).into());
        }
        let mut stdout = BufReader::new(stdout);
        let mut said = String::new();
        stdout.read_line(&mut said)?;
        if !said.starts_with('p') {
            // Why it ends.
            stdout.take(500).read_to_string(&mut said)?;
        }
        Ok(said.trim_end().to_owned())
    }

    /// Notes a fault unless this is still the registration that it made.
    ///
    /// # Errors
    /// When the port mapper does not answer.
    pub fn check(&self, epmd: &Epmd) -> Result<()> {
        let facts = epmd.node(&self.name)?;
        let found = (number(&facts, "creation").ok(), number(&facts, "since_ms").ok());
        if found != (Some(self.creation), Some(self.since_ms)) {
            let Self { name, creation, since_ms, .. } = self;
            epmd.faults.add(format!(
                "{name} of creation {creation}, since {since_ms}, is registered as {found:?}"
            ));
        }
        Ok(())
    }

    /// Ends it, and waits until nobody finds it any more.
    ///
    /// # Errors
    /// When it does not end.
    pub fn end(mut self, epmd: &Epmd, signal: Signal) -> Result<()> {
        self.check(epmd)?;
        process::signal(self.child.id(), signal)?;
        self.child.wait()?;
        epmd.await_end(&self.name, NOTICED)?;
        Ok(())
    }
}

impl Drop for OtpNode {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What became of them.
#[derive(Debug, Default)]
pub struct OtpNodes {
    pub living: Vec<OtpNode>,
    pub joined: usize,
    pub left: usize,
    pub died: usize,
}

/// Nodes that join, leave and die until it is over. `pause` is the longest time
/// between two of these.
pub fn come_and_go(
    epmd: &Epmd,
    mut chance: Chance,
    pause: Duration,
    over: &AtomicBool,
) -> OtpNodes {
    let mut nodes = OtpNodes::default();
    while !over.load(Ordering::Relaxed) {
        let traffic = epmd.traffic();
        let outcome = change_one(epmd, &mut chance, &mut nodes);
        drop(traffic);
        if let Err(error) = outcome {
            epmd.faults.add(error.to_string());
        }
        sleep(pause.mul_f64(chance.below(1_000) as f64 / 1_000.0));
    }
    nodes
}

fn change_one(epmd: &Epmd, chance: &mut Chance, nodes: &mut OtpNodes) -> Result<()> {
    let count = nodes.living.len();
    if count > 0 && (count == MOST || chance.once_in(2)) {
        let node = nodes.living.swap_remove(chance.below(count));
        let (signal, counter) = match chance.once_in(2) {
            true => (Signal::TERM, &mut nodes.left),
            false => (Signal::KILL, &mut nodes.died),
        };
        *counter += 1;
        return node.end(epmd, signal);
    }
    // A few names, so that they come again.
    let name = (0..=MOST).map(|number| format!("otp{number}"));
    let free = |name: &String| nodes.living.iter().all(|node| node.name != *name);
    let name = name.filter(free).nth(chance.below(MOST + 1 - count)).ok_or("no name is free")?;
    let peer = nodes.living.get(chance.below(count));
    if let Some(node) = OtpNode::start(epmd, &name, peer)? {
        nodes.living.push(node.note(epmd)?);
        nodes.joined += 1;
    }
    Ok(())
}

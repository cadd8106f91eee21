//! A process that has some of the nodes. It is told to go on by lines on its
//! standard input, and ends with that.
//!
//! ```text
//! it: held PORT           all its nodes are registered, and listen on this port
//! to: begin               half of them begin to end and to register again
//! to: finish
//! it: name NAME ...       what it has now
//! it: fault TEXT ...
//! it: changed N LONGEST   how often, and microseconds of the slowest registration
//! ```

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bench::chance::Chance;
use bench::process::raise_file_limit;
use bench::wire::{connect_from, node, node_port, register_over};
use epmd_core::Alive2;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{RecvFlags, recv};

use crate::asker::look_up;
use crate::{Result, pace};

/// The first word of its command line.
pub const WORD: &str = "member";

/// The name of a node that stays.
pub fn name_of_one_who_stays(member: usize, number: usize) -> String {
    format!("m{member}-stays{number}")
}

struct Node {
    name: String,
    creation: u32,
    stream: TcpStream,
}

struct Member {
    number: usize,
    port: u16,
    chance: Chance,
    staying: Vec<Node>,
    changing: Vec<Node>,
    registered: usize,
    longest: Duration,
    faults: Vec<String>,
}

/// Has so many nodes until the standard input ends: `PORT MEMBER NODES CHANGES`.
///
/// # Errors
/// When the port mapper does not answer, or refuses a node.
pub fn run(words: &[String]) -> Result<()> {
    let [port, number, nodes, changes] = words else { return Err("four words".into()) };
    raise_file_limit()?;
    let number = number.parse()?;
    let mut member = Member {
        number,
        port: port.parse()?,
        chance: Chance::new(number as u64),
        staying: Vec::new(),
        changing: Vec::new(),
        registered: 0,
        longest: Duration::ZERO,
        faults: Vec::new(),
    };
    member.register_all(nodes.parse()?)?;
    println!("held {}", node_port()?);
    await_order();
    let over = AtomicBool::new(false);
    let changed = thread::scope(|scope| {
        scope.spawn(|| {
            await_order();
            over.store(true, Ordering::Relaxed);
        });
        pace::keep(changes.parse()?, || over.load(Ordering::Relaxed), || member.change())
    })?;
    member.report(changed)?;
    await_order();
    Ok(())
}

/// Waits for a line. An end is as good as one.
fn await_order() {
    let _ = io::stdin().read_line(&mut String::new());
}

impl Member {
    fn register_all(&mut self, nodes: usize) -> Result<()> {
        for number in 0..nodes / 2 {
            let node = self.register(name_of_one_who_stays(self.number, number))?;
            self.staying.push(node);
        }
        for _ in self.staying.len()..nodes {
            let name = self.new_name();
            let node = self.register(name)?;
            self.changing.push(node);
        }
        Ok(())
    }

    fn new_name(&self) -> String {
        format!("m{}-goes{}", self.number, self.registered)
    }

    fn register(&mut self, name: String) -> Result<Node> {
        let begun = Instant::now();
        // No two connections of the last minute from one address.
        let low = u16::try_from(self.registered % (1 << 16))?.to_be_bytes();
        let source = Ipv4Addr::new(127, 16 + u8::try_from(self.number)?, low[0], low[1]);
        self.registered += 1;
        let mut stream = connect_from(source, self.port)?;
        // So that no look-up can be answered with another node.
        let alive = Alive2 { extra: name.as_bytes(), ..node(&name, node_port()?) };
        let creation = register_over(&mut stream, alive);
        let creation = creation.map_err(|error| format!("{name}: {error}"))?;
        self.longest = self.longest.max(begun.elapsed());
        Ok(Node { name, creation, stream })
    }

    /// One that changes ends, by a close or a reset, and is there again at once: by
    /// its own name, or by one that nobody had.
    fn change(&mut self) -> Result<()> {
        let place = self.chance.below(self.changing.len());
        let Node { name, creation, stream } = self.changing.swap_remove(place);
        if self.chance.once_in(2) {
            set_socket_linger(&stream, Some(Duration::ZERO))?;
        }
        drop(stream);
        let node = if self.chance.once_in(2) {
            let node = self.register(name)?;
            if node.creation != creation + 1 {
                let Node { name, creation: next, .. } = &node;
                self.faults.push(format!("{name} follows creation {creation} with {next}"));
            }
            node
        } else {
            let name = self.new_name();
            self.register(name)?
        };
        self.changing.push(node);
        Ok(())
    }

    fn report(&mut self, changed: u64) -> Result<()> {
        let mut faults = std::mem::take(&mut self.faults);
        let mut out = io::stdout().lock();
        for node in self.staying.iter().chain(&self.changing) {
            writeln!(out, "name {}", node.name)?;
            faults.extend(self.fault_of(node)?);
        }
        for fault in faults {
            writeln!(out, "fault {fault}")?;
        }
        writeln!(out, "changed {changed} {}", self.longest.as_micros())?;
        Ok(())
    }

    /// What is wrong with a node: its connection has ended, or it is not found.
    fn fault_of(&self, node: &Node) -> Result<Option<String>> {
        let Node { name, stream, .. } = node;
        let seen = recv(stream, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        if !matches!(seen, Err(rustix::io::Errno::AGAIN)) {
            return Ok(Some(format!("the connection of {name} has ended: {seen:?}")));
        }
        Ok(look_up(self.port, name, node_port()?)?.err())
    }
}

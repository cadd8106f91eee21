//! A client that looks up nodes that stay.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use bench::chance::Chance;
use bench::server::Server;
use bench::waits::Waits;
use bench::wire::connect;
use epmd_core::{Facts, Request, Response};

use crate::{Result, pace};

/// A node, and where it listens.
#[derive(Debug)]
pub struct Known {
    pub name: String,
    pub port: u16,
}

pub struct Asker {
    port: u16,
    nodes: Vec<Known>,
    chance: Chance,
    /// How long it waited.
    pub waits: Waits,
}

impl Asker {
    /// One that asks for these.
    pub fn of(server: &Server, nodes: Vec<Known>) -> Self {
        Self { port: server.port, nodes, chance: Chance::new(1), waits: Waits::default() }
    }

    /// Looks up so many a second for a while; how many it were.
    ///
    /// # Errors
    /// When an answer is wrong, or does not come.
    pub fn ask(&mut self, a_second: u32, time: Duration) -> Result<u64> {
        let begun = Instant::now();
        pace::keep(a_second, || begun.elapsed() >= time, || self.ask_once())
    }

    fn ask_once(&mut self) -> Result<()> {
        let place = self.chance.below(self.nodes.len());
        let Some(Known { name, port }) = self.nodes.get(place) else { return Ok(()) };
        let begun = Instant::now();
        let answer = look_up(self.port, name, *port)?;
        self.waits.add(begun);
        Ok(answer?)
    }

    /// How many nodes have registered so far, as the port mapper tells.
    ///
    /// # Errors
    /// When it does not.
    pub fn registrations(&self) -> Result<u64> {
        let facts = Facts::decode(&ask(self.port, &Request::Info)?).ok_or("no facts")?.facts;
        let count = facts.iter().find(|(key, _)| key == "registered").ok_or("no count")?;
        Ok(count.1.parse()?)
    }
}

/// Looks up a node that has its name for extra data; or what is wrong with the answer.
///
/// # Errors
/// When there is no answer.
pub fn look_up(epmd: u16, name: &str, port: u16) -> io::Result<std::result::Result<(), String>> {
    let reply = ask(epmd, &Request::PortPlease2(name))?;
    Ok(match Response::decode(&reply) {
        Some(Response::PortPlease2(Some((found, about))))
            if found.as_str() == name && about.port == port && *about.extra == *name.as_bytes() =>
        {
            Ok(())
        }
        other => Err(format!("look-up of {name}: {other:?}")),
    })
}

fn ask(epmd: u16, request: &Request<'_>) -> io::Result<Vec<u8>> {
    let mut stream = connect(epmd)?;
    stream.write_all(&request.encode())?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    Ok(reply)
}

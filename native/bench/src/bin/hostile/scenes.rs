//! What hostile peers do, each in a process of its own that is killed afterwards.

use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::network::{NEAR, Network};
use crate::subject::Subject;

/// One of them.
#[derive(Debug)]
pub struct Scene {
    pub what: &'static str,
    verb: &'static str,
    count: usize,
    /// Nodes that are registered before.
    pub nodes: usize,
    /// How long it is watched at the most.
    pub duration: Duration,
    /// What ours is started with.
    pub arguments: &'static [&'static str],
    /// Whether the peer is on another host.
    pub is_remote: bool,
}

const fn scene(what: &'static str, verb: &'static str, count: usize) -> Scene {
    let (nodes, arguments, is_remote) = (10, &[], false);
    let duration = Duration::from_secs(2);
    Scene { what, verb, count, nodes, duration, arguments, is_remote }
}

const FIVE_SECONDS: Duration = Duration::from_secs(5);

/// All of them.
pub const SCENES: &[Scene] = &[
    scene("1,500 connections that say nothing", "silent", 1_500),
    Scene { duration: FIVE_SECONDS, ..scene("5,000 connections a second for 5 s", "rate", 25_000) },
    Scene {
        is_remote: true,
        ..scene("another host opens all the connections that it can", "silent", 3_000)
    },
    Scene { nodes: 500, ..scene("300 clients list 500 nodes and do not read", "readers", 300) },
    Scene {
        nodes: 500,
        ..scene("300 clients list 500 nodes and read a byte a second", "sippers", 300)
    },
    scene("requests come a byte at a time", "bytes", 300),
    scene("resets at every step of a request", "resets", 10_000),
    scene("connections that are half closed, either way", "halves", 10_000),
    scene("registrations of a name in use that are reset", "duplicates", 2_000),
    scene("registrations of a name in use, as many as it can", "refused", 20_000),
    Scene {
        duration: Duration::from_secs(60),
        ..scene("50,000 packets of noise", "noise", 50_000)
    },
    scene("scans of the port", "scan", 20_000),
    Scene {
        arguments: &["-max_nodes_per_process", "100"],
        ..scene("a process registers names without end (`max_nodes_per_process`)", "names", 2_000)
    },
];

/// A process that plays it.
#[derive(Debug)]
pub struct Peer(Child);

impl Scene {
    /// Begins it; back when it is under way.
    ///
    /// # Errors
    /// When there is no process to be had.
    pub fn begin(&self, subject: &Subject, network: Option<&Network>) -> io::Result<Peer> {
        let program = std::env::current_exe()?;
        let (mut command, ip) = match network.filter(|_| self.is_remote) {
            Some(network) => (network.command(program), NEAR),
            None => (Command::new(program), "127.0.0.1"),
        };
        command.args(["peer", self.verb, &format!("{ip}:{}", subject.port)]);
        command.arg(self.count.to_string()).stdin(Stdio::null()).stdout(Stdio::piped());
        // What a port mapper that has ended does to it is none of its faults.
        let mut peer = Peer(command.stderr(Stdio::null()).spawn()?);
        if let Some(stdout) = peer.0.stdout.take() {
            BufReader::new(stdout).read_line(&mut String::new())?;
        }
        Ok(peer)
    }
}

impl Peer {
    /// Whether it is done with everything.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(Some(_)))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

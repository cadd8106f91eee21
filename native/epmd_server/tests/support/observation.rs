//! What can be seen of a server, in a form that is the same for all servers.

use std::net::SocketAddr;

use super::creation::Verdict;
use super::wire::{End, Text};

/// What can be seen of an operation: its own outcome, and how things stand
/// afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    pub outcome: Outcome,
    /// The lines of DUMP without descriptors.
    pub dump: Vec<Text>,
    /// The connections of the registered nodes.
    pub held: Vec<End>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The operation's object was not there.
    Nothing,
    Answered(Reply, End),
    /// A reply to STOP that says so, and how the node's connection ended.
    Stopped {
        reply: Text,
        end: End,
        node: Option<End>,
    },
    /// How a connection that was not closed from here stands, if it was read.
    Left(End),
    /// A registration came back; whether it was first refused as a duplicate.
    Returned {
        refused_first: bool,
        reply: Reply,
        end: End,
    },
    /// A duplicate was reset: whether the node is still registered.
    Survived(bool),
    /// KILL was granted: whether the port refuses connections, and how the
    /// registered nodes' connections ended.
    Killed {
        refusing: bool,
        held: Vec<End>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To ALIVE2.
    Alive { tag: u8, result: u8, creation: Verdict },
    /// To NAMES and DUMP, without the port of the server and descriptors.
    Listing(Vec<Text>),
    /// Any other, or none.
    Bytes(Text),
}

/// A listing without what differs between servers: their own port, if it is
/// right, and descriptors.
pub fn listing(server: SocketAddr, reply: &[u8]) -> Vec<Text> {
    let port = u32::from(server.port()).to_be_bytes();
    let (head, mut lines) = reply.split_at_checked(4).unwrap_or((reply, b""));
    let head: &[u8] = if head == port { b"PORT" } else { head };
    let mut texts = vec![head.into()];
    // Lines of DUMP end so, and names have no NUL. NAMES is taken as one.
    while let Some(end) = lines.windows(2).position(|end| end == b"\n\0") {
        let (line, rest) = lines.split_at(end + 2);
        texts.push(without_descriptor(line).into());
        lines = rest;
    }
    if !lines.is_empty() {
        texts.push(lines.into());
    }
    texts
}

/// Replaces the number at the end of a line of DUMP.
fn without_descriptor(line: &[u8]) -> Vec<u8> {
    const LABEL: &[u8] = b", fd = ";
    let Some(at) = line.windows(LABEL.len()).rposition(|part| part == LABEL) else {
        return line.to_vec();
    };
    let number = at + LABEL.len();
    let digits = line[number..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return line.to_vec();
    }
    [&line[..number], b"N", &line[number + digits..]].concat()
}

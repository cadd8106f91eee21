//! The client's side of the wire: replies from bytes.

use crate::limits::tag;
use crate::request::{take, take_sized, take_u16};
use crate::{Name, Registration};

/// A reply that a client received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// To ALIVE2: the creation, or none when refused.
    Alive2(Option<u32>),
    /// To PORT_PLEASE2: the node, or that there is none.
    PortPlease2(Option<(Name, Registration)>),
}

impl Response {
    /// Reads a whole reply to ALIVE2 or PORT_PLEASE2; `None` when it is
    /// neither or is cut short.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let &[tag, result] = take(&mut rest, 2)?.first_chunk()?;
        match (tag, result) {
            (tag::ALIVE2_X_RESP, result) => {
                let creation = u32::from_be_bytes(*rest.first_chunk()?);
                Some(Self::Alive2((result == 0).then_some(creation)))
            }
            (tag::ALIVE2_RESP, result) => {
                let creation = take_u16(&mut rest)?.into();
                Some(Self::Alive2((result == 0).then_some(creation)))
            }
            (tag::PORT2_RESP, 0) => {
                let port = take_u16(&mut rest)?;
                let &[node_type, protocol] = take(&mut rest, 2)?.first_chunk()?;
                let highest_version = take_u16(&mut rest)?;
                let lowest_version = take_u16(&mut rest)?;
                let name = Name::new(take_sized(&mut rest)?).ok()?;
                let extra = take_sized(&mut rest)?.into();
                let registration = Registration {
                    port,
                    node_type,
                    protocol,
                    highest_version,
                    lowest_version,
                    extra,
                };
                Some(Self::PortPlease2(Some((name, registration))))
            }
            (tag::PORT2_RESP, _) => Some(Self::PortPlease2(None)),
            _ => None,
        }
    }
}

/// A reply to NAMES.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The port that the port mapper itself listens on.
    pub epmd_port: u32,
    /// Names with the port of each node, in the order of the reply.
    pub nodes: Vec<(String, u16)>,
}

impl Listing {
    /// Reads a whole reply to NAMES; `None` when it is not one.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (epmd_port, lines) = lines(bytes, "\n")?;
        let nodes = lines.map(|line| name_and_port(line?, "name ", " at port "));
        Some(Self { epmd_port, nodes: nodes.collect::<Option<_>>()? })
    }
}

/// A reply to DUMP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    /// The port that the port mapper itself listens on.
    pub epmd_port: u32,
    /// Registered nodes, in the order of the reply.
    pub active: Vec<DumpedName>,
    /// Remembered names, in the order of the reply.
    pub old: Vec<DumpedName>,
}

/// A line of a reply to DUMP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpedName {
    /// The name.
    pub name: String,
    /// The port of the node.
    pub port: u16,
    /// The descriptor of its connection in the port mapper; negative for none.
    pub descriptor: i32,
}

impl Dump {
    /// Reads a whole reply to DUMP; `None` when it is not one.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (epmd_port, lines) = lines(bytes, "\n\0")?;
        let mut dump = Self { epmd_port, active: Vec::new(), old: Vec::new() };
        for line in lines {
            let (rest, descriptor) = line?.rsplit_once(", fd = ")?;
            let descriptor = descriptor.trim_end().parse().ok()?;
            let active = name_and_port(rest, "active name     <", "> at port ");
            let (names, (name, port)) = match active {
                Some(found) => (&mut dump.active, found),
                None => (&mut dump.old, name_and_port(rest, "old/unused name <", ">, port = ")?),
            };
            names.push(DumpedName { name, port, descriptor });
        }
        Some(dump)
    }
}

/// A reply to INFO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The port that the port mapper itself listens on.
    pub epmd_port: u32,
    /// Keys and values, in the order of the reply. A key may come more than once.
    pub facts: Vec<(String, String)>,
}

impl Facts {
    /// Reads a whole reply to INFO; `None` when it is not one.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (epmd_port, lines) = lines(bytes, "\n")?;
        let facts = lines.map(|line| {
            let (key, value) = line?.split_once(' ')?;
            Some((key.to_owned(), value.to_owned()))
        });
        Some(Self { epmd_port, facts: facts.collect::<Option<_>>()? })
    }
}

/// The port that a listing starts with, and its lines without their ends;
/// `None` for a line that has none, and so may have lost digits of a port.
fn lines<'a>(
    bytes: &'a [u8],
    end: &'static str,
) -> Option<(u32, impl Iterator<Item = Option<&'a str>>)> {
    let (port, text) = bytes.split_first_chunk()?;
    let text = std::str::from_utf8(text).ok()?;
    let lines = text.split_inclusive(end).map(move |line| line.strip_suffix(end));
    Some((u32::from_be_bytes(*port), lines))
}

/// Reads a name between `before` and `between`, and a port that ends the line.
fn name_and_port(line: &str, before: &str, between: &str) -> Option<(String, u16)> {
    let (name, port) = line.strip_prefix(before)?.rsplit_once(between)?;
    Some((name.to_owned(), port.parse().ok()?))
}

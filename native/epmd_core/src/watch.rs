//! The messages that WATCH is answered with, one after the other, to bytes and
//! from bytes (`docs/protocol.md`).

use crate::limits::LENGTH_BYTES;
use crate::request::{take, take_u16};
use crate::{DownReason, Event, Name};

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told<'a> {
    /// All nodes follow that are registered: what was told before holds no more.
    Begin {
        /// How many changes were not told, of whatever names.
        missed: u64,
    },
    /// One of them.
    Node(Present<'a>),
    /// That were all.
    End {
        /// The number of the last change that they show.
        sequence: u64,
    },
    /// A node registered.
    Up {
        /// The number of this change.
        sequence: u64,
        /// The node.
        node: Present<'a>,
    },
    /// A node is registered no more.
    Down {
        /// The number of this change.
        sequence: u64,
        /// The creation that it went up with; 0 for a remote watcher.
        creation: u32,
        /// Why.
        reason: DownReason,
        /// Its name.
        name: &'a str,
    },
    /// Nothing has happened.
    Alive,
}

/// What a watcher is told of a node that is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Present<'a> {
    /// Tells this life of the name from others; 0 for a remote watcher.
    pub creation: u32,
    /// The port it listens on.
    pub port: u16,
    /// As in its registration.
    pub node_type: u8,
    /// Its name.
    pub name: &'a str,
}

/// The first byte of each message.
mod kind {
    pub(super) const BEGIN: u8 = b'B';
    pub(super) const NODE: u8 = b'N';
    pub(super) const END: u8 = b'E';
    pub(super) const UP: u8 = b'U';
    pub(super) const DOWN: u8 = b'D';
    pub(super) const ALIVE: u8 = b'A';
}

impl<'a> Told<'a> {
    /// An event, as it is told to a local watcher or to a remote one, who does not
    /// get creations.
    #[must_use]
    pub fn event(sequence: u64, event: &'a Event, is_local: bool) -> Self {
        let shown = |number| if is_local { number } else { 0 };
        match event {
            Event::Up { name, port, node_type, creation, .. } => {
                let (creation, name) = (shown(creation.get()), name.as_str());
                let node = Present { creation, port: *port, node_type: *node_type, name };
                Self::Up { sequence, node }
            }
            Event::Down { name, creation, reason } => {
                let (creation, name) = (shown(creation.get()), name.as_str());
                Self::Down { sequence, creation, reason: *reason, name }
            }
        }
    }

    /// Appends the message as it goes over the wire, length field included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend([0; LENGTH_BYTES]);
        match *self {
            Self::Begin { missed } => {
                out.push(kind::BEGIN);
                out.extend(missed.to_be_bytes());
            }
            Self::Node(node) => {
                out.push(kind::NODE);
                node.encode(out);
            }
            Self::End { sequence } => {
                out.push(kind::END);
                out.extend(sequence.to_be_bytes());
            }
            Self::Up { sequence, node } => {
                out.push(kind::UP);
                out.extend(sequence.to_be_bytes());
                node.encode(out);
            }
            Self::Down { sequence, creation, reason, name } => {
                out.push(kind::DOWN);
                out.extend(sequence.to_be_bytes());
                out.extend(creation.to_be_bytes());
                out.push(reason.number());
                out.extend(name.as_bytes());
            }
            Self::Alive => out.push(kind::ALIVE),
        }
        // A name has at most 1,020 bytes, so that it fits.
        let length = (out.len() - start - LENGTH_BYTES) as u16;
        if let Some(field) = out.get_mut(start..).and_then(|out| out.first_chunk_mut()) {
            *field = length.to_be_bytes();
        }
    }

    /// Reads a message from its body, the bytes behind the length field; `None`
    /// for one of another kind, or none.
    #[must_use]
    pub fn decode(body: &'a [u8]) -> Option<Self> {
        let (&kind, mut rest) = body.split_first()?;
        let told = match kind {
            kind::BEGIN => Self::Begin { missed: take_u64(&mut rest)? },
            kind::NODE => Self::Node(Present::decode(&mut rest)?),
            kind::END => Self::End { sequence: take_u64(&mut rest)? },
            kind::UP => {
                Self::Up { sequence: take_u64(&mut rest)?, node: Present::decode(&mut rest)? }
            }
            kind::DOWN => Self::Down {
                sequence: take_u64(&mut rest)?,
                creation: take_u32(&mut rest)?,
                reason: DownReason::from_number(*take(&mut rest, 1)?.first()?)?,
                name: Name::check(std::mem::take(&mut rest)).ok()?,
            },
            kind::ALIVE => Self::Alive,
            _ => return None,
        };
        rest.is_empty().then_some(told)
    }
}

impl<'a> Present<'a> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.creation.to_be_bytes());
        out.extend(self.port.to_be_bytes());
        out.push(self.node_type);
        out.extend(self.name.as_bytes());
    }

    /// Takes everything that is left.
    fn decode(rest: &mut &'a [u8]) -> Option<Self> {
        let creation = take_u32(rest)?;
        let port = take_u16(rest)?;
        let node_type = *take(rest, 1)?.first()?;
        let name = Name::check(std::mem::take(rest)).ok()?;
        Some(Self { creation, port, node_type, name })
    }
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    let (head, tail) = bytes.split_first_chunk()?;
    *bytes = tail;
    Some(u32::from_be_bytes(*head))
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    let (head, tail) = bytes.split_first_chunk()?;
    *bytes = tail;
    Some(u64::from_be_bytes(*head))
}

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
        let (port, text) = bytes.split_first_chunk()?;
        let nodes = std::str::from_utf8(text)
            .ok()?
            .split_inclusive('\n')
            .map(|line| {
                // A line without its end may have lost digits of the port.
                let line = line.strip_suffix('\n')?.strip_prefix("name ")?;
                let (name, port) = line.rsplit_once(" at port ")?;
                Some((name.to_owned(), port.parse().ok()?))
            })
            .collect::<Option<_>>()?;
        Some(Self { epmd_port: u32::from_be_bytes(*port), nodes })
    }
}

//! The requests, from bytes and to bytes: OTP's six, and those of our own, INFO,
//! MATCH and WATCH (`docs/protocol.md`).

use crate::limits::{INFO, INFO_OF, LENGTH_BYTES, tag};
use crate::{Glob, Name, Refusal, Registration};

/// A request as it stands in its body, borrowed from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'a> {
    /// Register a node; its connection is the registration.
    Alive2(Alive2<'a>),
    /// Look a name up.
    PortPlease2(&'a str),
    /// List names and ports.
    Names,
    /// List names and ports of those that match a pattern.
    Match(&'a str),
    /// Tell which names that match a pattern are registered, and then of every
    /// change.
    Watch(&'a str),
    /// List registered and remembered names with descriptors.
    Dump,
    /// Tell about the port mapper itself.
    Info,
    /// Tell about a node, and who holds its name: INFO with a name.
    NodeInfo(&'a str),
    /// End the port mapper.
    Kill,
    /// Force a name out. No rule for names holds here: one that breaks them is
    /// just not registered.
    Stop(&'a [u8]),
}

/// The body of a registration. Names and extra data that break their own rules
/// are refused with an answer, so they are judged by the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alive2<'a> {
    /// The port the node listens on for other nodes.
    pub port: u16,
    /// 77 for `erl`, 72 hidden, 104 C nodes, 110 jinterface.
    pub node_type: u8,
    /// 0 for TCP over IPv4.
    pub protocol: u8,
    /// The highest distribution version it speaks.
    pub highest_version: u16,
    /// The lowest distribution version it speaks.
    pub lowest_version: u16,
    /// Without NUL, else unchecked.
    pub name: &'a [u8],
    /// Any bytes.
    pub extra: &'a [u8],
}

impl<'a> Alive2<'a> {
    fn decode(mut rest: &'a [u8]) -> Option<Self> {
        let alive = Self {
            port: take_u16(&mut rest)?,
            node_type: take(&mut rest, 1)?.first().copied()?,
            protocol: take(&mut rest, 1)?.first().copied()?,
            highest_version: take_u16(&mut rest)?,
            lowest_version: take_u16(&mut rest)?,
            name: take_sized(&mut rest)?,
            extra: take_sized(&mut rest)?,
        };
        let too_short = alive.name.is_empty() && alive.extra.is_empty() && rest.is_empty();
        (!too_short && !alive.name.contains(&0)).then_some(alive)
    }

    /// What the node says of itself, less its name, as an owned value.
    #[must_use]
    pub fn registration(&self) -> Registration {
        Registration {
            port: self.port,
            node_type: self.node_type,
            protocol: self.protocol,
            highest_version: self.highest_version,
            lowest_version: self.lowest_version,
            extra: self.extra.into(),
        }
    }
}

impl<'a> Request<'a> {
    /// Reads a request from its body, the bytes behind the length field.
    ///
    /// # Errors
    /// Any of these closes the connection unanswered:
    /// [`Refusal::UnknownRequest`], [`Refusal::Malformed`], and for a name or a
    /// pattern that is asked for the errors of [`Name::check`].
    pub fn decode(body: &'a [u8]) -> Result<Self, Refusal> {
        let (&tag, rest) = body.split_first().ok_or(Refusal::InvalidLength)?;
        match tag {
            tag::ALIVE2 => Alive2::decode(rest).map(Self::Alive2).ok_or(Refusal::Malformed),
            tag::PORT_PLEASE2 => {
                Name::check(rest.strip_suffix(b"\0").unwrap_or(rest)).map(Self::PortPlease2)
            }
            tag::NAMES => Ok(Self::Names),
            tag::MATCH => Glob::check(rest).map(Self::Match),
            tag::WATCH => Glob::check(rest).map(Self::Watch),
            tag::DUMP => Ok(Self::Dump),
            tag::INFO if body == INFO => Ok(Self::Info),
            tag::INFO => match body.strip_prefix(INFO_OF) {
                Some(name) => Name::check(name).map(Self::NodeInfo),
                None => Err(Refusal::UnknownRequest),
            },
            tag::KILL => Ok(Self::Kill),
            tag::STOP if rest.is_empty() => Err(Refusal::Malformed),
            tag::STOP => Ok(Self::Stop(rest.split(|&byte| byte == 0).next().unwrap_or(rest))),
            _ => Err(Refusal::UnknownRequest),
        }
    }

    /// What the protocol calls it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Alive2(_) => "ALIVE2",
            Self::PortPlease2(_) => "PORT_PLEASE2",
            Self::Names => "NAMES",
            Self::Match(_) => "MATCH",
            Self::Watch(_) => "WATCH",
            Self::Dump => "DUMP",
            Self::Info | Self::NodeInfo(_) => "INFO",
            Self::Kill => "KILL",
            Self::Stop(_) => "STOP",
        }
    }

    /// The name that it is about, if it is about one, unchecked.
    #[must_use]
    pub const fn name(&self) -> Option<&'a [u8]> {
        match *self {
            Self::Alive2(Alive2 { name, .. }) | Self::Stop(name) => Some(name),
            Self::PortPlease2(name) | Self::NodeInfo(name) => Some(name.as_bytes()),
            Self::Names
            | Self::Match(_)
            | Self::Watch(_)
            | Self::Dump
            | Self::Info
            | Self::Kill => None,
        }
    }

    /// Writes the request as it goes over the wire, length field included.
    /// Its parts are taken as they are: what is too long for its length field
    /// makes a broken request.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; LENGTH_BYTES];
        match self {
            Self::Alive2(alive) => {
                out.push(tag::ALIVE2);
                out.extend(alive.port.to_be_bytes());
                out.extend([alive.node_type, alive.protocol]);
                out.extend(alive.highest_version.to_be_bytes());
                out.extend(alive.lowest_version.to_be_bytes());
                for part in [alive.name, alive.extra] {
                    out.extend((part.len() as u16).to_be_bytes());
                    out.extend(part);
                }
            }
            Self::PortPlease2(name) => {
                out.push(tag::PORT_PLEASE2);
                out.extend(name.as_bytes());
            }
            Self::Names => out.push(tag::NAMES),
            Self::Match(glob) => {
                out.push(tag::MATCH);
                out.extend(glob.as_bytes());
            }
            Self::Watch(glob) => {
                out.push(tag::WATCH);
                out.extend(glob.as_bytes());
            }
            Self::Dump => out.push(tag::DUMP),
            Self::Info => out.extend(INFO),
            Self::NodeInfo(name) => {
                out.extend(INFO_OF);
                out.extend(name.as_bytes());
            }
            Self::Kill => out.push(tag::KILL),
            Self::Stop(name) => {
                out.push(tag::STOP);
                out.extend(*name);
            }
        }
        let length = (out.len() - LENGTH_BYTES) as u16;
        if let Some(field) = out.first_chunk_mut() {
            *field = length.to_be_bytes();
        }
        out
    }
}

/// Takes `count` bytes off the front, if there are as many.
pub(crate) fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = bytes.split_at_checked(count)?;
    *bytes = tail;
    Some(head)
}

/// Takes a big-endian 16-bit number off the front.
pub(crate) fn take_u16(bytes: &mut &[u8]) -> Option<u16> {
    let (head, tail) = bytes.split_first_chunk()?;
    *bytes = tail;
    Some(u16::from_be_bytes(*head))
}

/// Takes a 16-bit length and as many bytes off the front.
pub(crate) fn take_sized<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let count = take_u16(bytes)?;
    take(bytes, usize::from(count))
}

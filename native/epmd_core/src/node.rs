//! A registered node and the numbers that identify it.

use std::net::SocketAddr;
use std::num::NonZeroU64;

use crate::limits::VERSION_WITH_WIDE_CREATION;

/// Milliseconds since the Unix epoch. The shell reads the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMillis(pub u64);

/// Tells two lives of one name apart: 4 to 2^32-1.
///
/// A new name starts from the clock; each re-registration of a remembered name
/// adds one (`node_reg2`, `bump_creation` in `epmd_srv.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Creation(u32);

impl Creation {
    const FIRST: u32 = 4;

    /// The creation of a name that is not remembered: seconds plus one.
    #[must_use]
    pub fn from_clock(now: UnixMillis) -> Self {
        // Truncated to 32 bits as in C, where the field is an unsigned int.
        Self((now.0 / 1000) as u32).next()
    }

    /// The creation with this number, if it is one.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        (number >= Self::FIRST).then_some(Self(number))
    }

    /// The creation of the name's next life.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1).max(Self::FIRST))
    }

    /// The whole number, as nodes of version 6 and above get it.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number as a node of this highest version gets it: older than 6, it
    /// is 1 to 3 (`get_creation` in `epmd_srv.c`).
    #[must_use]
    pub const fn for_version(self, highest: u16) -> u32 {
        if highest >= VERSION_WITH_WIDE_CREATION { self.0 } else { self.0 % 3 + 1 }
    }
}

/// A connection, unique while the server lives. The descriptor is what DUMP
/// prints; the serial tells apart connections that had the same descriptor.
// Inverted, as no descriptor is -1: so an `Owner` needs no more memory than this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnId(NonZeroU64);

impl ConnId {
    /// Pairs a serial number with a descriptor.
    #[must_use]
    pub const fn new(serial: u32, descriptor: i32) -> Self {
        Self::from_bits((serial as u64) << 32 | descriptor as u32 as u64)
    }

    /// The number alone, such as an epoll entry carries.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        !self.0.get()
    }

    /// From [`ConnId::to_bits`].
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        match NonZeroU64::new(!bits) {
            Some(inverted) => Self(inverted),
            None => Self(NonZeroU64::MIN),
        }
    }

    /// The descriptor of the connection.
    #[must_use]
    pub const fn descriptor(self) -> i32 {
        self.to_bits() as u32 as i32
    }
}

/// Whose end unregisters a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The connection that registered it.
    Connection(ConnId),
    /// The VM that the port mapper runs in.
    Vm,
}

impl Owner {
    /// The descriptor as DUMP prints it: -1 where there is no connection.
    #[must_use]
    pub const fn descriptor(self) -> i32 {
        match self {
            Self::Connection(conn) => conn.descriptor(),
            Self::Vm => -1,
        }
    }
}

/// What a node says of itself; kept and returned as it came.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Registration {
    /// The port it listens on for other nodes.
    pub port: u16,
    /// 77 for `erl`, 72 hidden, 104 C nodes, 110 jinterface.
    pub node_type: u8,
    /// 0 for TCP over IPv4.
    pub protocol: u8,
    /// The highest distribution version it speaks.
    pub highest_version: u16,
    /// The lowest distribution version it speaks.
    pub lowest_version: u16,
    /// Any bytes, up to 1,020.
    pub extra: Box<[u8]>,
}

/// A registered node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it said of itself.
    pub registration: Registration,
    /// Which life of its name this is.
    pub creation: Creation,
    /// Since when it is registered.
    pub since: UnixMillis,
    /// Whose end unregisters it.
    pub owner: Owner,
    /// Where its connection comes from; none for the VM's own names.
    pub peer: Option<SocketAddr>,
    /// What the shell tells its listening socket by, if it saw one on the port
    /// when the node registered.
    pub listener: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_creation_starts_from_the_clock_and_is_at_least_4() {
        assert_eq!(Creation::from_clock(UnixMillis(1_000_000_999)).get(), 1_000_001);
        assert_eq!(Creation::from_clock(UnixMillis(0)).get(), 4);
    }

    #[test]
    fn a_creation_goes_on_from_4_past_the_last() {
        assert_eq!(Creation(u32::MAX - 1).next().get(), u32::MAX);
        assert_eq!(Creation(u32::MAX).next().get(), 4);
    }

    #[test]
    fn old_nodes_get_a_creation_of_1_to_3() {
        assert_eq!(Creation(9).for_version(6), 9);
        assert_eq!([9, 10, 11].map(|n| Creation(n).for_version(5)), [1, 2, 3]);
    }

    #[test]
    fn a_connection_keeps_its_descriptor_and_differs_by_serial() {
        let conn = ConnId::new(u32::MAX, 19_999);
        assert_eq!(conn.descriptor(), 19_999);
        assert_eq!(ConnId::from_bits(conn.to_bits()), conn);
        assert_ne!(ConnId::new(1, 7), ConnId::new(2, 7));
    }
}

//! What happened to the registry, for those who follow it.

use std::net::SocketAddr;

use crate::{Creation, Name, Node};

/// A change of the registry. Every node that goes up goes down once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A node registered.
    Up {
        /// Its name.
        name: Name,
        /// The port it listens on.
        port: u16,
        /// As in its registration.
        node_type: u8,
        /// Tells this life of the name from others.
        creation: Creation,
        /// Where its connection comes from; none for the VM's own names.
        peer: Option<SocketAddr>,
    },
    /// A node is registered no more.
    Down {
        /// Its name.
        name: Name,
        /// The creation it went up with.
        creation: Creation,
        /// Why.
        reason: DownReason,
    },
}

impl Event {
    /// That this node has registered.
    #[must_use]
    pub fn up(name: &Name, node: &Node) -> Self {
        Self::Up {
            name: name.clone(),
            port: node.registration.port,
            node_type: node.registration.node_type,
            creation: node.creation,
            peer: node.peer,
        }
    }

    /// Whose event it is.
    #[must_use]
    pub const fn name(&self) -> &Name {
        match self {
            Self::Up { name, .. } | Self::Down { name, .. } => name,
        }
    }
}

/// Why a node is registered no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DownReason {
    /// Its connection ended: the node closed it or died.
    Closed,
    /// It sent something after its registration, which ends it.
    SurplusData,
    /// A local peer sent STOP.
    Stopped,
    /// It was forced out through the API.
    Dropped,
    /// The VM took its own name back.
    Unregistered,
    /// It was gone, though its connection was not, and another one registered
    /// the name.
    Evicted,
}

impl DownReason {
    /// Every reason, each at the place of its number.
    pub const ALL: [Self; 6] = [
        Self::Closed,
        Self::SurplusData,
        Self::Stopped,
        Self::Dropped,
        Self::Unregistered,
        Self::Evicted,
    ];

    /// The number that WATCH has for it.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The reason with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The reason as one lower-case word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::SurplusData => "surplus_data",
            Self::Stopped => "stopped",
            Self::Dropped => "dropped",
            Self::Unregistered => "unregistered",
            Self::Evicted => "evicted",
        }
    }
}

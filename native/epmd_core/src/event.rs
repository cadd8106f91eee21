//! What happened to the registry, for those who follow it.

use std::net::SocketAddr;

use crate::{Creation, Name};

/// A change of the registry. Every node that goes up goes down once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A node registered.
    Up {
        /// Its name.
        name: Name,
        /// The port it listens on.
        port: u16,
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

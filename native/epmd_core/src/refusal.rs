//! Why a request was not carried out.

use thiserror::Error;

/// Why a request was refused. A refused request changes nothing.
///
/// A refused registration is answered (`Result` 1), as is a refused KILL
/// (`NO`); after any other refusal the connection is closed unanswered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The length field was 0 or above the limit.
    #[error("invalid length")]
    InvalidLength,
    /// More bytes came than the length field announced.
    #[error("surplus data")]
    SurplusData,
    /// The stream ended before the request was complete.
    #[error("incomplete request")]
    Incomplete,
    /// The tag is none of the protocol's.
    #[error("unknown request")]
    UnknownRequest,
    /// The body is too short, its inner lengths do not fit, or a NUL stands
    /// where none may.
    #[error("malformed request")]
    Malformed,
    /// A name that is empty, not UTF-8 or has a NUL.
    #[error("invalid name")]
    InvalidName,
    /// A name above 1,020 bytes or 255 characters.
    #[error("name too long")]
    NameTooLong,
    /// Extra data above 1,020 bytes.
    #[error("extra data too long")]
    ExtraTooLong,
    /// Another living node holds the name.
    #[error("name in use")]
    NameInUse,
    /// As many nodes are registered as may be.
    #[error("too many nodes")]
    TooManyNodes,
    /// Its process has as many nodes as it may have.
    #[error("too many nodes of one process")]
    TooManyNodesOfProcess,
    /// Only local peers may ask for this.
    #[error("peer not local")]
    NotLocal,
    /// Allowed only with relaxed command checking.
    #[error("not permitted")]
    NotPermitted,
    /// WATCH while there are as many watchers as there may be.
    #[error("too many watchers")]
    TooManyWatchers,
    /// KILL while nodes are registered, without relaxed command checking.
    #[error("nodes are registered")]
    NodesRegistered,
}

impl Refusal {
    /// Every reason, in the order in which they are reported.
    pub const ALL: [Self; 15] = [
        Self::InvalidLength,
        Self::SurplusData,
        Self::Incomplete,
        Self::UnknownRequest,
        Self::Malformed,
        Self::InvalidName,
        Self::NameTooLong,
        Self::ExtraTooLong,
        Self::NameInUse,
        Self::TooManyNodes,
        Self::TooManyNodesOfProcess,
        Self::NotLocal,
        Self::NotPermitted,
        Self::TooManyWatchers,
        Self::NodesRegistered,
    ];

    /// The reason as one lower-case word, for counters and for Erlang.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidLength => "invalid_length",
            Self::SurplusData => "surplus_data",
            Self::Incomplete => "incomplete",
            Self::UnknownRequest => "unknown_request",
            Self::Malformed => "malformed",
            Self::InvalidName => "invalid_name",
            Self::NameTooLong => "name_too_long",
            Self::ExtraTooLong => "extra_too_long",
            Self::NameInUse => "name_in_use",
            Self::TooManyNodes => "too_many_nodes",
            Self::TooManyNodesOfProcess => "too_many_nodes_of_process",
            Self::NotLocal => "not_local",
            Self::NotPermitted => "not_permitted",
            Self::TooManyWatchers => "too_many_watchers",
            Self::NodesRegistered => "nodes_registered",
        }
    }
}

//! What an operator can set, as one value that serde reads and checks whole.

use std::net::IpAddr;
use std::time::Duration;

use epmd_core::limits::{DEFAULT_PACKET_TIMEOUT, DEFAULT_PORT, MAX_ADDRESSES};
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The configuration of a server. Names as in C `epmd` where it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The port to listen on; 0 lets the system choose one.
    pub port: u16,
    /// The addresses to listen on.
    pub addresses: Addresses,
    /// Allows STOP, and KILL while nodes are registered.
    pub relaxed_command_check: bool,
    /// How long a connection may be silent before its request is complete, or
    /// may leave its reply unread.
    pub packet_timeout: PacketTimeout,
    /// Raises the soft limit of open files to the hard one: for a VM that does
    /// nothing else.
    pub raise_file_limit: bool,
    /// What the application logs. For Erlang alone; the server keeps it.
    pub log_level: LogLevel,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            port: DEFAULT_PORT,
            addresses: Addresses::All,
            relaxed_command_check: false,
            packet_timeout: PacketTimeout(DEFAULT_PACKET_TIMEOUT),
            raise_file_limit: false,
            log_level: LogLevel::Default,
        }
    }
}

impl Config {
    /// What would be right for a key, for errors; `None` for an unknown key.
    #[must_use]
    pub fn expected(key: &str) -> Option<&'static str> {
        Some(match key {
            "port" => "an integer from 0 to 65535",
            "addresses" => "all, or a list of 1 to 16 IPv4 or IPv6 addresses",
            "relaxed_command_check" | "raise_file_limit" => "true or false",
            "packet_timeout" => "a whole number of seconds from 1 to 86400",
            "log_level" => "default, or a level of logger from debug to emergency, all or none",
            _ => return None,
        })
    }

    /// Every key, for errors.
    pub const KEYS: &str = "one of port, addresses, relaxed_command_check, packet_timeout, \
                            raise_file_limit, log_level";
}

/// The addresses to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addresses {
    /// Every address of the host, IPv4 and IPv6.
    All,
    /// These, and the loopback addresses.
    List(Vec<IpAddr>),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum AddressesForm {
    Word(AllWord),
    List(Vec<IpAddr>),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AllWord {
    All,
}

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match AddressesForm::deserialize(deserializer)? {
            AddressesForm::Word(AllWord::All) => Ok(Self::All),
            AddressesForm::List(list) if (1..=MAX_ADDRESSES).contains(&list.len()) => {
                Ok(Self::List(list))
            }
            AddressesForm::List(list) => {
                Err(Error::invalid_length(list.len(), &"1 to 16 addresses"))
            }
        }
    }
}

impl Serialize for Addresses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => AddressesForm::Word(AllWord::All),
            Self::List(list) => AddressesForm::List(list.clone()),
        }
        .serialize(serializer)
    }
}

/// Whole seconds, 1 to 86,400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PacketTimeout(u32);

impl PacketTimeout {
    /// The time-out as a duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0 as u64)
    }
}

impl TryFrom<u32> for PacketTimeout {
    type Error = u32;

    fn try_from(seconds: u32) -> Result<Self, u32> {
        if (1..=86_400).contains(&seconds) { Ok(Self(seconds)) } else { Err(seconds) }
    }
}

impl<'de> Deserialize<'de> for PacketTimeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(u32::deserialize(deserializer)?).map_err(|seconds| {
            Error::invalid_value(Unexpected::Unsigned(seconds.into()), &"1 to 86400 seconds")
        })
    }
}

/// The levels of Erlang's `logger`, or its own default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are logger's own")]
pub enum LogLevel {
    Default,
    All,
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
    None,
}

//! What an operator can set, as one value that serde reads and checks whole.

use std::net::IpAddr;
use std::time::Duration;

use epmd_core::limits::{DEFAULT_PACKET_TIMEOUT, DEFAULT_PORT, MAX_ADDRESSES};
use serde::{Deserialize, Serialize};
use thiserror::Error;

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "AddressesForm", into = "AddressesForm")]
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

impl TryFrom<AddressesForm> for Addresses {
    type Error = ConfigError;

    fn try_from(form: AddressesForm) -> Result<Self, ConfigError> {
        match form {
            AddressesForm::Word(AllWord::All) => Ok(Self::All),
            AddressesForm::List(list) if (1..=MAX_ADDRESSES).contains(&list.len()) => {
                Ok(Self::List(list))
            }
            AddressesForm::List(list) => Err(ConfigError::AddressCount(list.len())),
        }
    }
}

impl From<Addresses> for AddressesForm {
    fn from(addresses: Addresses) -> Self {
        match addresses {
            Addresses::All => Self::Word(AllWord::All),
            Addresses::List(list) => Self::List(list),
        }
    }
}

/// Whole seconds, 1 to 86,400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct PacketTimeout(u32);

impl PacketTimeout {
    /// The time-out as a duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0 as u64)
    }
}

impl TryFrom<u32> for PacketTimeout {
    type Error = ConfigError;

    fn try_from(seconds: u32) -> Result<Self, ConfigError> {
        if (1..=86_400).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(ConfigError::PacketTimeout(seconds))
        }
    }
}

impl From<PacketTimeout> for u32 {
    fn from(timeout: PacketTimeout) -> Self {
        timeout.0
    }
}

/// A value of the right type that is out of its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A list of no addresses, or of too many.
    #[error("{0} addresses, expected 1 to 16")]
    AddressCount(usize),
    /// A time-out of nothing or of more than a day.
    #[error("{0} seconds, expected 1 to 86400")]
    PacketTimeout(u32),
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

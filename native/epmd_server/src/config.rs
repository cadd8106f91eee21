//! What an operator can set, as one value that serde reads and checks whole.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use epmd_core::Exposure;
use epmd_core::limits::{DEFAULT_PACKET_TIMEOUT, DEFAULT_PORT, MAX_ADDRESSES, MAX_REMEMBERED};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limit::Limit;
use crate::runtime_file::RuntimeFile;

/// The configuration of a server. Names as in C `epmd` where it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The port to listen on; 0 lets the system choose one.
    pub port: u16,
    /// The addresses to listen on.
    pub addresses: Addresses,
    /// What remote peers may ask for.
    #[serde(with = "ExposureForm")]
    pub exposure: Exposure,
    /// Whether remote peers that may list names may watch them, too.
    pub watch_remote: bool,
    /// How many connections may watch at a time.
    pub max_watchers: u32,
    /// How many messages may wait for a subscriber in Erlang before it is told
    /// nothing more. For Erlang alone; the server keeps it.
    pub subscriber_queue: NonZeroU32,
    /// Allows STOP, and KILL while nodes are registered.
    pub relaxed_command_check: bool,
    /// Has a node make way for another one of its name once it listens no more,
    /// though its connection still stands.
    pub evict_stale: bool,
    /// How long a connection may be silent before its request is complete, or
    /// may leave its reply unread.
    pub packet_timeout: PacketTimeout,
    /// How many descriptors are kept for connections of this host when they run
    /// short: others do not get the last ones.
    pub local_reserve: u32,
    /// How many nodes may be registered.
    pub max_nodes: Limit,
    /// How many of them by one process. To find out whose a registration is takes a
    /// while: this is for hosts whose users cannot be trusted.
    pub max_nodes_per_process: Limit,
    /// How long a connection waits before it is accepted. This and the next
    /// have a test see a busy server.
    pub delay_accept: Delay,
    /// How long a reply waits before it is sent; other connections do not.
    pub delay_write: Delay,
    /// The number of remembered names of gone nodes from which on a new name
    /// has the oldest forgotten.
    pub remembered_names: u32,
    /// Raises the soft limit of open files to the hard one: for a VM that does
    /// nothing else.
    pub raise_file_limit: bool,
    /// What the process is called, so that it is found as `epmd` is: for a VM
    /// that does nothing else. Nothing for the name that it has.
    pub process_name: ProcessName,
    /// Gives memory that only the start needed back to the system. For Erlang
    /// alone, as the next ones; the server keeps them.
    pub trim_memory: bool,
    /// Speaks the service manager's protocol and takes the listening sockets
    /// that it hands over.
    pub systemd: bool,
    /// How many descriptors the service manager keeps for this process; 0 if it
    /// keeps none.
    pub stored_descriptors: u32,
    /// A file to record nodes in (by default none; `nodes-PORT` if it is
    /// `default`), so that one that registers again after this process and its
    /// service manager are gone gets the creation that it had.
    pub state_file: StateFile,
    /// Where a successor takes over.
    pub takeover_socket: TakeoverSocket,
    /// Whether to take over from the port mapper on this port instead of binding
    /// it. Whoever starts the server has to do so; afterwards it is false.
    pub takeover: bool,
    /// What the application logs.
    pub log_level: LogLevel,
    /// How much is told of what peers do: 1 requests, 2 also connections, 3 also
    /// the bytes of requests.
    pub debug: u8,
}

const SUBSCRIBER_QUEUE: NonZeroU32 = NonZeroU32::new(10_000).unwrap();

impl Default for Config {
    fn default() -> Self {
        Self {
            port: DEFAULT_PORT,
            addresses: Addresses::All,
            exposure: Exposure::All,
            watch_remote: false,
            max_watchers: 100,
            subscriber_queue: SUBSCRIBER_QUEUE,
            relaxed_command_check: false,
            evict_stale: true,
            packet_timeout: Seconds(DEFAULT_PACKET_TIMEOUT),
            local_reserve: 64,
            max_nodes: Limit::NONE,
            max_nodes_per_process: Limit::NONE,
            delay_accept: Seconds(0),
            delay_write: Seconds(0),
            remembered_names: MAX_REMEMBERED,
            raise_file_limit: false,
            process_name: ProcessName::default(),
            trim_memory: false,
            systemd: false,
            stored_descriptors: 0,
            state_file: StateFile::None,
            takeover_socket: TakeoverSocket::Default,
            takeover: false,
            log_level: LogLevel::Default,
            debug: 0,
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
            "exposure" => "all, lookup or local",
            "watch_remote"
            | "relaxed_command_check"
            | "evict_stale"
            | "raise_file_limit"
            | "trim_memory"
            | "systemd"
            | "takeover" => "true or false",
            "packet_timeout" => "a whole number of seconds from 1 to 86400",
            "delay_accept" | "delay_write" => "a whole number of seconds from 0 to 86400",
            "subscriber_queue" => "an integer from 1 to 4294967295",
            "stored_descriptors" | "remembered_names" | "max_watchers" | "local_reserve" => {
                "an integer from 0 to 4294967295"
            }
            "max_nodes" | "max_nodes_per_process" => "none, or an integer from 1 to 4294967295",
            "state_file" => "default, none, or an absolute path",
            "takeover_socket" => "default, none, or an absolute path of at most 90 bytes",
            "process_name" => "a text of at most 15 bytes",
            "debug" => "an integer from 0 to 255",
            "log_level" => "default, or a level of logger from debug to emergency, all or none",
            _ => return None,
        })
    }

    /// Every key, for errors.
    pub const KEYS: &str = "one of port, addresses, exposure, watch_remote, max_watchers, \
                            subscriber_queue, relaxed_command_check, evict_stale, \
                            packet_timeout, local_reserve, max_nodes, \
                            max_nodes_per_process, delay_accept, delay_write, remembered_names, \
                            raise_file_limit, process_name, trim_memory, \
                            systemd, stored_descriptors, state_file, takeover_socket, \
                            takeover, log_level, debug";

    /// The first key that differs and takes effect at the start only.
    #[must_use]
    pub fn needs_restart(&self, other: &Self) -> Option<&'static str> {
        let fixed = [
            ("raise_file_limit", self.raise_file_limit != other.raise_file_limit),
            ("remembered_names", self.remembered_names != other.remembered_names),
            ("process_name", self.process_name != other.process_name),
            ("trim_memory", self.trim_memory != other.trim_memory),
            ("systemd", self.systemd != other.systemd),
            ("stored_descriptors", self.stored_descriptors != other.stored_descriptors),
            ("state_file", self.state_file != other.state_file),
            ("takeover_socket", self.takeover_socket != other.takeover_socket),
            ("takeover", self.takeover != other.takeover),
        ];
        fixed.into_iter().find_map(|(key, differs)| differs.then_some(key))
    }

    /// The addresses to bind: where nobody remote is served, all addresses are
    /// the loopback ones, which complete even an empty list.
    pub(crate) fn bound_addresses(&self) -> Addresses {
        match (self.exposure, &self.addresses) {
            (Exposure::Local, Addresses::All) => Addresses::List(Vec::new()),
            (_, addresses) => addresses.clone(),
        }
    }
}

/// The words for [`Exposure`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "Exposure", rename_all = "lowercase")]
enum ExposureForm {
    All,
    Lookup,
    Local,
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

/// At most 15 bytes of text (`TASK_COMM_LEN` of Linux), or none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProcessName(String);

impl ProcessName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ProcessName {
    type Error = ConfigError;

    fn try_from(name: String) -> Result<Self, ConfigError> {
        if name.len() <= 15 { Ok(Self(name)) } else { Err(ConfigError::ProcessName(name)) }
    }
}

impl From<ProcessName> for String {
    fn from(name: ProcessName) -> Self {
        name.0
    }
}

/// Where a successor takes over. A Unix socket's address holds no longer path, and
/// it has a temporary name first.
pub type TakeoverSocket = RuntimeFile<90>;

/// Where nodes are recorded (`PATH_MAX` of Linux).
pub type StateFile = RuntimeFile<4095>;

/// How long a connection may be silent.
pub type PacketTimeout = Seconds<1>;

/// How long something is put off; 0 for not at all.
pub type Delay = Seconds<0>;

/// Whole seconds, from `MIN` to 86,400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Seconds<const MIN: u32>(u32);

impl<const MIN: u32> Seconds<MIN> {
    /// The time as a duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0 as u64)
    }
}

impl<const MIN: u32> TryFrom<u32> for Seconds<MIN> {
    type Error = ConfigError;

    fn try_from(seconds: u32) -> Result<Self, ConfigError> {
        if (MIN..=86_400).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(ConfigError::Seconds { min: MIN, given: seconds })
        }
    }
}

impl<const MIN: u32> From<Seconds<MIN>> for u32 {
    fn from(seconds: Seconds<MIN>) -> Self {
        seconds.0
    }
}

/// A value of the right type that is out of its bounds.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A list of no addresses, or of too many.
    #[error("{0} addresses, expected 1 to 16")]
    AddressCount(usize),
    /// A limit that would allow none.
    #[error("a limit of 0, expected none or 1 at the least")]
    LimitOfNothing,
    /// A name that the system would cut.
    #[error("{0} is longer than 15 bytes")]
    ProcessName(String),
    /// A path that is relative or too long.
    #[error("{path} is no absolute path of at most {max} bytes")]
    Path {
        /// What was given.
        path: String,
        /// How long it may be.
        max: usize,
    },
    /// A time that is too short, or longer than a day.
    #[error("{given} seconds, expected {min} to 86400")]
    Seconds {
        /// The shortest time.
        min: u32,
        /// What was given.
        given: u32,
    },
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

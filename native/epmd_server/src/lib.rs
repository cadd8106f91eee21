//! An EPMD server: listeners and connections around the pure [`epmd_core`].
//!
//! One thread of its own runs a tokio runtime; all that must outlive that
//! thread (listening sockets, registered connections, the registry) belongs to
//! the [`Server`] value, so a thread that panics is replaced on the same
//! sockets by [`Server::resume`].
//!
//! ```
//! use epmd_server::{Addresses, Config, Server};
//!
//! let loopback = Addresses::List(vec!["127.0.0.1".parse().unwrap()]);
//! let config = Config { port: 0, addresses: loopback, ..Config::default() };
//! let server = Server::start(config, Box::new(|| ())).unwrap();
//! assert!(server.info().addresses.iter().all(|address| address.port() != 0));
//! server.stop();
//! ```

#![forbid(unsafe_code)]

mod config;
mod connection;
mod counters;
mod crowd;
mod duplicate;
mod estate;
mod feed;
mod info;
mod inheritance;
mod journal;
mod keeping;
mod limit;
mod listen;
mod listings;
mod mapped_code;
mod notices;
mod platform;
mod quotas;
mod reports;
mod runtime;
mod runtime_file;
mod server;
mod service_manager;
mod session;
mod shared;
mod shortage;
mod slots;
mod start;
mod store;
mod takeover;
mod transfer;
mod watch;

pub use config::{
    Addresses, Config, ConfigError, Delay, LogLevel, PacketTimeout, ProcessName, Seconds,
    StateFile, TakeoverSocket,
};
pub use counters::CounterValues;
pub use estate::{Estate, EstateError};
pub use feed::{Change, Follower, Missed, Snapshot};
pub use inheritance::{Inheritance, InheritanceError};
pub use limit::Limit;
pub use listen::{ListenError, Listening, SkippedAddress, listen_for, reachable};
pub use mapped_code::mapped_code;
pub use notices::Notice;
pub use platform::{Holder, PortHolder, port_holder};
pub use server::{Info, ReconfigureError, Server};
pub use service_manager::{ServiceManager, ServiceManagerError};
pub use shared::Phase;
pub use start::check_takeover;
pub use takeover::{StandBy, TakeoverError, TakeoverRefusal};

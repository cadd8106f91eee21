//! What a server hands over besides within one process, to another version of this
//! library: the process lives on, with its configuration, its own names, and whoever
//! started it and keeps its sockets.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Config;
use crate::estate::Place;
use crate::platform;
use crate::service_manager::ServiceManager;
use crate::shared::Shared;

/// What stays with the process. What another version does not tell is as by default.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Household {
    config: Map<String, Value>,
    /// The limit of open files before it was raised.
    file_limit: i32,
    /// Whether it listens on what it was handed.
    pub(crate) handed_over: bool,
    /// Where the listening sockets are kept, then the connections of nodes, in the
    /// order in which they are sent.
    pub(crate) places: Vec<Place>,
    /// Names of what else is kept, and is of no use any more.
    pub(crate) leftovers: Vec<String>,
    manager: Option<Manager>,
}

/// The service manager. Its socket is sent after those that have places.
#[derive(Debug, Serialize, Deserialize)]
struct Manager {
    address: Option<Vec<u8>>,
    watchdog: Option<Duration>,
}

impl Household {
    /// That of this server, and the socket to its service manager.
    pub(crate) fn of(
        shared: &Shared,
        handed_over: bool,
        places: Vec<Place>,
    ) -> (Self, Option<BorrowedFd<'_>>) {
        // It is written as a map.
        let config = match serde_json::to_value(&*shared.config.read()) {
            Ok(Value::Object(config)) => config,
            _ => Map::new(),
        };
        let manager = shared.reports.manager();
        let household = Self {
            config,
            file_limit: platform::initial_limit(),
            handed_over,
            places,
            leftovers: shared.kept.leftovers(),
            manager: manager
                .map(|manager| Manager { address: manager.address(), watchdog: manager.watchdog }),
        };
        (household, manager.map(ServiceManager::socket))
    }

    /// The configuration. What only a newer version knows is left out.
    ///
    /// # Errors
    /// When a value makes no sense to this version.
    pub(crate) fn config(&self) -> Result<Config, serde_json::Error> {
        let known = self.config.clone().into_iter();
        let known = known.filter(|(key, _)| Config::expected(key).is_some());
        serde_json::from_value(Value::Object(known.collect()))
    }

    /// Has this version know what the one before knew of the process.
    pub(crate) fn take_in(&self) {
        platform::take_in_initial_limit(self.file_limit);
    }

    pub(crate) const fn has_manager(&self) -> bool {
        self.manager.is_some()
    }

    /// The service manager, on its socket.
    pub(crate) fn manager(&self, socket: Option<OwnedFd>) -> Option<ServiceManager> {
        let Manager { address, watchdog } = self.manager.as_ref()?;
        ServiceManager::at(socket?, address.as_deref(), *watchdog)
    }
}

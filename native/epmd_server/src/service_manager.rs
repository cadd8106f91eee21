//! The protocol of a service manager (`sd_notify(3)`): it is told when the
//! server serves, what it does, that it is alive, and that it is about to end.

use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use crate::notices::Notice;
use crate::shared::Shared;

/// The shortest time between two changes of the status.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// How long a message waits that finds the queue of the manager full.
const RETRY: Duration = Duration::from_millis(100);

/// The service manager that started this process.
#[derive(Debug)]
pub struct ServiceManager {
    /// Kept open: the manager must hear from a server that is out of
    /// descriptors, too.
    socket: UnixDatagram,
    address: SocketAddr,
    /// The manager ends a service that says nothing for so long.
    watchdog: Option<Duration>,
}

/// Why the service manager cannot be told anything.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServiceManagerError {
    /// A variable of the environment is wrong.
    #[error("{variable} is wrong, expected {expected}")]
    BadVariable {
        /// Its name.
        variable: &'static str,
        /// What would be right.
        expected: &'static str,
    },
    /// There is no socket to be had.
    #[error("cannot open a socket to the service manager: {0}")]
    Socket(#[from] io::Error),
}

impl ServiceManager {
    /// Every variable of the environment that tells of a service manager.
    pub const VARIABLES: [&str; 3] = [NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID];

    /// The service manager that the environment tells of, if it does. What
    /// `variable` yields is the value of one of [`ServiceManager::VARIABLES`].
    ///
    /// # Errors
    /// See [`ServiceManagerError`].
    pub fn from_environment<'v>(
        variable: impl Fn(&str) -> Option<&'v [u8]>,
    ) -> Result<Option<Self>, ServiceManagerError> {
        let number = |name: &'static str, expected| match variable(name) {
            None => Ok(None),
            Some(value) => positive(value)
                .map(Some)
                .ok_or(ServiceManagerError::BadVariable { variable: name, expected }),
        };
        let period = number(WATCHDOG_USEC, "a number of microseconds, at least 1")?;
        let watched = number(WATCHDOG_PID, "a process number")?;
        let is_ours = watched.is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = period.filter(|_| is_ours).map(Duration::from_micros);
        let Some(value) = variable(NOTIFY_SOCKET) else {
            return Ok(None);
        };
        let address = address(value).ok_or(ServiceManagerError::BadVariable {
            variable: NOTIFY_SOCKET,
            expected: "the absolute path of a Unix socket, or @ and the name of an abstract one",
        })?;
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Some(Self { socket, address, watchdog }))
    }

    /// Sends assignments, one a line.
    fn send(&self, message: &str) -> io::Result<()> {
        self.socket.send_to_addr(message.as_bytes(), &self.address).map(drop)
    }
}

const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
const WATCHDOG_PID: &str = "WATCHDOG_PID";

fn positive(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value).ok()?;
    // `parse` would take a sign.
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?;
    number.filter(|&number| number > 0)
}

fn address(value: &[u8]) -> Option<SocketAddr> {
    use std::os::unix::ffi::OsStrExt;
    match value {
        [b'/', _, ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(value)).ok(),
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] if !name.is_empty() => {
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(name).ok()
        }
        _ => None,
    }
}

/// What the service manager is told. It outlives the server's thread, whose
/// successor repeats nothing.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    manager: OnceLock<ServiceManager>,
    told: Mutex<Told>,
    /// Tells that the status may have changed, or that there is a manager.
    changed: Notify,
    /// Whether the owner was asked for a sign of life.
    asked: AtomicBool,
    answered: Notify,
}

#[derive(Debug, Default)]
struct Told {
    ready: bool,
    status: String,
    stopping: bool,
    /// Whether the last message did not arrive.
    unreachable: bool,
}

impl Reports {
    /// Reports to this manager from now on. The first one stays.
    pub(crate) fn report_to(&self, manager: ServiceManager) {
        if self.manager.set(manager).is_ok() {
            self.changed.notify_one();
        }
    }

    /// Tells that the status may be another one.
    pub(crate) fn status_changed(&self) {
        if self.manager.get().is_some() {
            self.changed.notify_one();
        }
    }

    /// The owner does its work.
    pub(crate) fn owner_lives(&self) {
        if self.asked.swap(false, Ordering::AcqRel) {
            self.answered.notify_one();
        }
    }

    /// Tells that the server ends because it was asked to.
    pub(crate) fn stopping(&self) {
        let Some(manager) = self.manager.get() else { return };
        if !std::mem::replace(&mut self.told.lock().stopping, true) {
            // If it does not arrive, the manager sees the end all the same.
            let _ = manager.send("STOPPING=1\nSTATUS=Stopping");
        }
    }
}

/// Tells the service manager what there is to tell, once there is one.
pub(crate) async fn report(shared: std::sync::Arc<Shared>) -> io::Result<()> {
    let manager = loop {
        match shared.reports.manager.get() {
            Some(manager) => break manager,
            None => shared.reports.changed.notified().await,
        }
    };
    tokio::join!(report_status(&shared, manager), report_life(&shared, manager));
    Ok(())
}

async fn report_status(shared: &Shared, manager: &ServiceManager) {
    let reports = &shared.reports;
    let mut next = Instant::now();
    loop {
        let status = status(shared);
        let (ready, same) = {
            let told = reports.told.lock();
            (told.ready, told.status == status)
        };
        if !(ready && same) {
            let ready = if ready { "" } else { "READY=1\n" };
            if deliver(shared, manager, &format!("{ready}STATUS={status}")).await {
                let mut told = reports.told.lock();
                told.ready = true;
                told.status = status;
            }
            next = Instant::now() + STATUS_INTERVAL;
        }
        // Nothing wakes the thread until there is something to tell.
        reports.changed.notified().await;
        sleep_until(next).await;
    }
}

/// Tells that the server lives: this thread, and its owner, which is woken and
/// takes its notices.
async fn report_life(shared: &Shared, manager: &ServiceManager) {
    let Some(period) = manager.watchdog else { return };
    // The first one at once: the thread before may have died when it was due.
    let mut ticks = interval((period / 2).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        shared.reports.asked.store(true, Ordering::Release);
        (shared.wake_owner)();
        shared.reports.answered.notified().await;
        deliver(shared, manager, "WATCHDOG=1").await;
    }
}

/// Sends a message, waiting while the queue is full; whether it arrived. A
/// manager that cannot be reached is told of once.
async fn deliver(shared: &Shared, manager: &ServiceManager, message: &str) -> bool {
    let sent = loop {
        match manager.send(message) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(RETRY).await,
            sent => break sent,
        }
    };
    let failed = sent.is_err();
    let failed_before = std::mem::replace(&mut shared.reports.told.lock().unreachable, failed);
    if let Err(error) = sent
        && !failed_before
    {
        shared.notices.push(Notice::ServiceManagerUnreachable { error: error.to_string() });
    }
    !failed
}

/// What `systemctl status` shows.
fn status(shared: &Shared) -> String {
    let nodes = shared.registry.read().len();
    let plural = if nodes == 1 { "" } else { "s" };
    let listeners = shared.listeners.lock();
    let addresses: Vec<_> = listeners.iter().map(|one| one.address.to_string()).collect();
    format!("{nodes} node{plural} registered; listening on {}", addresses.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<ServiceManager>, &'static str> {
        let value = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| value.as_bytes())
        };
        ServiceManager::from_environment(value).map_err(|error| match error {
            ServiceManagerError::BadVariable { variable, .. } => variable,
            ServiceManagerError::Socket(error) => panic!("{error}"),
        })
    }

    fn watchdog(variables: &[(&str, &str)]) -> Option<Duration> {
        let all = [&[("NOTIFY_SOCKET", "/run/manager")], variables].concat();
        read(&all).unwrap().unwrap().watchdog
    }

    #[test]
    fn without_a_socket_there_is_no_manager() {
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&[("WATCHDOG_USEC", "1000")]).unwrap().is_none());
    }

    #[test]
    fn the_watchdog_is_for_this_process_unless_it_names_another() {
        let own = std::process::id().to_string();
        let period = Some(Duration::from_millis(1500));
        assert_eq!(watchdog(&[]), None);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "1500000")]), period);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "1500000"), ("WATCHDOG_PID", &own)]), period);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "1500000"), ("WATCHDOG_PID", "1")]), None);
        assert_eq!(watchdog(&[("WATCHDOG_PID", &own)]), None);
    }

    #[test]
    fn wrong_variables_are_named() {
        let long = format!("/{}", "x".repeat(108));
        for value in ["", "/", "@", "run/manager", "vsock:2:1", &long] {
            assert_eq!(read(&[("NOTIFY_SOCKET", value)]).unwrap_err(), "NOTIFY_SOCKET", "{value}");
        }
        for value in ["", "0", "-1", "+1", "1s", "infinity", "18446744073709551616"] {
            for variable in ["WATCHDOG_USEC", "WATCHDOG_PID"] {
                assert_eq!(read(&[(variable, value)]).unwrap_err(), variable, "{value}");
            }
        }
    }
}

//! The protocol of a service manager (`sd_notify(3)`): messages to whoever started
//! this process, with descriptors that it is to keep.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg, sendmsg_addr,
};
use rustix::pipe::{PipeFlags, pipe_with};
use socket2::{Domain, Socket, Type};
use thiserror::Error;

/// How long a manager may take until it does what it is told.
const PATIENCE: Duration = Duration::from_secs(1);

/// The service manager that started this process.
#[derive(Debug)]
pub struct ServiceManager {
    /// Kept open: the manager must hear from a server that is out of
    /// descriptors, too.
    socket: Socket,
    /// None where the socket is connected: by a keeper.
    address: Option<SocketAddrUnix>,
    /// The manager ends a service that says nothing for so long.
    pub(crate) watchdog: Option<Duration>,
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
        let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        Ok(Some(Self { socket, address: Some(address), watchdog }))
    }

    /// The process that started this one, keeps its sockets, and has the other end
    /// of this one.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub fn keeper(socket: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address: None, watchdog: None })
    }

    /// The one that another version of this library had found, by its socket.
    pub(crate) fn at(
        socket: OwnedFd,
        known_by: Option<&[u8]>,
        watchdog: Option<Duration>,
    ) -> Option<Self> {
        let address = match known_by {
            Some(bytes) => Some(address(bytes)?),
            None => None,
        };
        Some(Self { socket: Socket::from(socket), address, watchdog })
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Its address as the environment has it.
    pub(crate) fn address(&self) -> Option<Vec<u8>> {
        let address = self.address.as_ref()?;
        #[cfg(target_os = "linux")]
        if let Some(name) = address.abstract_name() {
            return Some([b"@", name].concat());
        }
        address.path_bytes().map(<[u8]>::to_vec)
    }

    /// Whether it is a keeper: one that holds the listening sockets too, and ends
    /// with this process.
    pub(crate) const fn is_keeper(&self) -> bool {
        self.address.is_none()
    }

    /// Sends assignments, one a line.
    pub(crate) fn send(&self, message: &str) -> io::Result<()> {
        self.send_control(message, &mut SendAncillaryBuffer::default())
    }

    /// The same with a descriptor.
    pub(crate) fn send_with(&self, message: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor];
        // There is room for it.
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        self.send_control(message, &mut control)
    }

    fn send_control(
        &self,
        message: &str,
        control: &mut SendAncillaryBuffer<'_, '_, '_>,
    ) -> io::Result<()> {
        let message = [IoSlice::new(message.as_bytes())];
        let flags = SendFlags::NOSIGNAL;
        match &self.address {
            Some(address) => sendmsg_addr(&self.socket, address, &message, control, flags)?,
            None => sendmsg(&self.socket, &message, control, flags)?,
        };
        Ok(())
    }

    /// Sends assignments after which nothing else is done: waits until they are
    /// taken, at most a second.
    ///
    /// # Errors
    /// As of any message.
    pub(crate) fn send_last(&self, message: &str) -> io::Result<()> {
        self.with_patience(|| self.send(message))
    }

    /// Sends by `send`, and once more when there is room, after a second at most.
    ///
    /// # Errors
    /// As of any message.
    pub(crate) fn with_patience(&self, send: impl Fn() -> io::Result<()>) -> io::Result<()> {
        match send() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => return sent,
        }
        self.socket.set_nonblocking(false)?;
        self.socket.set_write_timeout(Some(PATIENCE))?;
        let sent = send();
        self.socket.set_nonblocking(true)?;
        sent
    }

    /// Waits until all that was sent before is done (`sd_notify_barrier(3)`), at
    /// most a second.
    ///
    /// # Errors
    /// When the manager cannot be reached, or takes longer.
    pub(crate) fn wait(&self) -> io::Result<()> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        self.with_patience(|| self.send_with("BARRIER=1", theirs.as_fd()))?;
        drop(theirs);
        // Hung up when the manager has closed the other end.
        let mut ready = [PollFd::new(&ours, PollFlags::empty())];
        match poll(&mut ready, Timespec::try_from(PATIENCE).ok().as_ref())? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
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

fn address(value: &[u8]) -> Option<SocketAddrUnix> {
    match value {
        [b'/', _, ..] => SocketAddrUnix::new(value).ok(),
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] if !name.is_empty() => SocketAddrUnix::new_abstract_name(name).ok(),
        _ => None,
    }
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

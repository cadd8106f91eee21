//! The listening sockets that the virtual machine is to serve on.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use epmd_server::{Config, ListenError, PortHolder, SkippedAddress, listen_for, reachable};
use rustix::net::{AddressFamily, SocketType, sockopt};
use thiserror::Error;

use crate::client::{connect_to, names};
use crate::handover::{self, FIRST_DESCRIPTOR, Named};

/// Long enough for a port mapper that was just started and holds the port for a
/// virtual machine that is not up yet.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a process that is ending may keep the port without answering.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Between two attempts to bind the port meanwhile.
const BIND_RETRY: Duration = Duration::from_millis(5);

/// Why there are no sockets to serve on.
#[derive(Debug, Error)]
pub(crate) enum SocketsError {
    /// There is nothing to do.
    #[error("an EPMD serves port {0} already")]
    EpmdServes(u16),
    #[error(
        "cannot listen on {address}: the port is in use by {holder}, which does not answer as \
         an EPMD"
    )]
    InUse { address: SocketAddr, holder: String },
    #[error(transparent)]
    Listen(ListenError),
    #[error("systemd provides no sockets")]
    NoneInherited,
    #[error("descriptor {0} is not open")]
    NotOpen(RawFd),
    #[error("descriptor {FIRST_DESCRIPTOR} is not a TCP socket that listens")]
    NoneListens,
}

/// Takes what a service manager hands over, else binds. Messages about addresses
/// that the host does not have go to `warn`. Beside sockets that listen there may be
/// what an earlier virtual machine has stored: the next one knows it.
pub(crate) fn open(config: &Config, warn: impl Fn(&str)) -> Result<Vec<Named>, SocketsError> {
    let inherited = handover::inherited().map_err(SocketsError::NotOpen)?;
    if inherited.is_empty() {
        return if config.systemd { Err(SocketsError::NoneInherited) } else { bind(config, warn) };
    }
    if !inherited.iter().any(|one| listens(one.descriptor.as_fd())) {
        return Err(SocketsError::NoneListens);
    }
    Ok(inherited)
}

/// Whether this is a TCP socket that listens.
fn listens(descriptor: BorrowedFd<'_>) -> bool {
    let listens = sockopt::socket_acceptconn(descriptor).unwrap_or(false);
    let stream = sockopt::socket_type(descriptor) == Ok(SocketType::STREAM);
    let family = sockopt::socket_domain(descriptor);
    listens && stream && [Ok(AddressFamily::INET), Ok(AddressFamily::INET6)].contains(&family)
}

/// Binds the addresses of the configuration. Who has just ended, or is about to,
/// may keep the port for a moment.
pub(crate) fn bind(config: &Config, warn: impl Fn(&str)) -> Result<Vec<Named>, SocketsError> {
    let begun = Instant::now();
    loop {
        match listen_for(config) {
            Ok(listening) => {
                for SkippedAddress { address, error } in listening.skipped {
                    warn(&format!("does not listen on {address}: {error}"));
                }
                return Ok(listening.sockets.into_iter().zip(0..).map(named).collect());
            }
            Err(ListenError::InUse { address, holder }) => {
                let answer = answer_of(address);
                if answer == Answer::None && begun.elapsed() < END_TIMEOUT {
                    sleep(BIND_RETRY);
                    continue;
                }
                return Err(in_use(address, holder, answer));
            }
            Err(error) => return Err(SocketsError::Listen(error)),
        }
    }
}

/// By the name of a place in the descriptor store, the virtual machine can tell that
/// it needs the socket no more.
fn named((socket, place): (TcpListener, u32)) -> Named {
    // There are few of them, so that one digit will do.
    let digit = char::from_digit(place, 36).map(|digit| digit.to_ascii_uppercase());
    Named { name: digit.into_iter().collect(), descriptor: socket.into() }
}

/// What is heard from the holder of a port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// It serves.
    Epmd,
    /// It says nothing.
    Silence,
    /// It is not there any more, closes the connection, or says something else.
    None,
}

fn answer_of(address: SocketAddr) -> Answer {
    let at = reachable(address);
    match connect_to(at.ip(), at.port(), PATIENCE).and_then(names) {
        Ok(_) => Answer::Epmd,
        Err(error) => match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Answer::Silence,
            _ => Answer::None,
        },
    }
}

fn in_use(address: SocketAddr, holder: Option<PortHolder>, answer: Answer) -> SocketsError {
    if answer == Answer::Epmd {
        return SocketsError::EpmdServes(address.port());
    }
    let holder = holder.map_or_else(|| "an unknown process".to_owned(), |one| one.to_string());
    SocketsError::InUse { address, holder }
}

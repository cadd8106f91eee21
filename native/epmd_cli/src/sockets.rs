//! The listening sockets that the virtual machine is to serve on.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::RawFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use epmd_server::{Config, ListenError, PortHolder, SkippedAddress, listen_for, reachable};
use thiserror::Error;

use crate::client::{connect_to, names};
use crate::process::listening_address;

/// Long enough for a port mapper that was just started and holds the port for a
/// virtual machine that is not up yet.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a process that is ending may keep the port without answering.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Between two attempts to bind the port meanwhile.
const BIND_RETRY: Duration = Duration::from_millis(5);

/// The first descriptor of the `LISTEN_FDS` protocol.
pub(crate) const FIRST_DESCRIPTOR: RawFd = 3;

pub(crate) enum Sockets {
    /// Bound by this process.
    Bound(Vec<TcpListener>),
    /// Put in their place already by a service manager, with these addresses.
    Inherited(Vec<SocketAddr>),
}

impl Sockets {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Bound(sockets) => sockets.len(),
            Self::Inherited(addresses) => addresses.len(),
        }
    }

    /// Where a client on this host reaches them.
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Bound(sockets) => sockets.first()?.local_addr().ok(),
            Self::Inherited(addresses) => addresses.first().copied(),
        }
        .map(reachable)
    }
}

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
    #[error("descriptor {0} is not a TCP socket that listens")]
    NotListening(RawFd),
}

/// Takes the sockets that a service manager hands over, else binds. Messages
/// about addresses that the host does not have go to `warn`.
pub(crate) fn open(config: &Config, warn: impl Fn(&str)) -> Result<Sockets, SocketsError> {
    match inherited() {
        0 if config.systemd => Err(SocketsError::NoneInherited),
        0 => bind(config, warn),
        count => {
            let address = |descriptor| {
                listening_address(descriptor).ok_or(SocketsError::NotListening(descriptor))
            };
            let descriptors = FIRST_DESCRIPTOR..first_foreign();
            descriptors.take(count).map(address).collect::<Result<_, _>>().map(Sockets::Inherited)
        }
    }
}

/// The protocol of sd_listen_fds(3).
fn inherited() -> usize {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let mine = number("LISTEN_PID") == Some(std::process::id());
    number("LISTEN_FDS").filter(|_| mine).map_or(0, |count| count as usize)
}

/// The first descriptor that was left open by whoever started the program.
pub(crate) fn first_foreign() -> RawFd {
    RawFd::try_from(inherited()).map_or(RawFd::MAX, |count| count.saturating_add(FIRST_DESCRIPTOR))
}

/// Binds the addresses of the configuration. Who has just ended, or is about to,
/// may keep the port for a moment.
pub(crate) fn bind(config: &Config, warn: impl Fn(&str)) -> Result<Sockets, SocketsError> {
    let begun = Instant::now();
    loop {
        match listen_for(config) {
            Ok(listening) => {
                for SkippedAddress { address, error } in listening.skipped {
                    warn(&format!("does not listen on {address}: {error}"));
                }
                return Ok(Sockets::Bound(listening.sockets));
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

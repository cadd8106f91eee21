//! Which addresses to listen on, and the sockets that do.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::sync::{Arc, mpsc};

use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use thiserror::Error;
use tokio::sync::Notify;

use crate::estate::{Place, Stored};
use crate::platform::{self, PortHolder};
use crate::{Addresses, Config};

/// A listening socket. It closes when the last reference goes.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    pub(crate) socket: TcpListener,
    /// Asks whoever accepts on it to accept what is waiting, and to let go.
    pub(crate) retire: Notify,
    /// Hangs up when a retired listener is closed.
    closed: Mutex<Option<mpsc::Sender<()>>>,
    /// Where it is kept.
    pub(crate) place: Mutex<Place>,
}

impl Listener {
    fn new(address: SocketAddr, socket: TcpListener, place: Place) -> Arc<Self> {
        Arc::new(Self {
            address,
            socket,
            retire: Notify::new(),
            closed: Mutex::default(),
            place: Mutex::new(place),
        })
    }

    /// Has the listener closed once it has accepted what is waiting. The other
    /// end of `closed` hangs up then.
    pub(crate) fn retire(&self, closed: mpsc::Sender<()>) {
        *self.closed.lock() = Some(closed);
        self.retire.notify_one();
    }
}

/// An address of the default ones that this host does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedAddress {
    /// The address and port.
    pub address: SocketAddr,
    /// What the system said.
    pub error: String,
}

/// Sockets that listen, for [`Server::start_on`](crate::Server::start_on).
#[derive(Debug)]
pub struct Listening {
    /// One for each address.
    pub sockets: Vec<TcpListener>,
    /// Addresses that are done without.
    pub skipped: Vec<SkippedAddress>,
}

/// Listens where a server with this configuration would, for one that starts
/// later, in another process maybe.
///
/// # Errors
/// As [`Server::start`](crate::Server::start); nothing is bound then.
pub fn listen_for(config: &Config) -> Result<Listening, ListenError> {
    let Bound { listeners, skipped } = bind(&config.bound_addresses(), config.port, &[])?;
    let sockets = listeners.into_iter().filter_map(Arc::into_inner);
    Ok(Listening { sockets: sockets.map(|listener| listener.socket).collect(), skipped })
}

/// Why the server cannot listen.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another process listens there.
    #[error("{address} is in use")]
    InUse {
        /// The address and port that were asked for.
        address: SocketAddr,
        /// The process that has it, where that can be known.
        holder: Option<PortHolder>,
    },
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {error}")]
    CannotBind {
        /// The address and port that were asked for.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// More addresses than one port mapper may have, loopback ones included.
    #[error("{0} addresses are more than 16, loopback addresses included")]
    TooManyAddresses(usize),
    /// A socket that was handed over does not listen for TCP connections.
    #[error("descriptor {0} is not a TCP socket that listens")]
    NotListening(i32),
    /// The server's thread could not be started.
    #[error("cannot start the server's thread: {0}")]
    Thread(io::Error),
}

impl ListenError {
    fn new(address: SocketAddr, error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::AddrInUse {
            return Self::InUse { address, holder: platform::port_holder(address) };
        }
        Self::CannotBind { address, error }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    ip: IpAddr,
    /// Asked for by name, so that failing to bind it is an error.
    required: bool,
}

/// The rules of `epmd`: all addresses are those of both families as far as
/// the host has them; a list is completed by the loopback addresses.
fn wanted(addresses: &Addresses) -> Vec<Wanted> {
    let implicit = |ip| Wanted { ip, required: false };
    let list = match addresses {
        Addresses::All => {
            return vec![
                implicit(Ipv4Addr::UNSPECIFIED.into()),
                implicit(Ipv6Addr::UNSPECIFIED.into()),
            ];
        }
        Addresses::List(list) => list,
    };
    let mut wanted: Vec<Wanted> = Vec::new();
    for &ip in list {
        if !wanted.iter().any(|other| other.ip == ip) {
            wanted.push(Wanted { ip, required: true });
        }
    }
    for loopback in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let covered = |ip: IpAddr| {
            ip == loopback || ip.is_unspecified() && ip.is_ipv4() == loopback.is_ipv4()
        };
        if !wanted.iter().any(|other| covered(other.ip)) {
            wanted.push(implicit(loopback));
        }
    }
    wanted
}

/// What [`bind`] yields.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) listeners: Vec<Arc<Listener>>,
    pub(crate) skipped: Vec<SkippedAddress>,
}

/// Binds every address that is wanted, and keeps those of `current` that
/// already are. On an error nothing has changed.
///
/// Port 0 is one that the system chooses, the same for all addresses.
pub(crate) fn bind(
    addresses: &Addresses,
    port: u16,
    current: &[Arc<Listener>],
) -> Result<Bound, ListenError> {
    let wanted = wanted(addresses);
    if wanted.len() > epmd_core::limits::MAX_ADDRESSES {
        return Err(ListenError::TooManyAddresses(wanted.len()));
    }
    // Where the system chooses, another address may have its choice taken.
    let mut attempts = if port == 0 { 16 } else { 1 };
    loop {
        attempts -= 1;
        match bind_all(&wanted, port, current) {
            Err(ListenError::InUse { .. }) if attempts > 0 => {}
            outcome => return outcome,
        }
    }
}

fn bind_all(
    wanted: &[Wanted],
    mut port: u16,
    current: &[Arc<Listener>],
) -> Result<Bound, ListenError> {
    let mut bound = Bound { listeners: Vec::new(), skipped: Vec::new() };
    let mut failure = None;
    for &Wanted { ip, required } in wanted {
        let address = SocketAddr::new(ip, port);
        if let Some(listener) = current.iter().find(|listener| listener.address == address) {
            bound.listeners.push(listener.clone());
            continue;
        }
        match bind_one(address, current) {
            Ok(socket) => {
                let address = socket.local_addr().unwrap_or(address);
                port = address.port();
                bound.listeners.push(Listener::new(address, socket, Place::Nowhere));
            }
            Err(error) if required || error.kind() == io::ErrorKind::AddrInUse => {
                return Err(ListenError::new(address, error));
            }
            Err(error) => {
                bound.skipped.push(SkippedAddress { address, error: error.to_string() });
                failure.get_or_insert(ListenError::CannotBind { address, error });
            }
        }
    }
    if let Some(error) = failure
        && bound.listeners.is_empty()
    {
        return Err(error);
    }
    for one in current {
        let covered = bound.listeners.iter().any(|other| covers(other.address, one.address));
        if covered && !bound.listeners.iter().any(|other| Arc::ptr_eq(one, other)) {
            bound.listeners.push(one.clone());
        }
    }
    // Not before all are bound: what reaches a listener that is given up again
    // is lost.
    for listener in &bound.listeners {
        if !current.iter().any(|other| Arc::ptr_eq(listener, other)) {
            let address = listener.address;
            listen(listener, current).map_err(|error| ListenError::new(address, error))?;
        }
    }
    Ok(bound)
}

/// Where a local client reaches what listens at an address: the one that stands
/// for all is none to connect to.
#[must_use]
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Takes sockets that listen already.
pub(crate) fn adopt(sockets: Vec<Stored<TcpListener>>) -> Result<Bound, ListenError> {
    if sockets.len() > epmd_core::limits::MAX_ADDRESSES {
        return Err(ListenError::TooManyAddresses(sockets.len()));
    }
    let adopted = sockets.into_iter().map(|Stored { socket, place }| {
        let address = listening_address(&socket);
        let address = address.ok_or(ListenError::NotListening(socket.as_raw_fd()))?;
        let prepared = socket.set_nonblocking(true);
        prepared.map_err(|error| ListenError::CannotBind { address, error })?;
        Ok(Listener::new(address, socket, place))
    });
    Ok(Bound { listeners: adopted.collect::<Result<_, ListenError>>()?, skipped: Vec::new() })
}

/// Where a socket listens, if it is one that does, for TCP.
fn listening_address(socket: &TcpListener) -> Option<SocketAddr> {
    let options = SockRef::from(socket);
    let listens = options.is_listener().ok()? && options.r#type().ok()? == Type::STREAM;
    // Any other family has no such address.
    socket.local_addr().ok().filter(|_| listens)
}

/// Whether a listener for all addresses will serve what another one does. That
/// one stays: it gets whatever connects to its address until it closes, and
/// what comes then could get lost.
fn covers(all: SocketAddr, one: SocketAddr) -> bool {
    all.ip().is_unspecified()
        && !one.ip().is_unspecified()
        && (all.is_ipv4(), all.port()) == (one.is_ipv4(), one.port())
}

fn bind_one(address: SocketAddr, current: &[Arc<Listener>]) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // So that both families can be bound.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    with_shared_port(&socket, address, current, || socket.bind(&address.into()))?;
    Ok(socket.into())
}

fn listen(listener: &Listener, current: &[Arc<Listener>]) -> io::Result<()> {
    let socket = SockRef::from(&listener.socket);
    // The system lowers this to its own limit.
    with_shared_port(&socket, listener.address, current, || socket.listen(4096))
}

/// A specific address and the one that stands for all cannot be bound side by
/// side, unless both sockets allow it while the second is bound, and while it
/// begins to listen. It is allowed no longer than that, or else another process
/// could join.
fn with_shared_port(
    socket: &Socket,
    address: SocketAddr,
    current: &[Arc<Listener>],
    call: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let neighbours: Vec<_> = current
        .iter()
        .filter(|other| other.address.port() == address.port())
        .map(|other| SockRef::from(&other.socket))
        .collect();
    if neighbours.is_empty() {
        return call();
    }
    let share = |on| {
        neighbours.iter().try_for_each(|other| other.set_reuse_port(on))?;
        socket.set_reuse_port(on)
    };
    share(true)?;
    let outcome = call();
    share(false)?;
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(list: &[&str]) -> Vec<(String, bool)> {
        let list = list.iter().map(|ip| ip.parse().unwrap()).collect();
        wanted(&Addresses::List(list))
            .into_iter()
            .map(|wanted| (wanted.ip.to_string(), wanted.required))
            .collect()
    }

    fn pairs(list: &[(&str, bool)]) -> Vec<(String, bool)> {
        list.iter().map(|&(ip, required)| (ip.to_owned(), required)).collect()
    }

    #[test]
    fn loopback_addresses_are_added_to_a_list() {
        assert_eq!(
            plan(&["192.0.2.1"]),
            pairs(&[("192.0.2.1", true), ("127.0.0.1", false), ("::1", false)])
        );
    }

    #[test]
    fn a_loopback_address_that_was_asked_for_is_required() {
        assert_eq!(plan(&["::1"]), pairs(&[("::1", true), ("127.0.0.1", false)]));
    }

    #[test]
    fn the_address_for_all_covers_the_loopback_of_its_family() {
        assert_eq!(plan(&["0.0.0.0"]), pairs(&[("0.0.0.0", true), ("::1", false)]));
        assert_eq!(plan(&["::"]), pairs(&[("::", true), ("127.0.0.1", false)]));
    }

    #[test]
    fn an_address_given_twice_is_bound_once() {
        assert_eq!(plan(&["::", "0.0.0.0", "::"]).len(), 2);
    }
}

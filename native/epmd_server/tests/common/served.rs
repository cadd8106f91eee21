//! Servers that stop with the test.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use epmd_core::{Name, Registration};
use epmd_server::{
    Addresses, Config, CounterValues, Estate, ListenError, Notice, PacketTimeout, Server,
    TakeoverError, TakeoverSocket,
};

use super::wait_until;

/// A server that stops when it is dropped.
pub struct Served {
    server: Server,
    wakes: Arc<AtomicUsize>,
}

impl Served {
    /// On the loopback addresses, with the defaults.
    pub fn local() -> Self {
        Self::with(local())
    }

    pub fn with(config: Config) -> Self {
        Self::started(|wake| Server::start(config, wake))
    }

    /// On sockets that listen already.
    pub fn on(config: Config, sockets: Vec<TcpListener>) -> Self {
        Self::started(|wake| Server::start_on(config, sockets, wake))
    }

    /// With what another one has left.
    pub fn with_estate(config: Config, estate: Estate) -> Self {
        Self::started(|wake| Server::start_with(config, estate, wake))
    }

    /// Takes over as the configuration says, if it can.
    pub fn taking_over(config: Config) -> Result<Self, TakeoverError> {
        Self::try_start(|wake| Server::take_over(config, wake))
    }

    /// Takes over from whoever is at the other end of a socket, if it can.
    pub fn taking_over_from(config: Config, socket: OwnedFd) -> Result<Self, TakeoverError> {
        Self::try_start(|wake| Server::take_over_from(config, socket, wake))
    }

    /// Takes over from another one of this process, if it can.
    pub fn taking_over_within(socket: OwnedFd) -> Result<Self, TakeoverError> {
        Self::try_start(|wake| Server::take_over_within(socket, wake))
    }

    fn started(
        start: impl FnOnce(Box<dyn Fn() + Send + Sync>) -> Result<Server, ListenError>,
    ) -> Self {
        Self::try_start(start).unwrap()
    }

    fn try_start<E>(
        start: impl FnOnce(Box<dyn Fn() + Send + Sync>) -> Result<Server, E>,
    ) -> Result<Self, E> {
        let wakes = Arc::new(AtomicUsize::new(0));
        let woken = wakes.clone();
        let wake = Box::new(move || {
            woken.fetch_add(1, Ordering::SeqCst);
        });
        Ok(Self { server: start(wake)?, wakes })
    }

    pub fn port(&self) -> u16 {
        self.info().addresses[0].port()
    }

    /// The IP addresses that it listens on.
    pub fn ips(&self) -> Vec<IpAddr> {
        self.info().addresses.iter().map(|address| address.ip()).collect()
    }

    pub fn counters(&self) -> CounterValues {
        self.info().counters
    }

    /// How often the owner was woken.
    pub fn wakes(&self) -> usize {
        self.wakes.load(Ordering::SeqCst)
    }

    /// All that happened since the last call.
    pub fn notices(&self) -> Vec<Notice> {
        let (notices, missed) = self.take_notices(usize::MAX);
        assert_eq!(missed, 0, "notices missed");
        notices
    }

    /// Waits until so many notices have come; these.
    pub fn wait_for_notices(&self, count: usize) -> Vec<Notice> {
        let mut notices = Vec::new();
        wait_until(&format!("{count} notices"), || {
            notices.extend(self.notices());
            notices.len() >= count
        });
        notices
    }

    pub fn wait_for_count(&self, count: usize) {
        wait_until(&format!("{count} nodes"), || self.count() == count);
    }

    pub fn wait_for_open_connections(&self, count: usize) {
        wait_until(&format!("{count} open connections"), || self.info().open_connections == count);
    }

    /// Registers a name of the VM's own, like nodes of today.
    pub fn register_own(&self, name: &str) {
        self.register_own_and_tell(name);
    }

    /// The same; its creation.
    pub fn register_own_and_tell(&self, name: &str) -> u32 {
        let registration = Registration {
            port: 4711,
            node_type: 77,
            protocol: 0,
            highest_version: 6,
            lowest_version: 5,
            extra: Box::default(),
        };
        self.register(Name::new(name.as_bytes()).unwrap(), registration).unwrap()
    }
}

impl Deref for Served {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.stop();
    }
}

/// Any port of the loopback addresses, nowhere for a successor, and the defaults.
pub fn local() -> Config {
    Config {
        port: 0,
        addresses: list(&["127.0.0.1"]),
        takeover_socket: TakeoverSocket::None,
        ..Config::default()
    }
}

/// A port that nobody has on any address, nor gets who asks the system for one.
pub fn port_of_our_own() -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    loop {
        let number = std::process::id() as usize * 101 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 11_000 + (number % 20_000) as u16;
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}

pub fn list(ips: &[&str]) -> Addresses {
    Addresses::List(ips.iter().map(|ip| ip.parse().unwrap()).collect())
}

pub fn relaxed() -> Config {
    Config { relaxed_command_check: true, ..local() }
}

pub fn with_timeout(seconds: u32) -> Config {
    Config { packet_timeout: PacketTimeout::try_from(seconds).unwrap(), ..local() }
}

/// Whether this host has the IPv6 loopback address.
pub fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

//! What the kernel tells of the TCP sockets of this host (of this network
//! namespace, to be exact), without connecting to any.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use parking_lot::Mutex;

use super::proc_net;
use super::sock_diag::SockDiag;

/// A socket that some process has. Its inode tells it from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TcpSocket {
    pub(crate) inode: u64,
    /// Whose it is.
    pub(crate) uid: u32,
    pub(crate) listens: bool,
    /// How many segments with data it has sent, where that was asked for and is
    /// known.
    pub(crate) segments_sent: Option<u32>,
}

/// The table of sockets: over netlink, else from `/proc`.
#[derive(Debug)]
pub(crate) struct SocketTable {
    diag: Mutex<Option<SockDiag>>,
}

impl SocketTable {
    pub(crate) fn open() -> Self {
        Self { diag: Mutex::new(SockDiag::open().ok()) }
    }

    /// A socket that listens on a port, the same one as long as it does; none
    /// too if the table cannot be read. Costs little where it listens on all
    /// addresses, or on the loopback one.
    pub(crate) fn listener(&self, port: u16) -> Option<u64> {
        if port == 0 {
            return None;
        }
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let on_loopback = loopback.into_iter().find_map(|ip| {
            let nobody =
                SocketAddr::new(if ip.is_ipv4() { UNSPECIFIED_V4 } else { UNSPECIFIED_V6 }, 0);
            let found = self.over_netlink(|diag| diag.find(SocketAddr::new(ip, port), nobody));
            found.ok().flatten().filter(|socket| socket.listens)
        });
        let listener = on_loopback
            .map(|socket| socket.inode)
            .or_else(|| self.listeners(port).ok()?.first().copied());
        listener.filter(|&inode| inode != 0)
    }

    /// Every socket that listens on a port.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub(crate) fn listeners(&self, port: u16) -> io::Result<Vec<u64>> {
        let listeners = self
            .over_netlink(|diag| diag.listeners(port))
            .or_else(|_| proc_net::listeners(port))?;
        Ok(listeners.into_iter().map(|socket| socket.inode).collect())
    }

    /// The socket at the `local` end of a connection, if a process has it.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub(crate) fn connection(
        &self,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> io::Result<Option<TcpSocket>> {
        let found = self
            .over_netlink(|diag| diag.find(local, remote))
            .or_else(|_| proc_net::connection(local, remote))?;
        // Without the connection what listens there is found, and what has
        // been closed by its process has no inode any more.
        Ok(found.filter(|socket| !socket.listens && socket.inode != 0))
    }

    /// Whether something was sent from the `local` end of a connection; in doubt it
    /// was.
    pub(crate) fn has_sent(&self, local: SocketAddr, remote: SocketAddr) -> bool {
        let found = self.over_netlink(|diag| diag.find_with_info(local, remote));
        let socket = found.ok().flatten().filter(|socket| !socket.listens);
        socket.and_then(|socket| socket.segments_sent) != Some(0)
    }

    fn over_netlink<T>(&self, ask: impl FnOnce(&mut SockDiag) -> io::Result<T>) -> io::Result<T> {
        self.diag.lock().as_mut().map_or_else(|| Err(io::ErrorKind::Unsupported.into()), ask)
    }
}

const UNSPECIFIED_V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const UNSPECIFIED_V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Over netlink and from `/proc`.
    fn both() -> [SocketTable; 2] {
        let over_netlink = SocketTable::open();
        assert!(over_netlink.diag.lock().is_some(), "netlink answers here");
        [over_netlink, SocketTable { diag: Mutex::new(None) }]
    }

    fn listen(on: &str) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind(on).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[test]
    fn a_listener_is_found_on_whatever_address_and_gone_when_closed() {
        for on in ["0.0.0.0:0", "127.0.0.1:0", "127.1.2.3:0", "[::]:0", "[::1]:0"] {
            let (listener, address) = listen(on);
            let port = address.port();
            let inode = both().map(|table| table.listener(port));
            assert!(inode[0].is_some(), "{on}");
            assert_eq!(inode[0], inode[1], "{on}");
            for table in both() {
                assert_eq!(table.listeners(port).unwrap(), [inode[0].unwrap()], "{on}");
            }
            // A connection to it does not count.
            let _connection = TcpStream::connect((address.ip(), port));
            drop(listener);
            for table in both() {
                assert_eq!(table.listener(port), None, "{on}");
                assert!(table.listeners(port).unwrap().is_empty(), "{on}");
            }
        }
    }

    #[test]
    fn more_listeners_than_one_answer_holds_are_all_found() {
        let (first, address) = listen("127.0.1.1:0");
        let on = |n: u32| TcpListener::bind((Ipv4Addr::from(0x7f00_0101 + n), address.port()));
        let _others: Vec<_> = (1..200).map(|n| on(n).unwrap()).collect();
        let [over_netlink, from_proc] = both().map(|table| {
            let mut inodes = table.listeners(address.port()).unwrap();
            inodes.sort_unstable();
            inodes
        });
        assert_eq!(over_netlink.len(), 200);
        assert_eq!(over_netlink, from_proc);
        drop(first);
    }

    #[test]
    fn both_ends_of_a_connection_are_told_apart() {
        for on in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let (listener, address) = listen(on);
            // IPv4 over an IPv6 socket is in the table as IPv4.
            let ip = if on == "[::]:0" { Ipv4Addr::LOCALHOST.into() } else { address.ip() };
            let server = SocketAddr::new(ip, address.port());
            let stream = TcpStream::connect(server).unwrap();
            let (_accepted, _) = listener.accept().unwrap();
            let client = stream.local_addr().unwrap();
            for table in both() {
                let [near, far] = [(client, server), (server, client)]
                    .map(|(local, remote)| table.connection(local, remote).unwrap().unwrap());
                assert_ne!(near.inode, far.inode, "{on}");
                assert_eq!(near.uid, rustix::process::getuid().as_raw());
                let elsewhere = SocketAddr::new(ip, 1);
                assert_eq!(table.connection(server, elsewhere).unwrap(), None, "{on}");
            }
            drop(stream);
            for table in both() {
                assert_eq!(table.connection(client, server).unwrap(), None, "{on}");
            }
        }
    }

    #[test]
    fn what_was_sent_is_seen_on_a_connection_of_either_family() {
        use std::io::Write;
        for on in ["127.0.0.1:0", "[::1]:0"] {
            let (listener, server) = listen(on);
            let mut stream = TcpStream::connect(server).unwrap();
            let client = stream.local_addr().unwrap();
            let (_accepted, _) = listener.accept().unwrap();
            let table = SocketTable::open();
            assert!(!table.has_sent(client, server), "{on}");
            stream.write_all(b"1").unwrap();
            assert!(table.has_sent(client, server), "{on}");
            assert!(!table.has_sent(server, client), "{on}");
            // In doubt.
            assert!(table.has_sent(server, SocketAddr::new(server.ip(), 1)));
        }
    }

    #[test]
    fn nothing_listens_on_port_0() {
        for table in both() {
            assert_eq!(table.listener(0), None);
        }
    }
}

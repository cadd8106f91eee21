//! The same table as text in `/proc`, for where netlink is forbidden.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;

use procfs::net::{TcpNetEntry, TcpState};
use procfs::process::Process;

use super::sockets::TcpSocket;

/// Under this process, for there they are even if `/proc` has nothing but processes.
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];

/// Every socket that listens on a port. They come first in the tables, so what
/// this costs does not grow with the number of connections either.
pub(super) fn listeners(port: u16) -> io::Result<Vec<TcpSocket>> {
    let mut listeners = Vec::new();
    for (index, path) in TABLES.into_iter().enumerate() {
        let table = match File::open(path) {
            // A kernel without IPv6.
            Err(error) if index > 0 && error.kind() == io::ErrorKind::NotFound => continue,
            table => BufReader::new(table?),
        };
        for line in table.lines().skip(1) {
            let line = line?;
            let listener = Line::read(&line).ok_or(io::ErrorKind::InvalidData)?;
            if !listener.socket.listens {
                break;
            }
            if listener.port == port {
                listeners.push(listener.socket);
            }
        }
    }
    Ok(listeners)
}

struct Line {
    port: u16,
    socket: TcpSocket,
}

impl Line {
    /// `sl local rem st queues timer retransmits uid timeout inode ...`, in hex.
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (_, port) = words.nth(1)?.split_once(':')?;
        let listens = words.nth(1)? == "0A";
        let uid = words.nth(3)?.parse().ok()?;
        let inode = words.nth(1)?.parse().ok()?;
        let port = u16::from_str_radix(port, 16).ok()?;
        Some(Self { port, socket: TcpSocket { listens, uid, inode, segments_sent: None } })
    }
}

/// The socket of a connection. Reads the whole tables.
pub(super) fn connection(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<TcpSocket>> {
    let is_end = |entry: &TcpNetEntry| {
        let ends = [entry.local_address, entry.remote_address].map(canonical);
        entry.state != TcpState::Listen && ends == [local, remote].map(canonical)
    };
    let this = Process::myself().map_err(io::Error::other)?;
    for table in [this.tcp(), this.tcp6()] {
        let entries = table.map_err(io::Error::other)?;
        if let Some(TcpNetEntry { uid, inode, .. }) = entries.into_iter().find(is_end) {
            return Ok(Some(TcpSocket { listens: false, uid, inode, segments_sent: None }));
        }
    }
    Ok(None)
}

/// Without what the tables do not have, and IPv4 as IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

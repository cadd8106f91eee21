//! Which process listens on an address.

use std::net::SocketAddr;

use procfs::net::{TcpNetEntry, TcpState};

use super::{PortHolder, processes};

/// The process whose socket keeps `address` from being bound, as far as this
/// user may know. Mostly it listens; else it is a connection from that port.
#[must_use]
pub fn port_holder(address: SocketAddr) -> Option<PortHolder> {
    let (listening, connected): (Vec<_>, Vec<_>) = [procfs::net::tcp(), procfs::net::tcp6()]
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| conflicts(entry, address))
        .partition(|entry| entry.state == TcpState::Listen);
    holder(&listening).or_else(|| holder(&connected))
}

fn holder(sockets: &[TcpNetEntry]) -> Option<PortHolder> {
    let inodes: Vec<u64> = sockets.iter().map(|entry| entry.inode).collect();
    if inodes.is_empty() { None } else { processes::with_socket(&inodes) }
}

fn conflicts(entry: &TcpNetEntry, address: SocketAddr) -> bool {
    let (theirs, ours) = (entry.local_address.ip(), address.ip());
    entry.local_address.port() == address.port()
        && (theirs == ours || theirs.is_unspecified() || ours.is_unspecified())
}

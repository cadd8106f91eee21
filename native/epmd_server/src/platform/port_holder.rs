//! Which process listens on an address, as `/proc` tells.

use std::net::SocketAddr;

use procfs::net::{TcpNetEntry, TcpState};
use procfs::process::{FDTarget, Process, all_processes};

use super::PortHolder;

/// The process whose listening socket keeps `address` from being bound, as
/// far as this user may know.
pub(crate) fn port_holder(address: SocketAddr) -> Option<PortHolder> {
    let sockets: Vec<u64> = [procfs::net::tcp(), procfs::net::tcp6()]
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.state == TcpState::Listen && conflicts(entry, address))
        .map(|entry| entry.inode)
        .collect();
    let process = all_processes().ok()?.flatten().find(|process| holds(process, &sockets))?;
    Some(PortHolder { pid: process.pid, program: process.stat().ok()?.comm })
}

fn conflicts(entry: &TcpNetEntry, address: SocketAddr) -> bool {
    let (theirs, ours) = (entry.local_address.ip(), address.ip());
    entry.local_address.port() == address.port()
        && (theirs == ours || theirs.is_unspecified() || ours.is_unspecified())
}

fn holds(process: &Process, sockets: &[u64]) -> bool {
    process.fd().is_ok_and(|descriptors| {
        descriptors
            .flatten()
            .any(|fd| matches!(fd.target, FDTarget::Socket(inode) if sockets.contains(&inode)))
    })
}

//! Which process listens on an address, as `/proc` tells.

use std::net::SocketAddr;

use procfs::net::{TcpNetEntry, TcpState};
use procfs::process::{FDTarget, Process, all_processes};

use super::PortHolder;

/// The process whose socket keeps `address` from being bound, as far as this
/// user may know. Mostly it listens; else it is a connection from that port.
#[must_use]
pub fn port_holder(address: SocketAddr) -> Option<PortHolder> {
    let entries: Vec<TcpNetEntry> = [procfs::net::tcp(), procfs::net::tcp6()]
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| conflicts(entry, address))
        .collect();
    let (listening, connected): (Vec<_>, Vec<_>) =
        entries.iter().partition(|entry| entry.state == TcpState::Listen);
    let process = holder(&listening).or_else(|| holder(&connected))?;
    Some(PortHolder { pid: process.pid, program: process.stat().ok()?.comm })
}

fn holder(sockets: &[&TcpNetEntry]) -> Option<Process> {
    let holds = |fd: &FDTarget| matches!(fd, FDTarget::Socket(inode) if sockets.iter().any(|one| one.inode == *inode));
    all_processes().ok()?.flatten().find(|process| {
        let descriptors = process.fd().into_iter().flatten().flatten();
        descriptors.into_iter().any(|fd| holds(&fd.target))
    })
}

fn conflicts(entry: &TcpNetEntry, address: SocketAddr) -> bool {
    let (theirs, ours) = (entry.local_address.ip(), address.ip());
    entry.local_address.port() == address.port()
        && (theirs == ours || theirs.is_unspecified() || ours.is_unspecified())
}

//! What only Linux tells: nothing.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use super::{Holder, PortHolder};

/// Only Linux tells.
#[must_use]
pub fn port_holder(_address: SocketAddr) -> Option<PortHolder> {
    None
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct TcpSocket {
    pub(crate) inode: u64,
    pub(crate) uid: u32,
}

#[derive(Debug)]
pub(crate) struct SocketTable;

impl SocketTable {
    pub(crate) fn open() -> Self {
        Self
    }

    pub(crate) fn listener(&self, _port: u16) -> Option<u64> {
        None
    }

    pub(crate) fn listeners(&self, _port: u16) -> io::Result<Vec<u64>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn connection(
        &self,
        _local: SocketAddr,
        _remote: SocketAddr,
    ) -> io::Result<Option<TcpSocket>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn has_sent(&self, _local: SocketAddr, _remote: SocketAddr) -> bool {
        true
    }
}

/// Another process. Without knowing whose it is nothing is handed over.
#[derive(Debug)]
pub(crate) struct OtherProcess;

impl OtherProcess {
    pub(crate) fn at_end_of(_socket: impl AsFd) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) const fn numbered(_pid: i32) -> Self {
        Self
    }

    pub(crate) const fn pid(&self) -> i32 {
        0
    }

    pub(crate) const fn is_trusted(&self) -> bool {
        false
    }

    pub(crate) const fn ends_within(&self, _time: Duration) -> bool {
        false
    }
}

pub(crate) const MAX_DESCRIPTORS: usize = 1;

pub(crate) fn listen_at(_path: &Path) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn connect_to(_path: &Path) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn accept_from(_listener: &OwnedFd) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn has_news(_socket: impl AsFd, _time: Option<Duration>) -> bool {
    true
}

pub(crate) fn hang_up(_socket: impl AsFd) {}

pub(crate) fn send(
    _socket: impl AsFd,
    _time: Duration,
    _bytes: &[u8],
    _descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn receive(
    _socket: impl AsFd,
    _time: Duration,
    _bytes: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn holder_of(_socket: TcpSocket) -> Holder {
    Holder::default()
}

pub(crate) fn holder_with(_socket: TcpSocket, _pid: Option<i32>) -> Holder {
    Holder::default()
}

pub(crate) fn holders_of(_inodes: &HashSet<u64>, _first: &[i32]) -> HashMap<u64, i32> {
    HashMap::new()
}

pub(crate) fn this_process() -> Holder {
    Holder::default()
}

pub(crate) fn memory_file() -> io::Result<std::fs::File> {
    Err(io::ErrorKind::Unsupported.into())
}

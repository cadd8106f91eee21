//! What only Linux tells: nothing.

use std::io;
use std::net::SocketAddr;

use super::{Holder, PortHolder};

/// Only Linux tells.
#[must_use]
pub fn port_holder(_address: SocketAddr) -> Option<PortHolder> {
    None
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct TcpSocket;

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

pub(crate) fn holder_of(_socket: TcpSocket) -> Holder {
    Holder::default()
}

pub(crate) fn this_process() -> Holder {
    Holder::default()
}

pub(crate) fn memory_file() -> io::Result<std::fs::File> {
    Err(io::ErrorKind::Unsupported.into())
}

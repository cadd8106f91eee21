//! Serving on listening sockets that somebody else has bound.

#![cfg(test)]

mod common;

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use common::served::{Served, list, local};
use common::wire::{Client, NAMES, ask_and_see};
use epmd_server::{Config, ListenError, Server};

fn bound(ip: &str, port: u16) -> TcpListener {
    TcpListener::bind((ip, port)).unwrap()
}

/// The error of a server on this descriptor, if it is one.
fn refused(descriptor: impl Into<OwnedFd>) -> Option<ListenError> {
    let sockets = vec![TcpListener::from(descriptor.into())];
    Server::start_on(local(), sockets, Box::new(|| ())).err()
}

#[test]
fn a_client_that_connected_before_is_answered() {
    let first = bound("127.0.0.1", 0);
    let address = first.local_addr().unwrap();
    let second = bound("127.0.0.2", address.port());
    let mut early = Client::connect_to(address);
    early.send(NAMES);
    let server = Served::on(local(), vec![first, second]);
    let addresses = [address, SocketAddr::new([127, 0, 0, 2].into(), address.port())];
    assert_eq!(server.info().addresses, addresses);
    assert_eq!(early.read_to_end().0, u32::from(address.port()).to_be_bytes());
    for address in addresses {
        assert_eq!(ask_and_see(address, NAMES).0, u32::from(address.port()).to_be_bytes());
    }
}

#[test]
fn new_addresses_replace_them() {
    let first = bound("127.0.0.1", 0);
    let old = first.local_addr().unwrap();
    let server = Served::on(local(), vec![first]);
    let addresses = list(&["127.0.0.3"]);
    server.reconfigure(Config { port: old.port(), addresses, ..local() }).unwrap();
    assert!(server.info().addresses.contains(&old));
    let new = SocketAddr::new([127, 0, 0, 3].into(), old.port());
    assert_eq!(ask_and_see(new, NAMES).0.len(), 4);
}

#[test]
fn what_does_not_listen_for_tcp_is_refused_by_its_number() {
    let connected = bound("127.0.0.1", 0);
    let connection = TcpStream::connect(connected.local_addr().unwrap()).unwrap();
    let path = std::env::temp_dir().join(format!("inherited-{}", std::process::id()));
    let unix = UnixListener::bind(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let descriptors: [OwnedFd; 4] = [
        connection.into(),
        UdpSocket::bind("127.0.0.1:0").unwrap().into(),
        unix.into(),
        std::fs::File::open("/dev/null").unwrap().into(),
    ];
    for descriptor in descriptors {
        let number = std::os::fd::AsRawFd::as_raw_fd(&descriptor);
        let error = refused(descriptor);
        assert!(matches!(error, Some(ListenError::NotListening(n)) if n == number), "{error:?}");
    }
}

#[test]
fn more_than_16_are_refused() {
    let many = (0..17).map(|_| bound("127.0.0.1", 0)).collect();
    let error = Server::start_on(local(), many, Box::new(|| ())).err();
    assert!(matches!(error, Some(ListenError::TooManyAddresses(17))), "{error:?}");
}

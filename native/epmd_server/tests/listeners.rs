//! Where a server listens, and what it says where it cannot.

#![cfg(test)]

mod common;

use std::net::{IpAddr, SocketAddr, TcpListener};

use common::process::skip;
use common::served::{Served, has_ipv6, list, local};
use common::wire::{NAMES, ask_and_see};
use epmd_server::{Addresses, Config, ListenError, Server};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn start(addresses: Addresses, port: u16) -> Result<Server, ListenError> {
    Server::start(Config { port, addresses, ..local() }, Box::new(|| ()))
}

/// Asserts that a server answers at an address, with its own port.
fn assert_answers(address: SocketAddr) {
    let reply = ask_and_see(address, NAMES).0;
    assert_eq!(reply, u32::from(address.port()).to_be_bytes(), "at {address}");
}

#[test]
fn all_addresses_of_both_families_are_listened_on() {
    let server = Served::with(Config { addresses: Addresses::All, ..local() });
    assert_answers(SocketAddr::new(ip("127.0.0.1"), server.port()));
    assert_answers(SocketAddr::new(ip("127.1.2.3"), server.port()));
    if has_ipv6() {
        assert_eq!(server.ips(), [ip("0.0.0.0"), ip("::")]);
        assert_answers(SocketAddr::new(ip("::1"), server.port()));
    } else {
        skip("all_addresses_of_both_families_are_listened_on", "IPv6: the host has none");
    }
}

#[test]
fn a_list_of_addresses_is_completed_by_the_loopback_ones() {
    let server = Served::with(Config { addresses: list(&["127.0.0.7"]), ..local() });
    let mut expected = vec![ip("127.0.0.7"), ip("127.0.0.1")];
    expected.extend(has_ipv6().then(|| ip("::1")));
    assert_eq!(server.ips(), expected);
    for ip in expected {
        assert_answers(SocketAddr::new(ip, server.port()));
    }
    let elsewhere = SocketAddr::new(ip("127.0.0.8"), server.port());
    assert!(std::net::TcpStream::connect(elsewhere).is_err());
}

#[test]
fn a_port_that_the_system_chooses_is_the_same_for_all_addresses() {
    let many: Vec<_> = (1..=14).map(|n| format!("127.0.0.{n}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let server = Served::with(Config { addresses: list(&many), ..local() });
    let addresses = server.info().addresses;
    assert!(addresses.len() >= 14);
    assert!(addresses.iter().all(|address| address.port() == server.port()));
    assert_ne!(server.port(), 0);
}

#[test]
fn an_address_that_the_host_lacks_is_an_error_that_names_it() {
    // Documentation addresses (RFC 5737) belong to nobody.
    let error = start(list(&["127.0.0.1", "203.0.113.250"]), 0).err().unwrap();
    let ListenError::CannotBind { address, .. } = &error else { panic!("{error}") };
    assert_eq!(address.ip(), ip("203.0.113.250"));
    assert!(error.to_string().starts_with("cannot listen on 203.0.113.250:"), "{error}");
}

#[test]
fn a_taken_port_is_an_error_that_names_who_has_it() {
    let holder = Served::local();
    for addresses in [list(&["127.0.0.1"]), Addresses::All] {
        let error = start(addresses, holder.port()).err().unwrap();
        let ListenError::InUse { address, holder: Some(process) } = &error else {
            panic!("{error}")
        };
        assert_eq!(address.port(), holder.port());
        assert_eq!(process.pid, std::process::id() as i32);
        // The system keeps 15 bytes of a program's name.
        assert!(process.program.starts_with("listeners"), "{process}");
    }
    assert_answers(holder.local_address().unwrap());
}

#[test]
fn a_taken_port_is_an_error_even_when_only_one_family_has_it() {
    if !has_ipv6() {
        return skip("a_taken_port_is_an_error_even_when_only_one_family_has_it", "no IPv6");
    }
    // A port that was free for both.
    let port = Served::local().port();
    let _holder = TcpListener::bind(("::1", port)).unwrap();
    let error = start(list(&["127.0.0.1"]), port).err().unwrap();
    let ListenError::InUse { address, .. } = error else { panic!("{error}") };
    assert_eq!(address, SocketAddr::new(ip("::1"), port));
    TcpListener::bind(("127.0.0.1", port)).expect("nothing is left bound");
}

#[test]
fn more_than_16_addresses_are_refused() {
    let listing = |count| {
        let ips: Vec<_> = (2..2 + count).map(|n| format!("127.0.0.{n}")).collect();
        list(&ips.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert!(matches!(start(listing(17), 0), Err(ListenError::TooManyAddresses(19))));
    assert!(matches!(start(listing(15), 0), Err(ListenError::TooManyAddresses(17))));
    assert!(start(listing(14), 0).is_ok());
}

#[test]
fn a_server_that_is_stopped_or_dropped_frees_its_port() {
    let free = |port| {
        common::wait_until("the port is free", || TcpListener::bind(("127.0.0.1", port)).is_ok())
    };
    let stopped = start(local().addresses, 0).unwrap();
    let port = stopped.info().addresses[0].port();
    stopped.stop();
    TcpListener::bind(("127.0.0.1", port)).expect("stop() returns when the port is free");
    stopped.stop();
    let dropped = start(local().addresses, 0).unwrap();
    let port = dropped.info().addresses[0].port();
    drop(dropped);
    free(port);
}

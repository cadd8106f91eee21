//! What changes while it serves, and what a change must not cost.

#![cfg(test)]

mod common;

use std::net::SocketAddr;

use common::load::Load;
use common::process::skip;
use common::served::{Served, has_ipv6, list, local, port_of_our_own, relaxed, with_timeout};
use common::wire::{Client, End, NAMES, ask, ask_and_see, found, port_please, register, stop, v4};
use epmd_server::{Addresses, Config, ListenError, ReconfigureError};

#[test]
fn relaxed_checking_changes_for_the_next_request() {
    let server = Served::local();
    let (node, _) = register(server.port(), b"n1");
    assert_eq!(ask(server.port(), &stop(b"n1")), b"");
    server.reconfigure(relaxed()).unwrap();
    assert!(node.is_open());
    assert_eq!(server.config(), relaxed());
    assert_eq!(ask(server.port(), &stop(b"n1")), b"STOPPED");
    server.reconfigure(local()).unwrap();
    assert_eq!(ask(server.port(), &stop(b"n1")), b"");
}

#[test]
fn the_packet_timeout_changes_for_the_next_byte() {
    let server = Served::local();
    let mut waiting = Client::connect(server.port());
    server.wait_for_open_connections(1);
    server.reconfigure(with_timeout(1)).unwrap();
    assert_eq!(Client::connect(server.port()).read_to_end(), (vec![], End::Closed));
    waiting.send(b"\0");
    assert_eq!(waiting.read_to_end(), (vec![], End::Closed));
    assert_eq!(server.counters().timed_out, 2);
}

#[test]
fn addresses_change_under_load_and_lose_nothing() {
    for _ in 0..5 {
        let port = port_of_our_own();
        let config = |addresses| Config { port, addresses, ..local() };
        let server = Served::with(config(Addresses::All));
        let (node, _) = register(port, b"n1");
        let before = server.lookup("n1");
        let load = Load::start(v4(port), 3, &port_please(b"n1"), &found(b"n1", 4711));
        for addresses in [list(&["127.0.0.1"]), Addresses::All, list(&["127.0.0.7"])] {
            server.reconfigure(config(addresses)).unwrap();
            load.go_on(50);
        }
        load.finish();
        assert_eq!(server.port(), port);
        assert_eq!(server.lookup("n1"), before);
        assert!(node.is_open());
    }
}

#[test]
fn an_address_that_all_addresses_cover_stays_open() {
    let config = Config { port: port_of_our_own(), ..local() };
    let server = Served::with(config.clone());
    let before = server.info().addresses;
    server.reconfigure(Config { addresses: Addresses::All, ..config.clone() }).unwrap();
    let after = server.info().addresses;
    assert_eq!(after[0], SocketAddr::new("0.0.0.0".parse().unwrap(), before[0].port()));
    assert!(before.iter().all(|address| after.contains(address)));
    server.reconfigure(config).unwrap();
    assert_eq!(server.info().addresses, before);
}

#[test]
fn addresses_that_were_left_are_closed() {
    let server = Served::with(Config { addresses: list(&["127.0.0.7"]), ..local() });
    let left = SocketAddr::new("127.0.0.7".parse().unwrap(), server.port());
    assert_eq!(ask_and_see(left, NAMES).0.len(), 4);
    server.reconfigure(local()).unwrap();
    assert!(std::net::TcpStream::connect(left).is_err());
    assert_eq!(ask(server.port(), NAMES).len(), 4);
}

#[test]
fn the_other_family_is_kept_where_only_one_changes() {
    if !has_ipv6() {
        return skip("the_other_family_is_kept_where_only_one_changes", "no IPv6");
    }
    let server = Served::local();
    let v6 = SocketAddr::new("::1".parse().unwrap(), server.port());
    let load = Load::start(v6, 2, NAMES, &u32::from(server.port()).to_be_bytes());
    for _ in 0..10 {
        for addresses in [list(&["127.0.0.2"]), list(&["127.0.0.1"])] {
            server.reconfigure(Config { addresses, ..local() }).unwrap();
            load.go_on(3);
        }
    }
    load.finish();
}

#[test]
fn the_port_changes_and_nodes_stay() {
    let server = Served::local();
    let old = server.port();
    let (node, _) = register(old, b"n1");
    // A port that is free for both families, as the system chose it for one.
    let new = Served::local().port();
    server.reconfigure(Config { port: new, ..local() }).unwrap();
    assert_eq!(server.port(), new);
    assert!(std::net::TcpStream::connect(v4(old)).is_err());
    let listing = [&u32::from(new).to_be_bytes()[..], b"name n1 at port 4711\n"].concat();
    assert_eq!(ask(new, NAMES), listing);
    assert!(node.is_open());
    drop(node);
    server.wait_for_count(0);
}

#[test]
fn a_change_that_fails_changes_nothing() {
    let server = Served::with(Config { addresses: Addresses::All, ..local() });
    let port = server.port();
    let (before, config) = (server.info().addresses, server.config());
    let load = Load::start(v4(port), 3, NAMES, &u32::from(port).to_be_bytes());
    // Those that can be bound get connections as soon as they listen.
    let missing: Vec<_> = (1..14).map(|n| format!("127.0.0.{n}")).collect();
    let mut missing: Vec<_> = missing.iter().map(String::as_str).collect();
    missing.push("203.0.113.250");
    let missing = list(&missing);
    for _ in 0..100 {
        let failing = Config { addresses: missing.clone(), relaxed_command_check: true, ..local() };
        assert!(matches!(
            server.reconfigure(failing),
            Err(ReconfigureError::Listen(ListenError::CannotBind { address, .. }))
                if address == SocketAddr::new("203.0.113.250".parse().unwrap(), port)
        ));
        load.go_on(2);
    }
    load.finish();
    assert_eq!(server.info().addresses, before);
    assert_eq!(server.config(), config);
    assert_eq!(ask(port, NAMES).len(), 4);
}

#[test]
fn a_port_that_another_has_is_not_taken_over() {
    let (server, other) = (Served::local(), Served::local());
    let before = server.info().addresses;
    let change = server.reconfigure(Config { port: other.port(), ..local() });
    let Err(ReconfigureError::Listen(ListenError::InUse { address, .. })) = change else {
        panic!("{change:?}")
    };
    assert_eq!(address, v4(other.port()));
    assert_eq!(server.info().addresses, before);
}

#[test]
fn nobody_else_can_join_the_port_after_a_change() {
    let server = Served::with(Config { addresses: Addresses::All, ..local() });
    server.reconfigure(local()).unwrap();
    let joining = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    joining.set_reuse_port(true).unwrap();
    assert!(joining.bind(&v4(server.port()).into()).is_err());
}

#[test]
fn the_file_limit_takes_a_restart() {
    let server = Served::local();
    let change = Config { raise_file_limit: true, relaxed_command_check: true, ..local() };
    assert!(matches!(
        server.reconfigure(change),
        Err(ReconfigureError::NeedsRestart("raise_file_limit"))
    ));
    assert_eq!(server.config(), local());
}

#[test]
fn a_server_that_has_ended_takes_no_configuration() {
    let server = Served::local();
    server.stop();
    assert!(matches!(server.reconfigure(relaxed()), Err(ReconfigureError::Closed)));
}

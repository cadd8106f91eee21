//! KILL ends the server at once, or not at all.

#![cfg(test)]

mod common;

use std::net::TcpListener;

use common::served::{Served, relaxed};
use common::wait_until;
use common::wire::{Client, KILL, ask, ask_and_see, register, v4};
use epmd_server::{Notice, Phase};

/// Asserts that a KILL was granted and all has ended.
fn assert_killed(server: &Served, clients: Vec<Client>) {
    assert_eq!(server.phase(), Phase::Closed);
    assert_eq!(server.info().addresses, []);
    let killed =
        |notice: &Notice| matches!(notice, Notice::Killed { peer } if peer.ip().is_loopback());
    assert_eq!(server.notices().iter().filter(|one| killed(one)).count(), 1);
    for mut client in clients {
        assert_eq!(client.read_to_end().0, b"");
    }
    wait_until("all is closed", || server.info().open_connections == 0);
}

#[test]
fn the_port_is_free_when_ok_comes() {
    for round in 0..50 {
        let server = Served::local();
        let port = server.port();
        let mut client = Client::connect(port);
        client.send(&KILL[..round % KILL.len()]);
        client.send(&KILL[round % KILL.len()..]);
        assert_eq!(client.read(2), b"OK");
        TcpListener::bind(v4(port)).expect("the port is free");
        assert_killed(&server, vec![client]);
    }
}

#[test]
fn connections_that_wait_end_with_the_server() {
    let server = Served::local();
    let mut stuck = Client::connect(server.port());
    stuck.send(b"\0");
    let waiting = vec![stuck, Client::connect(server.port())];
    server.wait_for_open_connections(2);
    assert_eq!(ask(server.port(), KILL), b"OK");
    assert_killed(&server, waiting);
}

#[test]
fn the_owner_is_woken_when_the_server_ends() {
    let server = Served::local();
    let wakes = server.wakes();
    assert_eq!(ask(server.port(), KILL), b"OK");
    wait_until("the owner is woken", || server.wakes() > wakes);
}

#[test]
fn a_kill_is_denied_while_nodes_are_registered() {
    let server = Served::local();
    let (node, _) = register(server.port(), b"n1");
    assert_eq!(ask(server.port(), KILL), b"NO");
    assert_eq!(server.phase(), Phase::Running);
    assert!(node.is_open());
    drop(node);
    server.wait_for_count(0);
    assert_eq!(ask(server.port(), KILL), b"OK");
}

#[test]
fn a_kill_is_denied_for_the_vm_s_own_names_too() {
    let server = Served::local();
    server.register_own("own");
    assert_eq!(ask(server.port(), KILL), b"NO");
    assert!(server.unregister("own"));
    assert_eq!(ask(server.port(), KILL), b"OK");
}

#[test]
fn a_kill_is_granted_at_once_after_the_last_node_has_closed() {
    for _ in 0..50 {
        let server = Served::local();
        let (node, _) = register(server.port(), b"n1");
        drop(node);
        assert_eq!(ask(server.port(), KILL), b"OK");
    }
}

#[test]
fn relaxed_checking_grants_a_kill_with_nodes() {
    let server = Served::with(relaxed());
    let nodes = [&b"n1"[..], b"n2"].map(|name| register(server.port(), name).0);
    assert_eq!(ask(server.port(), KILL), b"OK");
    assert_killed(&server, nodes.into());
}

#[test]
fn of_many_kills_one_ends_the_server() {
    let server = Served::local();
    let mut clients: Vec<_> = (0..20).map(|_| Client::connect(server.port())).collect();
    clients.iter_mut().for_each(|client| client.send(KILL));
    let replies: Vec<_> = clients.iter_mut().map(|client| client.read_to_end().0).collect();
    assert_eq!(replies.iter().filter(|reply| **reply == b"OK").count(), 1);
    wait_until("it has ended", || server.phase() == Phase::Closed);
}

#[test]
fn a_kill_whose_client_has_gone_ends_the_server_too() {
    let server = Served::local();
    let mut client = Client::connect(server.port());
    client.send(KILL);
    client.reset();
    wait_until("it has ended", || {
        // A reset may overtake the request; then nobody has asked.
        server.phase() == Phase::Closed || server.counters().silent == 1
    });
}

#[test]
fn a_server_that_was_killed_refuses_connections() {
    let server = Served::local();
    let address = server.local_address().unwrap();
    assert_eq!(ask_and_see(address, KILL).0, b"OK");
    assert!(std::net::TcpStream::connect(address).is_err());
}

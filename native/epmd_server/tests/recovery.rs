//! A thread that dies is replaced, an owner that dies may be: nodes and clients
//! notice nothing.

#![cfg(test)]

mod common;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use common::load::Load;
use common::served::Served;
use common::wait_until;
use common::wire::{Client, End, NAMES, NOT_FOUND, alive2, ask, found, port_please, register, v4};
use epmd_core::{DownReason, Event};
use epmd_server::{Notice, Phase};

/// Ends the thread as a defect would.
fn kill_thread(server: &Served) {
    let wakes = server.wakes();
    server.panic_thread();
    wait_until("the thread is down", || server.phase() == Phase::Down);
    wait_until("the owner is woken", || server.wakes() > wakes);
}

#[test]
fn a_thread_that_dies_is_replaced_with_nothing_lost() {
    let server = Served::local();
    let before = server.info();
    let (node, creation) = register(server.port(), b"n1");
    let (leaving, _) = register(server.port(), b"n2");
    kill_thread(&server);
    drop(leaving);
    server.resume().unwrap();
    assert_eq!(server.phase(), Phase::Running);
    assert_eq!(server.info().addresses, before.addresses);
    assert_eq!(server.lookup("n1").unwrap().creation.get(), creation);
    assert!(node.is_open());
    // It left while nobody served.
    server.wait_for_count(1);
    assert_eq!(ask(server.port(), &port_please(b"n2")), NOT_FOUND);
    drop(node);
    server.wait_for_count(0);
}

#[test]
fn a_request_that_had_come_in_part_is_answered_after_the_thread_died() {
    let server = Served::local();
    server.register_own("n1");
    let request = port_please(b"n1");
    let mut clients: Vec<_> = (0..3).map(|_| Client::connect(server.port())).collect();
    clients.iter_mut().for_each(|client| client.send(&request[..3]));
    clients.iter().for_each(Client::wait_until_read);
    server.wait_for_open_connections(3);
    kill_thread(&server);
    clients[0].send(&request[3..]);
    server.resume().unwrap();
    clients[1].send(&request[3..]);
    kill_thread(&server);
    server.resume().unwrap();
    clients[2].send(&request[3..]);
    assert!(clients.iter_mut().all(|client| client.read_to_end().0 == found(b"n1", 4711)));
}

#[test]
fn requests_that_come_while_the_thread_is_down_are_answered_later() {
    let server = Served::local();
    let (_node, _) = register(server.port(), b"n1");
    kill_thread(&server);
    let mut clients: Vec<_> = (0..100).map(|_| Client::connect(server.port())).collect();
    clients.iter_mut().for_each(|client| client.send(&port_please(b"n1")));
    let mut newcomer = Client::connect(server.port());
    newcomer.send(&alive2(b"n2", 4711));
    assert!(clients.iter().all(Client::is_open));
    server.resume().unwrap();
    assert!(clients.iter_mut().all(|client| client.read_to_end().0 == found(b"n1", 4711)));
    assert_eq!(newcomer.read(2), b"v\0");
}

#[test]
fn a_hundred_deaths_under_load_fail_no_look_up() {
    let server = Served::local();
    let (node, _) = register(server.port(), b"n1");
    let before = server.lookup("n1");
    let load = Load::start(v4(server.port()), 4, &port_please(b"n1"), &found(b"n1", 4711));
    for _ in 0..100 {
        kill_thread(&server);
        server.resume().unwrap();
        load.go_on(4);
    }
    load.finish();
    assert_eq!(server.lookup("n1"), before);
    assert!(node.is_open());
}

#[test]
fn resume_does_nothing_unless_the_thread_is_down() {
    let server = Served::local();
    let (node, _) = register(server.port(), b"n1");
    server.resume().unwrap();
    assert_eq!(server.phase(), Phase::Running);
    assert!(node.is_open());
    server.stop();
    server.resume().unwrap();
    assert_eq!(server.phase(), Phase::Closed);
}

#[test]
fn the_owner_acts_and_is_told_while_the_thread_is_down() {
    let server = Served::local();
    let (mut node, _) = register(server.port(), b"n1");
    server.notices();
    kill_thread(&server);
    server.register_own("own");
    assert!(server.drop_name("n1"));
    assert_eq!((server.count(), server.info().nodes), (1, 1));
    let wakes = server.wakes();
    server.resume().unwrap();
    wait_until("the owner is woken", || server.wakes() > wakes);
    assert_eq!(node.read_to_end(), (vec![], End::Closed));
    let [Notice::Node(Event::Up { .. }), Notice::Node(Event::Down { reason, .. })] =
        server.notices()[..]
    else {
        panic!("up and down")
    };
    assert_eq!(reason, DownReason::Dropped);
}

/// Asserts that every socket of a server is closed.
fn assert_closed(server: &Served, port: u16, clients: Vec<Client>) {
    for mut client in clients {
        assert_eq!(client.read_to_end().0, b"");
    }
    std::net::TcpListener::bind(v4(port)).expect("the port is free");
    assert_eq!(server.phase(), Phase::Closed);
    assert_eq!(server.info().addresses, []);
    assert_eq!(server.info().open_connections, 0);
    assert_eq!(server.count(), 0);
}

/// A node, a client that says nothing, and one that has said something.
fn clients(server: &Served) -> Vec<Client> {
    let (node, _) = register(server.port(), b"n1");
    let mut stuck = Client::connect(server.port());
    stuck.send(b"\0");
    let clients = vec![node, Client::connect(server.port()), stuck];
    server.wait_for_open_connections(3);
    clients
}

#[test]
fn stop_closes_every_socket() {
    for down in [false, true] {
        let server = Served::local();
        let (port, clients) = (server.port(), clients(&server));
        if down {
            kill_thread(&server);
        }
        server.stop();
        assert_closed(&server, port, clients);
    }
}

#[test]
fn dropping_the_server_closes_every_socket() {
    for down in [false, true] {
        let server = epmd_server::Server::start(common::served::local(), Box::new(|| ())).unwrap();
        let port = server.info().addresses[0].port();
        let (mut node, _) = register(port, b"n1");
        let mut idle = Client::connect(port);
        wait_until("both are open", || server.info().open_connections == 2);
        if down {
            server.panic_thread();
            wait_until("the thread is down", || server.phase() == Phase::Down);
        }
        drop(server);
        assert_eq!((node.read_to_end().0, idle.read_to_end().0), (vec![], vec![]));
        wait_until("the port is free", || std::net::TcpListener::bind(v4(port)).is_ok());
    }
}

#[test]
fn a_server_without_an_owner_closes_after_a_while_unless_one_comes() {
    let (orphan, adopted) = (Served::local(), Served::local());
    let (port, clients) = (orphan.port(), clients(&orphan));
    let (node, _) = register(adopted.port(), b"n1");
    let orphaned = Instant::now();
    adopted.detach();
    orphan.detach();
    adopted.attach();
    wait_until("the orphan closes", || orphan.phase() != Phase::Running);
    assert!(orphaned.elapsed().as_secs() >= 5);
    assert_closed(&orphan, port, clients);
    // It was without an owner before the other one.
    assert_eq!(ask(adopted.port(), &port_please(b"n1")), found(b"n1", 4711));
    assert!(node.is_open());
}

#[test]
fn a_new_owner_is_woken_for_what_the_last_one_left() {
    let server = Served::local();
    let wait_for_wake = |wakes| wait_until("the owner is woken", || server.wakes() > wakes);
    let (_node, _) = register(server.port(), b"n1");
    wait_for_wake(0);
    server.detach();
    let wakes = server.wakes();
    server.attach();
    wait_for_wake(wakes);
    assert_eq!(server.notices().len(), 1);
}

#[test]
fn who_was_accepted_is_answered_before_the_server_leaves() {
    let server = Served::local();
    let port = server.port();
    let mut client = Client::connect(port);
    let (beginning, rest) = NAMES.split_at(2);
    client.send(beginning);
    server.wait_for_open_connections(1);
    std::thread::scope(|scope| {
        scope.spawn(|| server.leave());
        wait_until("it accepts nobody any more", || !is_answered_at_once(port));
        client.send(rest);
        assert_eq!(client.read(4), u32::from(port).to_be_bytes());
    });
}

fn is_answered_at_once(port: u16) -> bool {
    let mut stream = std::net::TcpStream::connect(v4(port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    stream.write_all(NAMES).unwrap();
    stream.read_exact(&mut [0; 4]).is_ok()
}

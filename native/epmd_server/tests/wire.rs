//! What a client gets, byte for byte, however its request comes.

#![cfg(test)]

mod common;

use std::net::SocketAddr;

use common::served::{Served, has_ipv6, relaxed};
use common::wire::{
    Client, DUMP, End, KILL, NAMES, NOT_FOUND, REFUSED, UNANSWERED, alive2, alive2_with, ask,
    ask_and_see, found, framed, port_please, register, stop,
};
use epmd_core::limits::MAX_REQUEST_LENGTH;

/// The port that listings begin with.
fn port_field(server: &Served) -> [u8; 4] {
    u32::from(server.port()).to_be_bytes()
}

fn descriptor(server: &Served, name: &str) -> i32 {
    server.lookup(name).unwrap().owner.descriptor()
}

#[test]
fn every_request_is_answered_byte_for_byte() {
    let server = Served::with(relaxed());
    let port = server.port();
    let head = port_field(&server);
    assert_eq!(ask(port, b"\0\x01n"), head);
    assert_eq!(ask(port, b"\0\x01d"), head);

    let mut today = Client::connect(port);
    today.send(b"\0\x0fx\x12\x34M\0\0\x06\0\x05\0\x02n1\0\0");
    let creation = server_creation(&server, "n1", &mut today, 6);
    assert_eq!(today.read(6), [&b"v\0"[..], &creation.to_be_bytes()].concat());

    let mut older = Client::connect(port);
    older.send(b"\0\x15x\xff\xffh\x01\0\x05\0\x05\0\x04c\xc3\xb61\0\x04\0\xff\n\0");
    let creation = server_creation(&server, "cö1", &mut older, 4) % 3 + 1;
    assert_eq!(older.read(4), [&b"y\0"[..], &(creation as u16).to_be_bytes()].concat());

    let first = b"w\0\x12\x34M\0\0\x06\0\x05\0\x02n1\0\0";
    let second = b"w\0\xff\xffh\x01\0\x05\0\x05\0\x04c\xc3\xb61\0\x04\0\xff\n\0";
    assert_eq!(ask(port, b"\0\x03zn1"), first);
    assert_eq!(ask(port, b"\0\x04zn1\0"), first);
    assert_eq!(ask(port, b"\0\x05zc\xc3\xb61"), second);
    assert_eq!(ask(port, b"\0\x03zn2"), b"w\x01");

    let names = "name cö1 at port 65535\nname n1 at port 4660\n";
    assert_eq!(ask(port, b"\0\x01n"), [&head[..], names.as_bytes()].concat());
    assert_eq!(ask(port, b"\0\x05nmore"), [&head[..], names.as_bytes()].concat());

    let gone = descriptor(&server, "cö1");
    assert_eq!(ask(port, b"\0\x05sc\xc3\xb61"), b"STOPPED");
    assert_eq!(ask(port, b"\0\x05sc\xc3\xb61"), b"NOEXIST");
    let dump = format!(
        "active name     <n1> at port 4660, fd = {}\n\0\
         old/unused name <cö1>, port = 65535, fd = {gone} \n\0",
        descriptor(&server, "n1")
    );
    assert_eq!(ask(port, b"\0\x01d"), [&head[..], dump.as_bytes()].concat());
    assert_eq!(ask(port, b"\0\x01k"), b"OK");
}

/// The creation of a node, once it has an answer of `length` bytes to read.
fn server_creation(server: &Served, name: &str, client: &mut Client, length: usize) -> u32 {
    client.wait_for_bytes(length);
    server.lookup(name).unwrap().creation.get()
}

#[test]
fn a_kill_is_denied_while_nodes_are_registered() {
    let server = Served::local();
    let (node, _) = register(server.port(), b"n1");
    assert_eq!(ask(server.port(), KILL), b"NO");
    assert!(node.is_open());
}

#[test]
fn a_broken_request_is_closed_unanswered() {
    let server = Served::local();
    let nul_in_name = alive2(b"n\x001", 1);
    let requests: [&[u8]; 17] = [
        b"\0\0",
        &(MAX_REQUEST_LENGTH as u16 + 1).to_be_bytes(),
        b"\xff\xff",
        b"\0\x01?",
        b"\0\x01y",
        b"\0\x01nn",
        b"\0\x01kk",
        b"\0\x03zn1z",
        b"\0\x01x",
        b"\0\x0dx\x12\x34M\0\0\x06\0\x05\0\0\0\0",
        b"\0\x0fx\x12\x34M\0\0\x06\0\x05\0\x03n1\0\0",
        b"\0\x0fx\x12\x34M\0\0\x06\0\x05\0\x02n1\0\x01",
        &nul_in_name,
        b"\0\x01z",
        b"\0\x02z\0",
        b"\0\x04z\0n1",
        b"\0\x02z\xff",
    ];
    for request in requests {
        let outcome = ask_and_see(server.local_address().unwrap(), request);
        assert_eq!(outcome, (UNANSWERED.to_vec(), End::Closed), "{}", request.escape_ascii());
    }
    assert_eq!(ask(server.port(), &port_please("é".repeat(256).as_bytes())), UNANSWERED);
    assert_eq!(ask(server.port(), NAMES), port_field(&server));
}

#[test]
fn stop_is_closed_unanswered_unless_checking_is_relaxed() {
    let server = Served::local();
    let (node, _) = register(server.port(), b"n1");
    assert_eq!(ask(server.port(), &stop(b"n1")), UNANSWERED);
    assert!(node.is_open());
    let server = Served::with(relaxed());
    assert_eq!(ask(server.port(), b"\0\x01s"), UNANSWERED);
    assert_eq!(ask(server.port(), b"\0\x02s\0"), b"NOEXIST");
}

#[test]
fn an_incomplete_request_is_closed_unanswered() {
    let server = Served::local();
    for request in [&alive2(b"n1", 1)[..], &port_please(b"n1"), NAMES] {
        for cut in 0..request.len() {
            let mut client = Client::connect(server.port());
            client.send(&request[..cut]);
            client.finish_sending();
            assert_eq!(client.read_to_end(), (vec![], End::Closed));
        }
    }
    assert_eq!(server.count(), 0);
}

#[test]
fn a_registration_against_the_rules_is_refused_and_closed() {
    let server = Served::local();
    let (holder, _) = register(server.port(), b"n1");
    let long = "é".repeat(256);
    for (name, extra) in [
        (&b"n1"[..], &b""[..]),
        (b"\xff", b""),
        (b"\xed\xa0\x80", b""),
        (b"", b"extra"),
        (long.as_bytes(), b""),
        (&[b'n'; 1021], b""),
        (b"n2", &[0; 1021]),
    ] {
        for (version, reply) in [(6, REFUSED), (5, b"y\x01\0\x63")] {
            let mut client = Client::connect(server.port());
            client.send(&alive2_with(name, 1, version, extra));
            assert_eq!(client.read_to_end(), (reply.to_vec(), End::Closed));
        }
    }
    assert_eq!(server.count(), 1);
    assert!(holder.is_open());
}

#[test]
fn the_longest_names_and_requests_are_served() {
    let server = Served::local();
    let name = "😀".repeat(255);
    let mut node = Client::connect(server.port());
    node.send(&alive2_with(name.as_bytes(), 4711, 6, &[0xff; 1020]));
    assert_eq!(node.read(2), b"v\0");
    let reply = ask(server.port(), &port_please(name.as_bytes()));
    assert_eq!(reply.len(), 2 + 8 + 2 + 1020 + 2 + 1020);

    let mut longest = vec![b'n'];
    longest.resize(MAX_REQUEST_LENGTH, 0);
    let reply = ask(server.port(), &framed(&longest));
    assert_eq!(reply, ask(server.port(), NAMES));
}

#[test]
fn a_request_a_byte_at_a_time_is_as_good_as_a_whole_one() {
    let server = Served::with(relaxed());
    let (_holder, _) = register(server.port(), b"n1");
    let listing = [&port_field(&server)[..], b"name n1 at port 4711\n"].concat();
    for (request, reply) in [
        (alive2(b"n1", 1), REFUSED.to_vec()),
        (port_please(b"n1"), found(b"n1", 4711)),
        (port_please(b"n2"), NOT_FOUND.to_vec()),
        (NAMES.to_vec(), listing),
        (DUMP.to_vec(), ask(server.port(), DUMP)),
        (stop(b"n2"), b"NOEXIST".to_vec()),
        (KILL.to_vec(), b"OK".to_vec()),
    ] {
        let mut client = Client::connect(server.port());
        for byte in request {
            client.send(&[byte]);
            std::thread::yield_now();
        }
        assert_eq!(client.read_to_end(), (reply, End::Closed));
    }
}

#[test]
fn a_client_that_has_shut_its_sending_side_gets_its_reply() {
    let server = Served::local();
    for request in [NAMES, &port_please(b"n1"), DUMP] {
        let mut client = Client::connect(server.port());
        client.send(request);
        client.finish_sending();
        assert!(!client.read_to_end().0.is_empty());
    }
    let mut node = Client::connect(server.port());
    node.send(&alive2(b"n1", 1));
    node.finish_sending();
    let (reply, end) = node.read_to_end();
    assert_eq!((&reply[..2], end), (&b"v\0"[..], End::Closed));
    server.wait_for_count(0);
    assert_eq!(server.counters().registered, 1);
}

#[test]
fn bytes_beyond_a_request_whose_length_is_known_stay_unread() {
    let server = Served::local();
    let mut client = Client::connect(server.port());
    client.send(&NAMES[..2]);
    client.wait_until_read();
    client.send(b"nn");
    assert_eq!(client.read(4), port_field(&server));

    let mut node = Client::connect(server.port());
    let request = alive2(b"n1", 1);
    node.send(&request[..5]);
    node.wait_until_read();
    node.send(&[&request[5..], b"!"].concat());
    assert_eq!(node.read(2), b"v\0");
    server.wait_for_count(0);
    assert_eq!(server.counters().registered, 1);
}

#[test]
fn both_families_get_the_same() {
    if !has_ipv6() {
        return common::process::skip("both_families_get_the_same", "no IPv6");
    }
    let server = Served::local();
    let v6 = SocketAddr::new("::1".parse().unwrap(), server.port());
    let mut node = Client::connect_to(v6);
    node.send(&alive2(b"n6", 4711));
    assert_eq!(node.read(2), b"v\0");
    for server in [v6, server.local_address().unwrap()] {
        assert_eq!(ask_and_see(server, &port_please(b"n6")).0, found(b"n6", 4711));
    }
    assert_eq!(server.lookup("n6").unwrap().peer.unwrap().ip(), v6.ip());
}

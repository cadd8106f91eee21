//! Peers that are slow or say nothing lose their connection, and delay nobody.

#![cfg(test)]

mod common;

use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::served::{Served, local, with_timeout};
use common::wait_until;
use common::wire::{Client, End, NAMES, alive2, ask, found, port_please, register, v4};
use epmd_server::{Config, Delay, Notice};
use socket2::{Domain, Socket, Type};

/// A client that takes little before it reads.
fn narrow_client(port: u16) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&v4(port).into()).unwrap();
    TcpStream::from(socket).into()
}

/// A server whose listing is more than the system takes for a peer that does
/// not read; the length of the listing.
fn with_long_listing(seconds: u32) -> (Served, usize) {
    let server = Served::with(with_timeout(seconds));
    let wide = "😀".repeat(250);
    (0..5_000).for_each(|n| server.register_own(&format!("{wide}{n}")));
    let length = ask(server.port(), NAMES).len();
    assert!(length > 5_000_000);
    (server, length)
}

#[test]
fn a_silent_connection_is_closed_after_the_packet_timeout() {
    let server = Served::with(with_timeout(1));
    for request in [&b""[..], b"\0", b"\0\x03zn"] {
        let mut client = Client::connect(server.port());
        let connected = Instant::now();
        client.send(request);
        assert_eq!(client.read_to_end(), (vec![], End::Closed));
        assert!(connected.elapsed() >= Duration::from_secs(1));
        let [Notice::TimedOut { peer }] = server.wait_for_notices(1)[..] else { panic!() };
        assert!(peer.ip().is_loopback());
    }
    assert_eq!(server.counters().timed_out, 3);
    server.wait_for_open_connections(0);
}

#[test]
fn each_byte_starts_the_packet_timeout_anew() {
    let server = Served::with(with_timeout(2));
    let mut client = Client::connect(server.port());
    let connected = Instant::now();
    for byte in port_please(b"a longer name") {
        client.send(&[byte]);
        // The pause is what is tested: less than the time-out, but for many
        // bytes more.
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(connected.elapsed() > Duration::from_secs(3));
    assert_eq!(client.read_to_end().0, b"w\x01");
}

#[test]
fn a_byte_each_packet_timeout_is_in_time() {
    let server = Served::with(with_timeout(1));
    let mut client = Client::connect(server.port());
    for byte in NAMES {
        client.send(&[*byte]);
        // As above.
        std::thread::sleep(Duration::from_millis(1_050));
    }
    assert_eq!(client.read_to_end().0.len(), 4);
}

#[test]
fn a_registered_node_may_be_silent_for_ever() {
    let server = Served::with(with_timeout(2));
    // One that has to wait for its request takes another way through the server.
    let mut late = Client::connect(server.port());
    server.wait_for_open_connections(1);
    late.send(&alive2(b"n1", 1));
    assert_eq!(late.read(6).len(), 6);
    let (prompt, _) = register(server.port(), b"n2");
    let mut silent = Client::connect(server.port());
    assert_eq!(silent.read_to_end().1, End::Closed);
    assert!(late.is_open() && prompt.is_open());
    assert_eq!(server.count(), 2);
}

#[test]
fn a_peer_that_never_reads_is_reset_and_delays_nobody() {
    let (server, length) = with_long_listing(2);
    let (_node, _) = register(server.port(), b"n1");
    let mut stalled: Vec<_> = (0..4).map(|_| narrow_client(server.port())).collect();
    stalled.iter_mut().for_each(|client| client.send(NAMES));
    wait_until("all are served", || server.counters().listings == 5);
    for _ in 0..100 {
        assert_eq!(ask(server.port(), &port_please(b"n1")), found(b"n1", 4711));
    }
    assert_eq!(server.counters().unread, 0, "the look-ups waited");
    wait_until("they are given up", || server.counters().unread == 4);
    for client in &mut stalled {
        // An orderly end would make what has come look like the whole.
        let (part, end) = client.read_to_end();
        assert_eq!(end, End::Reset);
        assert!(part.len() < length);
    }
    server.wait_for_open_connections(1);
}

#[test]
fn a_peer_that_reads_slowly_gets_the_whole_listing() {
    let (server, length) = with_long_listing(2);
    let mut client = narrow_client(server.port());
    client.send(NAMES);
    let started = Instant::now();
    let mut got = 0;
    // As above, the pauses are what is tested.
    while started.elapsed() < Duration::from_millis(3_300) {
        got += client.read(50_000).len();
        std::thread::sleep(Duration::from_millis(50));
    }
    let (rest, end) = client.read_to_end();
    assert_eq!((got + rest.len(), end), (length, End::Closed));
}

#[test]
fn a_peer_that_asks_and_leaves_is_counted() {
    let (server, _) = with_long_listing(60);
    let mut client = narrow_client(server.port());
    client.send(NAMES);
    client.read(4);
    client.reset();
    wait_until("it is given up", || server.counters().unread == 1);
    server.wait_for_open_connections(0);
}

#[test]
fn a_busy_server_is_simulated_for_each_connection_by_itself() {
    let delay = |seconds| Delay::try_from(seconds).unwrap();
    let write = Served::with(Config { delay_write: delay(2), ..local() });
    let accept = Served::with(Config { delay_accept: delay(2), ..local() });
    for server in [write, accept] {
        let begun = Instant::now();
        let mut clients: Vec<_> = (0..20).map(|_| Client::connect(server.port())).collect();
        clients.iter_mut().for_each(|client| client.send(NAMES));
        for client in &mut clients {
            assert_eq!(client.read_to_end().0.len(), 4);
        }
        let took = begun.elapsed().as_secs();
        // C epmd sleeps anew before each, 40 seconds in all.
        assert!((2..20).contains(&took), "{took} seconds");
    }
}

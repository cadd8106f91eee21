//! Whatever a peer sends or withholds, the others are served.

#![cfg(test)]

mod common;

use common::load::Load;
use common::served::{Served, relaxed};
use common::wait_until;
use common::wire::{
    Client, DUMP, KILL, NAMES, alive2, ask, found, framed, port_please, register, stop, v4,
};
use epmd_server::Phase;

/// Small numbers that look random and are the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// Waits until only what is registered is open.
fn settle(server: &Served) {
    wait_until("all connections are served", || {
        server.info().open_connections == server.count() && {
            let counters = server.counters();
            counters.registered - counters.unregistered == server.count() as u64
        }
    });
}

#[test]
fn a_reset_at_any_byte_harms_nobody() {
    let server = Served::with(relaxed());
    let (node, _) = register(server.port(), b"n1");
    let requests = [&alive2(b"n2", 1)[..], &port_please(b"n1"), NAMES, DUMP, &stop(b"n2")];
    for request in requests {
        for cut in 0..=request.len() {
            let mut client = Client::connect(server.port());
            client.send(&request[..cut]);
            client.reset();
        }
    }
    wait_until("n2 is gone", || server.count() == 1);
    settle(&server);
    assert_eq!(ask(server.port(), &port_please(b"n1")), found(b"n1", 4711));
    assert!(node.is_open());
    assert_eq!(server.counters().panicked, 0);
}

#[test]
fn noise_harms_nobody() {
    let server = Served::with(relaxed());
    let (node, _) = register(server.port(), b"n1");
    let mut noise = Noise(4369);
    for round in 0..2_000 {
        let length = noise.next() % 64;
        let mut bytes = noise.bytes(length);
        if round % 2 == 0 {
            // Noise that is framed right, with a tag of the protocol. A KILL
            // would do what it says.
            bytes.insert(0, b"xzndsn"[noise.next() % 6]);
            bytes = framed(&bytes);
        }
        let mut client = Client::connect(server.port());
        client.send(&bytes);
        match noise.next() % 3 {
            0 => client.reset(),
            1 => drop(client),
            _ => client.finish_sending(),
        }
    }
    settle(&server);
    assert_eq!((server.count(), server.counters().panicked), (1, 0));
    assert!(node.is_open());
}

#[test]
fn idle_and_stuck_connections_delay_nobody() {
    let server = Served::local();
    let (_node, _) = register(server.port(), b"n1");
    let mut idle: Vec<_> = (0..300).map(|_| Client::connect(server.port())).collect();
    idle.iter_mut().skip(100).for_each(|client| client.send(&alive2(b"n2", 1)[..9]));
    server.wait_for_open_connections(301);
    let load = Load::start(v4(server.port()), 2, &port_please(b"n1"), &found(b"n1", 4711));
    load.go_on(500);
    assert_eq!(server.info().counters.timed_out, 0);
    load.finish();
    drop(idle);
    server.wait_for_open_connections(1);
}

#[test]
fn a_burst_of_requests_is_answered_whole() {
    let server = Served::local();
    let (_node, _) = register(server.port(), b"n1");
    let mut burst: Vec<_> = (0..400).map(|_| Client::connect(server.port())).collect();
    burst.iter_mut().for_each(|client| client.send(&port_please(b"n1")));
    assert!(burst.iter_mut().all(|client| client.read_to_end().0 == found(b"n1", 4711)));
}

#[test]
fn denied_kills_and_stops_harm_nobody() {
    let server = Served::local();
    let (node, _) = register(server.port(), b"n1");
    for _ in 0..200 {
        assert_eq!(ask(server.port(), KILL), b"NO");
        assert_eq!(ask(server.port(), &stop(b"n1")), b"");
    }
    assert_eq!(server.phase(), Phase::Running);
    assert!(node.is_open());
}

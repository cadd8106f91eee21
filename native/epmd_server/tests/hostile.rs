//! Whatever a peer sends or withholds, the others are served.

#![cfg(test)]

mod common;

use std::net::{Shutdown, TcpStream};

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

impl Noise {
    /// A packet of one of three kinds: anything; what is framed right, with a tag of the
    /// protocol; a request in which some bytes are others.
    fn packet(&mut self) -> Vec<u8> {
        let length = self.next() % 64;
        let mut bytes = self.bytes(length);
        match self.next() % 3 {
            0 => {}
            1 => {
                bytes.insert(0, b"xzndsni"[self.next() % 7]);
                bytes = framed(&bytes);
            }
            _ => {
                let requests = [&alive2(b"n1", 1)[..], &port_please(b"n1"), DUMP, &stop(b"n2")];
                bytes = requests[self.next() % 4].to_vec();
                for _ in 0..=self.next() % 3 {
                    let at = self.next() % bytes.len();
                    bytes[at] = self.next() as u8;
                }
            }
        }
        // A KILL would do what it says, and so would a STOP of the node that is to stay.
        let is_meant = matches!(bytes.get(2..), Some([b'k', ..] | [b's', b'n', b'1', ..]));
        if is_meant { self.packet() } else { bytes }
    }
}

#[test]
fn noise_harms_nobody() {
    let server = Served::with(relaxed());
    let port = server.port();
    let (node, _) = register(port, b"n1");
    std::thread::scope(|scope| {
        for seed in 0..2 {
            scope.spawn(move || {
                let mut noise = Noise(4369 + seed);
                for _ in 0..25_000 {
                    let mut client = Client::connect(port);
                    client.send(&noise.packet());
                    // Few of them in an orderly way, which occupies a port for a minute.
                    match noise.next() % 20 {
                        0 => drop(client),
                        1 => {
                            client.finish_sending();
                            client.read_to_end();
                        }
                        _ => client.reset(),
                    }
                }
            });
        }
    });
    settle(&server);
    assert_eq!((server.count(), server.counters().panicked), (1, 0));
    assert_eq!(server.counters().accepted, 50_001);
    assert!(node.is_open());
}

#[test]
fn a_reset_while_it_reads_its_reply_harms_nobody() {
    let server = Served::with(relaxed());
    let (node, _) = register(server.port(), b"n1");
    for request in [&alive2(b"n2", 1)[..], &port_please(b"n1"), NAMES, DUMP, &framed(b"info")] {
        for count in 1..8 {
            let mut client = Client::connect(server.port());
            client.send(request);
            client.read(count.min(6));
            client.reset();
        }
        wait_until("n2 is gone", || server.count() == 1);
    }
    settle(&server);
    assert!(node.is_open());
}

#[test]
fn a_client_that_has_shut_its_receiving_side_harms_nobody() {
    let server = Served::local();
    let (node, _) = register(server.port(), b"n1");
    for request in [&alive2(b"n2", 1)[..], &port_please(b"n1"), NAMES, b"", b"\0"] {
        for _ in 0..20 {
            let stream = TcpStream::connect(v4(server.port())).unwrap();
            stream.shutdown(Shutdown::Read).unwrap();
            let mut client = Client::from(stream);
            client.send(request);
        }
        wait_until("n2 is gone", || server.count() == 1);
    }
    settle(&server);
    assert!(node.is_open());
}

#[test]
fn scans_of_the_port_harm_nobody() {
    let server = Served::local();
    let (node, _) = register(server.port(), b"n1");
    for round in 0..5_000 {
        let client = Client::connect(server.port());
        if round % 10 == 0 { drop(client) } else { client.reset() }
    }
    settle(&server);
    assert_eq!(ask(server.port(), &port_please(b"n1")), found(b"n1", 4711));
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

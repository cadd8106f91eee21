//! A name that is free again. (In a process of its own: a child that another test
//! starts has every socket until it executes, and a name may really be in use.)

#![cfg(test)]

mod common;

use std::net::TcpListener;
use std::time::Duration;

use common::served::Served;
use common::wire::{Client, alive2, listening_node, registered};

#[test]
fn a_name_that_is_closed_and_registered_again_10_000_times_is_never_refused() {
    let server = Served::local();
    let mut node = listening_node(server.port(), b"n1");
    for _ in 0..10_000 {
        let (_, _, creation) = node;
        drop(node);
        node = listening_node(server.port(), b"n1");
        assert_eq!(node.2, creation + 1);
    }
    assert_eq!(server.counters().evicted, 0);
}

#[test]
fn a_node_that_registers_before_its_last_life_has_closed_is_never_refused() {
    let server = Served::local();
    // One that listens before, and one that never does.
    for port in [0, 4711] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = if port == 0 { listener.local_addr().unwrap().port() } else { port };
        let (mut node, mut creation) = registered(server.port(), &alive2(b"n1", port));
        for round in 0..1_000 {
            let mut next = Client::connect(server.port());
            next.send(&alive2(b"n1", port));
            if round % 4 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
            drop(node);
            assert_eq!(next.read(2), *b"v\0", "round {round}");
            let given = u32::from_be_bytes(*next.read(4).first_chunk().unwrap());
            assert_eq!(given, creation + 1);
            (node, creation) = (next, given);
        }
        drop(node);
        server.wait_for_count(0);
    }
    assert_eq!(server.counters().evicted, 0);
}

//! A name belongs to its connection: as long as that stands, and no longer.

#![cfg(test)]

mod common;

use common::served::{Served, relaxed};
use common::wire::{
    Client, DUMP, End, NAMES, NOT_FOUND, REFUSED, alive2, alive2_with, ask, found, port_please,
    register, stop,
};
use common::{wait_until, wire};
use epmd_core::{DownReason, Event, Glob, Refusal};
use epmd_server::Notice;

/// How nodes went down, of all notices.
fn ends(notices: Vec<Notice>) -> Vec<(String, DownReason)> {
    let end = |notice| match notice {
        Notice::Node(Event::Down { name, reason, .. }) => Some((name.to_string(), reason)),
        _ => None,
    };
    notices.into_iter().filter_map(end).collect()
}

#[test]
fn a_name_is_free_again_however_its_connection_ends() {
    let server = Served::local();
    let endings: [(fn(Client), DownReason); 3] = [
        (drop, DownReason::Closed),
        (Client::reset, DownReason::Closed),
        (
            |mut node| {
                node.send(b"!");
                assert_eq!(node.read_to_end().0, b"");
            },
            DownReason::SurplusData,
        ),
    ];
    for (end, reason) in endings {
        let (node, _) = register(server.port(), b"n1");
        assert_eq!(ask(server.port(), &port_please(b"n1")), found(b"n1", 4711));
        end(node);
        server.wait_for_count(0);
        assert_eq!(ask(server.port(), &port_please(b"n1")), NOT_FOUND);
        assert_eq!(ends(server.notices()), [("n1".to_owned(), reason)]);
    }
}

#[test]
fn each_life_of_a_name_has_the_next_creation() {
    let server = Served::local();
    let (first, creation) = register(server.port(), b"n1");
    drop(first);
    server.wait_for_count(0);
    let (second, next) = register(server.port(), b"n1");
    assert_eq!(next, creation + 1);
    drop(second);
    server.wait_for_count(0);
    let mut old = Client::connect(server.port());
    old.send(&alive2_with(b"n1", 1, 5, b""));
    let expected = (creation + 2) % 3 + 1;
    assert_eq!(old.read(4), [b'y', 0, 0, expected as u8]);
}

#[test]
fn the_holder_of_a_name_stays_when_another_asks_for_it() {
    let server = Served::local();
    let (holder, creation) = register(server.port(), b"n1");
    let before = server.lookup("n1").unwrap();
    for _ in 0..100 {
        assert_eq!(ask(server.port(), &alive2(b"n1", 1)), REFUSED);
    }
    assert_eq!(server.lookup("n1").unwrap(), before);
    assert_eq!(before.creation.get(), creation);
    assert!(holder.is_open());
}

#[test]
fn a_duplicate_that_resets_before_its_reply_costs_the_holder_nothing() {
    let server = Served::local();
    let (holder, _) = register(server.port(), b"n1");
    let before = server.lookup("n1").unwrap();
    let duplicate = alive2(b"n1", 1);
    for round in 0..1_000 {
        let mut client = Client::connect(server.port());
        // Whole requests take another way through the server than split ones.
        let split = if round % 2 == 0 { duplicate.len() } else { 2 };
        client.send(&duplicate[..split]);
        client.send(&duplicate[split..]);
        client.reset();
        assert_eq!(server.lookup("n1").as_ref(), Some(&before));
    }
    wait_until("all were accepted and closed", || {
        let info = server.info();
        info.counters.accepted == 1_001 && info.open_connections == 1
    });
    assert_eq!(server.lookup("n1").as_ref(), Some(&before));
    assert!(holder.is_open());
    assert_eq!(ends(server.notices()), []);
}

#[test]
fn a_name_that_was_closed_can_be_registered_at_once() {
    let server = Served::local();
    let mut creations = Vec::new();
    for _ in 0..2_000 {
        let (node, creation) = register(server.port(), b"n1");
        creations.push(creation);
        drop(node);
    }
    assert!(creations.is_sorted_by(|one, next| one + 1 == *next));
    server.wait_for_count(0);
    let counters = server.counters();
    assert_eq!((counters.registered, counters.unregistered), (2_000, 2_000));
}

#[test]
fn a_name_whose_node_was_reset_can_be_registered_at_once() {
    let server = Served::local();
    for _ in 0..500 {
        let (node, _) = register(server.port(), b"n1");
        node.reset();
    }
}

#[test]
fn stop_forces_a_name_out_and_closes_its_connection() {
    let server = Served::with(relaxed());
    let (mut node, _) = register(server.port(), b"n1");
    let (other, _) = register(server.port(), b"n2");
    assert_eq!(ask(server.port(), &stop(b"n1\0rest")), b"STOPPED");
    assert_eq!(node.read_to_end(), (vec![], End::Closed));
    assert_eq!(ask(server.port(), &stop(b"n1")), b"NOEXIST");
    assert_eq!(ask(server.port(), &stop(b"\xff")), b"NOEXIST");
    assert!(other.is_open());
    assert_eq!(ends(server.notices()), [("n1".to_owned(), DownReason::Stopped)]);
}

#[test]
fn the_owner_forces_a_name_out_as_stop_does() {
    let server = Served::local();
    let (mut node, _) = register(server.port(), b"n1");
    assert!(server.drop_name("n1"));
    assert_eq!(node.read_to_end(), (vec![], End::Closed));
    assert!(!server.drop_name("n1"));
    assert_eq!(ends(server.notices()), [("n1".to_owned(), DownReason::Dropped)]);
    let (_again, _) = register(server.port(), b"n1");
}

#[test]
fn a_name_that_is_forced_out_as_it_registers_is_not_left_connected() {
    let server = Served::local();
    for _ in 0..500 {
        let mut node = Client::connect(server.port());
        node.send(&alive2(b"n1", 1));
        while !server.drop_name("n1") {
            std::thread::yield_now();
        }
        let (reply, _) = node.read_to_end();
        assert!(reply.is_empty() || reply.starts_with(b"v\0"));
    }
}

#[test]
fn names_of_the_vm_are_found_like_those_of_nodes() {
    let server = Served::with(relaxed());
    server.register_own("own1");
    server.register_own("own2");
    assert_eq!(ask(server.port(), &port_please(b"own1")), found(b"own1", 4711));
    assert_eq!(ask(server.port(), &alive2(b"own1", 1)), REFUSED);
    let dump = ask(server.port(), DUMP);
    assert!(dump.ends_with(b"active name     <own1> at port 4711, fd = -1\n\0"));

    let (_node, _) = register(server.port(), b"node");
    assert!(server.unregister("own1"));
    assert!(!server.unregister("own1"));
    assert!(!server.unregister("node"), "it is not the VM's");
    assert_eq!(ask(server.port(), &stop(b"own2")), b"STOPPED");
    assert_eq!(
        ends(server.notices()),
        [("own1".to_owned(), DownReason::Unregistered), ("own2".to_owned(), DownReason::Stopped)]
    );
}

#[test]
fn a_name_in_use_is_refused_to_the_vm_too() {
    let server = Served::local();
    let (_node, _) = register(server.port(), b"n1");
    let registration = server.lookup("n1").unwrap().registration;
    let name = epmd_core::Name::new(b"n1").unwrap();
    assert_eq!(server.register(name, registration), Err(Refusal::NameInUse));
}

#[test]
fn listings_have_the_newest_registration_first() {
    let server = Served::local();
    let nodes: Vec<_> = [&b"n1"[..], b"web1", b"n2"]
        .into_iter()
        .map(|name| register(server.port(), name))
        .collect();
    let lines = b"name n2 at port 4711\nname web1 at port 4711\nname n1 at port 4711\n";
    assert_eq!(ask(server.port(), NAMES)[4..], *lines);
    let listed = server.names(&Glob::new("n*"));
    assert_eq!(listed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["n2", "n1"]);
    drop(nodes);
    server.wait_for_count(0);
    assert_eq!(ask(server.port(), NAMES)[4..], *wire::UNANSWERED);
}

//! Who registers names without end gets no more than it may have, and leaves the rest
//! to others.

#![cfg(test)]
#![cfg(target_os = "linux")]

mod common;

use common::process::{Partner, hear, role, tell};
use common::served::{Served, local};
use common::side::pair;
use common::wire::{Client, NAMES, REFUSED, alive2, ask, register};
use common::{wait_until, wire};
use epmd_core::{Name, Refusal, Registration};
use epmd_server::{Config, Limit, Notice};

fn at_most(max: u32) -> Limit {
    max.try_into().unwrap()
}

fn refused(server: &Served, reason: Refusal) -> u64 {
    let refused = server.counters().refused;
    refused.into_iter().find(|(one, _)| *one == reason).unwrap().1
}

/// What a registration is answered.
fn answer(port: u16, name: &str) -> (Client, Vec<u8>) {
    let mut client = Client::connect(port);
    client.send(&alive2(name.as_bytes(), 4711));
    let reply = client.read(6);
    (client, reply)
}

#[test]
fn no_more_nodes_are_registered_than_may_be() {
    let server = Served::with(Config { max_nodes: at_most(3), ..local() });
    let port = server.port();
    let mut nodes: Vec<_> = ["n1", "n2", "n3"].map(|name| register(port, name.as_bytes()).0).into();
    server.notices();
    for _ in 0..100 {
        let (mut client, reply) = answer(port, "n4");
        assert_eq!(reply, REFUSED);
        assert_eq!(client.read_to_end(), (vec![], wire::End::Closed));
    }
    assert_eq!(refused(&server, Refusal::TooManyNodes), 100);
    let [Notice::TooMany { reason: Refusal::TooManyNodes, ref name, .. }, ..] =
        server.wait_for_notices(100)[..]
    else {
        panic!()
    };
    assert_eq!(name.as_ref().map(Name::as_str), Some("n4"));
    // What is wrong with it besides comes first.
    assert_eq!(answer(port, "n1").1, REFUSED);
    assert_eq!(refused(&server, Refusal::NameInUse), 1);
    let registration = Registration {
        port: 1,
        node_type: 77,
        protocol: 0,
        highest_version: 6,
        lowest_version: 5,
        extra: Box::default(),
    };
    let own = server.register(Name::new(b"own").unwrap(), registration);
    assert_eq!(own, Err(Refusal::TooManyNodes));

    drop(nodes.pop());
    server.wait_for_count(2);
    nodes.push(register(port, b"n4").0);
    server.reconfigure(Config { max_nodes: Limit::NONE, ..server.config() }).unwrap();
    nodes.push(register(port, b"n5").0);
    server.reconfigure(Config { max_nodes: at_most(1), ..server.config() }).unwrap();
    assert_eq!(answer(port, "n6").1, REFUSED);
    assert!(nodes.iter().all(Client::is_open));
    assert_eq!(server.count(), 4);
}

/// Another process that registers names as it is told.
fn be_neighbour() {
    let mut nodes = Vec::new();
    while let Some(line) = hear() {
        let (port, name) = line.split_once(' ').unwrap();
        let (client, reply) = answer(port.parse().unwrap(), name);
        let is_registered = reply.starts_with(b"v\0");
        nodes.extend(is_registered.then_some(client));
        tell(if is_registered { "registered" } else { "refused" });
    }
}

/// None in that process.
fn neighbour(test: &str) -> Option<Partner> {
    if role().is_some() {
        be_neighbour();
        return None;
    }
    Some(Partner::start(test, "neighbour", &[]))
}

#[test]
fn a_process_registers_no_more_nodes_than_it_may_have() {
    let test = "a_process_registers_no_more_nodes_than_it_may_have";
    let Some(mut neighbour) = neighbour(test) else { return };
    let server = Served::with(Config { max_nodes_per_process: at_most(5), ..local() });
    let port = server.port();
    let register_all = || -> Vec<Client> {
        let nodes = (0..5).map(|n| register(port, format!("n{n}").as_bytes()).0).collect();
        for n in 5..30 {
            assert_eq!(answer(port, &format!("n{n}")).1, REFUSED);
        }
        nodes
    };
    let nodes = register_all();
    assert_eq!(refused(&server, Refusal::TooManyNodesOfProcess), 25);
    let pid = std::process::id() as i32;
    let told = server.notices().into_iter().filter_map(|notice| match notice {
        Notice::TooMany { by, .. } => Some(by.process.unwrap().pid),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [pid; 25]);
    for n in 0..6 {
        let expected = if n < 5 { "registered" } else { "refused" };
        assert_eq!(neighbour.ask(&format!("{port} other{n}")), expected);
    }
    assert!(nodes.iter().all(Client::is_open));
    // All are given back.
    drop(nodes);
    server.wait_for_count(5);
    drop(register_all());
}

#[test]
fn nodes_count_that_were_registered_before_anybody_asked_whose_they_are() {
    let test = "nodes_count_that_were_registered_before_anybody_asked_whose_they_are";
    let Some(mut neighbour) = neighbour(test) else { return };
    let mut server = Served::local();
    let port = server.port();
    let _nodes = [&b"n1"[..], b"n2"].map(|name| register(port, name));
    assert_eq!(neighbour.ask(&format!("{port} other1")), "registered");
    server.reconfigure(Config { max_nodes_per_process: at_most(2), ..server.config() }).unwrap();
    for _ in 0..2 {
        assert_eq!(answer(port, "n3").1, REFUSED);
        // By another port mapper, too.
        let (ours, theirs) = pair();
        server = std::thread::scope(|scope| {
            scope.spawn(|| server.hand_over_within(theirs).unwrap());
            Served::taking_over_within(ours).unwrap()
        });
    }
    assert_eq!(neighbour.ask(&format!("{port} other2")), "registered");
    assert_eq!(neighbour.ask(&format!("{port} other3")), "refused");
}

#[test]
fn a_flood_of_registrations_leaves_look_ups_and_others_alone() {
    let test = "a_flood_of_registrations_leaves_look_ups_and_others_alone";
    let Some(mut neighbour) = neighbour(test) else { return };
    let server = Served::with(Config { max_nodes_per_process: at_most(50), ..local() });
    let port = server.port();
    let flood = std::thread::spawn(move || {
        let answered: Vec<_> = (0..500).map(|n| answer(port, &format!("flood{n}"))).collect();
        answered.iter().filter(|(_, reply)| reply.starts_with(b"v\0")).count()
    });
    wait_until("it is refused", || refused(&server, Refusal::TooManyNodesOfProcess) > 0);
    assert_eq!(neighbour.ask(&format!("{port} other")), "registered");
    assert!(ask(port, NAMES).windows(5).any(|part| part == b"other"));
    assert_eq!(flood.join().unwrap(), 50);
}

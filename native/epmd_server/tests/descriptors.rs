//! Descriptors run out, and come back. Each server is in a process of its own,
//! with a limit of open files of its own.

#![cfg(test)]

mod common;

use std::fs::File;

use common::process::{Partner, hear, is_own, role, tell};
use common::served::{Served, local};
use common::wait_until;
use common::wire::{Client, End, alive2, ask, found, port_please, register};
use epmd_server::{Config, Notice};
use rustix::process::{Resource, getrlimit};

const LIMIT_256: &[&str] = &["sh", "-c", r#"ulimit -n 256; exec "$0" "$@""#];
const LIMIT_SOFT: &[&str] = &["sh", "-c", r#"ulimit -Sn 128; ulimit -Hn 512; exec "$0" "$@""#];

/// Serves until the first process is gone, and answers its questions.
fn serve() {
    let server = Served::local();
    tell(&server.port().to_string());
    let (mut short, mut enough, mut crowded_out) = (0, 0, 0);
    while let Some(question) = hear() {
        for notice in server.notices() {
            match notice {
                Notice::OutOfDescriptors => short += 1,
                Notice::DescriptorsSuffice => enough += 1,
                Notice::CrowdedOut { .. } => crowded_out += 1,
                _ => {}
            }
        }
        let counters = server.counters();
        match question.as_str() {
            "notices" => tell(&format!("{short} {enough}")),
            "crowded out" => {
                wait_until("each is told", || {
                    crowded_out += server.notices().len() as u64;
                    crowded_out >= counters.crowded_out
                });
                tell(&counters.crowded_out.to_string());
            }
            "times out" => tell(&counters.out_of_descriptors.to_string()),
            "open" => tell(&server.info().open_connections.to_string()),
            "open a file" => tell(&File::open("/dev/null").is_ok().to_string()),
            other => panic!("what is {other}?"),
        }
    }
}

/// A server that may have 256 descriptors, and its port; none in its process.
fn partner(test: &str) -> Option<(Partner, u16)> {
    if role().is_some() {
        serve();
        return None;
    }
    let mut partner = Partner::start(test, "server", LIMIT_256);
    let port = partner.hear().parse().unwrap();
    Some((partner, port))
}

/// Registers as many nodes as the server has descriptors for.
fn fill(server: &mut Partner, port: u16) -> Vec<Client> {
    let mut nodes = Vec::new();
    loop {
        let mut client = Client::connect(port);
        client.send(&alive2(format!("n{}", nodes.len()).as_bytes(), 4711));
        wait_until("it is registered, or none is left", || {
            !client.is_open() || server.ask("times out") != "0"
        });
        if client.is_open() {
            return nodes;
        }
        client.read(6);
        nodes.push(client);
    }
}

#[test]
fn silent_connections_make_way_when_descriptors_run_short() {
    let test = "silent_connections_make_way_when_descriptors_run_short";
    let Some((mut server, port)) = partner(test) else { return };
    let nodes: Vec<_> = [&b"n1"[..], b"n2"].map(|name| register(port, name)).into();
    let mut silent: Vec<Client> = Vec::new();
    for round in 0..1_000 {
        silent.push(Client::connect(port));
        if round % 100 == 0 {
            let (newcomer, _) = register(port, b"n3");
            assert_eq!(ask(port, &port_please(b"n1")), found(b"n1", 4711));
            assert_eq!(ask(port, &port_please(b"n3")), found(b"n3", 4711));
            drop(newcomer);
        }
    }
    let mut open = 0;
    let mut number = |what| server.ask(what).parse::<usize>().unwrap();
    wait_until("the others were closed", || {
        open = number("open") - nodes.len();
        open + number("crowded out") == silent.len()
    });
    // Few more than had to be, the oldest first, each in an orderly way.
    assert!((200..240).contains(&open), "{open}");
    assert_eq!(server.ask("open a file"), "true");
    let is_open: Vec<_> = silent.iter().map(Client::is_open).collect();
    // Those that are accepted at a time, up to 64, come in any order.
    let last = silent.len() - open;
    assert!(is_open.iter().take(last - 64).all(|open| !open));
    assert!(is_open.iter().skip(last + 64).all(|open| *open));
    assert_eq!(is_open.iter().filter(|open| **open).count(), open);
    let closed = silent.iter_mut().zip(is_open).filter(|(_, is_open)| !is_open);
    closed.for_each(|(client, _)| assert_eq!(client.read_to_end(), (vec![], End::Closed)));
    assert!(nodes.iter().all(|(node, _)| node.is_open()));
    assert_eq!(server.ask("notices"), "0 0");
    drop(silent);
    wait_until("all are closed", || server.ask("open") == "2");
}

#[test]
fn nodes_leave_the_vm_some_descriptors_and_stay() {
    let test = "nodes_leave_the_vm_some_descriptors_and_stay";
    let Some((mut server, port)) = partner(test) else { return };
    let nodes = fill(&mut server, port);
    assert!(nodes.len() > 200);
    let waiting: Vec<_> = (0..40).map(|_| Client::connect(port)).collect();
    // Long enough for the server to have tried as often as there are reserved
    // ones.
    wait_until("it has tried often", || server.ask("times out").parse::<u32>().unwrap() > 20);
    assert_eq!(server.ask("open a file"), "true");
    assert_eq!(server.ask("notices"), "1 0");
    assert!(nodes.iter().all(Client::is_open));
    drop(waiting);
}

#[test]
fn requests_wait_for_a_descriptor_of_a_node_and_are_answered_then() {
    let test = "requests_wait_for_a_descriptor_of_a_node_and_are_answered_then";
    let Some((mut server, port)) = partner(test) else { return };
    let mut nodes = fill(&mut server, port);
    let mut waiting: Vec<_> = (0..20).map(|_| Client::connect(port)).collect();
    waiting.iter_mut().for_each(|client| client.send(&port_please(b"n0")));
    assert!(waiting.iter().all(Client::is_open));
    drop(nodes.remove(1));
    assert!(waiting.iter_mut().all(|client| client.read_to_end().0 == found(b"n0", 4711)));
    wait_until("it has told so", || server.ask("notices") == "1 1");
    assert!(nodes.iter().all(Client::is_open));
    drop(nodes);
    wait_until("all are closed", || server.ask("open") == "0");
}

#[test]
fn the_soft_limit_is_raised_to_the_hard_one_where_that_is_asked_for() {
    let test = "the_soft_limit_is_raised_to_the_hard_one_where_that_is_asked_for";
    if !is_own(test, LIMIT_SOFT) {
        return;
    }
    let soft_limit = || getrlimit(Resource::Nofile).current.unwrap();
    let kept = Served::local();
    assert_eq!(soft_limit(), 128);
    drop(kept);
    let server = Served::with(Config { raise_file_limit: true, ..local() });
    assert_eq!(soft_limit(), 512);
    // Both ends are in this process.
    let clients: Vec<_> = (0..200).map(|_| Client::connect(server.port())).collect();
    server.wait_for_open_connections(200);
    let counters = server.counters();
    assert_eq!((counters.out_of_descriptors, counters.crowded_out), (0, 0));
    drop(clients);
}

#[test]
fn servers_that_were_stopped_leave_no_descriptor() {
    let test = "servers_that_were_stopped_leave_no_descriptor";
    if !is_own(test, &[]) {
        return;
    }
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let cycle = |round: u32| {
        let server = Served::local();
        let (_node, _) = register(server.port(), b"n1");
        let _idle = Client::connect(server.port());
        if round.is_multiple_of(10) {
            server.panic_thread();
            wait_until("the thread is down", || server.phase() != epmd_server::Phase::Running);
        }
    };
    cycle(0);
    let before = descriptors();
    (0..200).for_each(cycle);
    assert_eq!(descriptors(), before);
}

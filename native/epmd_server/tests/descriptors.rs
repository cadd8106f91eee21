//! Descriptors run out, and come back. Each server is in a process of its own,
//! with a limit of open files of its own.

#![cfg(test)]

mod common;

use std::fs::File;
use std::io::Write;
use std::net::TcpStream;

use common::process::{Partner, hear, is_own, role, tell};
use common::served::{Served, local};
use common::wait_until;
use common::wire::{Client, ask, found, port_please, register, v4};
use epmd_server::{Config, Notice};
use rustix::process::{Resource, getrlimit};

const LIMIT_256: &[&str] = &["sh", "-c", r#"ulimit -n 256; exec "$0" "$@""#];
const LIMIT_SOFT: &[&str] = &["sh", "-c", r#"ulimit -Sn 128; ulimit -Hn 512; exec "$0" "$@""#];

/// Serves until the first process is gone, and answers its questions.
fn serve() {
    let server = Served::local();
    tell(&server.port().to_string());
    let (mut short, mut enough) = (0, 0);
    while let Some(question) = hear() {
        let notices = server.notices();
        short += notices.iter().filter(|one| **one == Notice::OutOfDescriptors).count();
        enough += notices.iter().filter(|one| **one == Notice::DescriptorsSuffice).count();
        match question.as_str() {
            "notices" => tell(&format!("{short} {enough}")),
            "times out" => tell(&server.counters().out_of_descriptors.to_string()),
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

/// More connections than the server has descriptors, once it tells that it has
/// run short so many times.
fn flood(server: &mut Partner, port: u16, times: u32) -> Vec<TcpStream> {
    let flood = (0..400).map(|_| TcpStream::connect(v4(port)).unwrap()).collect();
    let told = format!("{times} {}", times - 1);
    wait_until("no descriptor is left", || server.ask("notices") == told);
    flood
}

#[test]
fn more_idle_connections_than_descriptors_do_not_end_the_server() {
    let test = "more_idle_connections_than_descriptors_do_not_end_the_server";
    let Some((mut server, port)) = partner(test) else { return };
    let nodes: Vec<_> = [&b"n1"[..], b"n2"].map(|name| register(port, name)).into();
    for round in 1..=3 {
        let idle = flood(&mut server, port, round);
        drop(idle);
        // At once, not after the next try of a server that has backed off.
        assert_eq!(ask(port, &port_please(b"n1")), found(b"n1", 4711));
        let (_newcomer, _) = register(port, b"n3");
        wait_until("it has told so", || server.ask("notices") == format!("{round} {round}"));
    }
    assert!(nodes.iter().all(|(node, _)| node.is_open()));
    assert_eq!(ask(port, &port_please(b"n2")), found(b"n2", 4711));
    wait_until("all are closed", || server.ask("open") == "2");
}

#[test]
fn connections_leave_the_vm_some_descriptors() {
    let test = "connections_leave_the_vm_some_descriptors";
    let Some((mut server, port)) = partner(test) else { return };
    let idle = flood(&mut server, port, 1);
    // Long enough for the server to have tried as often as there are reserved
    // ones.
    wait_until("it has tried often", || server.ask("times out").parse::<u32>().unwrap() > 20);
    assert_eq!(server.ask("open a file"), "true");
    assert_eq!(server.ask("notices"), "1 0");
    drop(idle);
}

#[test]
fn requests_wait_for_a_descriptor_and_are_answered_then() {
    let test = "requests_wait_for_a_descriptor_and_are_answered_then";
    let Some((mut server, port)) = partner(test) else { return };
    let (_node, _) = register(port, b"n1");
    let mut idle = flood(&mut server, port, 1);
    let mut waiting: Vec<_> = (0..20).map(|_| Client::connect(port)).collect();
    waiting.iter_mut().for_each(|client| client.send(&port_please(b"n1")));
    assert!(waiting.iter().all(Client::is_open));
    while let Some(mut connection) = idle.pop() {
        // Whole requests end connections too.
        connection.write_all(&port_please(b"n2")).unwrap();
    }
    assert!(waiting.iter_mut().all(|client| client.read_to_end().0 == found(b"n1", 4711)));
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
    assert_eq!(server.counters().out_of_descriptors, 0);
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

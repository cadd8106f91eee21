//! What a peer that watches is told, and what becomes of it.

#![cfg(test)]
#![cfg(target_os = "linux")]

mod common;

use std::collections::BTreeSet;
use std::io::Read;
use std::net::TcpStream;

use common::load::Load;
use common::served::{Served, local, with_timeout};
use common::takeover::start;
use common::wait_until;
use common::wire::{Client, End, UNANSWERED, ask, found, framed, port_please, register, v4};
use epmd_core::{Present, Told};
use epmd_server::Config;

/// A peer that watches.
struct Watcher(Client);

impl Watcher {
    fn new(server: &Served, glob: &str) -> Self {
        let mut client = Client::connect(server.port());
        client.send(&framed(format!("W{glob}").as_bytes()));
        Self(client)
    }

    /// The next message, as text.
    fn hear(&mut self) -> String {
        let length = u16::from_be_bytes(*self.0.read(2).first_chunk().unwrap());
        let body = self.0.read(length.into());
        let node = |node: Present<'_>| format!("{} {} {}", node.name, node.port, node.node_type);
        match Told::decode(&body).unwrap() {
            Told::Begin { missed } => format!("begin {missed}"),
            Told::Node(present) => format!("node {}", node(present)),
            Told::End { sequence } => format!("end {sequence}"),
            Told::Up { sequence, node: present } => format!("{sequence} up {}", node(present)),
            Told::Down { sequence, reason, name, .. } => {
                format!("{sequence} down {name} {}", reason.as_str())
            }
            Told::Alive => "alive".to_owned(),
        }
    }

    fn hears(&mut self, expected: &[&str]) {
        let heard: Vec<_> = expected.iter().map(|_| self.hear()).collect();
        assert_eq!(heard, expected);
    }
}

/// Every connection that was accepted is accounted for.
fn assert_adds_up(server: &Served) {
    let open = server.info().open_connections as u64;
    let counted = server.counters();
    let ended = counted.answered + counted.unanswered + counted.silent + counted.unread;
    let held = server.count() as u64;
    assert_eq!(counted.accepted, ended + open - held, "{counted:?}");
}

#[test]
fn a_watcher_is_told_of_all_nodes_and_then_of_every_change() {
    let server = Served::local();
    let (n1, _) = register(server.port(), b"n1");
    let (_other, _) = register(server.port(), b"other");
    let mut all = Watcher::new(&server, "*");
    let mut some = Watcher::new(&server, "n[0-9]");
    all.hears(&["begin 0", "node n1 4711 77", "node other 4711 77", "end 2"]);
    some.hears(&["begin 0", "node n1 4711 77", "end 2"]);
    server.register_own("o2");
    let (n2, creation) = register(server.port(), b"n2");
    all.hears(&["3 up o2 4711 77", "4 up n2 4711 77"]);
    drop(n1);
    all.hears(&["5 down n1 closed"]);
    assert!(server.drop_name("n2"));
    assert!(server.unregister("o2"));
    all.hears(&["6 down n2 dropped", "7 down o2 unregistered"]);
    some.hears(&["4 up n2 4711 77", "5 down n1 closed", "6 down n2 dropped"]);
    drop(n2);
    let mut late = Watcher::new(&server, "*");
    late.hears(&["begin 0", "node other 4711 77", "end 7"]);
    let (_n2, next) = register(server.port(), b"n2");
    assert_eq!(next, creation + 1);
    let mut up = Vec::new();
    let node = Present { creation: next, port: 4711, node_type: 77, name: "n2" };
    Told::Up { sequence: 8, node }.encode(&mut up);
    assert_eq!(late.0.read(up.len()), up);
    assert_eq!(server.counters().watches, 3);
    assert_adds_up(&server);
}

#[test]
fn a_watcher_ends_by_going_or_by_saying_more() {
    let server = Served::local();
    let [mut goes, mut says] = [(); 2].map(|()| Watcher::new(&server, "*"));
    for watcher in [&mut goes, &mut says] {
        watcher.hears(&["begin 0", "end 0"]);
    }
    assert_eq!(server.info().open_connections, 2);
    drop(goes);
    server.wait_for_open_connections(1);
    says.0.send(b"x");
    assert_eq!(says.0.read_to_end(), (vec![], End::Closed));
    server.wait_for_open_connections(0);
    assert_eq!(server.counters().answered, 2);
    assert_adds_up(&server);
    for wrong in [&b"W"[..], b"W\xff", b"Wn\0"] {
        assert_eq!(ask(server.port(), &framed(wrong)), UNANSWERED);
    }
}

#[test]
fn a_watcher_hears_that_the_server_lives() {
    let server = Served::with(with_timeout(1));
    let mut watcher = Watcher::new(&server, "n*");
    watcher.hears(&["begin 0", "end 0", "alive", "alive"]);
    // Of what it does not watch, it hears no more than that.
    server.register_own("other");
    watcher.hears(&["alive"]);
}

#[test]
fn no_more_watch_than_may() {
    let server = Served::with(Config { max_watchers: 2, ..local() });
    let mut two = [(); 2].map(|()| Watcher::new(&server, "*"));
    two.iter_mut().for_each(|watcher| watcher.hears(&["begin 0", "end 0"]));
    assert_eq!(ask(server.port(), &framed(b"W*")), UNANSWERED);
    let reason = |(reason, count): &(epmd_core::Refusal, u64)| {
        (*count > 0).then(|| (reason.as_str(), *count))
    };
    let refused: Vec<_> = server.counters().refused.iter().filter_map(reason).collect();
    assert_eq!(refused, [("too_many_watchers", 1)]);
    let [first, _second] = two;
    drop(first);
    server.wait_for_open_connections(1);
    Watcher::new(&server, "*").hears(&["begin 0", "end 0"]);
}

/// Has nodes with long names come and go, until something holds; how many.
fn churn_until(server: &Served, mut holds: impl FnMut() -> bool) -> u64 {
    let mut number = 0;
    while !holds() {
        let name = format!("{}{}", "é".repeat(200), number % 100);
        if !server.unregister(&name) {
            server.register_own(&name);
        }
        number += 1;
        assert!(number < 2_000_000, "it takes all");
        if number % 1_000 == 0 {
            // The watchers get their turn.
            std::thread::sleep(std::time::Duration::from_millis(1));
            let _ = server.take_notices(usize::MAX);
        }
    }
    number
}

#[test]
fn a_watcher_that_does_not_read_is_closed_and_delays_nobody() {
    let server = Served::with(with_timeout(1));
    let (_n1, _) = register(server.port(), b"n1");
    let mut silent = Watcher::new(&server, "*");
    let mut reader = Watcher::new(&server, "n*");
    silent.hears(&["begin 0", "node n1 4711 77", "end 1"]);
    reader.hears(&["begin 0", "node n1 4711 77", "end 1"]);
    let load = Load::start(v4(server.port()), 2, &port_please(b"n1"), &found(b"n1", 4711));
    churn_until(&server, || server.counters().unread == 1);
    load.finish();
    server.register_own("n2");
    // Its pace was too fast for this one, perhaps.
    wait_until("the other one hears of n2", || reader.hear().contains("n2 4711 77"));
    let (_, end) = silent.0.read_to_end();
    assert_eq!(end, End::Reset);
}

#[test]
fn a_watcher_that_reads_late_is_told_how_much_it_missed_and_begins_anew() {
    let server = Served::local();
    let mut watcher = Watcher::new(&server, "*");
    watcher.hears(&["begin 0", "end 0"]);
    // More than the system and the server keep for it.
    let changes = std::cell::Cell::new(0);
    let last = churn_until(&server, || changes.replace(changes.get() + 1) == 60_000);
    server.register_own("last");
    let (mut names, mut sequence, mut missed, mut missed_in_all) = (BTreeSet::new(), 0, 0, 0);
    loop {
        let told = watcher.hear();
        let words: Vec<_> = told.split(' ').collect();
        match words[..] {
            ["begin", count] => {
                missed = count.parse::<u64>().unwrap();
                missed_in_all += missed;
                names.clear();
            }
            ["node", name, ..] => assert!(names.insert(name.to_owned())),
            ["end", number] => {
                assert_eq!(number.parse::<u64>().unwrap(), sequence + missed);
                sequence += std::mem::take(&mut missed);
                if names.contains("last") {
                    break;
                }
            }
            [number, change, name, ..] => {
                sequence += 1;
                assert_eq!(number.parse::<u64>().unwrap(), sequence);
                let fits =
                    if change == "up" { names.insert(name.into()) } else { names.remove(name) };
                assert!(fits, "{told}");
                if name == "last" {
                    break;
                }
            }
            _ => {}
        }
    }
    assert!(sequence > last && missed_in_all > 0, "{missed_in_all} of {sequence}");
    let registered = server.names(&epmd_core::Glob::new("*"));
    assert_eq!(names, registered.into_iter().map(|(name, _)| name.to_string()).collect());
}

#[test]
fn watchers_go_on_when_the_thread_of_the_server_is_replaced() {
    let server = Served::local();
    let mut watcher = Watcher::new(&server, "*");
    watcher.hears(&["begin 0", "end 0"]);
    server.panic_thread();
    wait_until("the thread is replaced", || {
        server.resume().unwrap();
        server.wakes() > 0 && server.phase() == epmd_server::Phase::Running
    });
    server.register_own("n1");
    watcher.hears(&["1 up n1 4711 77"]);
}

#[test]
fn watchers_begin_anew_with_a_successor_that_takes_over() {
    let (place, server) = start();
    let (_n1, _) = register(server.port(), b"n1");
    let (n2, _) = register(server.port(), b"n2");
    let mut watcher = Watcher::new(&server, "*");
    watcher.hears(&["begin 0", "node n1 4711 77", "node n2 4711 77", "end 2"]);
    let successor = Served::taking_over(place.config()).unwrap();
    watcher.hears(&["begin 0", "node n1 4711 77", "node n2 4711 77", "end 0"]);
    drop(n2);
    watcher.hears(&["1 down n2 closed"]);
    assert_eq!(successor.counters().watches, 1);
    drop((server, successor));
    assert_eq!(watcher.0.read_to_end(), (vec![], End::Closed));
}

#[test]
fn a_watcher_sees_the_end_of_a_server_that_stops() {
    let server = Served::local();
    let mut stream = TcpStream::connect(v4(server.port())).unwrap();
    std::io::Write::write_all(&mut stream, &framed(b"W*")).unwrap();
    wait_until("it watches", || server.counters().watches == 1);
    server.stop();
    let mut told = Vec::new();
    stream.read_to_end(&mut told).unwrap();
    assert_eq!(told, b"\0\x09B\0\0\0\0\0\0\0\0\0\x09E\0\0\0\0\0\0\0\0");
}

//! What a server tells a local client of itself.

#![cfg(test)]

mod common;

use common::served::Served;
use common::wire::{NAMES, UNANSWERED, ask, ask_and_see, framed, port_please, register, v4};
use epmd_core::Facts;
use parking_lot::Mutex;

fn facts(server: &Served) -> Vec<(String, String)> {
    facts_in_reply_to(server, b"info")
}

fn facts_in_reply_to(server: &Served, body: &[u8]) -> Vec<(String, String)> {
    let reply = ask(server.port(), &framed(body));
    let facts = Facts::decode(&reply).unwrap();
    assert_eq!(facts.epmd_port, u32::from(server.port()));
    facts.facts
}

#[test]
fn info_tells_what_runs_where_and_what_it_counted() {
    let server = Served::local();
    let (_node, _) = register(server.port(), b"n1");
    let (gone, _) = register(server.port(), b"n2");
    drop(gone);
    server.wait_for_count(1);
    let at = v4(server.port());
    ask_and_see(at, NAMES);
    ask_and_see(at, &port_please(b"n1"));
    ask_and_see(at, &port_please(b"n2"));
    let facts = facts(&server);
    let address = at.to_string();
    let pid = std::process::id().to_string();
    for (key, value) in [
        ("nodes", "1"),
        ("remembered", "1"),
        ("program", "portmapper"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("pid", &pid),
        ("address", &address),
        ("accepted", "6"),
        ("lookups_hit", "1"),
        ("lookups_missed", "1"),
        ("listings", "1"),
        ("refused_name_in_use", "0"),
    ] {
        assert!(facts.contains(&(key.into(), value.into())), "{key} {value} in {facts:?}");
    }
    let uptime = facts.iter().find(|(key, _)| key == "uptime_ms").unwrap();
    assert!(uptime.1.parse::<u64>().is_ok(), "{uptime:?}");
}

/// Held by tests that start a program, or ask who has a socket: until it executes,
/// a program that is started has all sockets of this process, too.
static STARTING: Mutex<()> = Mutex::new(());

/// What is told of this process as a holder.
fn this_process() -> Vec<(String, String)> {
    let text = |path: &str| std::fs::read_to_string(path).unwrap().trim_end().to_owned();
    let id = std::process::Command::new("id").arg("-un").output().unwrap().stdout;
    vec![
        ("pid".into(), std::process::id().to_string()),
        ("program".into(), text("/proc/self/comm")),
        ("user".into(), String::from_utf8(id).unwrap().trim_end().to_owned()),
    ]
}

#[test]
fn info_of_a_node_tells_who_holds_its_name() {
    let _alone = STARTING.lock();
    let server = Served::local();
    let (node, creation) = register(server.port(), b"n1");
    server.register_own("own");
    for (name, peer) in [("n1", node.address().to_string()), ("own", "vm".to_owned())] {
        let registered = server.lookup(name).unwrap();
        let mut expected: Vec<(String, String)> = vec![
            ("port".into(), "4711".into()),
            ("creation".into(), registered.creation.get().to_string()),
            ("since_ms".into(), registered.since.0.to_string()),
            ("peer".into(), peer),
        ];
        expected.extend(this_process());
        let told = facts_in_reply_to(&server, format!("info {name}").as_bytes());
        assert_eq!(told, expected);
    }
    assert_eq!(server.lookup("n1").unwrap().creation.get(), creation);
    assert_eq!(facts_in_reply_to(&server, b"info n2"), []);
    for wrong in [&b"info n1\0"[..], b"info \xff"] {
        assert_eq!(ask(server.port(), &framed(wrong)), UNANSWERED);
    }
}

#[test]
fn info_of_nodes_is_told_to_many_at_a_time() {
    let _alone = STARTING.lock();
    let server = Served::local();
    let (_node, _) = register(server.port(), b"n1");
    let expected = facts_in_reply_to(&server, b"info n1");
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                assert_eq!(facts_in_reply_to(&server, b"info n1"), expected);
                assert_eq!(ask(server.port(), &port_please(b"n2")), *b"w\x01");
            });
        }
    });
}

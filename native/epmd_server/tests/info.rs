//! What a server tells a local client of itself.

#![cfg(test)]

mod common;

use common::served::Served;
use common::wire::{NAMES, ask_and_see, framed, port_please, register, v4};
use epmd_core::Facts;

fn facts(server: &Served) -> Vec<(String, String)> {
    let reply = ask_and_see(v4(server.port()), &framed(b"info")).0;
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

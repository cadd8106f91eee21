//! What is counted adds up, as `docs/counters.md` says.

#![cfg(test)]

mod common;

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};

use common::process::{Partner, hear, role, tell};
use common::served::{Served, relaxed};
use common::wait_until;
use common::wire::{
    Client, DUMP, NAMES, alive2, ask, framed, listening_node, port_please, register, stop,
};
use epmd_server::{Config, Info, PacketTimeout};

/// All that is counted, by the names that INFO has.
fn facts(info: &Info) -> HashMap<String, u64> {
    let counters = &info.counters;
    let mut facts: HashMap<String, u64> =
        counters.named().into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
    let ended = counters.ended.iter();
    facts.extend(ended.map(|(reason, count)| (format!("ended_{}", reason.as_str()), *count)));
    let refused = counters.refused.iter();
    facts.extend(refused.map(|(reason, count)| (format!("refused_{}", reason.as_str()), *count)));
    facts.insert("nodes".into(), info.nodes as u64);
    facts.insert("waiting_connections".into(), info.waiting_connections as u64);
    facts.insert("waiting_notices".into(), info.waiting_notices as u64);
    facts
}

/// The lines of `docs/counters.md` that are equations.
fn equations() -> Vec<(String, Vec<String>)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/counters.md");
    let text = std::fs::read_to_string(path).unwrap();
    let equations = text.lines().filter_map(|line| line.strip_prefix("    "));
    let sum = |text: &str| text.split('+').map(|one| one.trim().to_owned()).collect::<Vec<_>>();
    let equations: Vec<_> = equations
        .map(|line| line.split_once('=').unwrap())
        .map(|(left, right)| (left.trim().to_owned(), sum(right)))
        .collect();
    assert_eq!(equations.len(), 6);
    equations
}

/// Both sides of an equation, a sum of a kind being all of that kind.
fn sides(facts: &HashMap<String, u64>, left: &str, right: &[String]) -> [u64; 2] {
    let side = |terms: &[String]| {
        terms
            .iter()
            .map(|term| match term.strip_suffix('*') {
                Some(kind) => {
                    facts.iter().filter(|(name, _)| name.starts_with(kind)).map(|(_, n)| n).sum()
                }
                None => facts[term],
            })
            .sum()
    };
    let left: Vec<_> = left.split('+').map(|one| one.trim().to_owned()).collect();
    [side(&left), side(right)]
}

/// A server that may have 256 descriptors.
fn serve() {
    let server = Served::with(Config {
        packet_timeout: PacketTimeout::try_from(1).unwrap(),
        max_nodes: 100.try_into().unwrap(),
        ..relaxed()
    });
    tell(&server.port().to_string());
    while let Some(question) = hear() {
        match question.as_str() {
            "facts" => {
                let facts = facts(&server.info());
                let words: Vec<_> = facts.iter().map(|(name, n)| format!("{name}={n}")).collect();
                tell(&words.join(" "));
            }
            "notices" => tell(&server.take_notices(100).0.len().to_string()),
            "own" => {
                server.register_own("own");
                assert!(server.unregister("own"));
                tell("done");
            }
            name => tell(&server.drop_name(name).to_string()),
        }
    }
}

fn partner(test: &str) -> Option<(Partner, u16)> {
    if role().is_some() {
        serve();
        return None;
    }
    let limit = ["sh", "-c", r#"ulimit -n 256; exec "$0" "$@""#];
    let mut partner = Partner::start(test, "server", &limit);
    let port = partner.hear().parse().unwrap();
    Some((partner, port))
}

fn told(server: &mut Partner) -> HashMap<String, u64> {
    let told = server.ask("facts");
    let words = told.split(' ').map(|word| word.split_once('=').unwrap());
    words.map(|(name, count)| (name.to_owned(), count.parse().unwrap())).collect()
}

/// Something of everything that can be counted.
fn play(server: &mut Partner, port: u16) {
    for request in [
        &port_please(b"n1")[..],
        &port_please(b"n2"),
        &port_please(b"\xff"),
        NAMES,
        DUMP,
        &framed(b"info"),
        &framed(b"info n1"),
        &stop(b"nobody"),
        &alive2(b"n1", 1),
        &alive2(b"\xff", 1),
        &alive2(b"n2", 1)[..9],
        b"\0\0",
        b"\0\x01?",
    ] {
        for end in [Client::finish_sending, |_: &Client| ()] {
            let mut whole = Client::connect(port);
            whole.send(request);
            end(&whole);
        }
        let mut reset = Client::connect(port);
        reset.send(request);
        reset.reset();
        let mut split = Client::connect(port);
        request.iter().for_each(|byte| split.send(&[*byte]));
    }
    drop(Client::connect(port));
    let (mut talkative, _) = register(port, b"talkative");
    talkative.send(b"!");
    let (_stopped, _) = register(port, b"stopped");
    ask(port, &stop(b"stopped"));
    let (_dropped, _) = register(port, b"dropped");
    assert_eq!(server.ask("dropped"), "true");
    server.ask("own");
    let (listener, _evicted, _) = listening_node(port, b"evicted");
    let there = listener.local_addr().unwrap();
    drop(listener);
    let (_successor, _) = register(port, b"evicted");
    drop(TcpListener::bind(there));
}

#[test]
fn what_is_counted_adds_up_when_all_is_quiet() {
    let test = "what_is_counted_adds_up_when_all_is_quiet";
    let Some((mut server, port)) = partner(test) else { return };
    let _node = register(port, b"n1");
    for _ in 0..3 {
        play(&mut server, port);
    }
    // More silent ones than there are descriptors, and more nodes than may be.
    let silent: Vec<_> = (0..300).map(|_| Client::connect(port)).collect();
    let nodes: Vec<_> = (0..110)
        .map(|n| {
            let mut client = Client::connect(port);
            client.send(&alive2(format!("many{n}").as_bytes(), 1));
            client.read(6);
            client
        })
        .collect();
    wait_until("the rest is timed out", || told(&mut server)["timed_out"] > 100);
    wait_until("nobody waits", || told(&mut server)["waiting_connections"] == 0);
    drop(silent);
    assert_eq!(server.ask("notices"), "100");
    let facts = told(&mut server);
    for (left, right) in equations() {
        let [left_side, right_side] = sides(&facts, &left, &right);
        assert_eq!(left_side, right_side, "{left} = {right:?} in {facts:?}");
    }
    // It was something of everything.
    let none: Vec<_> =
        facts.iter().filter(|(_, count)| **count == 0).map(|(name, _)| name).collect();
    let may_be_none = [
        "panicked",
        "not_kept",
        "watches",
        "refused_too_many_watchers",
        "inherited",
        "unread",
        "out_of_descriptors",
        "notices_missed",
        "suppressed",
        "waiting_connections",
        "refused_incomplete",
        "refused_invalid_name",
        "refused_surplus_data",
        "refused_extra_too_long",
        "refused_name_too_long",
        "refused_malformed",
        "refused_not_local",
        "refused_not_permitted",
        "refused_nodes_registered",
        "refused_too_many_nodes_of_process",
    ];
    let unexpected: Vec<_> =
        none.iter().filter(|name| !may_be_none.contains(&name.as_str())).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
    drop(nodes);
}

#[test]
fn nodes_add_up_at_any_time() {
    let server = Served::with(relaxed());
    let (port, over) = (server.port(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let over = &over;
            scope.spawn(move || {
                let name = format!("n{thread}");
                while !over.load(Ordering::Relaxed) {
                    let (mut node, _) = register(port, name.as_bytes());
                    ask(port, &port_please(b"n1"));
                    node.send(b"!");
                    let _ = node.read_to_end();
                }
            });
        }
        for _ in 0..2_000 {
            let facts = facts(&server.info());
            for (left, right) in equations() {
                let [left_side, right_side] = sides(&facts, &left, &right);
                if left.contains("registered") {
                    assert_eq!(left_side, right_side, "{left} = {right:?}");
                }
            }
            let _ = server.take_notices(1_000);
        }
        over.store(true, Ordering::Relaxed);
    });
}

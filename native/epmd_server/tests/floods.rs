//! Whoever opens all the connections that it can leaves enough for nodes: they register
//! and are looked up without delay. Each server may have 1,024 descriptors.

#![cfg(test)]
#![cfg(target_os = "linux")]

mod common;

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::namespace::{FAR_ADDRESSES, NEAR_ADDRESSES, with_remote};
use common::process::{Partner, hear, role, sh, tell};
use common::served::{Served, local};
use common::wait_until;
use common::wire::{Client, ask_and_see, found, listening_node, port_please, register, v4};
use epmd_server::{Addresses, Config};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How long a node may take to register, and a look-up of it, in all.
const PROMISE: Duration = Duration::from_millis(100);

/// What a busy machine may add to that.
const ALLOWANCE: Duration = Duration::from_millis(900);

/// A server that may have 1,024 descriptors, and its port; none in its process.
fn partner(test: &str) -> Option<(Partner, u16)> {
    if role().is_some() {
        let server = Served::local();
        tell(&server.port().to_string());
        while let Some(question) = hear() {
            match question.as_str() {
                "accepted" => tell(&server.counters().accepted.to_string()),
                "crowded out" => tell(&server.counters().crowded_out.to_string()),
                "starved" => tell(&server.counters().out_of_descriptors.to_string()),
                _ => tell(&server.count().to_string()),
            }
        }
        return None;
    }
    let limit = ["sh", "-c", r#"ulimit -n 1024; exec "$0" "$@""#];
    let mut partner = Partner::start(test, "server", &limit);
    let port = partner.hear().parse().unwrap();
    Some((partner, port))
}

/// This process may have as many descriptors as it can.
fn raise_own_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

/// Has nodes come and go, each looked up; how long each took, the longest last.
fn register_and_look_up(server: SocketAddr, mut goes_on: impl FnMut() -> bool) -> Vec<Duration> {
    let mut times = Vec::new();
    while goes_on() {
        let name = format!("node{}", times.len());
        let begun = Instant::now();
        let (node, _) = register(server.port(), name.as_bytes());
        let looked_up = ask_and_see(server, &port_please(name.as_bytes())).0;
        times.push(begun.elapsed());
        assert_eq!(looked_up, found(name.as_bytes(), 4711));
        drop(node);
        // The pause is part of the scene: nodes come now and then.
        std::thread::sleep(Duration::from_millis(5));
    }
    times.sort_unstable();
    times
}

fn assert_prompt(times: &[Duration]) {
    let (most, all) = (times[times.len() * 9 / 10], times[times.len() - 1]);
    println!("{} nodes: nine of ten in {most:?}, all in {all:?}", times.len());
    assert!(most < PROMISE, "{most:?}");
    assert!(all < PROMISE + ALLOWANCE, "{all:?}");
}

#[test]
fn more_silent_connections_than_descriptors_delay_no_node() {
    let test = "more_silent_connections_than_descriptors_delay_no_node";
    let Some((mut server, port)) = partner(test) else { return };
    raise_own_limit();
    let (_listener, node, _) = listening_node(port, b"first");
    let silent: Vec<_> = (0..1_500).map(|_| TcpStream::connect(v4(port)).unwrap()).collect();
    let mut rounds = 0..100;
    assert_prompt(&register_and_look_up(v4(port), || rounds.next().is_some()));
    assert!(server.ask("crowded out").parse::<usize>().unwrap() > 450);
    assert_eq!(server.ask("starved"), "0");
    assert!(node.is_open());
    drop(silent);
}

#[test]
fn five_thousand_connections_a_second_delay_no_node() {
    let test = "five_thousand_connections_a_second_delay_no_node";
    let Some((mut server, port)) = partner(test) else { return };
    raise_own_limit();
    let (_listener, node, _) = listening_node(port, b"first");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (begun, mut opened) = (Instant::now(), 0);
            // Without an end the ports of this host would not suffice.
            let mut held = VecDeque::new();
            while begun.elapsed() < Duration::from_millis(1_500) {
                for _ in 0..25 {
                    held.push_back(Client::connect(port));
                    opened += 1;
                }
                while held.len() > 3_000 {
                    held.pop_front().unwrap().reset();
                }
                let due = begun + Duration::from_millis(opened / 5);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            over.store(true, Ordering::Relaxed);
            held.into_iter().for_each(Client::reset);
        });
        assert_prompt(&register_and_look_up(v4(port), || !over.load(Ordering::Relaxed)));
    });
    let accepted = server.ask("accepted").parse::<u32>().unwrap();
    println!("{accepted} connections");
    assert!(accepted > 3_000, "the flood was none: {accepted}");
    assert!(node.is_open());
    wait_until("all others are gone", || server.ask("nodes") == "1");
}

#[test]
fn another_host_that_opens_all_it_can_delays_no_node_and_no_local_peer() {
    let test = "another_host_that_opens_all_it_can_delays_no_node_and_no_local_peer";
    with_remote(test, |remote| {
        sh(NEAR_ADDRESSES);
        remote.sh(FAR_ADDRESSES);
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(1_024), ..limit }).unwrap();
        let server = Served::with(Config { addresses: Addresses::All, ..local() });
        let port = server.port();
        let (_listener, node, _) = listening_node(port, b"first");
        // They are older than all of the other host.
        let local: Vec<_> = (0..10).map(|_| Client::connect(port)).collect();
        for ip in ["10.99.0.1", "fd99::1"] {
            let before = server.counters().crowded_out;
            remote.flood(SocketAddr::new(ip.parse().unwrap(), port), 3_000);
            wait_until("the server is full", || server.counters().crowded_out > before);
            let full = || server.counters().crowded_out < before + 1_500;
            assert_prompt(&register_and_look_up(v4(port), full));
        }
        assert!(local.iter().all(Client::is_open));
        assert!(node.is_open());
        // The last ones were not for them; this process has some, too.
        let open = server.info().open_connections;
        assert!(open < 1_024 - 16 - 64, "{open}");
        assert!(std::fs::File::open("/dev/null").is_ok());
    });
}

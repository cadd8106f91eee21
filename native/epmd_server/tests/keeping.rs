//! What a service manager keeps for a process that ends is there in the next one:
//! no node and no creation is lost.

#![cfg(test)]
#![cfg(target_os = "linux")]

mod common;

use std::net::TcpListener;

use common::manager::{Manager, kept, settle, start};
use common::served::{Served, local};
use common::wait_until;
use common::wire::{
    Client, End, KILL, NOT_FOUND, alive2, alive2_with, ask, found, listening_node, port_please,
    register, register_listening,
};
use epmd_server::{Config, Delay, Inheritance, Notice, Phase};

/// The next process, after the one before was killed.
fn restart(manager: &Manager, killed: Served, config: Config) -> Served {
    settle(manager, &killed);
    restart_full(manager, killed, config)
}

/// The same where not everything is kept.
fn restart_full(manager: &Manager, killed: Served, config: Config) -> Served {
    // Its sockets are closed, and nothing else: as those of a process that is killed.
    killed.leave();
    let Inheritance { estate, leftovers, keeper } = manager.hand_back().unwrap();
    assert!(keeper.is_none());
    let server = Served::with_estate(config, estate);
    server.report_and_keep(manager.told_of(), leftovers);
    server
}

#[test]
fn nodes_stay_registered_with_all_that_is_known_of_them() {
    let manager = Manager::start();
    let server = start(&manager, kept());
    let port = server.port();
    server.register_own("vm");
    let mut node = Client::connect(port);
    node.send(&alive2_with("grün \"1\"\\".as_bytes(), 4711, 5, b"\0\xffextra"));
    node.read(4);
    let nodes: Vec<_> = (0..50).map(|n| register(port, format!("n{n}").as_bytes())).collect();
    let known = |server: &Served, name: &str| {
        let mut node = server.lookup(name).unwrap();
        node.owner = epmd_core::Owner::Vm;
        node
    };
    let before: Vec<_> = server.names(&epmd_core::Glob::new("*"));
    let names: Vec<_> =
        before.iter().map(|(name, _)| name.as_str()).filter(|&name| name != "vm").collect();
    let details: Vec<_> = names.iter().map(|name| known(&server, name)).collect();

    let server = restart(&manager, server, kept());
    assert_eq!(server.port(), port);
    let after = server.names(&epmd_core::Glob::new("*"));
    assert_eq!(after.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), names);
    for (name, before) in names.iter().zip(details) {
        assert_eq!(known(&server, name), before, "{name}");
    }
    assert_eq!(ask(port, &port_please(b"n7")), found(b"n7", 4711));
    assert!(node.is_open() && nodes.iter().all(|(node, _)| node.is_open()));
    // They are nodes as any other: their end is seen, and remembered.
    drop(nodes);
    server.wait_for_count(1);
    let (_again, creation) = register(port, b"n7");
    assert_eq!(creation, server.lookup("n7").unwrap().creation.get());
}

#[test]
fn a_node_that_ended_meanwhile_is_gone_before_the_first_answer() {
    let manager = Manager::start();
    let server = start(&manager, kept());
    let port = server.port();
    let (node, creation) = register(port, b"n1");
    let (_other, _) = register(port, b"n2");
    settle(&manager, &server);
    server.leave();
    let mut early = Client::connect(port);
    early.send(&port_please(b"n1"));
    drop(node);
    let Inheritance { estate, leftovers, .. } = manager.hand_back().unwrap();
    let server = Served::with_estate(kept(), estate);
    assert_eq!(early.read_to_end().0, NOT_FOUND);
    assert_eq!(server.count(), 1);
    let went_on = Notice::WentOn { nodes: 1, gone: 1 };
    assert!(server.notices().contains(&went_on));
    server.report_and_keep(manager.told_of(), leftovers);
    settle(&manager, &server);
    assert_eq!(register(port, b"n1").1, creation + 1);
}

#[test]
fn a_node_that_was_not_told_of_its_registration_is_none() {
    let manager = Manager::start();
    let delayed = Config { delay_write: Delay::try_from(60).unwrap(), ..kept() };
    let server = start(&manager, delayed);
    let mut node = Client::connect(server.port());
    node.send(&alive2(b"n1", 4711));
    server.wait_for_count(1);
    manager.read();
    server.leave();
    let Inheritance { estate, leftovers, .. } = manager.hand_back().unwrap();
    let server = Served::with_estate(kept(), estate);
    server.report_and_keep(manager.told_of(), leftovers);
    // It can ask again, instead of waiting for ever.
    assert_eq!(node.read_to_end().0, b"");
    assert_eq!(server.count(), 0);
    settle(&manager, &server);
}

#[test]
fn remembered_names_go_on_with_their_next_creation() {
    let manager = Manager::start();
    let mut server = start(&manager, kept());
    let (node, mut creation) = register(server.port(), b"n1");
    drop(node);
    server.wait_for_count(0);
    for _ in 0..3 {
        server = restart(&manager, server, kept());
        let (node, next) = register(server.port(), b"n1");
        assert_eq!(next, creation + 1);
        creation = next;
        drop(node);
        server.wait_for_count(0);
    }
}

#[test]
fn who_had_left_before_has_the_next_creation_though_it_listens_still() {
    let manager = Manager::start();
    let server = start(&manager, kept());
    let (listener, node, creation) = listening_node(server.port(), b"n1");
    drop(node);
    server.wait_for_count(0);
    let server = restart(&manager, server, kept());
    assert_eq!(register_listening(server.port(), b"n1", &listener).1, creation + 1);
}

#[test]
fn as_much_is_kept_as_is_registered_however_often_that_changes() {
    let manager = Manager::start();
    let mut server = start(&manager, kept());
    let (held, creation) = register(server.port(), b"held");
    for round in 0..5 {
        for n in 0..400 {
            drop(register(server.port(), format!("n{n}").as_bytes()));
            manager.read();
        }
        server.wait_for_count(1);
        settle(&manager, &server);
        server = restart(&manager, server, kept());
        assert_eq!(server.lookup("held").unwrap().creation.get(), creation, "{round}");
        settle(&manager, &server);
    }
    assert!(held.is_open());
    drop(held);
    settle(&manager, &server);
}

#[test]
fn a_manager_that_is_slow_keeps_everything_in_the_end() {
    let manager = Manager::start();
    let server = start(&manager, kept());
    // It reads nothing, and its queue is shorter.
    let nodes: Vec<_> =
        (0..900).map(|n| register(server.port(), format!("n{n}").as_bytes())).collect();
    drop(register(server.port(), b"gone"));
    server.wait_for_count(900);
    settle(&manager, &server);
    let server = restart(&manager, server, kept());
    assert_eq!(server.count(), 900);
    for (n, (node, creation)) in nodes.iter().enumerate() {
        assert!(node.is_open());
        assert_eq!(server.lookup(&format!("n{n}")).unwrap().creation.get(), *creation);
    }
    assert!(server.notices().iter().any(|one| matches!(one, Notice::WentOn { nodes: 900, .. })));
}

#[test]
fn a_node_that_the_store_had_no_room_for_comes_back_with_its_creation() {
    let manager = Manager::start();
    let small = Config { stored_descriptors: 4, ..local() };
    let server = start(&manager, small.clone());
    let too_small = |one: &Notice| matches!(one, Notice::StoreTooSmall { slots: 4, .. });
    assert!(server.notices().iter().any(too_small));
    let (_kept, _) = register(server.port(), b"kept");
    let (listener, lost, creation) = listening_node(server.port(), b"lost");
    let (other, _, other_creation) = listening_node(server.port(), b"other");
    assert_eq!(server.counters().not_kept, 2);
    let server = restart_full(&manager, server, small);
    assert_eq!((server.count(), lost.is_open()), (1, false));
    // The same node: it listens as it did, and goes on with its creation anyway.
    assert_eq!(register_listening(server.port(), b"lost", &listener).1, creation);
    // Another one, which got hold of the same port.
    let address = other.local_addr().unwrap();
    drop(other);
    let other = TcpListener::bind(address).unwrap();
    assert_eq!(register_listening(server.port(), b"other", &other).1, other_creation + 1);
}

#[test]
fn a_listening_socket_that_is_given_up_is_kept_no_longer() {
    let manager = Manager::start();
    let server = start(&manager, kept());
    let (_node, _) = register(server.port(), b"n1");
    let addresses = common::served::list(&["127.0.0.1", "127.0.0.2"]);
    server.reconfigure(Config { addresses, ..server.config() }).unwrap();
    settle(&manager, &server);
    let port = server.port();
    let server = restart(&manager, server, kept());
    assert_eq!(server.info().addresses.len(), 3);
    let addresses = common::served::list(&["127.0.0.3"]);
    server.reconfigure(Config { addresses, ..server.config() }).unwrap();
    settle(&manager, &server);
    assert_eq!(server.port(), port);
    assert!(std::net::TcpStream::connect(("127.0.0.2", port)).is_err());
}

#[test]
fn an_end_that_is_meant_for_the_nodes_ends_their_connections() {
    let relaxed = Config { relaxed_command_check: true, ..kept() };
    let manager = Manager::start();
    let server = start(&manager, relaxed);
    let (mut node, _) = register(server.port(), b"n1");
    settle(&manager, &server);
    assert_eq!(ask(server.port(), KILL), b"OK");
    assert_eq!(node.read_to_end(), (vec![], End::Closed));
    wait_until("it is closed", || server.phase() == Phase::Closed);

    let server = start(&manager, kept());
    let (mut node, _) = register(server.port(), b"n2");
    settle(&manager, &server);
    server.stop();
    assert_eq!(node.read_to_end(), (vec![], End::Closed));
    let inheritance = manager.hand_back().unwrap();
    let next = Served::with_estate(kept(), inheritance.estate);
    assert_eq!(next.count(), 0);
}

#[test]
fn a_connection_that_is_not_the_one_of_the_record_is_not_taken_for_it() {
    let manager = Manager::start();
    let server = start(&manager, kept());
    let (node, _) = register(server.port(), b"n1");
    settle(&manager, &server);
    let stranger = Client::connect(server.port());
    server.leave();
    manager.tamper(|stored| {
        let last = stored.last_mut().unwrap();
        last.1 = stranger.duplicate();
    });
    let inheritance = manager.hand_back().unwrap();
    assert_eq!(Served::with_estate(kept(), inheritance.estate).count(), 0);
    assert!(!node.is_open());
}

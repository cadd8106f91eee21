//! Another version of the library takes over within one process: all that belongs to
//! the process stays, too.

#![cfg(test)]
#![cfg(target_os = "linux")]

mod common;

use std::io;
use std::time::{Duration, Instant};

use common::load::Load;
use common::manager::Manager;
use common::served::{Served, local, with_timeout};
use common::side::pair;
use common::wait_until;
use common::wire::{Client, NAMES, ask, found, port_please, register, v4};
use epmd_server::{Config, Notice, Phase, TakeoverError};

/// Has one of them hand over to another one: what both say of it.
fn move_from(old: &Served) -> (io::Result<()>, Result<Served, TakeoverError>) {
    let (ours, theirs) = pair();
    std::thread::scope(|scope| {
        let handing_over = scope.spawn(|| old.hand_over_within(theirs));
        let taken = Served::taking_over_within(ours);
        (handing_over.join().unwrap(), taken)
    })
}

/// The server that another one has become.
fn moved(old: Served) -> Served {
    let (handed_over, taken) = move_from(&old);
    handed_over.unwrap();
    assert_eq!(old.phase(), Phase::Closed);
    taken.unwrap()
}

#[test]
fn configuration_and_names_of_the_vm_stay_in_their_order() {
    let config = Config { remembered_names: 5, debug: 1, ..with_timeout(7) };
    let old = Served::with(config);
    let port = old.port();
    let (first, _) = register(port, b"first");
    let own = old.register_own_and_tell("own");
    let (last, _) = register(port, b"last");
    let (config, names, info) = (old.config(), ask(port, NAMES), old.info());

    let new = moved(old);
    assert_eq!(new.config(), config);
    assert_eq!(ask(port, NAMES), names);
    assert_eq!(new.info().addresses, info.addresses);
    assert_eq!(new.lookup("own").map(|node| node.creation.get()), Some(own));
    assert!(new.unregister("own"));
    assert!(first.is_open() && last.is_open());
}

#[test]
fn nobody_is_told_of_an_end() {
    let old = Served::local();
    let (ours, theirs) = pair();
    let new = std::thread::scope(|scope| {
        let handing_over = scope.spawn(|| old.hand_over_within(theirs));
        let new = Served::taking_over_within(ours).unwrap();
        handing_over.join().unwrap().unwrap();
        new
    });
    assert_eq!(old.notices(), []);
    assert_eq!(new.notices(), []);
}

#[test]
fn it_listens_elsewhere_after_a_change_as_if_it_had_bound_itself() {
    let new = moved(Served::local());
    // One that was handed its sockets would keep them, whatever the exposure.
    let addresses = common::served::list(&["127.0.0.1", "127.0.0.2"]);
    new.reconfigure(Config { addresses, ..new.config() }).unwrap();
    assert!(new.ips().contains(&"127.0.0.2".parse().unwrap()));
}

#[test]
fn what_a_service_manager_keeps_stays_in_its_place() {
    let manager = Manager::start();
    let old = Served::with(Config { stored_descriptors: 100, ..local() });
    old.report_to(manager.told_of());
    let (port, sockets) = (old.port(), old.info().addresses.len());
    let (node, creation) = register(port, b"node");
    let settled = |manager: &Manager, nodes: usize| {
        wait_until("all is kept", || manager.count() == sockets + 1 + nodes);
    };
    settled(&manager, 1);
    wait_until("it is ready", || old.notices().is_empty());
    let mut names = Vec::new();
    let kept = |names: &mut Vec<String>| {
        manager.tamper(|stored| *names = stored.iter().map(|(name, _)| name.clone()).collect());
    };
    kept(&mut names);
    let before = names.clone();

    let new = moved(old);
    settled(&manager, 1);
    kept(&mut names);
    // The records are new ones.
    assert_eq!(names.iter().filter(|name| !before.contains(name)).count(), 1);
    assert!(!manager.read().iter().any(|message| message.contains("STOPPING")));
    drop(node);
    new.wait_for_count(0);
    settled(&manager, 0);
    let (_node, again) = register(port, b"node");
    assert_eq!(again, creation + 1);
    settled(&manager, 1);
    new.leave();
    assert_eq!(manager.hand_back().unwrap().leftovers.len(), 1);
}

#[test]
fn two_hundred_moves_back_and_forth_fail_no_look_up() {
    let mut server = Served::local();
    let port = server.port();
    let nodes: Vec<Client> =
        (0..200).map(|number| register(port, format!("n{number}").as_bytes()).0).collect();
    let load = Load::start(v4(port), 2, &port_please(b"n7"), &found(b"n7", 4711));
    let mut longest = Duration::ZERO;
    for _ in 0..200 {
        let began = Instant::now();
        server = moved(server);
        longest = longest.max(began.elapsed());
    }
    println!("the longest move took {longest:?}");
    load.finish();
    assert!(nodes.iter().all(Client::is_open));
    assert_eq!(server.count(), 200);
}

#[test]
fn a_move_that_nobody_takes_part_in_changes_nothing() {
    let old = Served::local();
    let (node, _) = register(old.port(), b"node");
    let (ours, theirs) = pair();
    drop(ours);
    assert!(old.hand_over_within(theirs).is_err());
    assert_eq!((old.phase(), old.count()), (Phase::Running, 1));
    assert_eq!(ask(old.port(), &port_please(b"node")), found(b"node", 4711));
    assert!(node.is_open());
    assert!(!old.notices().iter().any(|notice| matches!(notice, Notice::TakenOver { .. })));
}

#[test]
fn a_thread_that_has_died_is_replaced_before() {
    let old = Served::local();
    let (node, _) = register(old.port(), b"node");
    old.panic_thread();
    wait_until("it is down", || old.phase() == Phase::Down);
    let new = moved(old);
    assert_eq!(new.count(), 1);
    assert!(node.is_open());
}

#[test]
fn a_server_that_has_ended_is_not_moved() {
    let old = Served::local();
    old.stop();
    let (handed_over, taken) = move_from(&old);
    assert!(handed_over.is_err() && taken.is_err());
}

#[test]
fn a_server_of_another_process_is_not_taken_over_this_way() {
    let old = Served::local();
    let (ours, theirs) = pair();
    old.hand_over(theirs);
    let error = Served::taking_over_within(ours).err().unwrap();
    assert!(matches!(error, TakeoverError::Failed(_)), "{error}");
    assert_eq!(old.phase(), Phase::Running);
}

//! What a service manager keeps for a process that ends is there in the next one:
//! no node and no creation is lost.

#![cfg(test)]
#![cfg(target_os = "linux")]

mod common;

use std::io::Write;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use common::manager::Manager;
use common::served::{Served, local};
use common::wait_until;
use common::wire::{
    Client, End, KILL, NOT_FOUND, alive2, alive2_with, ask, found, port_please, register,
};
use epmd_server::{
    Config, Delay, EstateError, Inheritance, InheritanceError, Notice, Phase, StateFile,
};

/// Keeps more than any test has.
fn kept() -> Config {
    Config { stored_descriptors: 1_000, ..local() }
}

fn start(manager: &Manager, config: Config) -> Served {
    let server = Served::with(config);
    server.report_to(manager.told_of());
    server
}

/// Waits until the manager has every socket, and the records.
fn settle(manager: &Manager, server: &Served) {
    wait_until("all is kept", || {
        let info = server.info();
        manager.count() == info.addresses.len() + 1 + info.open_connections
    });
}

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

/// A node that listens, as those of OTP do before they register.
fn listening_node(server: &Served, name: &[u8]) -> (TcpListener, Client, u32) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (client, creation) = register_at(server, name, &listener);
    (listener, client, creation)
}

fn register_at(server: &Served, name: &[u8], listener: &TcpListener) -> (Client, u32) {
    let mut client = Client::connect(server.port());
    client.send(&alive2(name, listener.local_addr().unwrap().port()));
    let reply = client.read(6);
    (client, u32::from_be_bytes(*reply.last_chunk().unwrap()))
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
    let (listener, lost, creation) = listening_node(&server, b"lost");
    let (other, _, other_creation) = listening_node(&server, b"other");
    assert_eq!(server.counters().not_kept, 2);
    let server = restart_full(&manager, server, small);
    assert_eq!((server.count(), lost.is_open()), (1, false));
    // The same node: it listens as it did, and goes on with its creation anyway.
    assert_eq!(register_at(&server, b"lost", &listener).1, creation);
    // Another one, which got hold of the same port.
    let address = other.local_addr().unwrap();
    drop(other);
    let other = TcpListener::bind(address).unwrap();
    assert_eq!(register_at(&server, b"other", &other).1, other_creation + 1);
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

/// The records of a server that is gone, as they are changed, handed over.
fn handed_back_with(
    change: impl FnOnce(&str) -> String,
) -> (Client, Result<Inheritance, InheritanceError>) {
    let manager = Manager::start();
    let server = start(&manager, kept());
    let (node, _) = register(server.port(), b"n1");
    settle(&manager, &server);
    server.leave();
    manager.tamper(|stored| {
        let records = stored.iter_mut().find_map(|(_, descriptor)| {
            let text = text_of(descriptor)?;
            Some((descriptor, text))
        });
        let (descriptor, text) = records.unwrap();
        let mut changed = std::fs::File::from(
            rustix::fs::memfd_create("changed", rustix::fs::MemfdFlags::CLOEXEC).unwrap(),
        );
        changed.write_all(change(&text).as_bytes()).unwrap();
        *descriptor = changed.into();
    });
    let handed_back = manager.hand_back();
    assert!(node.is_open(), "the manager has it still");
    (node, handed_back)
}

fn text_of(descriptor: &OwnedFd) -> Option<String> {
    use std::io::{Read, Seek};
    let mut file = std::fs::File::from(descriptor.try_clone().unwrap());
    file.rewind().ok()?;
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.starts_with('{').then_some(text)
}

#[test]
fn records_of_a_newer_version_are_refused_and_nothing_is_closed() {
    let newer = |text: &str| text.replacen("\"portmapper_estate\":1", "\"portmapper_estate\":2", 1);
    let (_node, refused) = handed_back_with(newer);
    let error = refused.unwrap_err();
    assert!(matches!(error, InheritanceError::Estate(EstateError::Version(2))), "{error}");
    assert_eq!(error.to_string(), "the records have version 2, expected 1 at most");
}

#[test]
fn records_that_make_no_sense_are_refused_and_nothing_is_closed() {
    let broken: [fn(&str) -> String; 4] = [
        |_| "no records\n".to_owned(),
        |_| String::new(),
        |text| text.replacen("\"creation\":", "\"creation\":-", 1),
        |text| format!("{text}{{\"down\":\"nobody\"}}\n"),
    ];
    for change in broken {
        let (_node, refused) = handed_back_with(change);
        assert!(matches!(refused, Err(InheritanceError::Estate(_))), "{refused:?}");
    }
}

#[test]
fn fields_that_a_later_version_may_add_are_passed_over() {
    let (node, handed_back) =
        handed_back_with(|text| text.replace("\"port\":", "\"colour\":\"green\",\"port\":"));
    let server = Served::with_estate(kept(), handed_back.unwrap().estate);
    assert_eq!((server.count(), node.is_open()), (1, true));
}

#[test]
fn a_last_record_that_was_cut_off_did_not_happen() {
    let (node, handed_back) = handed_back_with(|text| format!("{text}{{\"down\":\"n"));
    let server = Served::with_estate(kept(), handed_back.unwrap().estate);
    assert_eq!((server.count(), node.is_open()), (1, true));
}

/// A configuration with a state file that is removed with the test.
struct State(Config);

impl State {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("portmapper-{test}-{}", std::process::id()));
        Self(Config { state_file: StateFile::Path(path), ..local() })
    }

    fn serve(&self) -> Served {
        Served::with(self.0.clone())
    }

    fn path(&self) -> &std::path::Path {
        let StateFile::Path(path) = &self.0.state_file else { unreachable!() };
        path
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.path());
        let _ = std::fs::remove_file(self.path().with_extension("unreadable"));
    }
}

#[test]
fn who_registers_again_when_all_is_lost_gets_the_creation_that_it_had() {
    let state = State::new("all-lost");
    let server = state.serve();
    let (listener, node, creation) = listening_node(&server, b"n1");
    let (gone, gone_creation) = register(server.port(), b"gone");
    drop(gone);
    server.wait_for_count(1);
    server.leave();
    assert!(!node.is_open());
    // Killed a second time before anybody is back.
    state.serve().leave();
    let server = state.serve();
    assert_eq!(server.count(), 0);
    assert_eq!(register_at(&server, b"n1", &listener).1, creation);
    assert_eq!(register(server.port(), b"gone").1, gone_creation + 1);
}

#[test]
fn a_state_file_stays_as_short_as_what_it_tells() {
    let state = State::new("short");
    let server = state.serve();
    let (_held, _) = register(server.port(), b"held");
    for _ in 0..2_000 {
        drop(register(server.port(), b"n1"));
    }
    server.wait_for_count(1);
    let length = std::fs::metadata(state.path()).unwrap().len();
    assert!(length < 128 * 1024, "{length}");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(state.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_state_file_that_makes_no_sense_is_put_aside() {
    let state = State::new("nonsense");
    std::fs::write(state.path(), "nonsense\n").unwrap();
    let server = state.serve();
    let aside = state.path().with_extension("unreadable");
    let put_aside = |one: &Notice| matches!(one, Notice::StateFileUnreadable { kept_as, .. } if *kept_as == aside);
    assert!(server.notices().iter().any(put_aside));
    assert_eq!(std::fs::read_to_string(&aside).unwrap(), "nonsense\n");
    assert!(std::fs::read_to_string(state.path()).unwrap().starts_with('{'));
}

#[test]
fn a_state_file_that_cannot_be_written_is_told_and_the_server_serves() {
    let file = StateFile::Path("/proc/portmapper".into());
    let server = Served::with(Config { state_file: file, ..local() });
    let not_recorded = |one: &Notice| matches!(one, Notice::NotRecorded { file: Some(_), .. });
    assert!(server.notices().iter().any(not_recorded));
    register(server.port(), b"n1");
}

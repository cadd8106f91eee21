//! A state file tells who was registered when nothing else is left.

#![cfg(test)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::served::{Served, local};
use common::wire::{listening_node, register, register_listening};
use epmd_server::{Config, Notice, StateFile};

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

    fn path(&self) -> &Path {
        let StateFile::Path(path) = &self.0.state_file else { unreachable!() };
        path
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.path());
        let _ = fs::remove_file(self.path().with_extension("unreadable"));
    }
}

#[test]
fn who_registers_again_when_all_is_lost_gets_the_creation_that_it_had() {
    let state = State::new("all-lost");
    let server = state.serve();
    let (listener, node, creation) = listening_node(server.port(), b"n1");
    let (gone, gone_creation) = register(server.port(), b"gone");
    drop(gone);
    server.wait_for_count(1);
    server.leave();
    assert!(!node.is_open());
    // Killed a second time before anybody is back.
    state.serve().leave();
    let server = state.serve();
    assert_eq!(server.count(), 0);
    assert_eq!(register_listening(server.port(), b"n1", &listener).1, creation);
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
    let length = fs::metadata(state.path()).unwrap().len();
    assert!(length < 128 * 1024, "{length}");
    assert_eq!(fs::metadata(state.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_state_file_that_makes_no_sense_is_put_aside() {
    let state = State::new("nonsense");
    fs::write(state.path(), "nonsense\n").unwrap();
    let server = state.serve();
    let aside = state.path().with_extension("unreadable");
    let put_aside = |one: &Notice| matches!(one, Notice::StateFileUnreadable { kept_as, .. } if *kept_as == aside);
    assert!(server.notices().iter().any(put_aside));
    assert_eq!(fs::read_to_string(&aside).unwrap(), "nonsense\n");
    assert!(fs::read_to_string(state.path()).unwrap().starts_with('{'));
}

#[test]
fn a_state_file_that_cannot_be_written_is_told_and_the_server_serves() {
    let file = StateFile::Path("/proc/portmapper".into());
    let server = Served::with(Config { state_file: file, ..local() });
    let not_recorded = |one: &Notice| matches!(one, Notice::NotRecorded { file: Some(_), .. });
    assert!(server.notices().iter().any(not_recorded));
    register(server.port(), b"n1");
}

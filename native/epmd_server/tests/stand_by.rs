//! Whoever stands by takes over when the server stops in an orderly way, and only then.

#![cfg(test)]
#![cfg(target_os = "linux")]

mod common;

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use common::load::Load;
use common::side::Side;
use common::takeover::{Place, assert_taken_over, start};
use common::wait_until;
use common::wire::{End, NAMES, ask, found, port_please, register, v4};
use epmd_core::Owner;
use epmd_server::{Config, Phase, Server, StandBy, TakeoverError};

const STAND_BY: &str = r#"{"stand_by":{"portmapper_takeover":1}}"#;

/// One that stands by, and what comes of it.
struct Standing {
    _stand_by: StandBy,
    outcome: Receiver<Result<Server, TakeoverError>>,
}

impl Standing {
    fn begin(config: Config) -> Result<Self, TakeoverError> {
        let (tell, outcome) = channel();
        let stand_by = StandBy::begin(config, Box::new(|| ()), move |outcome| {
            // The test may be over.
            let _ = tell.send(outcome);
        })?;
        Ok(Self { _stand_by: stand_by, outcome })
    }

    fn outcome(&self) -> Result<Server, TakeoverError> {
        self.outcome.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    fn has_outcome(&self) -> bool {
        let outcome = self.outcome.recv_timeout(Duration::from_millis(200));
        !matches!(outcome, Err(RecvTimeoutError::Timeout))
    }
}

/// One that stands by as bytes, and has been heard.
fn side(place: &Place) -> Side {
    let side = Side::connect(&place.path());
    side.say(STAND_BY);
    assert!(side.hear().starts_with(r#"{"hello":"#));
    side
}

/// One that stands by for a server.
fn begin(place: &Place, server: &Server) -> Standing {
    let before = server.info().heirs;
    let standing = Standing::begin(place.config()).unwrap();
    wait_until("it stands by", || server.info().heirs == before + 1);
    standing
}

#[test]
fn a_server_that_stops_hands_on_and_nobody_notices() {
    let (place, old) = start();
    let port = old.port();
    let standing = begin(&place, &old);
    let (node, creation) = register(port, b"node");
    let names = ask(port, NAMES);
    let load = Load::start(v4(port), 2, &port_please(b"node"), &found(b"node", 4711));
    assert!(old.hand_on());
    let new = standing.outcome().unwrap();
    assert_taken_over(&old);
    load.go_on(10);
    load.finish();
    assert_eq!(ask(port, NAMES), names);
    assert_eq!(new.lookup("node").unwrap().creation.get(), creation);
    assert!(node.is_open());
    new.stop();
}

#[test]
fn without_anybody_who_stands_by_the_server_goes_on() {
    let (_place, old) = start();
    let (node, _) = register(old.port(), b"node");
    assert!(!old.hand_on());
    assert_eq!(old.phase(), Phase::Running);
    assert!(node.is_open());
    assert_eq!(ask(old.port(), &port_please(b"node")), found(b"node", 4711));
}

#[test]
fn whoever_stands_by_gets_nothing_from_a_server_that_just_ends() {
    let (place, old) = start();
    let standing = begin(&place, &old);
    drop(old);
    assert!(standing.outcome().is_err());
}

#[test]
fn whoever_stands_by_no_longer_is_passed_over() {
    let (place, old) = start();
    let first = begin(&place, &old);
    let Standing { _stand_by: stand_by, outcome } = begin(&place, &old);
    drop(stand_by);
    assert!(outcome.recv_timeout(Duration::from_secs(10)).unwrap().is_err());
    assert!(old.hand_on());
    first.outcome().unwrap().stop();
}

#[test]
fn who_is_silent_or_dies_midway_is_passed_over() {
    let (place, old) = start();
    let port = old.port();
    let (node, _) = register(port, b"node");
    let last_resort = begin(&place, &old);
    let silent = side(&place);
    let dies = side(&place);
    let dying = std::thread::spawn(move || {
        assert!(dies.hear().starts_with(r#"{"offer":"#));
        dies.say(r#""prepared""#);
        assert!(dies.hear().starts_with(r#"{"contents":"#));
    });
    assert!(old.hand_on());
    dying.join().unwrap();
    let new = last_resort.outcome().unwrap();
    assert!(silent.hear().starts_with(r#"{"offer":"#));
    assert!(node.is_open());
    assert_eq!(ask(port, &port_please(b"node")), found(b"node", 4711));
    new.stop();
}

#[test]
fn the_others_may_stand_by_for_the_one_that_has_taken_over() {
    let (place, old) = start();
    let (first, second) = (begin(&place, &old), begin(&place, &old));
    assert!(old.hand_on());
    let new = second.outcome().unwrap();
    assert!(first.outcome().is_err());
    wait_until("the new one waits", || place.files() == ["socket"]);
    let again = begin(&place, &new);
    assert!(!again.has_outcome());
    assert!(new.hand_on());
    again.outcome().unwrap().stop();
}

#[test]
fn eight_stand_by_at_the_most() {
    let (place, old) = start();
    let mut sides: Vec<_> = (0..8).map(|_| side(&place)).collect();
    assert_eq!(side(&place).hear(), "");
    // One that has gone makes room.
    sides.remove(3);
    assert_eq!(old.info().heirs, 7);
    let next = begin(&place, &old);
    assert!(!next.has_outcome());
    drop(sides);
    assert!(old.hand_on());
    next.outcome().unwrap().stop();
}

#[test]
fn a_node_of_this_process_needs_no_connection_any_more() {
    let (_place, server) = start();
    let port = server.port();
    let (mut node, creation) = register(port, b"node");
    let (other, _) = register(port, b"other");
    let own_port = node.address().port();
    let before = ask(port, NAMES);

    assert_eq!(server.adopt("node", own_port + 1), None);
    assert_eq!(server.adopt("none", own_port), None);
    assert!(node.is_open());
    assert_eq!(server.adopt("node", own_port), Some(creation));
    assert_eq!(node.read_to_end(), (vec![], End::Closed));
    assert_eq!(ask(port, NAMES), before);
    let adopted = server.lookup("node").unwrap();
    assert_eq!((adopted.owner, adopted.peer), (Owner::Vm, None));
    // It is one no longer.
    assert_eq!(server.adopt("node", own_port), None);
    assert!(server.unregister("node"));
    assert!(other.is_open());
}

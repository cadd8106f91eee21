//! What another port mapper had registered or remembered, taken in.

#![cfg(test)]

use epmd_core::{
    ConnId, Creation, DownReason, Name, Node, Owner, Registrant, Registration, Registry,
    Remembered, UnixMillis,
};

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn registration(port: u16) -> Registration {
    Registration {
        port,
        node_type: 77,
        protocol: 0,
        highest_version: 6,
        lowest_version: 5,
        extra: Box::default(),
    }
}

fn node(serial: u32) -> Node {
    Node {
        registration: registration(4711),
        creation: Creation::from_number(9).unwrap(),
        since: UnixMillis(7),
        owner: Owner::Connection(ConnId::new(serial, 20)),
        peer: None,
        listener: Some(55),
    }
}

fn lost(listener: Option<u64>) -> Remembered {
    let creation = Creation::from_number(9).unwrap();
    Remembered { port: 4711, descriptor: 20, creation, lost: listener }
}

/// The creation of a node that registers with this port and listening socket, where
/// this is remembered.
fn creation_of(remembered: Remembered, port: u16, listener: Option<u64>) -> u32 {
    let mut registry = Registry::default();
    assert!(registry.remember(name("n1"), remembered));
    let owner = Owner::Connection(ConnId::new(1, 7));
    let by = Registrant { owner, peer: None, listener };
    registry.register(name("n1"), registration(port), by, NOW).unwrap().0.get()
}

#[test]
fn a_lost_node_that_is_back_has_the_creation_that_it_had() {
    assert_eq!(creation_of(lost(Some(55)), 4711, Some(55)), 9);
}

#[test]
fn any_other_node_of_its_name_has_the_next_creation() {
    assert_eq!(creation_of(lost(Some(55)), 4712, Some(55)), 10, "another port");
    assert_eq!(creation_of(lost(Some(55)), 4711, Some(56)), 10, "another socket");
    assert_eq!(creation_of(lost(Some(55)), 4711, None), 10, "no socket");
    assert_eq!(creation_of(lost(None), 4711, None), 10, "it was never seen to listen");
    assert_eq!(creation_of(lost(None), 4711, Some(55)), 10, "it is known to be gone");
}

#[test]
fn a_lost_node_that_is_back_and_goes_is_gone() {
    let mut registry = Registry::default();
    registry.remember(name("n1"), lost(Some(55)));
    let by = Registrant { listener: Some(55), ..Registrant::VM };
    registry.register(name("n1"), registration(4711), by, NOW).unwrap();
    registry.unregister("n1", DownReason::Closed).unwrap();
    let (creation, _) = registry.register(name("n1"), registration(4711), by, NOW).unwrap();
    assert_eq!(creation.get(), 10);
}

#[test]
fn restored_nodes_are_as_they_were_in_their_order() {
    let mut registry = Registry::default();
    registry.remember(name("n2"), lost(None));
    for (serial, text) in (1..).zip(["n1", "n2", "n3"]) {
        assert!(registry.restore(name(text), node(serial)));
    }
    assert_eq!(registry.lookup("n2"), Some(&node(2)));
    assert_eq!(registry.remembered().len(), 0, "a registered name is not remembered");
    let newest_first: Vec<_> = registry.nodes().map(|(name, _)| name.as_str()).collect();
    assert_eq!(newest_first, ["n3", "n2", "n1"]);
    // Their connections are theirs.
    registry.unregister_connection(ConnId::new(2, 20), DownReason::Closed).unwrap();
    assert_eq!((registry.len(), registry.lookup("n2")), (2, None));
}

#[test]
fn a_name_that_is_registered_is_neither_restored_nor_remembered() {
    let mut registry = Registry::default();
    registry.register(name("n1"), registration(1), Registrant::VM, NOW).unwrap();
    assert!(!registry.restore(name("n1"), node(1)));
    assert!(!registry.remember(name("n1"), lost(None)));
    assert_eq!(registry.lookup("n1").unwrap().registration.port, 1);
    assert_eq!(registry.remembered().len(), 0);
}

#[test]
fn an_adopted_node_goes_on_without_its_connection() {
    let mut registry = Registry::default();
    assert!(registry.restore(name("n1"), node(1)));
    assert!(registry.restore(name("n2"), node(2)));
    let conn = ConnId::new(1, 20);
    assert_eq!(registry.adopt("n3"), None);
    assert_eq!(registry.adopt("n1"), Some((conn, Creation::from_number(9).unwrap())));
    assert_eq!(registry.adopt("n1"), None);

    assert_eq!(registry.unregister_connection(conn, DownReason::Closed), None);
    let adopted = registry.lookup("n1").unwrap();
    assert_eq!((adopted.owner, adopted.peer), (Owner::Vm, None));
    assert_eq!(adopted.registration, registration(4711));
    // Where it was in listings.
    assert!(registry.oldest_first().map(|(name, _)| name.as_str()).eq(["n1", "n2"]));
    assert!(registry.unregister("n1", DownReason::Unregistered).is_some());
    assert_eq!(registry.len(), 1);
}

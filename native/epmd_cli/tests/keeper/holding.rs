//! What is held from one virtual machine to the next.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::json;

use crate::fixture::{DEADLINE, Keeper, await_that, open_descriptors};

/// What comes next on a connection.
fn read(mut stream: &TcpStream) -> u8 {
    let mut text = [0];
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.read_exact(&mut text).unwrap();
    text[0]
}

fn is_closed(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let read = stream.read(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    read.map_or_else(|error| error.kind() != ErrorKind::WouldBlock, |count| count == 0)
}

#[test]
fn the_next_one_gets_every_socket_and_nobody_is_turned_away() {
    let keeper = Keeper::start(&[]);
    let mut vm = keeper.serving_vm();
    let nodes = [keeper.connect(), keeper.connect()];
    vm.call(json!(["accept", "n1"]));
    vm.call(json!(["accept", "nzz"]));
    for _ in 0..4 {
        vm.settle();
        vm.kill(Signal::KILL);
        // While nobody serves.
        let waiting = keeper.connect();
        vm = keeper.serving_vm();
        assert_eq!(vm.stored(), ["n1", "nzz"]);
        vm.call(json!(["write", "n1", "a"]));
        vm.call(json!(["write", "nzz", "b"]));
        assert_eq!(nodes.each_ref().map(read), *b"ab");
        vm.call(json!(["accept", "nx"]));
        vm.tell("FDSTOREREMOVE=1\nFDNAME=nx");
        assert!(!is_closed(&waiting));
    }
}

#[test]
fn what_is_removed_is_closed_whatever_else_has_its_name() {
    let keeper = Keeper::start(&[]);
    let mut vm = keeper.serving_vm();
    let nodes = [keeper.connect(), keeper.connect(), keeper.connect()];
    for name in ["n1", "n2", "n2"] {
        vm.call(json!(["accept", name]));
    }
    vm.call(json!(["tell", "FDSTOREREMOVE=1\nFDNAME=n2"]));
    vm.call(json!(["tell", "FDSTOREREMOVE=1\nFDNAME=unknown"]));
    vm.settle();
    vm.kill(Signal::KILL);
    let vm = keeper.serving_vm();
    assert_eq!(vm.stored(), ["n1"]);
    await_that("the others are closed", || nodes[1..].iter().all(is_closed));
    assert!(!is_closed(&nodes[0]));
}

#[test]
fn those_of_one_name_are_all_handed_over() {
    let keeper = Keeper::start(&[]);
    let mut vm = keeper.serving_vm();
    let _nodes = [keeper.connect(), keeper.connect()];
    vm.call(json!(["accept", "n1"]));
    vm.call(json!(["accept", "n1"]));
    vm.call(json!(["tell_with_descriptors", "FDSTORE=1\nFDNAME=n2", 3]));
    vm.kill(Signal::KILL);
    assert_eq!(keeper.serving_vm().stored(), ["n1", "n1", "n2", "n2", "n2"]);
}

#[test]
fn what_was_said_just_before_the_end_counts() {
    let keeper = Keeper::start(&[]);
    let mut vm = keeper.serving_vm();
    for round in 1..=3 {
        vm.order(json!(["store_and_die", 100 * round]));
        vm = keeper.serving_vm();
        // Those of the rounds before are there still.
        assert_eq!(vm.stored().len(), 50 * round * (round + 1));
    }
}

#[test]
fn a_barrier_is_answered_when_all_before_is_done() {
    let keeper = Keeper::start(&[]);
    let mut vm = keeper.serving_vm();
    let before = open_descriptors(keeper.pid());
    vm.call(json!(["store_many", 500]));
    vm.settle();
    assert_eq!(open_descriptors(keeper.pid()), before + 500);
    for index in 0..500 {
        vm.tell(&format!("FDSTOREREMOVE=1\nFDNAME=s{index:x}"));
    }
    vm.settle();
    assert_eq!(open_descriptors(keeper.pid()), before);
}

#[test]
fn what_is_malformed_or_from_another_process_is_told_and_ignored() {
    let mut keeper = Keeper::start(&[]);
    let mut vm = keeper.serving_vm();
    let before = open_descriptors(keeper.pid());
    for (command, reason) in [
        (json!(["tell", "FDSTORE=1\nFDNAME=1"]), "it has no descriptor to store"),
        (json!(["tell_with_descriptors", "FDSTORE=1", 1]), "it has no name for a descriptor"),
        (json!(["tell_with_descriptors", "nonsense", 2]), "it is not a list of assignments"),
        (json!(["tell_bytes", [255, 0]]), "it is not a list of assignments"),
        (json!(["tell", "x".repeat(5000)]), "it is too long"),
        (json!(["tell_from_child", "STOPPING=1"]), "it comes from process "),
    ] {
        vm.call(command);
        let line = keeper.next_message();
        let begin = "epmd: a message of the Erlang virtual machine is ignored: ";
        assert!(line.starts_with(&format!("{begin}{reason}")), "{line}");
    }
    vm.settle();
    assert_eq!(open_descriptors(keeper.pid()), before);
    vm.kill(Signal::KILL);
    assert!(keeper.serving_vm().stored().is_empty());
}

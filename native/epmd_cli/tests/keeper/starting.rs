//! How a virtual machine is started, the first time and again.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::fixture::{EPMD, Keeper};

#[test]
fn it_hears_of_the_keeper_and_of_no_other_manager() {
    let mut command = Command::new(EPMD);
    command.env("WATCHDOG_USEC", "1000").env("NOTIFY_SOCKET", "/nowhere");
    // In the foreground it would be part of that service.
    let keeper = Keeper::start_by(command, &["-daemon"]);
    let vm = keeper.serving_vm();
    let variables = vm.hello["variables"].as_array().unwrap();
    let has = |name: &str| variables.contains(&json!(name));
    assert!(has("LISTEN_FDNAMES") && !has("NOTIFY_SOCKET") && !has("WATCHDOG_USEC"));
}

#[test]
fn it_hears_how_much_the_keeper_holds() {
    for arguments in [&[][..], &["-daemon"]] {
        let keeper = Keeper::start(arguments);
        let vm = keeper.serving_vm();
        let arguments: Vec<_> = vm.hello["arguments"].as_array().unwrap().iter().collect();
        let at = arguments.iter().position(|&one| one == "stored_descriptors").unwrap();
        let told: u64 = arguments[at + 1].as_str().unwrap().parse().unwrap();
        // It can have no more that would be lost.
        assert_eq!(told, vm.number("hard_limit"));
    }
}

#[test]
fn one_that_fails_again_and_again_is_started_ever_later() {
    let mut keeper = Keeper::start(&[]);
    let mut vm = keeper.next_vm();
    for wait in [0, 100, 200, 400] {
        let ordered = Instant::now();
        vm.order(json!(["serve_and_die"]));
        vm = keeper.next_vm();
        assert!(ordered.elapsed() >= Duration::from_millis(wait), "{wait}");
        let told = keeper.next_message();
        let start = "epmd: the Erlang virtual machine was ended by signal 9; the next one gets ";
        assert!(told.starts_with(start) && told.ends_with(&format!(" in {wait} ms")), "{told}");
    }
}

#[test]
fn one_that_ends_with_an_error_is_followed_by_another() {
    let mut keeper = Keeper::start(&[]);
    let mut vm = keeper.serving_vm();
    vm.order(json!(["exit", 3]));
    // Also if the next one fails before it serves.
    keeper.next_vm().order(json!(["exit", 4]));
    keeper.serving_vm();
    for status in [3, 4] {
        let start = format!("epmd: the Erlang virtual machine ended with status {status}; ");
        assert!(keeper.next_message().starts_with(&start));
    }
}

#[test]
fn in_the_background_it_is_started_again_too() {
    let mut keeper = Keeper::start(&["-daemon"]);
    let mut vm = keeper.serving_vm();
    assert!(keeper.await_end().success());
    assert_eq!(keeper.next_message(), "");
    let _node = keeper.connect();
    vm.call(json!(["accept", "n1"]));
    vm.settle();
    let parent = vm.parent();
    vm.kill(Signal::KILL);
    let vm = keeper.serving_vm();
    assert_eq!((vm.stored(), vm.parent()), (vec!["n1"], parent));
}

#[test]
fn one_that_never_serves_is_not_started_again() {
    for (status, arguments) in [(0, &[][..]), (3, &[])] {
        let mut keeper = Keeper::start(arguments);
        keeper.next_vm().order(json!(["exit", status]));
        assert_eq!(keeper.await_end().code(), Some(status));
        assert!(keeper.has_no_other_vm() && keeper.port_is_free());
        // It has told why itself.
        assert_eq!(keeper.next_message(), "");
    }
}

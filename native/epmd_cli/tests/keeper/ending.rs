//! When the keeper ends, and with whom.

use std::process::Command;

use rustix::process::{Signal, kill_process};
use serde_json::json;

use crate::fixture::{EPMD, Keeper, await_that, exists};

#[test]
fn the_end_in_good_order_is_final() {
    let mut keeper = Keeper::start(&[]);
    keeper.serving_vm().order(json!(["exit", 0]));
    assert_eq!(keeper.await_end().code(), Some(0));
    assert!(keeper.has_no_other_vm() && keeper.port_is_free());
    assert_eq!(keeper.next_message(), "");
}

#[test]
fn who_is_about_to_end_has_the_port_free_and_no_successor() {
    let mut keeper = Keeper::start(&[]);
    let mut vm = keeper.serving_vm();
    vm.call(json!(["store_many", 10]));
    vm.call(json!(["close_listeners"]));
    vm.settle();
    assert!(!keeper.port_is_free());
    vm.tell("STOPPING=1\nSTATUS=Stopping");
    vm.settle();
    assert!(keeper.port_is_free());
    vm.kill(Signal::KILL);
    assert_eq!(keeper.await_end().code(), Some(128 + 9));
    assert!(keeper.has_no_other_vm());
}

#[test]
fn who_goes_on_after_all_has_a_successor_with_what_it_stores_then() {
    let keeper = Keeper::start(&[]);
    let mut vm = keeper.serving_vm();
    vm.call(json!(["store_many", 10]));
    vm.tell("STOPPING=1");
    vm.tell("READY=1");
    let _node = keeper.connect();
    vm.call(json!(["accept", "n1"]));
    vm.kill(Signal::KILL);
    assert_eq!(keeper.next_vm().hello["names"], json!(["n1", "keeper"]));
}

#[test]
fn signals_are_passed_on_and_the_end_after_sigterm_is_final() {
    for (signal, is_final) in [
        (Signal::TERM, true),
        (Signal::INT, true),
        (Signal::QUIT, true),
        (Signal::HUP, true),
        (Signal::USR1, false),
        (Signal::USR2, false),
    ] {
        if is_ignored_here(signal) {
            // So it is by the keeper, and by its virtual machine: under nohup, say.
            continue;
        }
        let mut keeper = Keeper::start(&[]);
        let mut vm = keeper.serving_vm();
        vm.call(json!(["take_signals", [signal.as_raw()]]));
        keeper.signal(signal);
        assert_eq!(vm.call(json!(["signals"])), json!([signal.as_raw()]));
        vm.order(json!(["exit", 7]));
        if is_final {
            assert_eq!(keeper.await_end().code(), Some(7), "{signal:?}");
            assert!(keeper.has_no_other_vm());
        } else {
            keeper.serving_vm();
        }
    }
}

fn is_ignored_here(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
    ignored & 1 << (signal.as_raw() - 1) != 0
}

#[test]
fn sigterm_ends_it_while_there_is_no_virtual_machine() {
    let mut keeper = Keeper::start(&[]);
    for _ in 0..6 {
        // The sixth wait is longer than the test.
        keeper.next_vm().order(json!(["serve_and_die"]));
        assert!(keeper.next_message().contains("signal 9"));
    }
    keeper.signal(Signal::TERM);
    assert_eq!(keeper.await_end().code(), Some(0));
    assert!(keeper.has_no_other_vm() && keeper.port_is_free());
}

#[test]
fn what_whoever_started_it_has_it_ignore_stays_ignored() {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", EPMD]);
    let keeper = Keeper::start_by(command, &[]);
    let mut vm = keeper.serving_vm();
    assert_eq!(vm.hello["ignores_hangup"], true);
    keeper.signal(Signal::HUP);
    vm.settle();
    vm.kill(Signal::KILL);
    // The end was not asked for.
    keeper.serving_vm();
}

#[test]
fn in_the_foreground_it_takes_the_virtual_machine_along() {
    let mut keeper = Keeper::start(&[]);
    let vm = keeper.serving_vm();
    keeper.signal(Signal::KILL);
    keeper.await_end();
    await_that("it ends", || !exists(vm.pid));
}

#[test]
fn in_the_background_the_virtual_machine_serves_on_without_it() {
    let keeper = Keeper::start(&["-daemon"]);
    let mut vm = keeper.serving_vm();
    kill_process(vm.parent(), Signal::KILL).unwrap();
    await_that("the keeper is gone", || keeper.processes() == [vm.pid]);
    let _node = keeper.connect();
    vm.call(json!(["close_listeners"]));
    assert!(keeper.port_is_free());
}

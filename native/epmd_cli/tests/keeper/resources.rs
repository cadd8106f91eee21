//! What a keeper takes, and how much it can hold.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde_json::json;

use crate::fixture::Keeper;

/// A number in a file of a process's directory in /proc.
fn number(pid: Pid, file: &str, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn as_many_as_the_limit_allows_are_handed_over() {
    let keeper = Keeper::start(&[]);
    let mut vm = keeper.serving_vm();
    let (hard, soft) = (vm.number("hard_limit"), vm.number("soft_limit"));
    let few = vm.hello["names"].as_array().unwrap().len() as u64;
    assert_eq!(soft, hard.min(few + 1024));
    // The program of the test needs some for itself.
    let count = (hard - 100).min(18_000);
    vm.call(json!(["store_many", count]));
    vm.kill(Signal::KILL);
    let vm = keeper.serving_vm();
    assert_eq!(vm.stored().len() as u64, count);
    assert_eq!(vm.number("soft_limit"), hard.min(few + count + 1024));
    // And nothing else: standard streams, its way to the test, the directory itself.
    assert_eq!(vm.number("open"), few + count + 5);
}

#[test]
fn what_is_too_much_is_told() {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -n 100; exec \"$0\" \"$@\"", crate::fixture::EPMD]);
    let mut keeper = Keeper::start_by(command, &[]);
    let mut vm = keeper.serving_vm();
    vm.call(json!(["store_many", 90]));
    let line = keeper.next_message();
    assert!(line.ends_with("is ignored: 84 descriptors are stored already"), "{line}");
    vm.settle();
}

#[test]
fn while_nothing_happens_it_sleeps() {
    let keeper = Keeper::start(&[]);
    let mut vm = keeper.serving_vm();
    vm.settle();
    let sleeps = || number(keeper.pid(), "status", "voluntary_ctxt_switches:");
    // For a moment after a message it expects others.
    let gathering = sleeps() + 2;
    sleep(Duration::from_secs(1));
    let before = sleeps();
    assert!(before <= gathering, "{before}");
    sleep(Duration::from_secs(1));
    assert_eq!(sleeps(), before);
}

#[test]
fn its_own_memory_is_small() {
    let keeper = Keeper::start(&["-daemon"]);
    let mut vm = keeper.serving_vm();
    vm.settle();
    // The rest is the program, whose pages are those of the file.
    let kibibytes = number(vm.parent(), "smaps_rollup", "Anonymous:");
    assert!(kibibytes < 512, "{kibibytes} KiB");
}

//! Becoming the virtual machine, or as the first process of a container, its
//! parent.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, wait};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::output::{Status, say};
use crate::process::{Fork, fork};

/// Executes what `command` yields: it comes back only if that fails. The process
/// keeps its number, and what is connected to its standard streams.
pub(crate) fn run(command: impl FnOnce() -> Command) -> ExitCode {
    if getpid().is_init() {
        return run_as_init(command);
    }
    failed(command().exec())
}

fn failed(error: io::Error) -> ExitCode {
    say(&format!("cannot start the Erlang virtual machine: {error}"));
    Status::Failure.into()
}

/// The first process of a container has to reap what its descendants leave to
/// it, which the virtual machine would not.
fn run_as_init(command: impl FnOnce() -> Command) -> ExitCode {
    let forwarded = [SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2];
    let signals = Signals::new(forwarded.iter().chain([&SIGCHLD]));
    match signals.and_then(|signals| Ok((signals, fork()?))) {
        Err(error) => failed(error),
        Ok((_, Fork::Child)) => failed(command().exec()),
        Ok((mut signals, Fork::Parent(vm))) => {
            // With the sockets: what connects once the virtual machine has closed
            // them would wait here.
            drop(command);
            reap_until_end(&mut signals, vm)
        }
    }
}

/// Passes signals on to the virtual machine, and reaps all that end, until it does.
fn reap_until_end(signals: &mut Signals, vm: Pid) -> ExitCode {
    loop {
        for signal in signals.wait() {
            if let Some(signal) = Signal::from_named_raw(signal).filter(|&s| s != Signal::CHILD) {
                // It may just have ended.
                let _ = kill_process(vm, signal);
            }
        }
        if let Some(status) = reap(vm) {
            return ExitCode::from(status);
        }
    }
}

/// Reaps all that have ended; the exit status of the virtual machine if it has,
/// in the form in which a shell tells it.
fn reap(vm: Pid) -> Option<u8> {
    let mut ended = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == vm {
            ended = Some(exit_status(status));
        }
    }
    ended
}

/// 128 and the number of the signal, if one ended the process.
pub(crate) fn exit_status(status: WaitStatus) -> u8 {
    let signal = status.terminating_signal().map(|signal| 128 + signal);
    let status = status.exit_status().or(signal).unwrap_or(1);
    u8::try_from(status).unwrap_or(1)
}

//! Starting in the foreground.

use std::io;
use std::process::{Command, ExitCode};

use crate::handover::{self, Named};
use crate::keeper::Keeper;
use crate::output::{Status, say};
use crate::signals::Signals;
use crate::voice::Voice;

/// Becomes the virtual machine; comes back only if that fails. The process keeps
/// its number, which a service manager knows it by.
pub(crate) fn become_vm(command: Command, descriptors: Vec<Named>) -> ExitCode {
    failed(&handover::execute(command, descriptors))
}

/// Stays as the keeper of the virtual machine.
pub(crate) fn keep(command: impl Fn() -> Command, descriptors: Vec<Named>) -> ExitCode {
    match Signals::take() {
        Ok(signals) => {
            Keeper::new(command, descriptors, signals, Voice::Foreground, true).run().into()
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &io::Error) -> ExitCode {
    say(&format!("cannot start the Erlang virtual machine: {error}"));
    Status::Failure.into()
}

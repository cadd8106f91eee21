//! Starting in the background.
//!
//! Three processes: the one that the user started returns as soon as the port
//! accepts, with the error if there is one by then; after a takeover as soon as this
//! one serves. Its child is the keeper, whose
//! child becomes the virtual machine.

use std::fs::File;
use std::io::{self, IsTerminal, Read, stderr};
use std::os::fd::AsFd;
use std::process::{Command, exit};

use rustix::fs::{FileType, fstat};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::setsid;
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::handover::Named;
use crate::keeper::Keeper;
use crate::output::{Status, say};
use crate::process::{Fork, fork, ignore_hangup};
use crate::signals::Signals;
use crate::voice::Voice;

/// Starts the virtual machine of `command` in the background, with these
/// descriptors. If it has to, it waits until that serves.
pub(crate) fn start(
    command: impl Fn() -> Command,
    descriptors: Vec<Named>,
    until_served: bool,
) -> Status {
    match fork_keeper(command, descriptors, until_served) {
        Ok(report) if report.is_empty() => Status::Success,
        Ok(report) => {
            // What comes first is the cause of what follows.
            say(report.lines().next().unwrap_or_default());
            Status::Failure
        }
        Err(error) => {
            say(&format!("cannot start in the background: {error}"));
            Status::Failure
        }
    }
}

/// What the keeper has to tell; nothing when all is well so far.
fn fork_keeper(
    command: impl Fn() -> Command,
    descriptors: Vec<Named>,
    until_served: bool,
) -> io::Result<String> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    if let Fork::Child = fork()? {
        drop(reader);
        let starter = Some(File::from(writer));
        let mut voice = Voice::Background { starter, until_served, terminal: keep_stderr() };
        match detach() {
            Ok(signals) => {
                let keeper = Keeper::new(command, descriptors, signals, voice, false);
                exit(keeper.run().into())
            }
            Err(error) => {
                voice.tell(&format!("cannot start in the background: {error}"));
                exit(1)
            }
        }
    }
    drop((writer, descriptors));
    let mut report = String::new();
    File::from(reader).read_to_string(&mut report)?;
    Ok(report)
}

/// Leaves behind what belongs to whoever started the program.
fn detach() -> io::Result<Signals> {
    setsid()?;
    ignore_hangup();
    rustix::process::chdir("/")?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Signals::take()
}

/// The standard error stream, for late messages: unless it is a pipe, whose
/// reader may wait for its end.
fn keep_stderr() -> Option<File> {
    let stream = stderr();
    let kind = fstat(&stream).ok().map(|stat| FileType::from_raw_mode(stat.st_mode))?;
    if !stream.is_terminal() && kind != FileType::RegularFile {
        return None;
    }
    stream.as_fd().try_clone_to_owned().ok().map(File::from)
}

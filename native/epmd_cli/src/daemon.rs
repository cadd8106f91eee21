//! Starting in the background.
//!
//! Three processes: the one that the user started returns as soon as the port
//! accepts, with the error if there is one by then. Its child waits until the
//! port is answered, so that a virtual machine that cannot start is told of,
//! and one that hangs holds no dead port. The child of that becomes the virtual
//! machine.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write, stderr};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, exit};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, fstat};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, setsid, waitpid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::client::{connect_to, names};
use crate::foreground::exit_status;
use crate::output::{Status, say};
use crate::process::{Fork, fork, ignore_hangup};
use crate::sockets::Sockets;
use crate::syslog;

/// A virtual machine that cannot even begin ends within this time.
const FIRST_MOMENTS: Duration = Duration::from_millis(10);

/// How long a virtual machine may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How often the port is asked until it is answered.
const RETRY: Duration = Duration::from_millis(20);

/// Starts the virtual machine of `command` in the background, which serves on
/// the sockets that it is given.
pub(crate) fn start(sockets: Sockets, command: impl FnOnce(Sockets) -> Command) -> Status {
    match fork_watcher(sockets, command) {
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

/// What the watcher has to tell; nothing when all is well so far.
fn fork_watcher(sockets: Sockets, command: impl FnOnce(Sockets) -> Command) -> io::Result<String> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    if let Fork::Child = fork()? {
        drop(reader);
        let mut report = File::from(writer);
        if let Err(error) = watch(sockets, command, &mut report) {
            let _ = write!(report, "cannot start in the background: {error}");
        }
        exit(1);
    }
    drop((writer, sockets));
    let mut report = String::new();
    File::from(reader).read_to_string(&mut report)?;
    Ok(report)
}

/// Starts the virtual machine and watches it until it answers. Whoever started
/// the program goes on when `report` is closed, by this process and by the one
/// that becomes the virtual machine.
fn watch(
    sockets: Sockets,
    command: impl FnOnce(Sockets) -> Command,
    report: &mut File,
) -> io::Result<()> {
    setsid()?;
    ignore_hangup();
    rustix::process::chdir("/")?;
    let mut terminal = keep_stderr();
    detach_stdio()?;
    let address = sockets.local_address();
    let vm = match fork()? {
        Fork::Child => {
            // Back only if it fails.
            let error = command(sockets).exec();
            let _ = writeln!(report, "cannot start the Erlang virtual machine: {error}");
            exit(1);
        }
        Fork::Parent(vm) => vm,
    };
    drop(sockets);
    if let Some(message) = end_within(vm, FIRST_MOMENTS) {
        // What was written before is the reason.
        write!(report, "{message}")?;
        exit(1);
    }
    *report = File::open("/dev/null")?;
    if let Some(message) = address.and_then(|address| await_answer(vm, address)) {
        syslog::log(&message);
        if let Some(terminal) = &mut terminal {
            let _ = writeln!(terminal, "epmd: {message}");
        }
        exit(1);
    }
    exit(0);
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

fn detach_stdio() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}

/// Waits for the end of the virtual machine, and reaps it; what to tell of it, if
/// it ends within a time.
fn end_within(vm: Pid, time: Duration) -> Option<String> {
    let begun = Instant::now();
    loop {
        let status = match waitpid(Some(vm), WaitOptions::NOHANG) {
            Ok(None) if begun.elapsed() < time => {
                sleep(Duration::from_millis(1));
                continue;
            }
            Ok(None) => return None,
            Ok(Some((_, status))) => exit_status(status),
            // Who ignores the end of children is not told how they end.
            Err(_) => 1,
        };
        return Some(format!(
            "the Erlang virtual machine ended with status {status} before it served; \
             without -daemon it tells why"
        ));
    }
}

/// Waits until the port is answered; what went wrong if it is not.
fn await_answer(vm: Pid, address: SocketAddr) -> Option<String> {
    let begun = Instant::now();
    loop {
        // The connection is accepted at once: what takes time is the answer. It
        // comes, or the end of the virtual machine resets the connection.
        let answer = connect_to(address.ip(), address.port(), START_TIMEOUT).and_then(names);
        if answer.is_ok() {
            return None;
        }
        if let Some(message) = end_within(vm, RETRY) {
            return Some(message);
        }
        if begun.elapsed() > START_TIMEOUT {
            let _ = kill_process(vm, Signal::KILL);
            let seconds = START_TIMEOUT.as_secs();
            return Some(format!(
                "the Erlang virtual machine did not answer within {seconds} seconds and was killed"
            ));
        }
    }
}

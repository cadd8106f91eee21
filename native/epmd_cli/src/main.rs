//! The executable `epmd`: takes C `epmd`'s place. It asks a running port mapper,
//! or binds the port and becomes the Erlang virtual machine that serves it.

#![deny(unsafe_code)]

mod arguments;
mod client;
mod daemon;
mod flags;
mod foreground;
mod manual;
mod output;
mod process;
mod release;
mod replace;
mod sockets;
mod syslog;
mod verbs;

use std::process::ExitCode;

use arguments::{Action, Arguments};
use output::{Status, print, say};
use process::close_from;
use release::Release;
use replace::Replaced;
use sockets::{Sockets, SocketsError};

fn main() -> ExitCode {
    let words = std::env::args_os().skip(1);
    let arguments = match Arguments::read(words, |name| std::env::var_os(name)) {
        Ok(arguments) => arguments,
        Err(error) => {
            say(&error.to_string());
            eprint!("{}", manual::usage());
            return Status::Failure.into();
        }
    };
    match &arguments.action {
        Action::Help => print(&manual::usage(), Status::Success).into(),
        Action::Version => {
            print(concat!("portmapper ", env!("CARGO_PKG_VERSION"), "\n"), Status::Success).into()
        }
        Action::Ask(verb) => verbs::run(verb, arguments.config.port, arguments.json).into(),
        Action::Start { daemon, replace } => start(&arguments, *daemon, *replace),
    }
}

fn start(arguments: &Arguments, daemon: bool, replace: bool) -> ExitCode {
    let Arguments { config, debug, .. } = arguments;
    // Before the port is bound, or its holder is ended.
    let release = match Release::find(std::env::var_os("PORTMAPPER_ROOT")) {
        Ok(release) => release,
        Err(error) => return fail(&error.to_string()),
    };
    if daemon {
        close_from(sockets::first_foreign());
    }
    let warn = |message: &str| if daemon { syslog::log(message) } else { say(message) };
    let (sockets, replaced) = if replace {
        match replace::take_port(config, warn) {
            Ok(taken) => taken,
            Err(error) => return fail(&error.to_string()),
        }
    } else {
        match sockets::open(config, warn) {
            Ok(sockets) => (sockets, Replaced::default()),
            Err(error @ SocketsError::EpmdServes(_)) => {
                if *debug > 0 {
                    say(&error.to_string());
                }
                return Status::Success.into();
            }
            Err(error) => return fail(&error.to_string()),
        }
    };
    let command = |sockets: Sockets| release.command(config, *debug, sockets, daemon);
    if daemon {
        return match daemon::start(sockets, command) {
            Status::Success => replaced.await_nodes().into(),
            failure => failure.into(),
        };
    }
    match replaced.await_nodes_aside(sockets) {
        Ok(sockets) => foreground::run(|| command(sockets)),
        Err(error) => fail(&format!("cannot wait for the nodes that were registered: {error}")),
    }
}

fn fail(message: &str) -> ExitCode {
    say(message);
    Status::Failure.into()
}

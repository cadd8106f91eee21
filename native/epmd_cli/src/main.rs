//! The executable `epmd`: takes C `epmd`'s place. It asks a running port mapper,
//! or binds the port and becomes the Erlang virtual machine that serves it.

#![deny(unsafe_code)]

mod arguments;
mod client;
mod daemon;
mod file_limit;
mod flags;
mod foreground;
mod handover;
mod keeper;
mod manual;
mod output;
mod process;
mod release;
mod replace;
mod service;
mod signals;
mod sockets;
mod syslog;
mod takeover;
mod values;
mod verbs;
mod voice;
mod watching;

use std::process::ExitCode;

use arguments::{Action, Arguments, Begin};
use epmd_server::ServiceManager;
use output::{Status, print, say};
use process::close_from;
use release::Release;
use replace::Replaced;
use sockets::SocketsError;

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
        Action::Start { daemon, begin } => start(&arguments, *daemon, *begin),
    }
}

fn start(arguments: &Arguments, daemon: bool, begin: Begin) -> ExitCode {
    let Arguments { config, debug, .. } = arguments;
    // Before the port is bound, or its holder is ended.
    let release = match Release::find(std::env::var_os("PORTMAPPER_ROOT")) {
        Ok(release) => release,
        Err(error) => return fail(&error.to_string()),
    };
    if daemon {
        close_from(handover::first_foreign());
    }
    let warn = |message: &str| if daemon { syslog::log(message) } else { say(message) };
    let (sockets, replaced) = match begin {
        Begin::Bind => match sockets::open(config, warn) {
            Ok(sockets) => (sockets, Replaced::default()),
            Err(error @ SocketsError::EpmdServes(_)) => {
                if *debug > 0 {
                    say(&error.to_string());
                }
                return Status::Success.into();
            }
            Err(error) => return fail(&error.to_string()),
        },
        Begin::Replace => match replace::take_port(config, warn) {
            Ok(taken) => taken,
            Err(error) => return fail(&error.to_string()),
        },
        Begin::TakeOver => match takeover::check(config) {
            Ok(()) => Default::default(),
            Err(error) => return fail(&error.to_string()),
        },
    };
    let command = |stored| release.command(config, *debug, daemon, stored);
    // The keeper is the manager of its virtual machine. What is started in the
    // background by a service, a node maybe, is not that service.
    let kept_command = || {
        let mut command = command(keeper::capacity());
        for name in ServiceManager::VARIABLES {
            command.env_remove(name);
        }
        command
    };
    if daemon {
        return match daemon::start(kept_command, sockets, begin == Begin::TakeOver) {
            Status::Success => replaced.await_nodes().into(),
            failure => failure.into(),
        };
    }
    match replaced.await_nodes_aside(sockets) {
        Ok(sockets) if service::is_this() => {
            let capacity = service::capacity();
            if capacity > 0 {
                service::limit_files();
            }
            foreground::become_vm(command(capacity), sockets)
        }
        Ok(sockets) => foreground::keep(kept_command, sockets),
        Err(error) => fail(&format!("cannot wait for the nodes that were registered: {error}")),
    }
}

fn fail(message: &str) -> ExitCode {
    say(message);
    Status::Failure.into()
}

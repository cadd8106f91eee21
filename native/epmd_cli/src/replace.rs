//! Taking the place of the EPMD that holds the port.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::exit;
use std::thread::sleep;
use std::time::{Duration, Instant};

use epmd_core::Request;
use epmd_server::{Config, PortHolder, port_holder};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use thiserror::Error;

use crate::client::{ask, connect, names};
use crate::handover::Named;
use crate::output::{Status, say};
use crate::process::{Fork, fork};
use crate::sockets::{self, SocketsError};

/// How long an EPMD may take to end once it was asked to, or was signalled.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two attempts to bind the port: whoever registers meanwhile fails.
const BIND_RETRY: Duration = Duration::from_millis(1);

/// How long nodes have to register again. Those of OTP try every two seconds.
const NODES_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two looks at who has registered.
const NODES_RETRY: Duration = Duration::from_millis(50);

/// Why the port was not taken. The EPMD that was there has it still.
#[derive(Debug, Error)]
pub(crate) enum ReplaceError {
    #[error("what holds port {0} does not answer as an EPMD: it was left alone")]
    NoEpmd(u16),
    #[error(
        "the EPMD on port {0} refuses to end, and the system does not tell which process it is"
    )]
    UnknownHolder(u16),
    #[error("systemd holds port {0}: systemctl disable --now epmd.socket epmd.service")]
    ServiceManager(u16),
    #[error("cannot end {holder}, which holds port {port}: {error}")]
    NotPermitted { holder: PortHolder, port: u16, error: io::Error },
    #[error(transparent)]
    Sockets(#[from] SocketsError),
}

/// The nodes that were registered before.
#[derive(Debug, Default)]
pub(crate) struct Replaced {
    port: u16,
    nodes: Vec<(String, u16)>,
}

/// Ends the EPMD on the port, if there is one, and binds the port.
pub(crate) fn take_port(
    config: &Config,
    warn: impl Fn(&str),
) -> Result<(Vec<Named>, Replaced), ReplaceError> {
    let port = config.port;
    let Ok(stream) = connect(port) else {
        // Nobody holds it, or nobody that this host's nodes can use.
        return Ok((sockets::bind(config, warn)?, Replaced::default()));
    };
    let nodes = names(stream).map_err(|_| ReplaceError::NoEpmd(port))?.nodes;
    let asked = connect(port).and_then(|stream| ask(stream, &Request::Kill));
    let sockets = if asked.is_ok_and(|reply| reply == b"OK") {
        bind_soon(config, &warn)?
    } else {
        end_holder(config, &warn)?
    };
    Ok((sockets, Replaced { port, nodes }))
}

/// Signals whoever holds the port until nobody does.
fn end_holder(config: &Config, warn: &impl Fn(&str)) -> Result<Vec<Named>, ReplaceError> {
    let mut taken = Err(ReplaceError::UnknownHolder(config.port));
    // A virtual machine may outlive its keeper.
    for signal in [Signal::TERM, Signal::KILL, Signal::KILL] {
        signal_holder(config.port, signal)?;
        taken = bind_soon(config, warn);
        if taken.is_ok() {
            break;
        }
    }
    taken
}

fn signal_holder(port: u16, signal: Signal) -> Result<(), ReplaceError> {
    let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
    let holder = port_holder(any).ok_or(ReplaceError::UnknownHolder(port))?;
    let pid = Pid::from_raw(holder.pid).ok_or(ReplaceError::UnknownHolder(port))?;
    if pid.is_init() {
        return Err(ReplaceError::ServiceManager(port));
    }
    kill_process(pid, signal).map_err(|error| ReplaceError::NotPermitted {
        holder,
        port,
        error: error.into(),
    })
}

/// Binds the port the moment it is free.
fn bind_soon(config: &Config, warn: &impl Fn(&str)) -> Result<Vec<Named>, ReplaceError> {
    let begun = Instant::now();
    // To connect costs less than to find out who keeps a port from being bound.
    while connect(config.port).is_ok() && begun.elapsed() < END_TIMEOUT {
        sleep(BIND_RETRY);
    }
    Ok(sockets::bind(config, warn)?)
}

impl Replaced {
    /// Waits until all nodes have registered again; names those that do not.
    pub(crate) fn await_nodes(mut self) -> Status {
        let begun = Instant::now();
        while !self.nodes.is_empty() {
            let listing = connect(self.port).and_then(names);
            if let Ok(listing) = listing {
                self.nodes.retain(|node| !listing.nodes.contains(node));
            }
            if begun.elapsed() > NODES_TIMEOUT {
                for (name, port) in self.nodes {
                    say(&format!("node {name} at port {port} has not registered again"));
                }
                return Status::Failure;
            }
            sleep(NODES_RETRY);
        }
        Status::Success
    }

    /// The same in a process of its own, whose parent is gone: this one becomes
    /// the virtual machine, which reaps none but its own.
    pub(crate) fn await_nodes_aside(self, sockets: Vec<Named>) -> io::Result<Vec<Named>> {
        if self.nodes.is_empty() {
            return Ok(sockets);
        }
        match fork()? {
            Fork::Parent(child) => {
                // Where the end of children is ignored there is nothing to reap.
                let _ = waitpid(Some(child), WaitOptions::empty());
                Ok(sockets)
            }
            Fork::Child => {
                drop(sockets);
                if let Ok(Fork::Child) = fork() {
                    self.await_nodes();
                }
                exit(0);
            }
        }
    }
}

//! A port mapper under attack.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bench::wire::{free_port, names};
use rustix::process::{Pid, Signal, kill_process};

/// How long it may take to start.
const START: Duration = Duration::from_secs(20);

/// How long it takes to be done with its start.
const SETTLED: Duration = Duration::from_millis(1_500);

/// One that may have 1,024 descriptors. It ends when this is dropped.
#[derive(Debug)]
pub struct Subject {
    child: Child,
    pub port: u16,
}

impl Subject {
    /// Starts one in the foreground, on all addresses, and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(program: &Path, arguments: &[&str]) -> io::Result<Self> {
        let port = free_port()?;
        let mut command = Command::new("sh");
        command.args(["-c", r#"ulimit -n 1024; exec "$0" "$@""#]).arg(program);
        command.args(["-port", &port.to_string()]).args(arguments);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ERL_") {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let subject = Self { child: command.spawn()?, port };
        let begun = Instant::now();
        while names(port).is_err() {
            if begun.elapsed() > START {
                let error = format!("{} does not start", program.display());
                return Err(io::Error::other(error));
            }
            sleep(Duration::from_millis(5));
        }
        sleep(SETTLED);
        Ok(subject)
    }

    /// Where nodes of this host reach it.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// It, and its children: the virtual machine of a keeper.
    fn pids(&self) -> Vec<i32> {
        let own = self.child.id();
        let path = format!("/proc/{own}/task/{own}/children");
        let children = std::fs::read_to_string(path).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        std::iter::once(own.cast_signed()).chain(children).collect()
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // The keeper first: it would start the next virtual machine.
        for pid in self.pids().into_iter().filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

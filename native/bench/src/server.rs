//! The servers that are measured, each a process of its own.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::wire::{HELD_AT, connect, free_port};
use crate::{cpu, wire};

/// Who is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The release in this directory.
    Ours(PathBuf),
    /// The same under a service manager that keeps nothing.
    Unkept(PathBuf),
    /// OTP's `epmd`.
    C,
    /// Nothing but the system's calls: answers every request with a constant.
    Floor,
}

/// A server that runs on its own processor. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens.
    pub port: u16,
}

impl Server {
    /// Starts one, and waits until it answers.
    ///
    /// # Errors
    /// When it does not start or answer.
    pub fn start(kind: &Kind) -> io::Result<Self> {
        let port = free_port()?;
        let program = match kind {
            Kind::Ours(release) | Kind::Unkept(release) => release.join("bin/epmd"),
            Kind::C => "epmd".into(),
            Kind::Floor => std::env::current_exe()?.with_file_name("floor"),
        };
        let mut command = Command::new(program);
        let addresses = format!("{},{HELD_AT}", Ipv4Addr::LOCALHOST);
        command.args(["-port", &port.to_string(), "-address", &addresses]);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ERL_") {
                command.env_remove(name);
            }
        }
        if matches!(kind, Kind::Unkept(_)) {
            // Nobody is there: what it is told does not matter.
            command.env("NOTIFY_SOCKET", "/nowhere").env("FDSTORE", "0");
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self { child: command.spawn()?, port };
        let deadline = Instant::now() + Duration::from_secs(20);
        while wire::names(port).is_err() {
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("{kind:?} does not answer")));
            }
            sleep(Duration::from_millis(5));
        }
        // It has started all its threads; what the start needed is given back.
        sleep(Duration::from_millis(1_500));
        for pid in server.pids() {
            cpu::pin(pid, cpu::SERVER)?;
        }
        Ok(server)
    }

    /// The process that was started.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// It, and its children: the virtual machine of a keeper.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let path = format!("/proc/{0}/task/{0}/children", self.pid());
        let children = std::fs::read_to_string(path).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        std::iter::once(self.pid()).chain(children).collect()
    }

    /// The processor time that it has had.
    ///
    /// # Errors
    /// When it has ended.
    pub fn time(&self) -> io::Result<Duration> {
        self.pids().into_iter().map(cpu::time).sum()
    }

    /// The processor time that it has used for `work`.
    ///
    /// # Errors
    /// Those of the work, or when the server has ended.
    pub fn time_of(&self, work: impl FnOnce() -> io::Result<()>) -> io::Result<Duration> {
        let before = self.time()?;
        work()?;
        // What is left to do when the last reply is there: closing.
        drop(connect(self.port));
        Ok(self.time()? - before)
    }

    /// Stops it for the time of `work`, so that requests queue up.
    ///
    /// # Errors
    /// Those of the work.
    pub fn stopped<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.signal(Signal::STOP);
        let done = work();
        self.signal(Signal::CONT);
        done
    }

    fn signal(&self, signal: Signal) {
        for pid in self.pids() {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, signal);
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The keeper first: it would start the next virtual machine.
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

/// The release that a path names.
///
/// # Errors
/// When it has no `bin/epmd`.
pub fn ours(release: &str) -> io::Result<Kind> {
    let root = Path::new(release).canonicalize()?;
    root.join("bin/epmd").metadata()?;
    Ok(Kind::Ours(root))
}

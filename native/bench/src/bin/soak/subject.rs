//! The port mapper under test, and who starts it again.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::epmd::NODES_CONNECT_TO;
use crate::process;

/// Marks all processes that are started for a port.
const MARK: &str = "EPMD_OF_SOAK";

/// A user that every system has, which no person is.
const USER: &str = "1";

/// How long systemd may be too busy to answer.
const BUSY: Duration = Duration::from_secs(300);

/// Who starts the virtual machine again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// Our own, of `epmd -daemon`.
    Keeper,
    /// A systemd that runs here, as `epmd.service`.
    Systemd,
    /// The same for a user: the systemd of that user.
    UserSystemd,
}

impl Manager {
    /// Begins a command for systemd.
    fn systemctl(self) -> Command {
        let mut systemctl = Command::new("systemctl");
        if self == Self::UserSystemd {
            systemctl = Command::new("setpriv");
            systemctl.args(["--reuid", USER, "--regid", USER, "--clear-groups"]);
            systemctl.args(["systemctl", "--user"]);
            systemctl.env("XDG_RUNTIME_DIR", format!("/run/user/{USER}"));
        }
        systemctl
    }

    /// Has systemd start or restart the port mapper.
    fn manage(self, verb: &str) -> Result<(), Box<dyn Error>> {
        succeed(self.systemctl().args([verb, "epmd.service"]))
    }
}

/// One that runs. It ends when this is dropped.
#[derive(Debug)]
pub struct Subject {
    program: PathBuf,
    port: u16,
    pub manager: Manager,
}

impl Subject {
    /// Starts that of a release.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(release: &Path, port: u16, manager: Manager) -> Result<Self, Box<dyn Error>> {
        if manager == Manager::UserSystemd {
            let service = format!("user@{USER}.service");
            succeed(Command::new("systemctl").args(["start", &service]))?;
        }
        let subject = Self { program: release.join("bin/epmd"), port, manager };
        subject.launch()?;
        Ok(subject)
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn launch(&self) -> Result<(), Box<dyn Error>> {
        match self.manager {
            Manager::Keeper => self.epmd(&["-daemon"]),
            Manager::Systemd | Manager::UserSystemd => self.manager.manage("start"),
        }
    }

    /// Every process that was started for it; none of those of systemd.
    pub fn processes(&self) -> Vec<u32> {
        process::marked(MARK, &self.port.to_string())
    }

    /// Kills every process that was started for it.
    pub fn kill(&self) {
        // One of them may just be starting another.
        while let processes = self.processes()
            && !processes.is_empty()
        {
            for process in processes {
                let _ = process::signal(process, Signal::KILL);
            }
        }
    }

    /// Has a successor take over from the virtual machine that runs.
    ///
    /// # Errors
    /// When it does not.
    pub fn take_over(&self) -> Result<(), Box<dyn Error>> {
        match self.manager {
            Manager::Keeper => self.epmd(&["-takeover", "-daemon"]),
            // What systemd keeps passes through its hands.
            Manager::Systemd | Manager::UserSystemd => self.manager.manage("restart"),
        }
    }

    fn epmd(&self, arguments: &[&str]) -> Result<(), Box<dyn Error>> {
        let mut command = Command::new(&self.program);
        command.args(["-port", &self.port.to_string()]);
        command.args(["-address", &NODES_CONNECT_TO.to_string()]).args(arguments);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ERL_") {
                command.env_remove(name);
            }
        }
        // To make one takes 30 MiB, which stay.
        command.env_remove("RUST_BACKTRACE");
        succeed(command.env(MARK, self.port.to_string()))
    }

    /// The process that starts a virtual machine again, if it is ours.
    ///
    /// # Errors
    /// When the virtual machine has ended.
    pub fn keeper(&self, vm: u32) -> Result<Option<u32>, Box<dyn Error>> {
        let parent = u32::try_from(process::process(vm)?.stat()?.ppid)?;
        let runs = process::process(parent)?.exe().is_ok_and(|program| program == self.program);
        Ok(runs.then_some(parent))
    }

    /// How many descriptors systemd keeps. When it is busy storing them it answers late.
    ///
    /// # Errors
    /// When it does not tell.
    pub fn stored(&self) -> Result<usize, Box<dyn Error>> {
        let begun = Instant::now();
        loop {
            let mut command = self.manager.systemctl();
            command.args(["show", "--value", "--property=NFileDescriptorStore", "epmd.service"]);
            let output = command.output()?;
            match String::from_utf8(output.stdout)?.trim().parse() {
                Ok(number) => return Ok(number),
                Err(error) if begun.elapsed() > BUSY => return Err(error.into()),
                Err(_) => {}
            }
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.kill();
    }
}

fn succeed(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output()?;
    if status.success() {
        return Ok(());
    }
    let text = [stdout, stderr].concat();
    let text = String::from_utf8_lossy(&text);
    Err(io::Error::other(format!("{command:?}: {status}: {}", text.trim())).into())
}

//! Another host: a network namespace with a link to this one, which is in a namespace of
//! its own, too. Both end with their processes.

use std::io::{Error, Result};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Result as Outcome;

/// Tells a process that it is in a namespace of its own.
const INSIDE: &str = "HOSTILE_INSIDE";

/// The address of this host on the link.
pub const NEAR: &str = "10.99.0.1";

const LINK: &str = "ip link add near type veth peer name far netns PID
    ip addr add 10.99.0.1/24 dev near
    ip link set near up
    nsenter --net=/proc/PID/ns/net sh -ec 'ip link set lo up
        ip addr add 10.99.0.2/24 dev far; ip link set far up'";

/// Runs this program in a namespace of its own, if it is not in one and that is
/// possible; what came of it.
pub fn run_inside(arguments: &[&str]) -> Option<bool> {
    let is_possible = || {
        let tried = Command::new("unshare").args(["--net", "ip", "link"]).output();
        tried.is_ok_and(|output| output.status.success())
    };
    if std::env::var_os(INSIDE).is_some() || !is_possible() {
        return None;
    }
    let mut command = Command::new("unshare");
    command.arg("--net").arg(std::env::current_exe().ok()?).args(arguments).env(INSIDE, "1");
    Some(command.status().is_ok_and(|status| status.success()))
}

/// The other host.
#[derive(Debug)]
pub struct Network(Child);

impl Network {
    /// Makes one, if this is a namespace of its own.
    ///
    /// # Errors
    /// When that fails.
    pub fn make() -> Outcome<Option<Self>> {
        if std::env::var_os(INSIDE).is_none() {
            return Ok(None);
        }
        sh("ip link set lo up")?;
        let mut command = Command::new("unshare");
        command.args(["--net", "sleep", "infinity"]).stdin(Stdio::null());
        let network = Self(command.spawn()?);
        let begun = Instant::now();
        while network.namespace()? == std::fs::read_link("/proc/self/ns/net")? {
            if begun.elapsed() > Duration::from_secs(10) {
                return Err("there is no other namespace".into());
            }
            sleep(Duration::from_millis(5));
        }
        sh(&LINK.replace("PID", &network.0.id().to_string()))?;
        Ok(Some(network))
    }

    fn namespace(&self) -> Result<PathBuf> {
        std::fs::read_link(format!("/proc/{}/ns/net", self.0.id()))
    }

    /// A command that runs a program there.
    pub fn command(&self, program: PathBuf) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.0.id())).arg(program);
        command
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sh(commands: &str) -> Result<()> {
    let status = Command::new("sh").args(["-ec", commands]).status()?;
    status.success().then_some(()).ok_or_else(|| Error::other(format!("failed: {commands}")))
}

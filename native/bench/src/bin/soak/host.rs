//! A host that a real systemd runs, as process 1 of namespaces of its own: there
//! this program runs once more. It ends with all that runs there, and leaves
//! nothing.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use procfs::process::Process;
use rustix::process::Signal;

use crate::options::Options;
use crate::process;
use crate::saboteur::Release;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Becomes systemd, in new namespaces.
const SCRIPT: &str = include_str!("../../../../../test/systemd_SUITE_data/host.sh");

/// Where the release is there.
const ROOT: &str = "/opt/portmapper";

/// Where saboteurs connect to there: nobody else listens on anything.
const SABOTEURS_PORT: u16 = 4371;

/// How long systemd may take to start there, or the kernel to bury its processes.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Joins a control group, and executes what follows.
const JOIN: &str = r#"echo $$ >"$0/cgroup.procs" && exec "$@""#;

/// Runs this program there, with the same options.
///
/// # Errors
/// When there can be no such host, or the program fails.
pub fn run(options: &Options) -> Result<()> {
    let release = Release::copy(&options.release, SABOTEURS_PORT)?;
    // It may be where there is nothing to be seen there.
    let program = Path::new("bin/soak");
    fs::copy(std::env::current_exe()?, release.root().join(program))?;
    let host = Host::start(&release.root())?;
    let mut inside = host.enter();
    inside.arg(Path::new(ROOT).join(program)).args([&options.mode, ROOT]);
    inside.args(options.words()).args(["--inside", &SABOTEURS_PORT.to_string()]);
    let status = inside.stdin(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err("it failed under systemd".into()) }
}

struct Host {
    unshare: Child,
    init: u32,
    cgroup: PathBuf,
}

impl Host {
    fn start(release: &Path) -> Result<Self> {
        let cgroup = cgroup()?;
        fs::create_dir(&cgroup)?;
        let mut command = Command::new("sh");
        command.args(["-c", JOIN]).arg(&cgroup).arg("unshare");
        command.args(["--pid", "--mount", "--net", "--cgroup", "--ipc", "--uts"]);
        command.args(["--fork", "--kill-child", "sh", "-c", SCRIPT, "host.sh", "both"]);
        command.arg(release).arg(release.join("share/systemd")).arg("60s");
        let unshare =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut host = Self { unshare, init: 0, cgroup };
        let begun = Instant::now();
        while !host.is_up() {
            if begun.elapsed() > TIMEOUT || host.unshare.try_wait()?.is_some() {
                return Err("systemd does not start in namespaces of its own".into());
            }
            sleep(Duration::from_millis(20));
        }
        Ok(host)
    }

    fn is_up(&mut self) -> bool {
        if self.init == 0 {
            let Some(init) = child(self.unshare.id()) else { return false };
            self.init = init;
        }
        let state = self.enter().args(["systemctl", "is-system-running"]).output();
        state.is_ok_and(|output| [&b"running\n"[..], b"degraded\n"].contains(&&output.stdout[..]))
    }

    /// Begins a command that is run there.
    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--all", "--target", &self.init.to_string()]);
        command
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.init != 0 {
            let _ = process::signal(self.init, Signal::KILL);
        } else {
            let _ = self.unshare.kill();
        }
        let _ = self.unshare.wait();
        // Its groups are empty once the kernel has buried everybody.
        let begun = Instant::now();
        while remove(&self.cgroup).is_err() && begun.elapsed() < TIMEOUT {
            sleep(Duration::from_millis(10));
        }
    }
}

/// A control group below our own that nobody else has.
fn cgroup() -> Result<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let own = own.ok_or("no control groups of version 2 here")?;
    let name = format!("portmapper-soak-{}", std::process::id());
    let mounted = Process::myself()?.mountinfo()?.into_iter();
    let root = mounted.into_iter().find(|mount| mount.fs_type == "cgroup2");
    let root = root.ok_or("no control groups of version 2 here")?.mount_point;
    Ok(root.join(own).join(name))
}

/// Removes a control group and those in it.
fn remove(cgroup: &Path) -> io::Result<()> {
    for entry in fs::read_dir(cgroup)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}

/// The only child of a process.
fn child(parent: u32) -> Option<u32> {
    let process = Process::new(parent.try_into().ok()?).ok()?;
    let children = process.task_main_thread().ok()?.children().ok()?;
    children.first().copied()
}

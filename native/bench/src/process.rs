//! What `/proc` tells of processes.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use procfs::ProcResult;
use procfs::process::{Process, all_processes};
use rustix::process::{
    Pid, Resource, Signal, getrlimit, kill_process, setrlimit, test_kill_process,
};

/// Lets this process have as many files open as it may; how many that is.
///
/// # Errors
/// When the system refuses.
pub fn raise_file_limit() -> std::io::Result<usize> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(limit.maximum.and_then(|maximum| maximum.try_into().ok()).unwrap_or(usize::MAX))
}

/// A process and its descendants, measured as one.
#[derive(Debug)]
pub struct Family {
    root: i32,
    /// Whether they do not count.
    is_alone: bool,
}

/// A process whose program is in this directory, if there is one.
///
/// # Errors
/// When the directory is none, or there is no `/proc`.
pub fn running_from(directory: &Path) -> ProcResult<Option<i32>> {
    let directory = directory.canonicalize()?;
    let runs = |process: &Process| process.exe().is_ok_and(|exe| exe.starts_with(&directory));
    Ok(all_processes()?.flatten().find(runs).map(|process| process.pid))
}

/// What a family takes of the system.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Resident pages, in bytes.
    pub resident: u64,
    /// Resident pages that no other process has, in bytes.
    pub private: u64,
}

/// What one process takes of the memory.
///
/// # Errors
/// When it has ended.
pub fn memory(process: &Process) -> ProcResult<Memory> {
    let mut memory = Memory { resident: 0, private: 0 };
    for map in process.smaps_rollup()?.memory_map_rollup {
        let of = |key: &str| map.extension.map.get(key).copied().unwrap_or(0);
        memory.resident += of("Rss");
        memory.private += of("Private_Clean") + of("Private_Dirty");
    }
    Ok(memory)
}

impl Family {
    /// That of a process.
    #[must_use]
    pub const fn of(root: i32) -> Self {
        Self { root, is_alone: false }
    }

    /// The process without its descendants.
    #[must_use]
    pub const fn root_alone(&self) -> Self {
        Self { root: self.root, is_alone: true }
    }

    /// That of whoever listens on a port.
    #[must_use]
    pub fn on_port(port: u16) -> Option<Self> {
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
        epmd_server::port_holder(any).map(|holder| Self::of(holder.pid))
    }

    /// The process first, each before its children.
    fn members(&self) -> ProcResult<Vec<Process>> {
        let mut members = vec![Process::new(self.root)?];
        if self.is_alone {
            return Ok(members);
        }
        let others = all_processes()?.flatten();
        let mut others: Vec<_> =
            others.filter_map(|other| Some((other.stat().ok()?.ppid, other))).collect();
        let mut next = 0;
        while let Some(parent) = members.get(next).map(|member| member.pid) {
            members.extend(others.extract_if(.., |(ppid, _)| *ppid == parent).map(|(_, one)| one));
            next += 1;
        }
        Ok(members)
    }

    /// How many processes, and threads in them.
    ///
    /// # Errors
    /// When a process has ended.
    pub fn size(&self) -> ProcResult<(usize, usize)> {
        let members = self.members()?;
        let threads: Result<Vec<_>, _> =
            members.iter().map(|one| Ok::<_, procfs::ProcError>(one.tasks()?.count())).collect();
        Ok((members.len(), threads?.iter().sum()))
    }

    /// What it takes of the memory.
    ///
    /// # Errors
    /// When a process has ended.
    pub fn memory(&self) -> ProcResult<Memory> {
        let mut memory = Memory { resident: 0, private: 0 };
        for process in self.members()? {
            let Memory { resident, private } = self::memory(&process)?;
            memory.resident += resident;
            memory.private += private;
        }
        Ok(memory)
    }

    /// How often its threads have gone to sleep since they started: an idle one
    /// that wakes up does so each time.
    ///
    /// # Errors
    /// When a process has ended.
    pub fn sleeps(&self) -> ProcResult<u64> {
        let mut sleeps = 0;
        for process in self.members()? {
            for task in process.tasks()? {
                sleeps += task?.status()?.voluntary_ctxt_switches.unwrap_or(0);
            }
        }
        Ok(sleeps)
    }

    /// Ends all, and waits for that; the process first, which may start others again.
    pub fn kill(self) {
        let members = self.members().unwrap_or_default();
        let pids: Vec<_> = members.iter().filter_map(|one| Pid::from_raw(one.pid)).collect();
        for &pid in &pids {
            let _ = kill_process(pid, Signal::KILL);
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while pids.iter().any(|&pid| test_kill_process(pid).is_ok()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

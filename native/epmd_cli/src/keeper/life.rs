//! One virtual machine, from its start to its end.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::process::{Command, exit};
use std::time::{Duration, Instant};

use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

use super::capacity;
use super::channel::Channel;
use crate::file_limit;
use crate::handover::{self, FIRST_DESCRIPTOR, Named};
use crate::process::{Fork, fork};

/// A virtual machine that cannot even begin ends within this time.
const FIRST_MOMENTS: Duration = Duration::from_millis(10);

/// How long a virtual machine may take until it serves.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How the descriptor is called that leads to the keeper.
const CHANNEL: &str = "keeper";

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    FirstMoments,
    Starting,
    Serving,
    /// It did not serve in time, and was killed.
    Killed,
}

/// A virtual machine that has not ended, as far as its parent knows.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) vm: Pid,
    pub(crate) channel: Channel,
    stage: Stage,
    /// When it came to this stage.
    since: Instant,
    /// Whether it has said that it needs no successor.
    pub(crate) stopping: bool,
}

impl Life {
    /// Starts one with what `held` yields, which only the child takes, and with its
    /// way to the keeper.
    ///
    /// # Errors
    /// When there is no process to be had, or the command cannot be executed.
    pub(crate) fn start(
        command: impl FnOnce() -> Command,
        held: impl FnOnce() -> Vec<Named>,
        ends_with_keeper: bool,
    ) -> io::Result<Self> {
        let (channel, end) = Channel::pair()?;
        // Closed by what is executed; if that fails, the reason comes before.
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let keeper = getpid();
        let vm = match fork()? {
            Fork::Parent(vm) => vm,
            Fork::Child => {
                let _ = ends_with_keeper.then(|| end_with(keeper));
                // Then the keeper can hold all that it has.
                let _ = file_limit::lower_hard(capacity());
                let mut descriptors = held();
                descriptors.push(Named { name: CHANNEL.into(), descriptor: end });
                become_vm(command(), descriptors, writer)
            }
        };
        drop((end, writer));
        let mut code = [0; size_of::<i32>()];
        if File::from(reader).read_exact(&mut code).is_ok() {
            return Err(io::Error::from_raw_os_error(i32::from_ne_bytes(code)));
        }
        let (stage, since) = (Stage::FirstMoments, Instant::now());
        Ok(Self { vm, channel, stage, since, stopping: false })
    }

    pub(crate) const fn stage(&self) -> Stage {
        self.stage
    }

    pub(crate) fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.since = Instant::now();
    }

    /// When the stage has lasted too long, if it can.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::FirstMoments => Some(self.since + FIRST_MOMENTS),
            Stage::Starting => Some(self.since + START_TIMEOUT),
            Stage::Serving | Stage::Killed => None,
        }
    }

    /// For how long it has served.
    pub(crate) fn served(&self) -> Duration {
        if self.stage == Stage::Serving { self.since.elapsed() } else { Duration::ZERO }
    }
}

/// Has this process end in good order when its parent is gone.
fn end_with(parent: Pid) {
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
    // It may be gone already.
    if getppid() != Some(parent) {
        exit(1);
    }
}

/// Executes the command; if that fails, passes the reason on.
fn become_vm(command: Command, descriptors: Vec<Named>, failure: OwnedFd) -> ! {
    // The numbers below are for the virtual machine.
    let above = RawFd::try_from(descriptors.len()).unwrap_or(RawFd::MAX);
    let above = above.saturating_add(FIRST_DESCRIPTOR);
    let (error, failure) = match fcntl_dupfd_cloexec(failure.as_fd(), above) {
        Ok(failure) => (handover::execute(command, descriptors), failure),
        Err(error) => (error.into(), failure),
    };
    let code = error.raw_os_error().unwrap_or(Errno::INVAL.raw_os_error());
    let _ = File::from(failure).write_all(&code.to_ne_bytes());
    exit(1)
}

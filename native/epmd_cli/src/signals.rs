//! Signals as something to wait for beside others.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use crate::process::is_ignored;

/// What is passed on to the virtual machine.
const FORWARDED: [i32; 6] = [SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2];

/// The signals that this process takes, of which each is a reason to look what
/// children have ended.
pub(crate) struct Signals(SignalDelivery<UnixStream, SignalOnly>);

impl Signals {
    /// Takes them from now on; but those that whoever started the program has it
    /// ignore stay ignored, also by what it executes. The virtual machine does not
    /// ignore SIGTERM, whatever was asked for.
    pub(crate) fn take() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        let is_taken = |&signal: &i32| signal == SIGTERM || !is_ignored(signal);
        let forwarded = FORWARDED.into_iter().filter(is_taken);
        let signals = forwarded.chain([SIGCHLD]);
        Ok(Self(SignalDelivery::with_pipe(read, write, SignalOnly, signals)?))
    }

    /// What has come that the virtual machine is to get.
    pub(crate) fn forwarded(&mut self) -> impl Iterator<Item = Signal> {
        let signals = self.0.pending().filter(|&signal| signal != SIGCHLD);
        signals.filter_map(Signal::from_named_raw)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_read().as_fd()
    }
}

/// Whether a signal asks for the end.
pub(crate) fn asks_for_end(signal: Signal) -> bool {
    [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP].contains(&signal)
}

//! What only the system's own calls can do.

#![allow(unsafe_code, reason = "fork and the disposition of signals have no safe form")]

use std::io;
use std::os::fd::RawFd;

use rustix::process::Pid;

/// Which of two processes this is after a [`fork`].
pub(crate) enum Fork {
    Parent(Pid),
    Child,
}

/// Makes two processes of this one, which has a single thread.
pub(crate) fn fork() -> io::Result<Fork> {
    // SAFETY: there is no other thread whose locks the child could find held.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        // Positive in the parent.
        pid => Ok(Pid::from_raw(pid).map_or(Fork::Child, Fork::Parent)),
    }
}

/// Has this process, and what it executes, live on when its terminal goes.
pub(crate) fn ignore_hangup() {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
}

/// Closes this descriptor and all above it: those that whoever started the
/// program has left open. Only for as long as the program owns none of them.
pub(crate) fn close_from(first: RawFd) {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: no value in this process refers to one of the descriptors.
        if unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) } == 0 {
            return;
        }
    }
    // SAFETY: it only asks for a number.
    let limit = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
    for descriptor in first..RawFd::try_from(limit).unwrap_or(RawFd::MAX) {
        // SAFETY: as above.
        unsafe { libc::close(descriptor) };
    }
}

//! What only the system's own calls can do.

#![allow(unsafe_code, reason = "fork, signals and the numbers of descriptors have no safe form")]

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use rustix::io::{FdFlags, fcntl_setfd};
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

/// Whether a signal is ignored.
pub(crate) fn is_ignored(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::uninit();
    // SAFETY: nothing is changed, and what is told is read only if it was told.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// Takes a descriptor by the number that it was passed on with, and keeps what
/// this process executes from getting it; nothing if it is not open. Only for
/// numbers that nothing else in this process refers to.
pub(crate) fn take_descriptor(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: it is used for one call, which fails if it is not open.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_setfd(descriptor, FdFlags::CLOEXEC).ok()?;
    // SAFETY: it is open, and by the contract nobody else's.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Gives descriptors the numbers from `first` on for what this process executes
/// next, and closes what else had these numbers. They have to come in the order
/// of their numbers, none of which is below `first`: so each one moves down or
/// stays, and none takes the place of one that is still to move.
pub(crate) fn place_descriptors(descriptors: Vec<OwnedFd>, first: RawFd) -> io::Result<()> {
    for (descriptor, number) in descriptors.into_iter().zip(first..) {
        let descriptor = descriptor.into_raw_fd();
        // SAFETY: this process executes another program or ends: it uses none of
        // what is closed.
        let placed = unsafe {
            if descriptor == number {
                libc::fcntl(number, libc::F_SETFD, 0)
            } else {
                libc::dup2(descriptor, number)
            }
        };
        if placed == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
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

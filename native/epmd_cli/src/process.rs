//! What only the system's own calls can do.

#![allow(unsafe_code, reason = "fork, signals and the numbers of descriptors have no safe form")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, RawFd};

use rustix::net::{SocketType, getsockname, sockopt};
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

/// Where the socket with this number listens, if it is one that does, for TCP.
pub(crate) fn listening_address(descriptor: RawFd) -> Option<SocketAddr> {
    // SAFETY: it is asked for nothing but what it is, and nothing here closes it.
    // If it is not open, the system says so.
    let socket = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let listens = sockopt::socket_acceptconn(socket).ok()?;
    let stream = sockopt::socket_type(socket).ok()? == SocketType::STREAM;
    let address = getsockname(socket).ok().filter(|_| listens && stream)?;
    // Any other family has no such address.
    SocketAddr::try_from(address).ok()
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

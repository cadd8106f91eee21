//! Every call that is particular to a system. Linux has a fast path and can
//! name the holder of a port or a name; elsewhere, and with the feature `portable`,
//! plain tokio does the same.

use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod linux;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
pub(crate) use linux::{Held, accept};

#[cfg(any(not(target_os = "linux"), feature = "portable"))]
mod portable;
#[cfg(any(not(target_os = "linux"), feature = "portable"))]
pub(crate) use portable::{Held, accept};

#[cfg(target_os = "linux")]
mod port_holder;
#[cfg(target_os = "linux")]
mod proc_net;
#[cfg(target_os = "linux")]
mod processes;
#[cfg(target_os = "linux")]
mod sock_diag;
#[cfg(target_os = "linux")]
mod sockets;
#[cfg(target_os = "linux")]
mod unix_sockets;
#[cfg(target_os = "linux")]
pub use port_holder::port_holder;
#[cfg(target_os = "linux")]
pub(crate) use {
    processes::{holder_of, holder_with, holders_of, this_process},
    sockets::{SocketTable, TcpSocket},
    unix_sockets::{
        MAX_DESCRIPTORS, OtherProcess, accept_from, connect_to, hang_up, has_news, listen_at,
        receive, send,
    },
};

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(not(target_os = "linux"))]
pub use elsewhere::port_holder;
#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::{
    MAX_DESCRIPTORS, OtherProcess, SocketTable, TcpSocket, accept_from, connect_to, hang_up,
    has_news, holder_of, holder_with, holders_of, listen_at, memory_file, receive, send,
    this_process,
};

/// A process that has a socket: the one that listens on a port, say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortHolder {
    /// Its process number.
    pub pid: i32,
    /// The name of its program.
    pub program: String,
}

impl fmt::Display for PortHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.program, self.pid)
    }
}

/// Who is at the other end of a registration, as far as the system tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holder {
    /// The process that has the connection; the first, if it was passed on.
    pub process: Option<PortHolder>,
    /// The name of the user that made the connection, or the number of one
    /// without a name.
    pub user: Option<String>,
}

/// Raises the soft limit of open files of this process to its hard one.
pub(crate) fn raise_file_limit() -> std::io::Result<()> {
    initial_limit();
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// Takes in what it was before another version of this library raised it.
pub(crate) fn take_in_initial_limit(limit: i32) {
    // It is known already if this version was the first.
    let _ = INITIAL_LIMIT.set(limit);
}

/// Does something that may need more descriptors for a moment than are to be had.
pub(crate) fn beyond_soft_limit<T>(work: impl FnOnce() -> T) -> T {
    let before = getrlimit(Resource::Nofile);
    // Without it, the work may do.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: before.maximum, ..before });
    let done = work();
    let _ = setrlimit(Resource::Nofile, before);
    done
}

/// How many descriptors this process may have.
pub(crate) fn file_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// A file that is in memory alone.
#[cfg(target_os = "linux")]
pub(crate) fn memory_file() -> std::io::Result<std::fs::File> {
    Ok(rustix::fs::memfd_create("portmapper", rustix::fs::MemfdFlags::CLOEXEC)?.into())
}

/// Has this process listed under another name, where the system can.
pub(crate) fn name_process(name: &str) {
    if !name.is_empty() {
        // Elsewhere there is no such file.
        let _ = std::fs::write("/proc/self/comm", name);
    }
}

/// More descriptors than that are not prepared for: as many as a process can have, if
/// `fs.nr_open` was not changed.
const MAX_PREPARED: usize = 1 << 20;

/// Prepares for so many more descriptors, if the limit allows them. As they come, the
/// kernel would make its table larger in steps, each of which takes it milliseconds.
pub(crate) fn make_room(descriptors: usize) {
    let descriptors = descriptors.min(MAX_PREPARED);
    let Ok(null) = std::fs::File::open("/dev/null") else { return };
    let used = null.as_raw_fd().saturating_add(RESERVED_DESCRIPTORS);
    let last = i32::try_from(descriptors).unwrap_or(i32::MAX).saturating_add(used);
    drop(fcntl_dupfd_cloexec(null, last));
}

/// Descriptors that connections leave to the rest of the VM, which has to open
/// files (its code, its logs) at the worst of times.
const RESERVED_DESCRIPTORS: i32 = 16;

/// Where those begin of which connections get none: the numbers that this process
/// may not have, and as many before.
pub(crate) fn end_of_descriptors() -> i32 {
    i32::try_from(file_limit()).unwrap_or(i32::MAX).saturating_sub(RESERVED_DESCRIPTORS)
}

/// Whether a descriptor is one of those that are reserved.
pub(crate) fn is_reserved(descriptor: i32) -> bool {
    let limit = initial_limit();
    (limit.saturating_sub(RESERVED_DESCRIPTORS)..limit).contains(&descriptor)
}

/// Moves a connection away from a reserved descriptor, if the limit was raised
/// and leaves another one.
pub(crate) fn unreserve(connection: OwnedFd) -> OwnedFd {
    if !is_reserved(connection.as_raw_fd()) {
        return connection;
    }
    fcntl_dupfd_cloexec(&connection, initial_limit()).unwrap_or(connection)
}

/// Moves a connection to the lowest descriptor that it may have.
pub(crate) fn move_down(connection: OwnedFd) -> OwnedFd {
    match fcntl_dupfd_cloexec(&connection, 0).map(unreserve) {
        Ok(lowest) if lowest.as_raw_fd() < connection.as_raw_fd() => lowest,
        _ => connection,
    }
}

static INITIAL_LIMIT: OnceLock<i32> = OnceLock::new();

/// The limit of open files before it was raised. The BEAM can use no descriptor
/// beyond the limit that it was started with.
pub(crate) fn initial_limit() -> i32 {
    *INITIAL_LIMIT.get_or_init(|| {
        let limit = getrlimit(Resource::Nofile).current;
        limit.and_then(|limit| i32::try_from(limit).ok()).unwrap_or(i32::MAX)
    })
}

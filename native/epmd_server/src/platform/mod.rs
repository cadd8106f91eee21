//! Every call that is particular to a system. Linux has a fast path and can
//! name the holder of a port; elsewhere, and with the feature `portable`,
//! plain tokio does the same.

use std::fmt;

use rustix::process::{Resource, getrlimit, setrlimit};

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
pub(crate) use port_holder::port_holder;

/// Only Linux tells.
#[cfg(not(target_os = "linux"))]
pub(crate) fn port_holder(_address: std::net::SocketAddr) -> Option<PortHolder> {
    None
}

/// The process that listens on a port.
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

/// Raises the soft limit of open files of this process to its hard one.
pub(crate) fn raise_file_limit() -> std::io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// Descriptors that connections leave to the rest of the VM, which has to open
/// files (its code, its logs) at the worst of times.
const RESERVED_DESCRIPTORS: u64 = 16;

/// The first descriptor that a connection had better not keep.
pub(crate) fn descriptor_ceiling() -> i32 {
    getrlimit(Resource::Nofile)
        .current
        .and_then(|limit| i32::try_from(limit.saturating_sub(RESERVED_DESCRIPTORS)).ok())
        .unwrap_or(i32::MAX)
}

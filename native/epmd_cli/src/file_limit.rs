//! How many files this process may have open.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the virtual machine opens itself, and a reserve.
const OWN_FILES: u64 = 1024;

/// The most that there can be.
pub(crate) fn hard() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// Has there be no more than this from now on.
pub(crate) fn lower_hard(maximum: u64) -> io::Result<()> {
    let maximum = Some(maximum.min(hard()));
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// Lets this process have as many as it may.
pub(crate) fn raise() -> io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// Sets the limit for a virtual machine that is started with so many
/// descriptors. It sizes its tables by the limit, so that it is no more than it
/// needs; and it has to open files of its own below it.
pub(crate) fn set_for(descriptors: usize) -> io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let needed = OWN_FILES.saturating_add(descriptors as u64);
    let current = Some(maximum.map_or(needed, |maximum| needed.min(maximum)));
    Ok(setrlimit(Resource::Nofile, Rlimit { current, maximum })?)
}

//! Becoming the virtual machine, with the descriptors that it is to have: the
//! protocol of sd_listen_fds(3).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::{file_limit, process};

/// The first descriptor of the protocol.
pub(crate) const FIRST_DESCRIPTOR: RawFd = 3;

/// A descriptor, and what it is called.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: Box<str>,
    pub(crate) descriptor: OwnedFd,
}

/// What this process was handed by a service manager. Later calls find nothing:
/// the descriptors are owned then.
///
/// # Errors
/// The number of a descriptor that is not open.
pub(crate) fn inherited() -> Result<Vec<Named>, RawFd> {
    let count = count();
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<&str> = names.split(':').collect();
    // As sd_listen_fds_with_names(3) calls them where they have no names.
    let name = |index| names.get(index).filter(|_| names.len() == count).unwrap_or(&"unknown");
    (FIRST_DESCRIPTOR..first_foreign())
        .enumerate()
        .map(|(index, number)| {
            let descriptor = process::take_descriptor(number).ok_or(number)?;
            Ok(Named { name: (*name(index)).into(), descriptor })
        })
        .collect()
}

fn count() -> usize {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let mine = number("LISTEN_PID") == Some(std::process::id());
    number("LISTEN_FDS").filter(|_| mine).map_or(0, |count| count as usize)
}

/// The first descriptor that was left open by whoever started the program.
pub(crate) fn first_foreign() -> RawFd {
    RawFd::try_from(count()).map_or(RawFd::MAX, |count| count.saturating_add(FIRST_DESCRIPTOR))
}

/// Executes the command with these descriptors, in any order. Comes back only if
/// that fails; what this process had open may be closed then.
pub(crate) fn execute(mut command: Command, mut descriptors: Vec<Named>) -> io::Error {
    descriptors.sort_unstable_by_key(|one| one.descriptor.as_raw_fd());
    let (names, descriptors): (Vec<_>, Vec<_>) =
        descriptors.into_iter().map(|one| (one.name, one.descriptor)).unzip();
    command.env("LISTEN_FDS", descriptors.len().to_string());
    command.env("LISTEN_FDNAMES", names.join(":"));
    command.env("LISTEN_PID", std::process::id().to_string());
    // Where that is not allowed, the virtual machine takes what there is.
    let _ = file_limit::set_for(descriptors.len());
    match process::place_descriptors(descriptors, FIRST_DESCRIPTOR) {
        Ok(()) => command.exec(),
        Err(error) => error,
    }
}

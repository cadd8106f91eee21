//! Which process has a socket, as `/proc` tells this user.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::sockets::TcpSocket;
use super::{Holder, PortHolder};

/// The process that has one of these sockets; that of the lowest number, which
/// is mostly the one that made it. Looks at every descriptor of this host; those
/// of this process come last, for it may have the other ends of many.
pub(super) fn with_socket(inodes: &[u64]) -> Option<PortHolder> {
    let links: Vec<PathBuf> =
        inodes.iter().map(|inode| format!("socket:[{inode}]").into()).collect();
    let pid =
        all().into_iter().find(|pid| has_one(Path::new(&format!("/proc/{pid}/fd")), &links))?;
    Some(PortHolder { pid, program: program(pid)? })
}

/// The numbers of all processes in their order, that of this one last.
fn all() -> Vec<i32> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<i32> =
        numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let own = std::process::id() as i32;
    pids.sort_unstable_by_key(|&pid| (pid == own, pid));
    pids
}

/// The processes that have these sockets, as above, but that some are looked at
/// `first`. It is over when all are found.
pub(crate) fn holders_of(inodes: &HashSet<u64>, first: &[i32]) -> HashMap<u64, i32> {
    let mut found = HashMap::new();
    for pid in first.iter().copied().chain(std::iter::once_with(all).flatten()) {
        if found.len() == inodes.len() {
            break;
        }
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut descriptors: Vec<_> = descriptors.collect();
        // What was opened last is mostly what is looked for.
        while found.len() < inodes.len()
            && let Some(descriptor) = descriptors.pop()
        {
            let link = fs::read_link(descriptor.path()).ok();
            if let Some(inode) = link.as_deref().and_then(inode).filter(|one| inodes.contains(one))
            {
                found.entry(inode).or_insert(pid);
            }
        }
    }
    found
}

/// That of a socket, from the link to it.
fn inode(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn has_one(descriptors: &Path, links: &[PathBuf]) -> bool {
    // Those of another user's process cannot be seen.
    let descriptors = fs::read_dir(descriptors).into_iter().flatten().flatten();
    descriptors
        .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
        .any(|link| links.contains(&link))
}

/// The name of a process, as `ps` and others tell it.
fn program(pid: i32) -> Option<String> {
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    let name = String::from_utf8_lossy(&name);
    // A process may call itself whatever it likes.
    Some(name.trim_end().replace(char::is_control, "?"))
}

/// Whose a user's number is, by the file alone: a directory service may take its
/// time.
fn user(uid: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| uid.to_string())
}

/// What a user is to those in a user namespace that it has no number in
/// (`/proc/sys/kernel/overflowuid`).
const UNKNOWN_UID: u32 = 65_534;

/// Who has a socket.
pub(crate) fn holder_of(socket: TcpSocket) -> Holder {
    holder(socket, with_socket(&[socket.inode]))
}

/// The same of which the process is known.
pub(crate) fn holder_with(socket: TcpSocket, pid: Option<i32>) -> Holder {
    let process = pid.and_then(|pid| Some(PortHolder { pid, program: program(pid)? }));
    holder(socket, process)
}

fn holder(socket: TcpSocket, process: Option<PortHolder>) -> Holder {
    let user = (socket.uid != UNKNOWN_UID).then(|| user(socket.uid));
    Holder { process, user }
}

/// This process as a holder.
pub(crate) fn this_process() -> Holder {
    let pid = rustix::process::getpid().as_raw_pid();
    let process = program(pid).map(|program| PortHolder { pid, program });
    Holder { process, user: Some(user(rustix::process::geteuid().as_raw())) }
}

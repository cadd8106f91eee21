//! Which process has a socket, as `/proc` tells this user.

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
    let numbers = fs::read_dir("/proc").ok()?.flatten();
    let mut pids: Vec<i32> =
        numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let own = std::process::id() as i32;
    pids.sort_unstable_by_key(|&pid| (pid == own, pid));
    let pid =
        pids.into_iter().find(|pid| has_one(Path::new(&format!("/proc/{pid}/fd")), &links))?;
    Some(PortHolder { pid, program: program(pid)? })
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
    let user = (socket.uid != UNKNOWN_UID).then(|| user(socket.uid));
    Holder { process: with_socket(&[socket.inode]), user }
}

/// This process as a holder.
pub(crate) fn this_process() -> Holder {
    let pid = rustix::process::getpid().as_raw_pid();
    let process = program(pid).map(|program| PortHolder { pid, program });
    Holder { process, user: Some(user(rustix::process::geteuid().as_raw())) }
}

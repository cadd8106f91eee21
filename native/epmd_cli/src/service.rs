//! The service that this process is, as its manager tells it.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::getpid;

use crate::file_limit;

/// How long the manager may take to tell it.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Where a service manager waits to be told of this process.
fn address() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty())
}

/// Whether this process is a service, and not the first one of a container: that has
/// orphans to reap, whoever waits for it.
pub(crate) fn is_this() -> bool {
    !getpid().is_init() && address().is_some()
}

/// The way to whoever waits for the first process of a container, if this is it.
pub(crate) fn manager_of_container() -> Option<UnixDatagram> {
    let address = address().filter(|_| getpid().is_init())?;
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        path => SocketAddr::from_pathname(OsStr::from_bytes(path)),
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect_addr(&address.ok()?).ok()?;
    // Nothing is told to one that does not listen.
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

/// How many descriptors the manager stores and can hand back. systemd tells it from
/// version 254 on; before, it has to be asked. If it cannot be, all are offered: it
/// drops those that are too many.
pub(crate) fn capacity() -> u64 {
    let told = std::env::var("FDSTORE").ok();
    let told = told.or_else(ask).and_then(|text| text.trim().parse().ok());
    let most = returnable(file_limit::hard());
    told.map_or(most, |told: u64| told.min(most))
}

/// Has there be no more connections than can be handed back.
pub(crate) fn limit_files() {
    // Where that is not allowed, the virtual machine warns.
    let _ = file_limit::lower_hard(returnable(file_limit::hard()));
}

/// How many descriptors systemd can hand back to a process with this limit. It moves
/// each past half of them to its place, above all others; with more, it could not
/// start the service again (202/FDS).
const fn returnable(limit: u64) -> u64 {
    limit / 8 * 5
}

/// Asks systemd what it does for the unit of this process.
fn ask() -> Option<String> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let Unit { name, of_user } = unit(&groups)?;
    let mut command = Command::new("systemctl");
    command.args(of_user.then_some("--user"));
    command.args(["show", "--value", "--property=FileDescriptorStoreMax", "--", name]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut asked = Asked(command.spawn().ok()?);
    asked.answer()
}

/// A service.
#[derive(Debug, PartialEq, Eq)]
struct Unit<'g> {
    name: &'g str,
    /// Whether the manager is that of a user.
    of_user: bool,
}

/// The service whose control group this is.
fn unit(groups: &str) -> Option<Unit<'_>> {
    // Of the hierarchies the last one is that of all systems that are not old.
    let path = groups.lines().last()?.splitn(3, ':').nth(2)?;
    let name = path.rsplit('/').find(|name| name.ends_with(".service"))?;
    let of_user =
        path.split('/').any(|name| name.starts_with("user@")) && !name.starts_with("user@");
    Some(Unit { name, of_user })
}

/// A question that takes no longer than it may.
struct Asked(Child);

impl Asked {
    fn answer(&mut self) -> Option<String> {
        let deadline = Instant::now() + TIMEOUT;
        let mut output = self.0.stdout.take()?;
        let mut text = Vec::new();
        loop {
            let time = deadline.saturating_duration_since(Instant::now());
            let time = Timespec::try_from(time).ok()?;
            let source = &mut [PollFd::new(&output, PollFlags::IN)];
            // No answer in time is none.
            if poll(source, Some(&time)).ok()? == 0 {
                return None;
            }
            let mut piece = [0; 64];
            match output.read(&mut piece).ok()? {
                0 => return String::from_utf8(text).ok(),
                count => text.extend_from_slice(piece.get(..count)?),
            }
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = include_str!("../../../systemd/epmd.service");
    const UNIT_OF_A_USER: &str = include_str!("../../../systemd/user/epmd.service");

    #[test]
    fn the_units_of_the_project_have_all_descriptors_handed_back_that_are_stored() {
        for unit in [UNIT, UNIT_OF_A_USER] {
            let number = |key: &str| -> u64 {
                let line = unit.lines().find_map(|line| line.strip_prefix(key));
                line.unwrap().parse().unwrap()
            };
            assert_eq!(number("FileDescriptorStoreMax="), returnable(number("LimitNOFILE=")));
        }
    }

    #[test]
    fn the_unit_of_a_user_says_nothing_else_than_that_of_the_system() {
        let said = |unit: &'static str| unit.lines().filter(|line| !line.starts_with('#'));
        let unlike: Vec<_> =
            said(UNIT_OF_A_USER).filter(|line| said(UNIT).all(|other| other != *line)).collect();
        assert_eq!(unlike, ["WantedBy=default.target"]);
    }

    #[test]
    fn the_unit_is_that_of_the_control_group() {
        let unit_of = |groups| unit(groups).map(|unit| (unit.name, unit.of_user));
        assert_eq!(unit_of("0::/system.slice/epmd.service\n"), Some(("epmd.service", false)));
        let user = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/my-epmd.service\n";
        assert_eq!(unit_of(user), Some(("my-epmd.service", true)));
        assert_eq!(
            unit_of("1:name=systemd:/a.service\n0::/b.service/sub\n"),
            Some(("b.service", false))
        );
        assert_eq!(unit_of("0::/user.slice/user-0.slice/session-1.scope\n"), None);
        assert_eq!(unit_of(""), None);
    }
}

//! Unix sockets that keep messages apart and carry descriptors, and what the
//! kernel tells of whoever is at the other end.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, chmod};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketFlags,
    SocketType, UCred, accept_with, bind, connect, listen, recvmsg, sendmsg, shutdown, socket_with,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open, test_kill_process};

/// How many descriptors one message carries at the most. The kernel's own limit
/// is 253.
pub(crate) const MAX_DESCRIPTORS: usize = 200;

/// How long whoever connects waits for those that came before.
const TURN: Duration = Duration::from_secs(5);

fn new_socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    let flags = flags | SocketFlags::CLOEXEC;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Listens at a path that nobody has yet, for this user and root.
pub(crate) fn listen_at(path: &Path) -> io::Result<OwnedFd> {
    let socket = new_socket(SocketFlags::NONBLOCK)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    // Nobody can connect before it listens.
    chmod(path, Mode::RUSR | Mode::WUSR)?;
    listen(&socket, 8)?;
    Ok(socket)
}

/// Connects to whoever listens at a path, waiting at most some time for its turn.
pub(crate) fn connect_to(path: &Path) -> io::Result<OwnedFd> {
    let socket = new_socket(SocketFlags::empty())?;
    set_socket_timeout(&socket, Timeout::Send, Some(TURN))?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

pub(crate) fn accept_from(listener: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(accept_with(listener, SocketFlags::CLOEXEC)?)
}

/// Another process, and its user as far as that is known.
#[derive(Debug)]
pub(crate) struct OtherProcess {
    pid: i32,
    uid: Option<u32>,
    /// None if it had ended already, or cannot be seen from here.
    handle: Option<OwnedFd>,
}

impl OtherProcess {
    /// The one that has the other end of a Unix socket.
    pub(crate) fn at_end_of(socket: impl AsFd) -> io::Result<Self> {
        let UCred { pid, uid, .. } = socket_peercred(socket)?;
        Ok(Self { uid: Some(uid.as_raw()), ..Self::numbered(pid.as_raw_nonzero().get()) })
    }

    pub(crate) fn numbered(pid: i32) -> Self {
        let process = Pid::from_raw(pid);
        let handle = process.and_then(|process| pidfd_open(process, PidfdFlags::empty()).ok());
        Self { pid, uid: None, handle }
    }

    pub(crate) const fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it is of the same user, or root.
    pub(crate) fn is_trusted(&self) -> bool {
        let own = rustix::process::geteuid().as_raw();
        self.uid.is_some_and(|uid| uid == 0 || uid == own)
    }

    /// Whether it ends within a time, or has ended already.
    pub(crate) fn ends_within(&self, time: Duration) -> bool {
        let Some(process) = &self.handle else {
            let pid = Pid::from_raw(self.pid);
            return pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH));
        };
        let mut ready = [PollFd::new(process, PollFlags::IN)];
        let time = Timespec::try_from(time).ok();
        matches!(poll(&mut ready, time.as_ref()), Ok(1..))
    }
}

/// Whether there is a message, or the end, within a time, or as long as it takes.
pub(crate) fn has_news(socket: impl AsFd, time: Option<Duration>) -> bool {
    let mut ready = [PollFd::new(&socket, PollFlags::IN)];
    let time = time.and_then(|time| Timespec::try_from(time).ok());
    matches!(poll(&mut ready, time.as_ref()), Ok(1..))
}

/// Has whoever waits at either end of a connection see its end.
pub(crate) fn hang_up(socket: impl AsFd) {
    // It may have been closed by the other end.
    let _ = shutdown(socket, Shutdown::Both);
}

/// Sends one message, waiting for room at most for some time.
pub(crate) fn send(
    socket: impl AsFd,
    time: Duration,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    set_socket_timeout(&socket, Timeout::Send, Some(time))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message, waiting for it at most for some time: its length, 0 at
/// the end, and its descriptors.
pub(crate) fn receive(
    socket: impl AsFd,
    time: Duration,
    bytes: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    set_socket_timeout(&socket, Timeout::Recv, Some(time))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(bytes)];
    let received = recvmsg(socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
        _ => Vec::new(),
    });
    let descriptors = descriptors.collect();
    if received.flags.contains(ReturnFlags::CTRUNC) {
        // This process has no number left for the rest.
        return Err(Errno::MFILE.into());
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok((received.bytes, descriptors))
}

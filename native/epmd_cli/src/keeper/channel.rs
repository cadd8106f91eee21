//! The way from the virtual machine to the keeper: a pair of sockets, of which the
//! virtual machine inherits one.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SocketFlags,
    SocketType, recvmsg, socketpair, sockopt,
};
use rustix::process::Pid;

use super::message::BadMessage;

/// The longest message (`NOTIFY_BUFFER_MAX` of systemd).
const MAX_BYTES: usize = 4096;

/// The most descriptors that come with one message (`SCM_MAX_FD` of Linux).
const MAX_DESCRIPTORS: usize = 253;

/// The keeper's end.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
    /// Whether the other end is closed: nothing comes any more.
    closed: bool,
}

/// What came at once.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) text: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Channel {
    /// Both ends; the second is the virtual machine's.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC;
        // Of datagrams no more than ten could wait.
        let kind = SocketType::SEQPACKET;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, flags, None)?;
        sockopt::set_socket_passcred(&ours, true)?;
        Ok((Self { socket: ours, closed: false }, theirs))
    }

    /// Whether another message may come.
    pub(crate) const fn is_open(&self) -> bool {
        !self.closed
    }

    /// The next message, if there is one: it is good only if it comes whole and
    /// from `sender`.
    pub(crate) fn receive(&mut self, sender: Pid) -> Option<Result<Datagram, BadMessage>> {
        let mut text = [0; MAX_BYTES];
        let mut space =
            [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS), ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = loop {
            match recvmsg(&self.socket, &mut [IoSliceMut::new(&mut text)], &mut control, flags) {
                Err(Errno::INTR) => {}
                // There is none: nothing else can be wrong with this socket.
                Err(_) => return None,
                Ok(received) => break received,
            }
        };
        if received.bytes == 0 {
            self.closed = true;
            return None;
        }
        let (mut descriptors, mut from) = (Vec::new(), None);
        for part in control.drain() {
            match part {
                RecvAncillaryMessage::ScmRights(rights) => descriptors.extend(rights),
                RecvAncillaryMessage::ScmCredentials(credentials) => from = Some(credentials.pid),
                _ => {}
            }
        }
        if from != Some(sender) {
            return Some(Err(BadMessage::Stranger(from.map_or(0, Pid::as_raw_pid))));
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Some(Err(BadMessage::TooLong));
        }
        let text = text.get(..received.bytes).unwrap_or_default().to_vec();
        Some(Ok(Datagram { text, descriptors }))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

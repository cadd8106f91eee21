//! One side of a takeover as bytes and descriptors. Nothing here uses the code under
//! test.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept, bind,
    connect, listen, recvmsg, sendmsg, socket_with, socketpair,
};

/// One end of a conversation.
pub struct Side(OwnedFd);

fn seqpacket() -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
}

/// Both ends of a connection.
pub fn pair() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC;
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
}

impl From<OwnedFd> for Side {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl AsFd for Side {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Side {
    pub fn connect(path: &Path) -> Self {
        let socket = seqpacket();
        connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        Self(socket)
    }

    /// Waits for successors at a path; see [`Side::accept`].
    pub fn listen(path: &Path) -> Self {
        let socket = seqpacket();
        bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        listen(&socket, 1).unwrap();
        Self(socket)
    }

    /// The next one that connects.
    pub fn accept(&self) -> Self {
        Self(accept(&self.0).unwrap())
    }

    /// Sends what the other side is willing to take.
    pub fn send(&self, bytes: &[u8], descriptors: &[&dyn AsFd]) {
        let descriptors: Vec<_> = descriptors.iter().map(|one| one.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(
            descriptors.is_empty() || control.push(SendAncillaryMessage::ScmRights(&descriptors))
        );
        let _ = sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL);
    }

    pub fn say(&self, json: &str) {
        self.send(json.as_bytes(), &[]);
    }

    /// The next message and its descriptors; an empty one when the other side has
    /// closed.
    pub fn receive(&self) -> (Vec<u8>, Vec<OwnedFd>) {
        let mut bytes = vec![0; 1 << 16];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let Ok(received) = recvmsg(&self.0, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)
        else {
            return (vec![], vec![]);
        };
        let descriptors = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
            _ => vec![],
        });
        let descriptors = descriptors.collect();
        bytes.truncate(received.bytes);
        (bytes, descriptors)
    }

    pub fn hear(&self) -> String {
        String::from_utf8(self.receive().0).unwrap()
    }
}

//! Both sides of a takeover as bytes, and where they meet. Nothing here uses the
//! code under test.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use epmd_server::{Config, Notice, Phase, TakeoverSocket};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept, bind,
    connect, listen, recvmsg, sendmsg, socket_with, socketpair,
};

use super::served::{Served, local};
use super::wait_until;

pub const HELLO: &str = r#"{"hello":{"portmapper_takeover":1}}"#;
pub const PREPARED: &str = r#""prepared""#;

/// A directory of this user alone that goes with the test.
pub struct Place(PathBuf);

impl Default for Place {
    fn default() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("takeover-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Place {
    /// Where a successor takes over.
    pub fn path(&self) -> PathBuf {
        self.0.join("socket")
    }

    /// A server here, or its successor.
    pub fn config(&self) -> Config {
        Config { takeover_socket: TakeoverSocket::Path(self.path()), ..local() }
    }

    /// What is in the directory.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Fails only if it is gone.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

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

/// A server, and where its successor takes over.
pub fn start() -> (Place, Served) {
    let place = Place::default();
    let server = Served::with(place.config());
    (place, server)
}

/// Asserts that a server has handed over, to this process, and has ended.
pub fn assert_taken_over(server: &Served) {
    wait_until("it has ended", || server.phase() == Phase::Closed);
    let pid = std::process::id() as i32;
    assert_eq!(server.notices().last(), Some(&Notice::TakenOver { pid }));
    assert_eq!((server.count(), server.info().open_connections), (0, 0));
    assert_eq!(server.info().addresses, []);
}

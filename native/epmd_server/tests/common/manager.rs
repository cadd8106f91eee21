//! A service manager with a descriptor store, as systemd has one.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicU32, Ordering};

use epmd_server::{Config, Inheritance, InheritanceError, ServiceManager};
use parking_lot::Mutex;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::served::{Served, local};
use super::wait_until;

/// One with an abstract address that nobody else has. It reads when it is asked to.
pub struct Manager {
    socket: UnixDatagram,
    address: String,
    stored: Mutex<Vec<(String, OwnedFd)>>,
}

impl Manager {
    pub fn start() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("portmapper-store-{}-{number}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap());
        let socket = socket.unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, address: format!("@{name}"), stored: Mutex::default() }
    }

    /// As the server gets to know it.
    pub fn told_of(&self) -> ServiceManager {
        let address = |name: &str| (name == "NOTIFY_SOCKET").then_some(self.address.as_bytes());
        ServiceManager::from_environment(address).unwrap().unwrap()
    }

    /// Does what it was told; the messages that are not about descriptors.
    pub fn read(&self) -> Vec<String> {
        let mut others = Vec::new();
        while let Some((message, descriptor)) = self.receive() {
            let name = message.split_once("FDNAME=").map(|(_, name)| name.to_owned());
            let mut stored = self.stored.lock();
            match (name, descriptor) {
                (Some(name), Some(descriptor)) => stored.push((name, descriptor)),
                (Some(name), None) => stored.retain(|(other, _)| *other != name),
                (None, _) => others.push(message),
            }
        }
        others
    }

    fn receive(&self) -> Option<(String, Option<OwnedFd>)> {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received =
            recvmsg(&self.socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags).ok()?;
        let message = String::from_utf8(bytes[..received.bytes].to_vec()).unwrap();
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        Some((message, descriptor))
    }

    /// How many descriptors it keeps.
    pub fn count(&self) -> usize {
        self.read();
        self.stored.lock().len()
    }

    /// What the next process is started with. The manager has it still.
    pub fn hand_back(&self) -> Result<Inheritance, InheritanceError> {
        self.read();
        let copy = |(name, descriptor): &(String, OwnedFd)| {
            (descriptor.try_clone().unwrap(), name.clone())
        };
        let copies = self.stored.lock().iter().map(copy).collect();
        Inheritance::sort(copies)
    }

    /// Changes what it keeps.
    pub fn tamper(&self, change: impl FnOnce(&mut Vec<(String, OwnedFd)>)) {
        self.read();
        change(&mut self.stored.lock());
    }
}

/// Keeps more than any test has.
pub fn kept() -> Config {
    Config { stored_descriptors: 1_000, ..local() }
}

pub fn start(manager: &Manager, config: Config) -> Served {
    let server = Served::with(config);
    server.report_to(manager.told_of());
    server
}

/// Waits until the manager has every socket, and the records.
pub fn settle(manager: &Manager, server: &Served) {
    wait_until("all is kept", || {
        let info = server.info();
        manager.count() == info.addresses.len() + 1 + info.open_connections
    });
}

//! The descriptors that a process was started with, by the protocol of
//! `LISTEN_FDS` (`sd_listen_fds(3)`): sockets that listen, and what the process
//! before had put in the descriptor store.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{FileType, fstat};
use socket2::{Domain, SockRef, Type};
use thiserror::Error;

use crate::duplicate::canonical;
use crate::estate::{Estate, EstateError, Place, Records, Stored};
use crate::service_manager::ServiceManager;
use crate::slots;

/// What was handed over, sorted by what it is.
#[derive(Debug, Default)]
pub struct Inheritance {
    /// What to [go on with](crate::Server::start_with).
    pub estate: Estate,
    /// Where the process was started by one that keeps its sockets.
    pub keeper: Option<ServiceManager>,
    /// Names of stored descriptors that are of no use any more.
    pub leftovers: Vec<String>,
}

/// Why what was handed over is of no use. Whoever keeps a copy has it still.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InheritanceError {
    /// Nothing that belongs to a port mapper.
    #[error("descriptor {0} is not a TCP socket that listens")]
    NotListening(i32),
    /// The records cannot be read.
    #[error(transparent)]
    Estate(#[from] EstateError),
    /// The system does not give what is in a descriptor.
    #[error("cannot read descriptor {0}: {1}")]
    Unreadable(i32, io::Error),
}

impl Inheritance {
    /// Sorts descriptors, each with its name.
    ///
    /// # Errors
    /// See [`InheritanceError`].
    pub fn sort(descriptors: Vec<(OwnedFd, String)>) -> Result<Self, InheritanceError> {
        let mut sorted = Self::default();
        let mut connections = HashMap::new();
        let mut journals = Vec::new();
        for (descriptor, name) in descriptors {
            let number = descriptor.as_raw_fd();
            let slot = slots::number(&name);
            match Kind::of(&descriptor) {
                Some(Kind::Listener) => {
                    let place = slot.map_or(Place::Unit, Place::Slot);
                    let socket = TcpListener::from(descriptor);
                    sorted.estate.listeners.push(Stored { socket, place });
                }
                Some(Kind::Connection) if slot.is_some() => {
                    // Of two by one name, none can be told from the other.
                    connections.insert(slot, TcpStream::from(descriptor));
                }
                Some(Kind::Records) => {
                    let records = read(descriptor);
                    let records =
                        records.map_err(|error| InheritanceError::Unreadable(number, error))?;
                    journals.push(Records::read(&records)?);
                    sorted.leftovers.push(name);
                }
                Some(Kind::Keeper) => {
                    let keeper = ServiceManager::keeper(descriptor);
                    let keeper =
                        keeper.map_err(|error| InheritanceError::Unreadable(number, error))?;
                    sorted.keeper = Some(keeper);
                }
                _ => return Err(InheritanceError::NotListening(number)),
            }
        }
        // The last one may have been killed before it had written all of it.
        journals.sort_by_key(|records| (records.complete, records.sequence));
        if let Some(records) = journals.pop() {
            let listeners = std::mem::take(&mut sorted.estate.listeners);
            sorted.estate = records.into_estate(false, |slot, node| {
                let socket = connections.remove(&Some(slot))?;
                let is_of_node = node.peer.is_none_or(|peer| comes_from(&socket, peer));
                is_of_node.then_some(Stored { socket, place: Place::Slot(slot) })
            });
            sorted.estate.listeners = listeners;
        }
        let unknown = connections.into_keys().flatten();
        sorted.leftovers.extend(unknown.map(slots::name));
        Ok(sorted)
    }
}

enum Kind {
    Listener,
    /// The connection of a node.
    Connection,
    Records,
    /// The way to a keeper.
    Keeper,
}

impl Kind {
    fn of(descriptor: &OwnedFd) -> Option<Self> {
        let file = fstat(descriptor).ok()?;
        if FileType::from_raw_mode(file.st_mode) == FileType::RegularFile {
            return Some(Self::Records);
        }
        let socket = SockRef::from(descriptor);
        let is_internet = matches!(socket.domain().ok()?, Domain::IPV4 | Domain::IPV6);
        match socket.r#type().ok()? {
            Type::STREAM if is_internet => {
                let listens = socket.is_listener().ok()?;
                Some(if listens { Self::Listener } else { Self::Connection })
            }
            Type::SEQPACKET if socket.domain().ok()? == Domain::UNIX => Some(Self::Keeper),
            _ => None,
        }
    }
}

/// Whether a connection is the one from this address. One that has ended tells
/// no address any more: it is found to have ended later.
fn comes_from(socket: &TcpStream, peer: SocketAddr) -> bool {
    socket.peer_addr().map_or(true, |address| canonical(address) == peer)
}

fn read(descriptor: OwnedFd) -> io::Result<Vec<u8>> {
    let mut file = File::from(descriptor);
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

//! What a port mapper passes on to live on: to the one that takes over from it,
//! or to the one that is started after it was killed.
//!
//! The records are lines of JSON: a header with the version of the form, then
//! what happened, oldest first. So they are a snapshot and a journal in one: what
//! follows the line that ends the snapshot happened later. The descriptors that
//! the records speak of go beside them, each in a slot with a number.

use std::borrow::Cow;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use epmd_core::{
    ConnId, Creation, Name, Node, Owner, Registration, Registry, Remembered, UnixMillis,
};
use hashlink::LinkedHashMap;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::journal::beside;
use crate::notices::{Notice, Notices};

/// The version of the form. A change that older port mappers cannot read, though
/// they skip fields that they do not know, makes it one more; older forms stay
/// readable.
const VERSION: u32 = 1;

/// What a port mapper passes on: sockets, and what they are.
#[derive(Debug, Default)]
pub struct Estate {
    /// The sockets that listen.
    pub(crate) listeners: Vec<Stored<TcpListener>>,
    /// The nodes, oldest first. Without a connection for the VM's own names.
    pub(crate) nodes: Vec<(Name, Node, Option<Stored<TcpStream>>)>,
    /// Names of nodes that are gone or lost, longest gone first.
    pub(crate) remembered: Vec<(Name, Remembered)>,
    /// How many of those were registered, and have no socket here.
    pub(crate) lost: usize,
    /// The number of the records that it was read from.
    pub(crate) sequence: u64,
}

impl Estate {
    /// Nothing but sockets that listen.
    #[must_use]
    pub fn of_listeners(sockets: Vec<TcpListener>) -> Self {
        let listeners = sockets.into_iter().map(|socket| Stored { socket, place: Place::Nowhere });
        Self { listeners: listeners.collect(), ..Self::default() }
    }

    /// Whether nothing was left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.listeners.is_empty() && self.nodes.is_empty() && self.remembered.is_empty()
    }

    /// Adds what was recorded in a file, unless more is known: which nodes to expect.
    /// A file that is not understood is kept under another name.
    pub(crate) fn add_file(&mut self, path: &Path, notices: &Notices) {
        let read = match std::fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => Err(error.to_string()),
            Ok(bytes) => Records::read(&bytes).map_err(|error| error.to_string()),
        };
        match read {
            Ok(records) if self.nodes.is_empty() && self.remembered.is_empty() => {
                let listeners = std::mem::take(&mut self.listeners);
                *self = Self { listeners, ..records.into_estate(false, |_, _| None) };
            }
            Ok(_) => {}
            Err(error) => {
                let kept_as = beside(path, ".unreadable");
                let _ = std::fs::rename(path, &kept_as);
                notices.push(Notice::StateFileUnreadable { kept_as, error });
            }
        }
    }
}

/// A socket, and where it is kept.
#[derive(Debug)]
pub(crate) struct Stored<S> {
    pub(crate) socket: S,
    pub(crate) place: Place,
}

/// Where the service manager has a copy of a socket.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    /// It has none.
    #[default]
    Nowhere,
    /// Among its own sockets, which a socket unit lists.
    Unit,
    /// In this slot of the descriptor store.
    Slot(u32),
}

/// Why an estate cannot be taken over. Whoever has it keeps it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EstateError {
    /// A newer port mapper has written it.
    #[error("the records have version {0}, expected {VERSION} at most")]
    Version(u32),
    /// It does not begin as records do.
    #[error("these are no records: {0}")]
    NoRecords(String),
    /// A record makes no sense.
    #[error("record {line} is wrong: {reason}")]
    Record {
        /// Its number, from 1 on; the header is the first.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// What the records begin with.
#[derive(Serialize, Deserialize)]
struct Header {
    /// The version of the form.
    portmapper_estate: u32,
    /// Of two that were left behind, the greater one counts.
    sequence: u64,
    /// Of the system, since its start: a socket that listened before is no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
}

/// What happened.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Entry<'a> {
    /// A node registered.
    Up(#[serde(borrow)] UpEntry<'a>),
    /// A name is registered no more.
    Down(Cow<'a, str>),
    /// A name is remembered.
    Gone(#[serde(borrow)] GoneEntry<'a>),
    /// The snapshot ends here.
    Complete,
}

#[derive(Serialize, Deserialize)]
struct UpEntry<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    port: u16,
    #[serde(rename = "type")]
    node_type: u8,
    protocol: u8,
    highest_version: u16,
    lowest_version: u16,
    #[serde(default, skip_serializing_if = "is_empty")]
    extra: Cow<'a, [u8]>,
    creation: u32,
    /// Milliseconds since the Unix epoch.
    since: u64,
    /// None for the VM's own names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    peer: Option<SocketAddr>,
    /// The inode of the socket that the node listens with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    listener: Option<u64>,
    /// As DUMP printed it.
    descriptor: i32,
    /// Where the connection is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slot: Option<u32>,
}

fn is_empty(bytes: &[u8]) -> bool {
    bytes.is_empty()
}

#[derive(Serialize, Deserialize)]
struct GoneEntry<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    port: u16,
    descriptor: i32,
    creation: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lost: Option<u64>,
}

/// The records of a registry, complete for now: more may be [appended](push_up).
/// `slot` tells where the connection of a node is.
pub(crate) fn snapshot(
    registry: &Registry,
    sequence: u64,
    mut slot: impl FnMut(ConnId) -> Option<u32>,
) -> Vec<u8> {
    let mut out = Vec::new();
    push(&mut out, &Header { portmapper_estate: VERSION, sequence, boot: boot_id() });
    for (name, gone) in registry.remembered() {
        let Remembered { port, descriptor, creation, lost } = *gone;
        let name = Cow::Borrowed(name.as_str());
        let creation = creation.get();
        push(&mut out, &Entry::Gone(GoneEntry { name, port, descriptor, creation, lost }));
    }
    for (name, node) in registry.oldest_first() {
        let slot = connection(node).and_then(&mut slot);
        push_up(&mut out, name, node, slot);
    }
    push(&mut out, &Entry::Complete);
    out
}

/// Appends that a node has registered.
pub(crate) fn push_up(out: &mut Vec<u8>, name: &Name, node: &Node, slot: Option<u32>) {
    let about = &node.registration;
    let entry = UpEntry {
        name: Cow::Borrowed(name.as_str()),
        port: about.port,
        node_type: about.node_type,
        protocol: about.protocol,
        highest_version: about.highest_version,
        lowest_version: about.lowest_version,
        extra: Cow::Borrowed(&about.extra),
        creation: node.creation.get(),
        since: node.since.0,
        peer: node.peer,
        listener: node.listener,
        descriptor: node.owner.descriptor(),
        slot,
    };
    push(out, &Entry::Up(entry));
}

/// Appends that a name is registered no more.
pub(crate) fn push_down(out: &mut Vec<u8>, name: &Name) {
    push(out, &Entry::Down(Cow::Borrowed(name.as_str())));
}

fn push(out: &mut Vec<u8>, line: &impl Serialize) {
    // To write to memory fails for no value that these types can have.
    if serde_json::to_writer(&mut *out, line).is_ok() {
        let _ = out.write_all(b"\n");
    }
}

fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim_end().to_owned())
}

const fn connection(node: &Node) -> Option<ConnId> {
    match node.owner {
        Owner::Connection(conn) => Some(conn),
        Owner::Vm => None,
    }
}

/// Records that were read.
#[derive(Debug)]
pub(crate) struct Records {
    /// Of two that were left behind, the greater one counts.
    pub(crate) sequence: u64,
    of_this_boot: bool,
    /// Whether the snapshot was written to its end.
    pub(crate) complete: bool,
    /// Oldest registration first, each with the slot of its connection. The owner
    /// is the VM until there is a connection.
    pub(crate) nodes: LinkedHashMap<Name, (Node, Option<u32>)>,
    /// Longest gone first.
    pub(crate) remembered: LinkedHashMap<Name, Remembered>,
    /// What DUMP printed of each node.
    descriptors: LinkedHashMap<Name, i32>,
}

impl Records {
    /// Reads records. A last line that was not written to its end did not happen.
    ///
    /// # Errors
    /// See [`EstateError`].
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, EstateError> {
        let end = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        let whole = bytes.get(..end).unwrap_or_default();
        let mut lines = whole.split_inclusive(|&byte| byte == b'\n');
        let header = serde_json::from_slice(lines.next().unwrap_or_default());
        let Header { portmapper_estate: version, sequence, boot } =
            header.map_err(|error| EstateError::NoRecords(error.to_string()))?;
        if version > VERSION {
            return Err(EstateError::Version(version));
        }
        let mut records = Self {
            sequence,
            of_this_boot: boot == boot_id(),
            complete: false,
            nodes: LinkedHashMap::new(),
            remembered: LinkedHashMap::new(),
            descriptors: LinkedHashMap::new(),
        };
        for (line, number) in lines.zip(2..) {
            let entry = serde_json::from_slice(line).map_err(|error| error.to_string());
            let taken = entry.and_then(|entry| records.take_in(entry));
            taken.map_err(|reason| EstateError::Record { line: number, reason })?;
        }
        Ok(records)
    }

    fn take_in(&mut self, entry: Entry<'_>) -> Result<(), String> {
        match entry {
            Entry::Complete => self.complete = true,
            Entry::Up(up) => self.take_in_up(up)?,
            Entry::Gone(gone) => {
                let GoneEntry { name, port, descriptor, creation, lost } = gone;
                let creation = read_creation(creation)?;
                let gone = Remembered { port, descriptor, creation, lost };
                self.remembered.insert(read_name(&name)?, gone);
            }
            Entry::Down(name) => {
                let name = read_name(&name)?;
                let (node, _) = self.nodes.remove(&name).ok_or("it is not registered")?;
                self.forget(name, &node, None);
            }
        }
        Ok(())
    }

    fn take_in_up(&mut self, up: UpEntry<'_>) -> Result<(), String> {
        let name = read_name(&up.name)?;
        if self.nodes.contains_key(&name) {
            return Err("it is registered already".to_owned());
        }
        let registration = Registration {
            port: up.port,
            node_type: up.node_type,
            protocol: up.protocol,
            highest_version: up.highest_version,
            lowest_version: up.lowest_version,
            extra: up.extra.into_owned().into(),
        };
        let node = Node {
            registration,
            creation: read_creation(up.creation)?,
            since: UnixMillis(up.since),
            owner: Owner::Vm,
            peer: up.peer,
            listener: up.listener,
        };
        self.remembered.remove(&name);
        self.descriptors.insert(name.clone(), up.descriptor);
        self.nodes.insert(name, (node, up.slot));
        Ok(())
    }

    /// Has a node only remembered.
    fn forget(&mut self, name: Name, node: &Node, lost: Option<u64>) {
        let Node { registration, creation, .. } = node;
        let descriptor = self.descriptors.remove(&name).unwrap_or(-1);
        let gone = Remembered { port: registration.port, descriptor, creation: *creation, lost };
        self.remembered.insert(name, gone);
    }

    /// The estate, with the connections that `take` yields by their slot. A node
    /// without one is lost: if it lives it registers again, with the same listening
    /// socket, and gets the creation that it had. So are the VM's own names, unless it
    /// is still the same one.
    pub(crate) fn into_estate(
        mut self,
        is_same_vm: bool,
        mut take: impl FnMut(u32, &Node) -> Option<Stored<TcpStream>>,
    ) -> Estate {
        let mut nodes = Vec::new();
        let mut lost = 0;
        for (name, (node, slot)) in std::mem::take(&mut self.nodes) {
            let connection = slot.and_then(|slot| take(slot, &node));
            if connection.is_some() || is_same_vm && node.peer.is_none() {
                nodes.push((name, node, connection));
            } else {
                self.forget(name, &node, node.listener.filter(|_| self.of_this_boot));
                lost += 1;
            }
        }
        Estate {
            listeners: Vec::new(),
            nodes,
            remembered: self.remembered.into_iter().collect(),
            lost,
            sequence: self.sequence,
        }
    }
}

fn read_name(name: &str) -> Result<Name, String> {
    Name::new(name.as_bytes()).map_err(|refusal| format!("\"{name}\" is no name: {refusal:?}"))
}

fn read_creation(number: u32) -> Result<Creation, String> {
    Creation::from_number(number).ok_or_else(|| format!("{number} is no creation"))
}

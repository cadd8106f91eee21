//! The names on this host: who is registered, and who was.

use std::hash::RandomState;
use std::net::SocketAddr;

use hashlink::LinkedHashMap;

use crate::limits::{MAX_EXTRA_BYTES, MAX_REMEMBERED};
use crate::nodes::Nodes;
use crate::{
    Alive2, ConnId, Creation, DownReason, Event, Glob, Name, Node, Owner, Refusal, Registration,
    Reply, Request, UnixMillis,
};

/// What is kept of a node that is gone, so that its name's next life gets the
/// next creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// The port it had.
    pub port: u16,
    /// The descriptor it had; DUMP prints it.
    pub descriptor: i32,
    /// Its last creation.
    pub creation: Creation,
    /// The listening socket of a node that is not known to be gone: it was lost
    /// with the port mapper that knew it.
    pub lost: Option<u64>,
}

impl Remembered {
    /// Whether it is this node that registers, in the same life.
    fn is_back(&self, registration: &Registration, listener: Option<u64>) -> bool {
        self.lost.is_some() && self.lost == listener && self.port == registration.port
    }
}

/// Who registers a name.
#[derive(Debug, Clone, Copy)]
pub struct Registrant {
    /// Whose end is to unregister it.
    pub owner: Owner,
    /// Where the connection comes from; none for the VM itself.
    pub peer: Option<SocketAddr>,
    /// What the shell tells the node's listening socket by, if it saw one.
    pub listener: Option<u64>,
}

impl Registrant {
    /// The VM that the port mapper runs in.
    pub const VM: Self = Self { owner: Owner::Vm, peer: None, listener: None };
}

/// Who asks, and under which rules.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The connection that the request came over.
    pub conn: ConnId,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// The port that the port mapper itself listens on; listings tell it.
    pub epmd_port: u16,
    /// Whether KILL is granted while nodes are registered.
    pub relaxed: bool,
    /// The socket that listens on the port of a registration, if the shell saw
    /// one.
    pub listener: Option<u64>,
}

/// What the shell has to do once the reply is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Close the connection.
    Close,
    /// Keep the connection: it is a registration now.
    Hold,
    /// Close the connection, and this one, which was a registration.
    CloseAlso(ConnId),
    /// End the port mapper.
    Shutdown,
}

/// What came of a request. Nothing is left to decide for the shell.
#[derive(Debug)]
pub struct Outcome<'r> {
    /// What goes back to the peer.
    pub reply: Reply<'r>,
    /// What to do then.
    pub next: Next,
    /// Why the request was refused, if it was; then nothing has changed.
    pub refused: Option<Refusal>,
    /// What happened to the registry.
    pub event: Option<Event>,
}

impl<'r> Outcome<'r> {
    fn close(reply: Reply<'r>) -> Self {
        Self { reply, next: Next::Close, refused: None, event: None }
    }

    fn refuse(reply: Reply<'r>, refusal: Refusal) -> Self {
        Self { refused: Some(refusal), ..Self::close(reply) }
    }
}

/// Every name that is registered or remembered. All changes are O(1).
#[derive(Debug)]
pub struct Registry {
    nodes: Nodes,
    /// Longest gone first.
    remembered: LinkedHashMap<Name, Remembered, RandomState>,
    max_remembered: usize,
    max_nodes: Option<usize>,
}

impl Default for Registry {
    fn default() -> Self {
        Self::with_max_remembered(MAX_REMEMBERED as usize)
    }
}

impl Registry {
    /// A registry that forgets the oldest of its remembered names whenever a
    /// new name registers while it remembers more than this many.
    #[must_use]
    pub fn with_max_remembered(max_remembered: usize) -> Self {
        Self {
            nodes: Nodes::default(),
            remembered: LinkedHashMap::with_hasher(RandomState::new()),
            max_remembered,
            max_nodes: None,
        }
    }

    /// Registers no more nodes than this from now on. Those that are registered stay.
    pub const fn set_max_nodes(&mut self, max_nodes: Option<usize>) {
        self.max_nodes = max_nodes;
    }

    /// How many nodes are registered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether no node is registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 0
    }

    /// The node of this name.
    #[must_use]
    pub fn lookup(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name).map(|(_, node)| node)
    }

    /// Registered nodes, newest first, as NAMES and DUMP list them.
    pub fn nodes(&self) -> impl Iterator<Item = (&Name, &Node)> {
        self.nodes.newest_first()
    }

    /// The same, oldest first.
    pub fn oldest_first(&self) -> impl Iterator<Item = (&Name, &Node)> {
        self.nodes.oldest_first()
    }

    /// Remembered names, longest gone first, as DUMP lists them.
    pub fn remembered(&self) -> impl ExactSizeIterator<Item = (&Name, &Remembered)> {
        self.remembered.iter()
    }

    /// Whether a connection is a registration.
    #[must_use]
    pub fn is_registered(&self, conn: ConnId) -> bool {
        self.nodes.has_connection(conn)
    }

    /// Answers a request that changes nothing; `None` for one that might. What WATCH
    /// is told is up to the shell.
    #[must_use]
    pub fn answer(&self, request: &Request<'_>, epmd_port: u16) -> Option<Reply<'_>> {
        match request {
            Request::PortPlease2(name) => {
                let found = self.nodes.get(name);
                Some(Reply::PortPlease2(found.map(|(name, node)| (name.as_str(), node))))
            }
            Request::Watch(_) => Some(Reply::Nothing),
            Request::Names => Some(Reply::Names { epmd_port, registry: self, glob: None }),
            Request::Match(glob) => {
                let glob = Some(Glob::new(glob));
                Some(Reply::Names { epmd_port, registry: self, glob })
            }
            Request::Dump => Some(Reply::Dump { epmd_port, registry: self }),
            Request::Info => Some(Reply::Info { epmd_port, registry: self }),
            Request::NodeInfo(name) => Some(Reply::NodeInfo { epmd_port, node: self.lookup(name) }),
            Request::Alive2(_) | Request::Kill | Request::Stop(_) => None,
        }
    }

    /// Carries out a permitted request.
    pub fn apply(
        &mut self,
        request: &Request<'_>,
        caller: &Caller,
        now: UnixMillis,
    ) -> Outcome<'_> {
        match request {
            Request::Alive2(alive) => self.apply_alive2(alive, caller, now),
            Request::Kill if self.is_empty() || caller.relaxed => {
                Outcome { next: Next::Shutdown, ..Outcome::close(Reply::Kill(true)) }
            }
            Request::Kill => Outcome::refuse(Reply::Kill(false), Refusal::NodesRegistered),
            Request::Stop(name) => self.apply_stop(name),
            Request::PortPlease2(_)
            | Request::Names
            | Request::Match(_)
            | Request::Watch(_)
            | Request::Dump
            | Request::Info
            | Request::NodeInfo(_) => {
                Outcome::close(self.answer(request, caller.epmd_port).unwrap_or(Reply::Nothing))
            }
        }
    }

    /// Refuses a registration, or whatever else has a reply that says so, for a reason
    /// that is not the registry's.
    #[must_use]
    pub fn refuse<'r>(request: &Request<'_>, refusal: Refusal) -> Outcome<'r> {
        let reply = match request {
            Request::Alive2(alive) => {
                Reply::Alive2 { highest_version: alive.highest_version, creation: None }
            }
            Request::Kill => Reply::Kill(false),
            _ => Reply::Nothing,
        };
        Outcome::refuse(reply, refusal)
    }

    fn apply_alive2(
        &mut self,
        alive: &Alive2<'_>,
        caller: &Caller,
        now: UnixMillis,
    ) -> Outcome<'_> {
        let highest_version = alive.highest_version;
        let by = Registrant {
            owner: Owner::Connection(caller.conn),
            peer: Some(caller.peer),
            listener: caller.listener,
        };
        let registered = Name::new(alive.name)
            .and_then(|name| self.register(name, alive.registration(), by, now));
        match registered {
            Ok((creation, event)) => Outcome {
                next: Next::Hold,
                event: Some(event),
                ..Outcome::close(Reply::Alive2 { highest_version, creation: Some(creation) })
            },
            Err(refusal) => {
                Outcome::refuse(Reply::Alive2 { highest_version, creation: None }, refusal)
            }
        }
    }

    fn apply_stop(&mut self, name: &[u8]) -> Outcome<'_> {
        let stopped =
            Name::check(name).ok().and_then(|name| self.unregister(name, DownReason::Stopped));
        let Some((owner, event)) = stopped else {
            return Outcome::close(Reply::Stop(false));
        };
        Outcome {
            next: match owner {
                Owner::Connection(conn) => Next::CloseAlso(conn),
                Owner::Vm => Next::Close,
            },
            event: Some(event),
            ..Outcome::close(Reply::Stop(true))
        }
    }

    /// Registers a name. One that is remembered gets the creation after its
    /// last one, any other starts from the clock. A node that was lost and is
    /// back with the same listening socket has the creation that it had: it
    /// goes on with that one whatever it is told.
    ///
    /// # Errors
    /// [`Refusal::ExtraTooLong`], [`Refusal::NameInUse`], [`Refusal::TooManyNodes`].
    pub fn register(
        &mut self,
        name: Name,
        registration: Registration,
        by: Registrant,
        now: UnixMillis,
    ) -> Result<(Creation, Event), Refusal> {
        let Registrant { owner, peer, listener } = by;
        if registration.extra.len() > MAX_EXTRA_BYTES {
            return Err(Refusal::ExtraTooLong);
        }
        if self.nodes.contains(name.as_str()) {
            return Err(Refusal::NameInUse);
        }
        if self.max_nodes.is_some_and(|max| self.nodes.len() >= max) {
            return Err(Refusal::TooManyNodes);
        }
        let creation = match self.remembered.remove(&name) {
            Some(gone) if gone.is_back(&registration, listener) => gone.creation,
            Some(gone) => gone.creation.next(),
            None => {
                if self.remembered.len() > self.max_remembered {
                    self.remembered.pop_front();
                }
                Creation::from_clock(now)
            }
        };
        let node = Node { registration, creation, since: now, owner, peer, listener };
        let event = Event::up(&name, &node);
        self.nodes.insert(name, node);
        Ok((creation, event))
    }

    /// Puts back a node that another port mapper had registered, as the newest.
    /// Whether its name was free.
    pub fn restore(&mut self, name: Name, node: Node) -> bool {
        if self.nodes.contains(name.as_str()) {
            return false;
        }
        self.remembered.remove(&name);
        self.nodes.insert(name, node);
        true
    }

    /// Makes a node that has registered by a connection one of the VM that the port
    /// mapper runs in. Its connection, which is no registration any more, and its
    /// creation.
    pub fn adopt(&mut self, name: &str) -> Option<(ConnId, Creation)> {
        self.nodes.adopt(name)
    }

    /// Remembers a name that another port mapper had remembered or registered, as
    /// the one that went last. Whether it is not registered.
    pub fn remember(&mut self, name: Name, gone: Remembered) -> bool {
        let free = !self.nodes.contains(name.as_str());
        if free {
            self.remembered.insert(name, gone);
        }
        free
    }

    /// Unregisters whatever this connection registered.
    pub fn unregister_connection(&mut self, conn: ConnId, reason: DownReason) -> Option<Event> {
        let removed = self.nodes.remove_connection(conn);
        removed.map(|(name, node)| self.gone(name, &node, reason))
    }

    /// Unregisters a name, and tells whose it was.
    pub fn unregister(&mut self, name: &str, reason: DownReason) -> Option<(Owner, Event)> {
        let (name, node) = self.nodes.remove(name)?;
        Some((node.owner, self.gone(name, &node, reason)))
    }

    fn gone(&mut self, name: Name, node: &Node, reason: DownReason) -> Event {
        let Node { creation, owner, .. } = *node;
        let (port, descriptor) = (node.registration.port, owner.descriptor());
        let gone = Remembered { port, descriptor, creation, lost: None };
        self.remembered.insert(name.clone(), gone);
        Event::Down { name, creation, reason }
    }
}

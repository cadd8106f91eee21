//! What the server's thread, its connections and its owner share. All of it
//! outlives the thread.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use epmd_core::{
    ConnId, DownReason, Event, Name, Node, Owner, Policy, Refusal, Registry, UnixMillis,
};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::Config;
use crate::counters::Counters;
use crate::crowd::Crowd;
use crate::duplicate::{Waits, canonical};
use crate::feed::Feed;
use crate::keeping::Kept;
use crate::listen::Listener;
use crate::listings::Listings;
use crate::notices::{Notice, Notices};
use crate::platform::{self, Held, Holder, SocketTable, TcpSocket};
use crate::quotas::{Applicant, Quotas};
use crate::reports::Reports;
use crate::service_manager::ServiceManager;
use crate::shortage::Shortage;
use crate::takeover::{Successor, Takeover};

/// Whether the server serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its thread runs.
    Running,
    /// Its thread died of a defect; every socket is still there.
    Down,
    /// It was closed: on request, by KILL, or for want of an owner.
    Closed,
}

/// What the thread is asked to do; the latest order counts.
#[derive(Debug)]
pub(crate) enum Order {
    Stop,
    /// A granted KILL: free the port, then send the reply.
    Kill(Farewell),
    HandOver(Successor),
    /// Die as of a defect, for tests.
    Panic,
}

/// The last reply of a server.
#[derive(Debug)]
pub(crate) struct Farewell {
    pub(crate) peer: SocketAddr,
    pub(crate) stream: TcpStream,
    pub(crate) reply: Vec<u8>,
}

pub(crate) struct Shared {
    pub(crate) registry: RwLock<Registry>,
    pub(crate) config: RwLock<Config>,
    /// The listeners to accept on. The thread follows this list.
    pub(crate) listeners: Mutex<Vec<Arc<Listener>>>,
    /// The connections that are registrations.
    pub(crate) held: Held,
    /// What the system tells of sockets.
    pub(crate) sockets: SocketTable,
    /// Registrations that wait for the holder of their name to go.
    pub(crate) waits: Waits,
    /// Whose the nodes are, where that counts.
    pub(crate) quotas: Quotas,
    pub(crate) counters: Arc<Counters>,
    pub(crate) notices: Notices,
    pub(crate) feed: Arc<Feed>,
    pub(crate) reports: Reports,
    pub(crate) kept: Kept,
    /// Whether what is kept is for the next process: this one is to be restarted.
    pub(crate) leaves: AtomicBool,
    pub(crate) takeover: Takeover,
    pub(crate) order: Mutex<Option<Order>>,
    /// Tells the thread to look at its order, its listeners and its owner.
    pub(crate) changed: Notify,
    pub(crate) phase: Mutex<Phase>,
    /// When the last owner went without another one having come.
    pub(crate) orphaned_since: Mutex<Option<Instant>>,
    /// Wakes the owner. Called from the server's thread only.
    pub(crate) wake_owner: Box<dyn Fn() + Send + Sync>,
    /// Tells whoever follows the registry that it has changed. Called from the
    /// server's thread only.
    pub(crate) wake_follower: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
    pub(crate) started: Instant,
    /// Connections that wait: for their request, or for their reply to be read.
    pub(crate) waiting: AtomicUsize,
    /// Those of them that watch.
    pub(crate) watchers: AtomicUsize,
    /// Who they are.
    pub(crate) crowd: Crowd,
    pub(crate) shortage: Shortage,
    /// Replies that wait to be read.
    pub(crate) listings: Listings,
    serial: AtomicU32,
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        listeners: Vec<Arc<Listener>>,
        wake_owner: Box<dyn Fn() + Send + Sync>,
    ) -> std::io::Result<Self> {
        let counters = Arc::new(Counters::default());
        Ok(Self {
            registry: RwLock::new(new_registry(&config)),
            config: RwLock::new(config),
            listeners: Mutex::new(listeners),
            held: Held::new()?,
            sockets: SocketTable::open(),
            waits: Waits::default(),
            quotas: Quotas::default(),
            notices: Notices::new(counters.clone()),
            counters,
            feed: Arc::default(),
            reports: Reports::default(),
            kept: Kept::default(),
            leaves: AtomicBool::new(false),
            takeover: Takeover::default(),
            order: Mutex::default(),
            changed: Notify::new(),
            phase: Mutex::new(Phase::Down),
            orphaned_since: Mutex::default(),
            wake_owner,
            wake_follower: Mutex::default(),
            started: Instant::now(),
            waiting: AtomicUsize::new(0),
            watchers: AtomicUsize::new(0),
            crowd: Crowd::default(),
            shortage: Shortage::default(),
            listings: Listings::default(),
            serial: AtomicU32::new(0),
        })
    }

    pub(crate) fn now() -> UnixMillis {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        UnixMillis(since_epoch.map_or(0, |time| time.as_millis() as u64))
    }

    /// The port that listings tell.
    pub(crate) fn port(&self) -> u16 {
        let listeners = self.listeners.lock();
        listeners.first().map_or_else(|| self.config.read().port, |first| first.address.port())
    }

    /// What holds for a connection that is served now.
    pub(crate) fn rules(&self) -> Rules {
        let config = self.config.read();
        Rules {
            policy: Policy {
                relaxed: config.relaxed_command_check,
                exposure: config.exposure,
                watch_remote: config.watch_remote,
            },
            debug: config.debug,
            delays_replies: !config.delay_write.duration().is_zero(),
            evicts: config.evict_stale,
            max_nodes_per_process: config.max_nodes_per_process.get(),
            // A node that is lost with this process is known again by it.
            looks_at_listeners: config.evict_stale || self.kept.has_records(),
        }
    }

    /// How long a peer may do nothing. As in C epmd, a second that has only begun
    /// does not count: who sends a byte each `packet_timeout` is in time, on a
    /// busy machine too.
    pub(crate) fn packet_timeout(&self) -> Duration {
        self.config.read().packet_timeout.duration() + Duration::from_secs(1)
    }

    /// Tells of a connection that was just accepted, when debugging.
    pub(crate) fn tell_connected(&self, rules: Rules, peer: Peer) {
        if rules.debug >= 2 {
            self.notices.push(Notice::Connected { peer: peer.address });
        }
    }

    /// Waits as long as connections are to wait before they are accepted.
    pub(crate) async fn delay_accept(&self) {
        let delay = self.config.read().delay_accept.duration();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }

    /// Waits as long as a reply is to wait before it is sent.
    pub(crate) async fn delay_write(&self) {
        let delay = self.config.read().delay_write.duration();
        tokio::time::sleep(delay).await;
    }

    /// Names a connection that was just accepted.
    pub(crate) fn connection(&self, descriptor: i32) -> ConnId {
        self.counters.accepted.add_one();
        self.number(descriptor)
    }

    /// Names a connection anew.
    pub(crate) fn number(&self, descriptor: i32) -> ConnId {
        ConnId::new(self.serial.fetch_add(1, Ordering::Relaxed), descriptor)
    }

    pub(crate) fn give_order(&self, order: Order) {
        *self.order.lock() = Some(order);
        self.changed.notify_one();
    }

    /// Has the thread hand over, unless it is about to end.
    pub(crate) fn order_to_hand_over(&self, successor: Successor) {
        self.order.lock().get_or_insert(Order::HandOver(successor));
        self.changed.notify_one();
    }

    /// Counts and tells of a change of the registry, by whoever holds its lock:
    /// so events come in the order of what happened.
    pub(crate) fn tell(&self, registry: &Registry, event: Event) {
        self.record(registry, &event);
        match event {
            Event::Up { .. } => self.counters.registered.add_one(),
            Event::Down { reason, .. } => self.counters.ended(reason),
        }
        self.feed.push(&event);
        self.notices.push(Notice::Node(event));
        self.reports.status_changed();
    }

    /// Refuses a request whose connection closes unanswered.
    pub(crate) fn refuse_unanswered(&self, peer: SocketAddr, reason: Refusal) {
        self.counters.unanswered.add_one();
        self.refuse(peer, reason, None);
    }

    fn refuse(&self, peer: SocketAddr, reason: Refusal, name: Option<Name>) {
        self.counters.refused(reason);
        self.notices.push(Notice::Refused { peer, reason, name });
    }

    /// Refuses a request whose reply says so.
    pub(crate) fn deny(
        &self,
        peer: SocketAddr,
        reason: Refusal,
        name: Option<Name>,
        applicant: Option<&Applicant>,
    ) {
        self.counters.denied.add_one();
        if matches!(reason, Refusal::TooManyNodes | Refusal::TooManyNodesOfProcess) {
            self.counters.refused(reason);
            let by = applicant.map(|applicant| applicant.holder.clone()).unwrap_or_default();
            self.notices.push(Notice::TooMany { peer, reason, name, by });
        } else {
            self.refuse(peer, reason, name);
        }
    }

    /// Keeps the connection of a registration, unless its name was forced out
    /// while the reply was on its way. Whether it stays open.
    pub(crate) fn hold(self: &Arc<Self>, conn: ConnId, socket: TcpStream) -> bool {
        // Nobody forces a name out while this is locked.
        let registry = self.registry.read();
        let held = registry.is_registered(conn) && self.held.hold(self, conn, socket).is_ok();
        drop(registry);
        if !held {
            self.end_connection(conn, DownReason::Closed);
        }
        held
    }

    /// Who holds the name of a node. Looks at every descriptor of this host, so
    /// not for the server's thread.
    pub(crate) fn holder(&self, node: &Node) -> Holder {
        let Owner::Connection(conn) = node.owner else {
            return platform::this_process();
        };
        let ends = node.peer.zip(self.local_address(conn));
        let socket = ends.and_then(|(peer, local)| self.peer_socket(peer, local));
        socket.map(platform::holder_of).unwrap_or_default()
    }

    /// The peer's end of a connection, if it is on this host.
    pub(crate) fn peer_socket(&self, mut peer: SocketAddr, local: SocketAddr) -> Option<TcpSocket> {
        let local = canonical(local);
        if let (SocketAddr::V6(peer), SocketAddr::V6(local)) = (&mut peer, local) {
            // Both are on the same link.
            peer.set_scope_id(local.scope_id());
        }
        self.sockets.connection(peer, local).ok().flatten()
    }

    /// The server's end of a registration. A node may be asked for before the
    /// server is back from sending it the reply.
    fn local_address(&self, conn: ConnId) -> Option<SocketAddr> {
        (0..20).find_map(|round| {
            if round > 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            self.held.local_address(conn)
        })
    }

    /// Unregisters what a connection registered, if anything, and closes it if
    /// it is held.
    pub(crate) fn end_connection(&self, conn: ConnId, reason: DownReason) {
        let mut registry = self.registry.write();
        if let Some(event) = registry.unregister_connection(conn, reason) {
            self.tell(&registry, event);
        }
        drop(registry);
        self.release(conn);
    }

    /// Closes a connection that was a registration.
    pub(crate) fn release(&self, conn: ConnId) {
        self.keep_no_longer(conn);
        self.quotas.remove(conn);
        if self.held.release(conn) {
            self.descriptor_freed();
        }
    }

    pub(crate) fn new_registry(&self) -> Registry {
        new_registry(&self.config.read())
    }

    /// Lets go of every socket and name.
    pub(crate) fn close(&self) {
        if std::mem::replace(&mut *self.phase.lock(), Phase::Closed) == Phase::Closed {
            return;
        }
        if !self.leaves.load(Ordering::Relaxed) {
            self.end_keeping();
        }
        self.listeners.lock().clear();
        self.held.clear();
        if self.reports.manager().is_some_and(ServiceManager::is_keeper) {
            // It has the port, too.
            self.reports.stopping();
        }
        *self.registry.write() = self.new_registry();
        self.takeover.close();
        // It may be the reply to another KILL.
        *self.order.lock() = None;
    }
}

fn new_registry(config: &Config) -> Registry {
    let mut registry = Registry::with_max_remembered(config.remembered_names as usize);
    registry.set_max_nodes(config.max_nodes.get());
    registry
}

/// The part of the configuration that each connection asks for, read at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Who may ask for what.
    pub(crate) policy: Policy,
    /// How much is told of what peers do.
    pub(crate) debug: u8,
    /// Whether replies are to wait before they are sent.
    pub(crate) delays_replies: bool,
    /// Whether a holder of a name makes way that is gone but for its connection.
    pub(crate) evicts: bool,
    /// How many nodes a process may have.
    pub(crate) max_nodes_per_process: Option<usize>,
    /// Whether nodes are to be known by their listening sockets.
    pub(crate) looks_at_listeners: bool,
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) conn: ConnId,
    pub(crate) address: SocketAddr,
}

impl Peer {
    /// IPv4 addresses in IPv6 form become what they are.
    pub(crate) fn new(conn: ConnId, address: SocketAddr) -> Self {
        let ip: IpAddr = address.ip().to_canonical();
        Self { conn, address: SocketAddr::new(ip, address.port()) }
    }
}

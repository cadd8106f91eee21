//! The server as its owner sees it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use epmd_core::{DownReason, Exposure, Glob, Name, Node, Owner, Refusal, Registrant, Registration};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::runtime::Runtime;

use crate::duplicate::{self, Newcomer};
use crate::feed::{Follower, Snapshot};
use crate::listen::{self, ListenError, SkippedAddress, reachable};
use crate::notices::Notice;
use crate::platform::Holder;
use crate::runtime;
use crate::service_manager::ServiceManager;
use crate::shared::{Order, Phase, Shared};
use crate::takeover::{Offer, Within};
use crate::{Addresses, Config, CounterValues, Limit};

/// How long a hand-over within this process may take. It gives up before.
const HAND_OVER: Duration = Duration::from_secs(5);

/// A port mapper that serves until it is stopped or dropped.
pub struct Server {
    pub(crate) shared: Arc<Shared>,
    pub(crate) thread: Mutex<Option<JoinHandle<Option<Runtime>>>>,
    /// Whether it listens on what it was handed. Held during a change, so that
    /// there is one at a time.
    pub(crate) handed_over: Mutex<bool>,
}

/// What the server tells of itself.
#[derive(Debug, Clone)]
pub struct Info {
    /// Addresses and port as bound.
    pub addresses: Vec<SocketAddr>,
    /// What remote peers may ask for.
    pub exposure: Exposure,
    /// Time since the start.
    pub uptime: Duration,
    /// Nodes that are registered.
    pub nodes: usize,
    /// Connections that are open: registrations, and those that wait.
    pub open_connections: usize,
    /// Those of them that wait for their peer.
    pub waiting_connections: usize,
    /// Notices that wait to be taken.
    pub waiting_notices: usize,
    /// Those that [stand by](crate::StandBy).
    pub heirs: usize,
    /// What was counted since the start.
    pub counters: CounterValues,
}

/// Why a configuration was not taken over.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReconfigureError {
    /// The new addresses cannot be bound.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// This key takes effect at the start only.
    #[error("{0} takes effect at the start only")]
    NeedsRestart(&'static str),
    /// The server is closed.
    #[error("the server is closed")]
    Closed,
}

impl Server {
    /// Whether the server serves.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.shared.phase.lock()
    }

    /// Replaces a thread that has died; does nothing in any other phase.
    ///
    /// # Errors
    /// When the system has no thread to give; to be tried again.
    pub fn resume(&self) -> std::io::Result<()> {
        let mut thread = self.thread.lock();
        if self.phase() != Phase::Down {
            return Ok(());
        }
        let runtime = match thread.take().map(JoinHandle::join) {
            Some(Ok(Some(runtime))) => runtime,
            _ => runtime::build()?,
        };
        *thread = Some(runtime::start(self.shared.clone(), runtime)?);
        Ok(())
    }

    /// Speaks the protocol of this service manager from now on: `READY`,
    /// `STATUS`, `STOPPING`, and `WATCHDOG` as long as the owner takes notices
    /// when it is woken.
    pub fn report_to(&self, manager: ServiceManager) {
        self.report_and_keep(manager, Vec::new());
    }

    /// The same, and where the manager keeps descriptors, has it keep all that are
    /// to outlive this process. What it has by the names of `leftovers`, of
    /// [`Inheritance`](crate::Inheritance), it may drop.
    pub fn report_and_keep(&self, manager: ServiceManager, leftovers: Vec<String>) {
        if let Some(manager) = self.shared.reports.report_to(manager)
            && self.config().stored_descriptors > 0
        {
            self.shared.open_store(manager, leftovers);
        }
    }

    /// Hands over to whoever [takes over](Server::take_over_from) at the other end
    /// of this socket, one that keeps messages apart (`SOCK_SEQPACKET`), in this
    /// process maybe. [`Notice::TakenOver`] or [`Notice::NotTakenOver`] tells what
    /// came of it.
    pub fn hand_over(&self, connection: OwnedFd) {
        self.shared.takeover.offer_to(Offer { connection, within: None });
    }

    /// The same to another version of this library in this process, which
    /// [takes over](Server::take_over_within) at the other end. Back when it has.
    ///
    /// # Errors
    /// When it has not, and this server goes on.
    pub fn hand_over_within(&self, connection: OwnedFd) -> std::io::Result<()> {
        // A thread that has died would not hear of it.
        self.resume()?;
        if self.phase() == Phase::Closed {
            return Err(std::io::ErrorKind::NotConnected.into());
        }
        let (done, outcome) = mpsc::channel();
        let within = Within { handed_over: *self.handed_over.lock(), done };
        self.shared.takeover.offer_to(Offer { connection, within: Some(within) });
        // Nobody is there to hear of an offer if the thread dies right now.
        match outcome.recv_timeout(HAND_OVER) {
            Err(_) if self.phase() != Phase::Closed => {
                self.shared.takeover.take_back_offer();
                Err(std::io::Error::other("it was not taken over"))
            }
            _ => Ok(()),
        }
    }

    /// Tells that there is an owner again: it is woken if something waits.
    pub fn attach(&self) {
        *self.shared.orphaned_since.lock() = None;
        self.shared.changed.notify_one();
        self.shared.notices.rearm();
    }

    /// Tells that the owner is gone. Unless another one comes within five
    /// seconds the server closes.
    pub fn detach(&self) {
        *self.shared.orphaned_since.lock() = Some(Instant::now());
        self.shared.changed.notify_one();
    }

    /// The same before this process is started anew: what a service manager keeps,
    /// it keeps for the next one.
    pub fn leave(&self) {
        self.shared.leaves.store(true, Ordering::Relaxed);
        self.stop();
    }

    /// Closes every socket and ends the thread, waiting for it.
    pub fn stop(&self) {
        self.shared.reports.stopping();
        self.shared.give_order(Order::Stop);
        if let Some(thread) = self.thread.lock().take() {
            // What it leaves behind if it had died goes too.
            drop(thread.join());
        }
        self.shared.close();
    }

    /// What has happened, oldest first, at most `limit`; and how much was
    /// missed because it was not taken in time. The owner is woken again once
    /// it got fewer than `limit`.
    #[must_use]
    pub fn take_notices(&self, limit: usize) -> (Vec<Notice>, u64) {
        self.shared.reports.owner_lives();
        self.shared.notices.take(limit)
    }

    /// The node of this name.
    #[must_use]
    pub fn lookup(&self, name: &str) -> Option<Node> {
        self.shared.registry.read().lookup(name).cloned()
    }

    /// The node of this name, and who holds it. Takes a while: it looks at every
    /// descriptor of this host.
    #[must_use]
    pub fn lookup_with_holder(&self, name: &str) -> Option<(Node, Holder)> {
        let node = self.lookup(name)?;
        let holder = self.shared.holder(&node);
        Some((node, holder))
    }

    /// Names and ports, newest registration first.
    #[must_use]
    pub fn names(&self, glob: &Glob) -> Vec<(Name, u16)> {
        let registry = self.shared.registry.read();
        registry
            .nodes()
            .filter(|(name, _)| glob.matches(name.as_str()))
            .map(|(name, node)| (name.clone(), node.registration.port))
            .collect()
    }

    /// The nodes that match, and all that happens from then on, to whatever names.
    #[must_use]
    pub fn follow(&self, glob: &Glob) -> (Snapshot, Follower) {
        self.shared.follow(glob)
    }

    /// Whether it is this server that a follower follows.
    #[must_use]
    pub fn is_followed_by(&self, follower: &Follower) -> bool {
        follower.is_of(&self.shared.feed)
    }

    /// Has this called, from the server's thread, some milliseconds after something
    /// has happened at the latest.
    pub fn wake_on_change(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        *self.shared.wake_follower.lock() = Some(wake);
    }

    /// Counts lines that its owner did not log because too many are alike.
    pub fn count_suppressed(&self, lines: u64) {
        self.shared.counters.suppressed.add(lines);
    }

    /// How many nodes are registered.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.registry.read().len()
    }

    /// Registers a name of the VM itself, without a connection. Its creation.
    ///
    /// # Errors
    /// As [`epmd_core::Registry::register`].
    pub fn register(&self, name: Name, registration: Registration) -> Result<u32, Refusal> {
        let now = Shared::now();
        let evicts = self.shared.rules().evicts;
        let newcomer = Newcomer { name: name.as_str(), port: registration.port, peer: None };
        let gone = duplicate::find_gone(&self.shared, newcomer, evicts);
        let mut registry = self.shared.registry.write();
        duplicate::make_way(&self.shared, &mut registry, newcomer, gone);
        let (creation, event) = registry.register(name, registration, Registrant::VM, now)?;
        self.shared.tell(&registry, event);
        Ok(creation.get())
    }

    /// Takes back a name that the VM registered; whether it had.
    #[must_use]
    pub fn unregister(&self, name: &str) -> bool {
        let mut registry = self.shared.registry.write();
        if registry.lookup(name).map(|node| node.owner) != Some(Owner::Vm) {
            return false;
        }
        let unregistered = registry.unregister(name, DownReason::Unregistered);
        unregistered.map(|(_, event)| self.shared.tell(&registry, event)).is_some()
    }

    /// Forces a name out, as STOP does, and closes its connection; whether it
    /// was registered.
    #[must_use]
    pub fn drop_name(&self, name: &str) -> bool {
        let mut registry = self.shared.registry.write();
        let Some((owner, event)) = registry.unregister(name, DownReason::Dropped) else {
            return false;
        };
        self.shared.tell(&registry, event);
        drop(registry);
        if let Owner::Connection(conn) = owner {
            self.shared.release(conn);
        }
        true
    }

    /// What the server tells of itself.
    #[must_use]
    pub fn info(&self) -> Info {
        let shared = &self.shared;
        // No node comes or goes meanwhile.
        let registry = shared.registry.read();
        let listeners = shared.listeners.lock();
        let waiting = shared.waiting.load(Ordering::Relaxed);
        Info {
            addresses: listeners.iter().map(|listener| listener.address).collect(),
            exposure: shared.config.read().exposure,
            uptime: shared.started.elapsed(),
            nodes: registry.len(),
            open_connections: shared.held.len() + waiting,
            waiting_connections: waiting,
            waiting_notices: shared.notices.len(),
            heirs: shared.takeover.heirs(),
            counters: shared.counters.values(),
        }
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Config {
        self.shared.config.read().clone()
    }

    /// Takes over a configuration without closing a node: new addresses are
    /// bound before old ones close, and those accept what is waiting first. One
    /// that all addresses of its family cover from now on stays open.
    ///
    /// # Errors
    /// See [`ReconfigureError`]; nothing has changed then.
    pub fn reconfigure(&self, config: Config) -> Result<(), ReconfigureError> {
        let mut handed_over = self.handed_over.lock();
        if self.phase() == Phase::Closed {
            return Err(ReconfigureError::Closed);
        }
        let old = self.config();
        if let Some(key) = config.needs_restart(&old) {
            return Err(ReconfigureError::NeedsRestart(key));
        }
        let addresses = config.bound_addresses();
        let elsewhere = (config.port, &config.addresses) != (old.port, &old.addresses);
        // Whoever handed a socket over has it too: remote peers would reach that
        // one, and wait there for nobody.
        if elsewhere || !*handed_over && addresses != old.bound_addresses() {
            // Port 0 asks for any port: the one it has will do.
            let port = if config.port == old.port { self.shared.port() } else { config.port };
            self.rebind(&addresses, port)?;
            *handed_over = false;
        }
        self.shared.registry.write().set_max_nodes(config.max_nodes.get());
        if old.max_nodes_per_process == Limit::NONE {
            // Nobody has asked so far whose a node is.
            self.shared.quotas.are_incomplete();
        }
        *self.shared.config.write() = config;
        self.shared.measure_descriptors();
        Ok(())
    }

    fn rebind(&self, addresses: &Addresses, port: u16) -> Result<(), ListenError> {
        let current = self.shared.listeners.lock().clone();
        let bound = listen::bind(addresses, port, &current)?;
        for SkippedAddress { address, error } in bound.skipped {
            self.shared.notices.push(Notice::AddressSkipped { address, error });
        }
        let (closed, all_closed) = mpsc::channel();
        let kept = |one: &Arc<_>| bound.listeners.iter().any(|other| Arc::ptr_eq(one, other));
        let retired: Vec<_> = current.into_iter().filter(|one| !kept(one)).collect();
        *self.shared.listeners.lock() = bound.listeners;
        self.shared.reports.status_changed();
        self.shared.changed.notify_one();
        self.shared.keep_listeners();
        for listener in retired {
            self.shared.keep_listener_no_longer(&listener);
            listener.retire(closed.clone());
        }
        drop(closed);
        // The old sockets take some milliseconds to close; a thread that is
        // just being replaced may take longer, and closes them as well.
        let _ = all_closed.recv_timeout(Duration::from_secs(1));
        Ok(())
    }

    /// Has the server's thread panic, for tests of what comes after.
    #[doc(hidden)]
    pub fn panic_thread(&self) {
        self.shared.give_order(Order::Panic);
    }

    /// The address that a local client reaches the server at.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        Some(reachable(self.shared.listeners.lock().first()?.address))
    }
}

impl Drop for Server {
    /// As [`Server::stop`], without waiting: the owner may be a scheduler.
    fn drop(&mut self) {
        self.shared.give_order(Order::Stop);
        if self.phase() == Phase::Down {
            self.shared.close();
        }
    }
}

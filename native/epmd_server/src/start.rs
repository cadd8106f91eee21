//! How a server begins: with nothing, with what another one has left, or with what
//! another one hands over.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use epmd_core::{DownReason, Owner};
use parking_lot::Mutex;
use tokio::runtime::Runtime;

use crate::Config;
use crate::connection::Unfinished;
use crate::duplicate::canonical;
use crate::estate::{Estate, Place, Stored};
use crate::listen::{self, Bound, ListenError, SkippedAddress};
use crate::notices::Notice;
use crate::platform::{self, Held, unreserve};
use crate::runtime;
use crate::server::Server;
use crate::shared::Shared;
use crate::takeover::{self, HandedOver, Household, Predecessor, TakeoverError};

/// Wakes the owner of a server.
pub(crate) type Wake = Box<dyn Fn() + Send + Sync>;

impl Server {
    /// Binds and serves. `wake_owner` is called from the server's thread when
    /// there is something to [take](Server::take_notices) or the
    /// [phase](Server::phase) has changed.
    ///
    /// # Errors
    /// Any [`ListenError`]; nothing is bound then.
    pub fn start(config: Config, wake_owner: Wake) -> Result<Self, ListenError> {
        Self::start_with(config, Estate::default(), wake_owner)
    }

    /// The same on sockets that listen already, handed over by whoever started
    /// this process. Port and addresses of the configuration say where to
    /// listen after a [change](Server::reconfigure) of theirs. Until then the
    /// sockets stay, whatever the exposure.
    ///
    /// # Errors
    /// As [`Server::start`], and [`ListenError::NotListening`].
    pub fn start_on(
        config: Config,
        sockets: Vec<TcpListener>,
        wake_owner: Wake,
    ) -> Result<Self, ListenError> {
        Self::start_with(config, Estate::of_listeners(sockets), wake_owner)
    }

    /// The same with all that another port mapper has left. Nodes that have ended
    /// since are gone before anything is answered. Without listening sockets it
    /// binds as [`Server::start`] does.
    ///
    /// # Errors
    /// As [`Server::start_on`].
    pub fn start_with(
        config: Config,
        mut estate: Estate,
        wake_owner: Wake,
    ) -> Result<Self, ListenError> {
        let sockets = std::mem::take(&mut estate.listeners);
        let handed_over = !sockets.is_empty();
        let bound = if handed_over {
            listen::adopt(sockets)?
        } else {
            listen::bind(&config.bound_addresses(), config.port, &[])?
        };
        prepare(config, bound, estate, Vec::new(), wake_owner)?.begin(handed_over)
    }

    /// Takes over from the port mapper on the port of the configuration: its
    /// sockets, its nodes with all that is known of them, and what waits. It ends
    /// then. Until a change of port or addresses this one listens where it did.
    ///
    /// # Errors
    /// See [`TakeoverError`]; the other one goes on then.
    pub fn take_over(config: Config, wake_owner: Wake) -> Result<Self, TakeoverError> {
        let connection = takeover::connect(&config.takeover_socket, config.port)?;
        Self::take_over_from(config, connection, wake_owner)
    }

    /// The same from a server that was told to [hand over](Server::hand_over) to
    /// the other end of this socket.
    ///
    /// # Errors
    /// As [`Server::take_over`].
    pub fn take_over_from(
        config: Config,
        connection: OwnedFd,
        wake_owner: Wake,
    ) -> Result<Self, TakeoverError> {
        let predecessor = Predecessor::greet(connection)?;
        Self::succeed(config, predecessor, wake_owner)
    }

    /// The same from one that is ready to hand over.
    pub(crate) fn succeed(
        config: Config,
        mut predecessor: Predecessor,
        wake_owner: Wake,
    ) -> Result<Self, TakeoverError> {
        if config.raise_file_limit {
            // What is wrong with it is told later.
            let _ = platform::raise_file_limit();
        }
        let config = Config { takeover: false, ..config };
        let prepared = predecessor.receive();
        let prepared = prepared.and_then(|all| prepare_with(config, all, wake_owner));
        conclude(predecessor, prepared, true)
    }

    /// The same within one process, from a server in another version of this library
    /// that was told to [hand over](Server::hand_over_within). It goes on with
    /// everything: the configuration, the names of the VM, the service manager.
    ///
    /// # Errors
    /// As [`Server::take_over`].
    pub fn take_over_within(connection: OwnedFd, wake_owner: Wake) -> Result<Self, TakeoverError> {
        // Both have all descriptors until one lets go of them.
        platform::beyond_soft_limit(|| Self::take_over_inside(connection, wake_owner))
    }

    fn take_over_inside(connection: OwnedFd, wake_owner: Wake) -> Result<Self, TakeoverError> {
        let mut predecessor = Predecessor::greet(connection)?;
        let mut within = (Household::default(), None);
        let prepared = predecessor.receive().and_then(|mut all| {
            within = all.within.take().ok_or_else(|| {
                TakeoverError::Failed("the other one is in another process".to_owned())
            })?;
            within.0.take_in();
            let config = within.0.config().map_err(io::Error::from)?;
            prepare_with(config, all, wake_owner)
        });
        let (household, manager) = within;
        let server = conclude(predecessor, prepared, household.handed_over)?;
        if let Some(manager) = manager {
            server.report_and_keep(manager, household.leftovers);
        }
        Ok(server)
    }
}

/// Does all that can fail before anything of what was received is served.
fn prepare_with(
    config: Config,
    all: HandedOver,
    wake_owner: Wake,
) -> Result<Prepared, TakeoverError> {
    let HandedOver { mut estate, waiting, .. } = all;
    let bound = listen::adopt(std::mem::take(&mut estate.listeners))?;
    Ok(prepare(config, bound, estate, waiting, wake_owner)?)
}

/// Begins once the other one is done, and tells it.
fn conclude(
    predecessor: Predecessor,
    prepared: Result<Prepared, TakeoverError>,
    handed_over: bool,
) -> Result<Server, TakeoverError> {
    let begun = match prepared {
        Ok(prepared) => {
            predecessor.await_done()?;
            prepared.begin(handed_over).map_err(TakeoverError::from)
        }
        Err(error) => Err(error),
    };
    predecessor.tell(begun.as_ref().err());
    begun
}

/// Whether the port mapper on the port of a configuration would hand over to
/// [`Server::take_over`] now. It goes on as before.
///
/// # Errors
/// See [`TakeoverError`].
pub fn check_takeover(config: &Config) -> Result<(), TakeoverError> {
    let connection = takeover::connect(&config.takeover_socket, config.port)?;
    Predecessor::greet(connection).map(drop)
}

/// A server that only has to begin.
struct Prepared {
    shared: Arc<Shared>,
    runtime: Runtime,
}

/// Does all that can fail before anything is served.
fn prepare(
    config: Config,
    bound: Bound,
    mut estate: Estate,
    waiting: Vec<Unfinished>,
    wake_owner: Wake,
) -> Result<Prepared, ListenError> {
    // Before anything raises it.
    platform::initial_limit();
    let raise_file_limit = config.raise_file_limit;
    let shared = Shared::new(config, bound.listeners, wake_owner);
    let shared = Arc::new(shared.map_err(ListenError::Thread)?);
    for SkippedAddress { address, error } in bound.skipped {
        shared.notices.push(Notice::AddressSkipped { address, error });
    }
    if raise_file_limit && let Err(error) = platform::raise_file_limit() {
        shared.notices.push(Notice::FileLimitKept { error: error.to_string() });
    }
    shared.measure_descriptors();
    let runtime = runtime::build().map_err(ListenError::Thread)?;
    if let Some(path) = shared.state_file() {
        estate.add_file(&path, &shared.notices);
    }
    runtime.block_on(async {
        take_in(&shared, estate);
        takeover::take_in(&shared, waiting);
    });
    Ok(Prepared { shared, runtime })
}

impl Prepared {
    /// Serves from now on.
    fn begin(self, handed_over: bool) -> Result<Server, ListenError> {
        let Self { shared, runtime } = self;
        platform::name_process(shared.config.read().process_name.as_str());
        shared.open_state_file();
        takeover::open(&shared);
        let thread = runtime::start(shared.clone(), runtime).map_err(ListenError::Thread)?;
        let thread = Mutex::new(Some(thread));
        Ok(Server { shared, thread, handed_over: Mutex::new(handed_over) })
    }
}

/// Goes on with what another port mapper has left, in the runtime that is to serve
/// it. Nodes that have ended since are gone afterwards.
fn take_in(shared: &Arc<Shared>, estate: Estate) {
    shared.kept.go_on_after(estate.sequence);
    let before = estate.nodes.len() + estate.lost;
    if before == 0 && estate.remembered.is_empty() {
        return;
    }
    let mut unanswered = Vec::new();
    let mut registry = shared.registry.write();
    for (name, gone) in estate.remembered {
        registry.remember(name, gone);
    }
    for (name, mut node, connection) in estate.nodes {
        let Some(Stored { socket, place }) = connection else {
            registry.restore(name, node);
            shared.counters.inherited.add_one();
            continue;
        };
        // They came in numbers that nobody chose.
        let socket = TcpStream::from(unreserve(socket.into()));
        let conn = shared.number(socket.as_raw_fd());
        if let Place::Slot(slot) = place {
            shared.kept.store.adopt_connection(conn, slot);
            if !has_answered(shared, &socket) {
                unanswered.push(conn);
            }
        }
        node.owner = Owner::Connection(conn);
        // Nothing else is there that could have the name.
        if shared.held.hold(shared, conn, socket).is_ok() {
            registry.restore(name, node);
            shared.counters.inherited.add_one();
        }
    }
    drop(registry);
    shared.quotas.are_incomplete();
    for conn in unanswered {
        shared.end_connection(conn, DownReason::Closed);
    }
    Held::end_those_that_have(shared);
    let nodes = shared.registry.read().len();
    shared.notices.push(Notice::WentOn { nodes, gone: before - nodes });
}

/// Whether the registration of a connection was answered before the server that it
/// came to was killed. If not, nobody would: the node has to ask again.
fn has_answered(shared: &Shared, socket: &TcpStream) -> bool {
    let (local, peer) = (socket.local_addr(), socket.peer_addr());
    let ends = local.ok().zip(peer.ok());
    ends.is_none_or(|(local, peer)| shared.sockets.has_sent(canonical(local), canonical(peer)))
}

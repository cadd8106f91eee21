//! The fast path. A request that is already there is accepted, answered and
//! closed without a task; registered connections wait in one nested epoll.

mod crowded;

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use epmd_core::limits::{MAX_REQUEST_BYTES, MAX_SURPLUS_BYTES};
use epmd_core::{ConnId, DownReason, Framer, Next};
use parking_lot::Mutex;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, acceptfrom_with, getsockname, recv, send};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use self::crowded::{begin_crowded, make_room_for_next};
use crate::connection::{self, Progress, Received};
use crate::listen::Listener;
use crate::listings::bound_buffer;
use crate::platform::unreserve;
use crate::session::{Answer, Known, admit, ended_early, respond};
use crate::shared::{Farewell, Order, Peer, Shared};

/// Connections served in a row before others get their turn.
const BATCH: usize = 64;

/// How long a listener that is retired waits for handshakes under way.
const LINGER: Duration = Duration::from_millis(20);

/// Replies above this give their memory back once they are sent.
const REPLY_CAPACITY: usize = 64 * 1024;

/// Accepts on a listener until it is retired.
pub(crate) async fn accept(shared: Arc<Shared>, listener: Arc<Listener>) -> io::Result<()> {
    // A descriptor of its own: the one before may still be registered in the
    // runtime, when it is the second thread that accepts here.
    let socket = watch(listener.socket.try_clone()?)?;
    let mut buffers = Buffers::default();
    loop {
        let mut ready = tokio::select! {
            ready = socket.readable() => ready?,
            () = listener.retire.notified() => break,
        };
        shared.delay_accept().await;
        match accept_batch(&shared, &socket, &mut buffers) {
            Batch::Drained => {
                ready.clear_ready();
                shared.descriptors_suffice();
            }
            Batch::Full => tokio::task::yield_now().await,
            Batch::OutOfDescriptors => shared.out_of_descriptors().await,
        }
    }
    for pause in [LINGER, Duration::ZERO] {
        while let Batch::Full = accept_batch(&shared, &socket, &mut buffers) {}
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// Has the runtime tell when a descriptor is readable.
#[expect(deprecated, reason = "an OwnedFd keeps what the unsafe form makes its caller promise")]
fn watch(descriptor: impl Into<OwnedFd>) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor.into(), Interest::READABLE)
}

enum Batch {
    /// Nothing waits to be accepted.
    Drained,
    /// More may wait.
    Full,
    OutOfDescriptors,
}

/// Memory that all inline connections of a listener use in turn.
struct Buffers {
    request: Box<[u8; MAX_REQUEST_BYTES]>,
    reply: Vec<u8>,
    /// Connections of the batch whose request was not there yet.
    early: Vec<(OwnedFd, Peer)>,
}

impl Default for Buffers {
    fn default() -> Self {
        let request = Box::new([0; MAX_REQUEST_BYTES]);
        Self { request, reply: Vec::new(), early: Vec::new() }
    }
}

/// What is to be done with a connection after a look at it.
enum Served {
    Closed,
    /// It waits in a task, or is a registration.
    Stays,
    /// Nothing has come yet.
    Early(OwnedFd),
}

fn accept_batch(shared: &Arc<Shared>, listener: &AsyncFd<OwnedFd>, buffers: &mut Buffers) -> Batch {
    let batch = accept_some(shared, listener, buffers);
    // A request is mostly there a moment after its connection: to look again
    // costs less than a task.
    let mut early = std::mem::take(&mut buffers.early);
    for (socket, peer) in early.drain(..) {
        if let Served::Early(socket) = begin(shared, socket, peer, buffers) {
            connection::go_on(shared, socket.into(), peer, Progress::default());
        }
    }
    buffers.early = early;
    batch
}

fn accept_some(shared: &Arc<Shared>, listener: &AsyncFd<OwnedFd>, buffers: &mut Buffers) -> Batch {
    for _ in 0..BATCH {
        if shared.lacks_descriptor() {
            return make_room_for_next(shared);
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match acceptfrom_with(listener, flags) {
            Ok((socket, address)) => {
                let socket = unreserve(socket);
                let descriptor = socket.as_raw_fd();
                // A connection that is gone already has no address.
                let Some(Ok(address)) = address.map(SocketAddr::try_from) else {
                    shared.counters.accepted.add_one();
                    shared.counters.silent.add_one();
                    continue;
                };
                let peer = Peer::new(shared.connection(descriptor), address);
                shared.tell_connected(shared.rules(), peer);
                if shared.may_be_crowded(descriptor) {
                    return begin_crowded(shared, socket, peer, buffers);
                }
                if let Served::Early(socket) = begin(shared, socket, peer, buffers) {
                    buffers.early.push((socket, peer));
                }
            }
            Err(Errno::AGAIN) => return Batch::Drained,
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                return make_room_for_next(shared);
            }
            // What befell one connection before it was accepted (accept(2)).
            Err(_) => {}
        }
    }
    Batch::Full
}

fn connected_to(socket: &OwnedFd) -> Option<IpAddr> {
    let address = getsockname(socket).ok()?;
    Some(SocketAddr::try_from(address).ok()?.ip())
}

/// Serves a connection as far as that goes without waiting. A defect of ours ends no
/// more than the connection that it showed in.
fn begin(shared: &Arc<Shared>, socket: OwnedFd, peer: Peer, buffers: &mut Buffers) -> Served {
    let served = catch_unwind(AssertUnwindSafe(|| serve(shared, socket, peer, buffers)));
    served.unwrap_or_else(|_| {
        connection::panicked(shared, peer);
        Served::Closed
    })
}

fn serve(shared: &Arc<Shared>, socket: OwnedFd, peer: Peer, buffers: &mut Buffers) -> Served {
    let rules = shared.rules();
    if rules.delays_replies {
        connection::go_on(shared, socket.into(), peer, Progress::default());
        return Served::Stays;
    }
    let Buffers { request, reply, .. } = buffers;
    let mut framer = Framer::default();
    let connected_to = || connected_to(&socket);
    let read = recv(&socket, request.as_mut_slice(), RecvFlags::empty());
    // Not before what has come is read, so that the close is an orderly one.
    if !admit(shared, rules, peer, connected_to) {
        return Served::Closed;
    }
    let received = match read {
        Ok((count @ 1.., _)) => request.get(..count).unwrap_or_default(),
        Err(Errno::AGAIN) => return Served::Early(socket),
        Ok(_) | Err(_) => {
            ended_early(shared, peer, 0);
            return Served::Closed;
        }
    };
    let body = match framer.push(received) {
        Ok(Some(body)) => body,
        Ok(None) => {
            let progress = Progress::received(received.to_vec());
            connection::go_on(shared, socket.into(), peer, progress);
            return Served::Stays;
        }
        Err(refusal) => {
            shared.refuse_unanswered(peer.address, refusal);
            return Served::Closed;
        }
    };
    reply.clear();
    reply.shrink_to(REPLY_CAPACITY);
    let next = match respond(shared, rules, body, peer, connected_to, &mut Known::default(), reply)
    {
        Answer::Ready(next) => next,
        Answer::Pending(pending) => {
            let received = Received { framer, bytes: received.to_vec() };
            let reply = std::mem::take(reply);
            connection::wait(shared, socket.into(), peer, received, pending, reply);
            return Served::Stays;
        }
    };
    if next == Next::Shutdown {
        let stream = socket.into();
        let farewell = Farewell { peer: peer.address, stream, reply: std::mem::take(reply) };
        shared.give_order(Order::Kill(farewell));
        return Served::Closed;
    }
    if reply.is_empty() {
        return Served::Closed;
    }
    if send_reply(shared, socket, peer, reply, next == Next::Hold) {
        Served::Stays
    } else {
        Served::Closed
    }
}

/// Sends what the peer takes at once. Whether the connection stays open tells
/// the outcome.
fn send_reply(shared: &Arc<Shared>, socket: OwnedFd, peer: Peer, reply: &[u8], hold: bool) -> bool {
    if hold {
        shared.keep(peer.conn, socket.as_fd());
    }
    bound_buffer(&socket, reply);
    // `MORE` lets the reply leave in one segment with the close that follows.
    let more = if hold { SendFlags::empty() } else { SendFlags::MORE };
    let sent = match send(&socket, reply, SendFlags::NOSIGNAL | more) {
        Err(Errno::AGAIN) => Ok(0),
        outcome => outcome,
    };
    match sent {
        Ok(count) if count == reply.len() => {
            shared.counters.answered.add_one();
            return hold && shared.hold(peer.conn, socket.into());
        }
        Ok(count) if !hold => {
            let Some(kept) = shared.keep_reply(reply) else {
                connection::crowded_out(shared, peer.address);
                connection::cut_off(&socket);
                return false;
            };
            connection::go_on(shared, socket.into(), peer, Progress::unsent(kept, count));
            return true;
        }
        // A registration whose reply did not get through is none. Only what
        // this connection registered goes.
        Ok(_) | Err(_) => shared.counters.unread.add_one(),
    }
    shared.end_connection(peer.conn, DownReason::Closed);
    false
}

/// The connections that are registrations.
pub(crate) struct Held {
    epoll: OwnedFd,
    sockets: Mutex<HashMap<ConnId, std::net::TcpStream>>,
}

impl Held {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, sockets: Mutex::default() })
    }

    pub(crate) fn hold(
        &self,
        _shared: &Arc<Shared>,
        conn: ConnId,
        socket: std::net::TcpStream,
    ) -> io::Result<()> {
        let key = epoll::EventData::new_u64(conn.to_bits());
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
        epoll::add(&self.epoll, &socket, key, flags)?;
        self.sockets.lock().insert(conn, socket);
        Ok(())
    }

    /// Closes a connection; whether it was held.
    pub(crate) fn release(&self, conn: ConnId) -> bool {
        let Some(socket) = self.sockets.lock().remove(&conn) else {
            return false;
        };
        // The entry would live on with a duplicate of the descriptor. It is
        // there, or else there is nothing to delete.
        let _ = epoll::delete(&self.epoll, &socket);
        // So would the connection.
        let _ = socket.shutdown(std::net::Shutdown::Both);
        true
    }

    /// What `look` finds of a connection, if it is held.
    pub(crate) fn with<T>(
        &self,
        conn: ConnId,
        look: impl FnOnce(BorrowedFd<'_>) -> T,
    ) -> Option<T> {
        self.sockets.lock().get(&conn).map(|socket| look(socket.as_fd()))
    }

    /// Ends every connection, for whoever has a copy of it too.
    pub(crate) fn shut_down(&self) {
        for socket in self.sockets.lock().values() {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }

    /// The server's end of a connection.
    pub(crate) fn local_address(&self, conn: ConnId) -> Option<SocketAddr> {
        self.sockets.lock().get(&conn)?.local_addr().ok()
    }

    /// Takes in what ends a registration, and tells what it was. (To close a
    /// connection with something unread would reset it.)
    fn read_end(&self, conn: ConnId) -> DownReason {
        let sockets = self.sockets.lock();
        let read = sockets
            .get(&conn)
            .map(|socket| recv(socket, &mut [0; MAX_SURPLUS_BYTES], RecvFlags::DONTWAIT));
        match read {
            Some(Ok((1.., _))) => DownReason::SurplusData,
            _ => DownReason::Closed,
        }
    }

    /// Whether the peer has ended a registration by what has come already.
    pub(crate) fn has_ended(&self, conn: ConnId) -> bool {
        let sockets = self.sockets.lock();
        sockets.get(&conn).is_some_and(|socket| {
            let peeked = recv(socket, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
            !matches!(peeked, Err(Errno::AGAIN))
        })
    }

    /// Ends all registrations that their peers have ended by what has come.
    pub(crate) fn end_those_that_have(shared: &Shared) {
        while matches!(end_connections(shared), Ok(1..)) {}
    }

    pub(crate) fn len(&self) -> usize {
        self.sockets.lock().len()
    }

    /// Lends the sockets: what is called may ask for each. None comes or goes
    /// meanwhile.
    pub(crate) fn lend<T>(
        &self,
        to: impl for<'s> FnOnce(&dyn Fn(ConnId) -> Option<BorrowedFd<'s>>) -> T,
    ) -> T {
        let sockets = self.sockets.lock();
        to(&|conn| sockets.get(&conn).map(AsFd::as_fd))
    }

    pub(crate) fn clear(&self) {
        self.sockets.lock().clear();
    }

    /// Ends registrations as their connections end.
    pub(crate) async fn watch(shared: Arc<Shared>) -> io::Result<()> {
        let epoll = watch(shared.held.epoll.try_clone()?)?;
        loop {
            let mut ready = epoll.readable().await?;
            if end_connections(&shared)? < BATCH {
                // Those that end from now on make it ready anew.
                ready.clear_ready();
            } else {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Ends a batch of registrations whose connections have ended; how many.
fn end_connections(shared: &Shared) -> io::Result<usize> {
    let mut space = [const { MaybeUninit::uninit() }; BATCH];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let (events, _) = epoll::wait(&shared.held.epoll, space.as_mut_slice(), Some(&at_once))?;
    for event in events.iter() {
        let data = event.data;
        let conn = ConnId::from_bits(data.u64());
        shared.end_connection(conn, shared.held.read_end(conn));
    }
    Ok(events.len())
}

//! The same with plain tokio: a task for every connection.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use epmd_core::limits::MAX_SURPLUS_BYTES;
use epmd_core::{ConnId, DownReason, is_local};
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, yield_now};

use crate::connection::{self, Progress};
use crate::listen::Listener;
use crate::platform::unreserve;
use crate::shared::{Peer, Shared};
use crate::shortage::Room;

/// How long a listener that is retired waits for handshakes under way.
const LINGER: Duration = Duration::from_millis(20);

/// What came of accepting a connection.
type Accepted = io::Result<(TcpStream, SocketAddr)>;

/// Accepts on a listener until it is retired.
pub(crate) async fn accept(shared: Arc<Shared>, listener: Arc<Listener>) -> io::Result<()> {
    let socket = TcpListener::from_std(listener.socket.try_clone()?)?;
    loop {
        tokio::select! {
            (accepted, was_idle) = next(&shared, &socket) => {
                // Whoever came during a delay has waited already.
                if was_idle {
                    shared.delay_accept().await;
                }
                serve(&shared, accepted).await;
            }
            () = listener.retire.notified() => break,
        }
    }
    let rest = async {
        while let Ok(accepted) = socket.accept().await {
            serve(&shared, Ok(accepted)).await;
        }
    };
    // It would go on for ever while clients come.
    let _ = tokio::time::timeout(LINGER, rest).await;
    Ok(())
}

/// The next connection, and whether none waited. Once none waits, descriptors
/// suffice.
async fn next(shared: &Shared, socket: &TcpListener) -> (Accepted, bool) {
    while shared.lacks_descriptor() {
        make_room_for_next(shared).await;
    }
    let mut was_idle = false;
    let accepted = poll_fn(|context| {
        let accepted = socket.poll_accept(context);
        if accepted.is_pending() {
            was_idle = true;
            shared.descriptors_suffice();
        }
        accepted
    });
    (accepted.await, was_idle)
}

async fn serve(shared: &Arc<Shared>, accepted: Accepted) {
    match accepted {
        Ok((stream, address)) => {
            // Fails only if the descriptor is none.
            let Ok(stream) = stream.into_std() else { return };
            let socket = unreserve(stream.into());
            let peer = Peer::new(shared.connection(socket.as_raw_fd()), address);
            shared.tell_connected(shared.rules(), peer);
            if shared.may_be_crowded(socket.as_raw_fd()) {
                begin_crowded(shared, socket, peer).await;
            } else {
                connection::go_on(shared, socket.into(), peer, Progress::default());
            }
        }
        // What befell one connection before it was accepted.
        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
        // The same whatever the system calls it: wait for better times.
        Err(_) => make_room_for_next(shared).await,
    }
}

/// Serves a connection that may have one of the last descriptors.
async fn begin_crowded(shared: &Arc<Shared>, socket: OwnedFd, peer: Peer) {
    let descriptor = socket.as_raw_fd();
    let stream = std::net::TcpStream::from(socket);
    let connected_to = || stream.local_addr().ok().map(|address| address.ip());
    let is_local = is_local(peer.address.ip(), connected_to);
    match shared.make_room(descriptor, is_local) {
        Room::Enough => connection::go_on(shared, stream, peer, Progress::default()),
        Room::Made => {
            connection::begin_when_there_is_room(shared, stream, peer);
            yield_now().await;
        }
        Room::Not { is_last } => {
            connection::go_on(shared, stream, peer, Progress::default());
            // It may have asked.
            yield_now().await;
            if !shared.squeeze_in(peer.conn, is_local, is_last) {
                shared.out_of_descriptors().await;
            }
        }
    }
}

/// When nobody can be accepted.
async fn make_room_for_next(shared: &Shared) {
    if shared.make_room_for_next() {
        yield_now().await;
    } else {
        shared.out_of_descriptors().await;
    }
}

/// The connections that are registrations, each with the task that waits for
/// its end.
#[derive(Default)]
pub(crate) struct Held {
    connections: Mutex<HashMap<ConnId, (Arc<TcpStream>, AbortHandle)>>,
}

impl Held {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self::default())
    }

    pub(crate) fn hold(
        &self,
        shared: &Arc<Shared>,
        conn: ConnId,
        socket: std::net::TcpStream,
    ) -> io::Result<()> {
        // One that was handed over is as another process made it.
        socket.set_nonblocking(true)?;
        let stream = Arc::new(TcpStream::from_std(socket)?);
        let mut connections = self.connections.lock();
        let task = tokio::spawn(wait_for_end(shared.clone(), conn, stream.clone()));
        connections.insert(conn, (stream, task.abort_handle()));
        Ok(())
    }

    /// Closes a connection; whether it was held.
    pub(crate) fn release(&self, conn: ConnId) -> bool {
        let released = self.connections.lock().remove(&conn);
        let end = |(stream, task): &(Arc<TcpStream>, AbortHandle)| {
            task.abort();
            // The connection would live on with a duplicate of the descriptor.
            let _ = SockRef::from(&**stream).shutdown(std::net::Shutdown::Both);
        };
        released.inspect(end).is_some()
    }

    /// What `look` finds of a connection, if it is held.
    pub(crate) fn with<T>(
        &self,
        conn: ConnId,
        look: impl FnOnce(BorrowedFd<'_>) -> T,
    ) -> Option<T> {
        self.connections.lock().get(&conn).map(|(stream, _)| look(stream.as_fd()))
    }

    /// Ends every connection, for whoever has a copy of it too.
    pub(crate) fn shut_down(&self) {
        for (stream, _) in self.connections.lock().values() {
            let _ = SockRef::from(&**stream).shutdown(std::net::Shutdown::Both);
        }
    }

    /// The server's end of a connection.
    pub(crate) fn local_address(&self, conn: ConnId) -> Option<SocketAddr> {
        self.connections.lock().get(&conn)?.0.local_addr().ok()
    }

    /// Whether the peer has ended a registration by what has come already.
    pub(crate) fn has_ended(&self, conn: ConnId) -> bool {
        self.connections.lock().get(&conn).is_some_and(|(stream, _)| is_over(stream))
    }

    /// Ends all registrations that their peers have ended by what has come.
    pub(crate) fn end_those_that_have(shared: &Shared) {
        let connections = shared.held.connections.lock();
        let over = connections.iter().filter(|(_, (stream, _))| is_over(stream));
        let over: Vec<ConnId> = over.map(|(conn, _)| *conn).collect();
        drop(connections);
        for conn in over {
            shared.end_connection(conn, DownReason::Closed);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.connections.lock().len()
    }

    /// Lends the sockets: what is called may ask for each. None comes or goes
    /// meanwhile.
    pub(crate) fn lend<T>(
        &self,
        to: impl for<'s> FnOnce(&dyn Fn(ConnId) -> Option<BorrowedFd<'s>>) -> T,
    ) -> T {
        let connections = self.connections.lock();
        to(&|conn| connections.get(&conn).map(|(stream, _)| stream.as_fd()))
    }

    pub(crate) fn clear(&self) {
        for (_, (_, task)) in self.connections.lock().drain() {
            task.abort();
        }
    }

    /// Every connection has its own task.
    pub(crate) async fn watch(_shared: Arc<Shared>) -> io::Result<()> {
        std::future::pending().await
    }
}

fn is_over(stream: &TcpStream) -> bool {
    let peeked = SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]);
    !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

async fn wait_for_end(shared: Arc<Shared>, conn: ConnId, stream: Arc<TcpStream>) {
    let read = loop {
        // An error shows in the read too. To close with something unread would
        // reset the connection.
        let _ = stream.readable().await;
        match stream.try_read(&mut [0; MAX_SURPLUS_BYTES]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => break read,
        }
    };
    let reason = if matches!(read, Ok(1..)) { DownReason::SurplusData } else { DownReason::Closed };
    drop(stream);
    shared.end_connection(conn, reason);
}

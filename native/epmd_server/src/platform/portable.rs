//! The same with plain tokio: a task for every connection.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use epmd_core::{ConnId, DownReason};
use parking_lot::Mutex;
use std::os::fd::AsRawFd;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::connection::{self, Received};
use crate::listen::Listener;
use crate::shared::{Peer, Shared};

/// How long a listener that is retired waits for handshakes under way.
const LINGER: Duration = Duration::from_millis(20);

/// Accepts on a listener until it is retired.
pub(crate) async fn accept(shared: Arc<Shared>, listener: Arc<Listener>) -> io::Result<()> {
    let socket = TcpListener::from_std(listener.socket.try_clone()?)?;
    loop {
        tokio::select! {
            accepted = socket.accept() => serve(&shared, accepted).await,
            () = listener.retire.notified() => break,
        }
    }
    while let Ok(accepted) = tokio::time::timeout(LINGER, socket.accept()).await {
        serve(&shared, accepted).await;
    }
    Ok(())
}

async fn serve(shared: &Arc<Shared>, accepted: io::Result<(TcpStream, std::net::SocketAddr)>) {
    match accepted {
        Ok((stream, address)) => {
            let descriptor = stream.as_raw_fd();
            let peer = Peer::new(shared.connection(descriptor), address);
            if let Ok(stream) = stream.into_std() {
                connection::go_on(shared, stream, peer, Received::default());
            }
            if shared.descriptors_are_short(descriptor) {
                shared.out_of_descriptors().await;
            } else {
                shared.descriptors_suffice();
            }
        }
        // The same whatever the system calls it: wait for better times.
        Err(_) => shared.out_of_descriptors().await,
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
        let stream = Arc::new(TcpStream::from_std(socket)?);
        let mut connections = self.connections.lock();
        let task = tokio::spawn(wait_for_end(shared.clone(), conn, stream.clone()));
        connections.insert(conn, (stream, task.abort_handle()));
        Ok(())
    }

    /// Closes a connection; whether it was held.
    pub(crate) fn release(&self, conn: ConnId) -> bool {
        let released = self.connections.lock().remove(&conn);
        released.inspect(|(_, task)| task.abort()).is_some()
    }

    /// Whether the peer has ended a registration by what has come already.
    pub(crate) fn has_ended(&self, conn: ConnId) -> bool {
        let connections = self.connections.lock();
        connections.get(&conn).is_some_and(|(stream, _)| {
            let peeked =
                socket2::SockRef::from(stream).peek(&mut [std::mem::MaybeUninit::uninit()]);
            !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.connections.lock().len()
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

async fn wait_for_end(shared: Arc<Shared>, conn: ConnId, stream: Arc<TcpStream>) {
    let read = loop {
        // An error shows in the read too.
        let _ = stream.readable().await;
        match stream.try_read(&mut [0; 1]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => break read,
        }
    };
    let reason = if matches!(read, Ok(1..)) { DownReason::SurplusData } else { DownReason::Closed };
    drop(stream);
    shared.end_connection(conn, reason);
}

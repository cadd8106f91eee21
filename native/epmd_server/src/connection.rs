//! A connection that has to wait: for the rest of its request, or for its
//! reply to be read. One task each.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use epmd_core::{DownReason, Framer, Next, limits::MAX_REQUEST_BYTES};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::info;
use crate::notices::Notice;
use crate::session::{Answer, Pending, admit, ended_early, respond};
use crate::shared::{Farewell, Order, Peer, Shared};

/// What has come of a request so far.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) framer: Framer,
    pub(crate) bytes: Vec<u8>,
}

/// Goes on with a request that is not complete yet.
pub(crate) fn go_on(
    shared: &Arc<Shared>,
    stream: std::net::TcpStream,
    peer: Peer,
    received: Received,
) {
    spawn(shared, stream, peer, move |waiting, stream| async move {
        serve(&waiting.shared, stream, peer, received).await;
    });
}

/// Goes on with a request that takes a while to carry out.
#[cfg(all(target_os = "linux", not(feature = "portable")))]
pub(crate) fn wait(
    shared: &Arc<Shared>,
    stream: std::net::TcpStream,
    peer: Peer,
    body: Vec<u8>,
    pending: Pending,
    reply: Vec<u8>,
) {
    spawn(shared, stream, peer, move |waiting, stream| async move {
        conclude(&waiting.shared, stream, peer, &body, Answer::Pending(pending), reply).await;
    });
}

/// Goes on with a reply that the peer has not taken whole. The connection
/// closes afterwards. (Elsewhere replies are written by the task that read.)
#[cfg(all(target_os = "linux", not(feature = "portable")))]
pub(crate) fn finish(shared: &Arc<Shared>, stream: std::net::TcpStream, peer: Peer, rest: Vec<u8>) {
    spawn(shared, stream, peer, move |waiting, stream| async move {
        let _ = send(&waiting.shared, &stream, &rest).await;
    });
}

fn spawn<F>(
    shared: &Arc<Shared>,
    stream: std::net::TcpStream,
    peer: Peer,
    work: impl FnOnce(Waiting, TcpStream) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send,
{
    let waiting = Waiting::new(shared, peer);
    tokio::spawn(async move {
        // Fails only without a runtime, or without memory for the event.
        if let Ok(stream) = TcpStream::from_std(stream) {
            work(waiting, stream).await;
        }
    });
}

/// Counts a connection while it waits, and cleans up should its task panic.
struct Waiting {
    shared: Arc<Shared>,
    peer: Peer,
}

impl Waiting {
    fn new(shared: &Arc<Shared>, peer: Peer) -> Self {
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        Self { shared: shared.clone(), peer }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        if std::thread::panicking() {
            panicked(&self.shared, self.peer);
        }
        self.shared.descriptor_freed();
    }
}

/// A defect of ours ended this connection; whatever it registered goes too.
pub(crate) fn panicked(shared: &Shared, peer: Peer) {
    shared.counters.panicked.add_one();
    shared.notices.push(Notice::Panicked { peer: peer.address });
    shared.end_connection(peer.conn, DownReason::Closed);
}

async fn serve(shared: &Arc<Shared>, stream: TcpStream, peer: Peer, mut received: Received) {
    let connected_to = || stream.local_addr().ok().map(|address: SocketAddr| address.ip());
    if !admit(shared, shared.rules(), peer, connected_to) {
        return;
    }
    let Some(body) = read_request(shared, &stream, peer, &mut received).await else {
        return;
    };
    let mut reply = Vec::new();
    let answer = respond(shared, shared.rules(), body, peer, connected_to, None, &mut reply);
    conclude(shared, stream, peer, body, answer, reply).await;
}

/// Carries out what is left of a request, and answers it.
async fn conclude(
    shared: &Arc<Shared>,
    stream: TcpStream,
    peer: Peer,
    body: &[u8],
    mut answer: Answer,
    mut reply: Vec<u8>,
) {
    let connected_to = || stream.local_addr().ok().map(|address: SocketAddr| address.ip());
    let next = loop {
        match answer {
            Answer::Ready(next) => break next,
            Answer::Pending(Pending::Name(mut wait)) => {
                // Whatever a peer sends before its reply ends its registration.
                if timeout(wait.pause(), stream.peek(&mut [0])).await.is_ok() {
                    wait.give_up();
                }
                let (rules, wait) = (shared.rules(), Some(wait));
                answer = respond(shared, rules, body, peer, connected_to, wait, &mut reply);
            }
            Answer::Pending(Pending::Holder(node)) => {
                let searching = shared.clone();
                let search = tokio::task::spawn_blocking(move || searching.holder(&node));
                // A search that panics has found nothing.
                info::push_holder(search.await.unwrap_or_default(), &mut reply);
                break Next::Close;
            }
        }
    };
    if next == Next::Shutdown {
        if let Ok(stream) = stream.into_std() {
            let farewell = Farewell { peer: peer.address, stream, reply };
            shared.give_order(Order::Kill(farewell));
        }
        return;
    }
    if reply.is_empty() {
        return;
    }
    if next == Next::Hold {
        shared.keep(peer.conn, stream.as_fd());
    }
    if shared.rules().delays_replies {
        shared.delay_write().await;
    }
    let sent = send(shared, &stream, &reply).await;
    if next == Next::Hold {
        match sent.and_then(|()| stream.into_std()) {
            Ok(socket) => _ = shared.hold(peer.conn, socket),
            Err(_) => shared.end_connection(peer.conn, DownReason::Closed),
        }
    }
}

/// Reads until the request is complete. Each byte starts the time-out anew.
async fn read_request<'r>(
    shared: &Shared,
    stream: &TcpStream,
    peer: Peer,
    received: &'r mut Received,
) -> Option<&'r [u8]> {
    let Received { framer, bytes } = received;
    loop {
        let read = timeout(shared.packet_timeout(), read_some(stream, *framer, bytes)).await;
        let Ok(read) = read else {
            shared.counters.timed_out.add_one();
            shared.notices.push(Notice::TimedOut { peer: peer.address });
            return None;
        };
        if !matches!(read, Ok(1..)) {
            ended_early(shared, peer, bytes.len());
            return None;
        }
        match framer.push(bytes) {
            Ok(None) => {}
            // Asked again because a borrow cannot leave a loop that goes on.
            Ok(Some(_)) => break,
            Err(refusal) => {
                shared.refuse_unanswered(peer.address, refusal);
                return None;
            }
        }
    }
    framer.push(bytes).ok().flatten()
}

/// Appends what can be read. The buffer for it lives only while there is
/// something to read: silent connections cost no memory.
async fn read_some(stream: &TcpStream, framer: Framer, bytes: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        let mut buffer = [0; MAX_REQUEST_BYTES];
        let room = framer.room(bytes.len()).min(buffer.len());
        let (space, _) = buffer.split_at_mut(room);
        match stream.try_read(space) {
            Ok(count) => {
                bytes.extend(space.iter().take(count));
                return Ok(count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends a reply. Where that fails the connection is to be reset: an orderly
/// end would make what has gone out of a listing look like the whole of it.
async fn send(shared: &Shared, stream: &TcpStream, reply: &[u8]) -> io::Result<()> {
    let sent = write_all(shared, stream, reply).await;
    if sent.is_ok() {
        shared.counters.answered.add_one();
    } else {
        shared.counters.unread.add_one();
        let _ = stream.set_zero_linger();
    }
    sent
}

/// Writes everything, as long as the peer takes some of it in time.
async fn write_all(shared: &Shared, stream: &TcpStream, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        timeout(shared.packet_timeout(), stream.writable()).await??;
        match stream.try_write(rest) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

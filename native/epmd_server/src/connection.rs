//! A connection that has to wait: for the rest of its request, or for its
//! reply to be read. One task each.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use epmd_core::{DownReason, Framer, Next};
use rustix::net::{SendFlags, send};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::crowd::Stage;
use crate::info;
use crate::listings::{WaitingReply, bound_buffer};
use crate::notices::Notice;
use crate::platform::move_down;
use crate::session::{Answer, Known, Pending, admit, respond};
use crate::shared::{Farewell, Order, Peer, Shared};
use crate::shortage::Room;
use crate::transfer::{read_request, write_all};
use crate::watch::{self, Watch};

/// What has come of a request so far.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) framer: Framer,
    pub(crate) bytes: Vec<u8>,
}

/// A reply that was decided, and how much of it was sent.
#[derive(Debug)]
pub(crate) struct Decided {
    pub(crate) reply: WaitingReply,
    pub(crate) sent: usize,
    pub(crate) next: Next,
    /// Whether it is a part of what the peer is told, of which no other port mapper
    /// knows how it goes on.
    pub(crate) is_part: bool,
}

impl Decided {
    pub(crate) fn rest(&self) -> &[u8] {
        self.reply.get(self.sent..).unwrap_or_default()
    }
}

/// How far a connection has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) received: Received,
    /// None until there is a reply.
    pub(crate) decided: Option<Decided>,
}

impl Progress {
    pub(crate) fn received(bytes: Vec<u8>) -> Self {
        let mut framer = Framer::default();
        // What is wrong shows again when it is looked at.
        let _ = framer.push(&bytes);
        Self { received: Received { framer, bytes }, decided: None }
    }

    /// This is left to be sent before the connection closes.
    pub(crate) fn unsent(reply: WaitingReply, sent: usize) -> Self {
        let decided = Some(Decided { reply, sent, next: Next::Close, is_part: false });
        Self { decided, ..Self::default() }
    }
}

/// A connection that waits, without its task.
#[derive(Debug)]
pub(crate) struct Unfinished {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) progress: Progress,
}

/// Something to be done first that takes a while, and what there is of the reply
/// already.
type Begun = (Pending, Vec<u8>);

/// Goes on with a connection, in a task of its own.
pub(crate) fn go_on(
    shared: &Arc<Shared>,
    stream: std::net::TcpStream,
    peer: Peer,
    progress: Progress,
) {
    spawn(shared, stream, peer, progress, None, Room::Enough);
}

/// Begins with a connection once those have closed that make way for it.
pub(crate) fn begin_when_there_is_room(
    shared: &Arc<Shared>,
    stream: std::net::TcpStream,
    peer: Peer,
) {
    spawn(shared, stream, peer, Progress::default(), None, Room::Made);
}

/// Goes on with a request that takes a while to carry out.
#[cfg(all(target_os = "linux", not(feature = "portable")))]
pub(crate) fn wait(
    shared: &Arc<Shared>,
    stream: std::net::TcpStream,
    peer: Peer,
    received: Received,
    pending: Pending,
    reply: Vec<u8>,
) {
    let progress = Progress { received, decided: None };
    spawn(shared, stream, peer, progress, Some((pending, reply)), Room::Enough);
}

fn spawn(
    shared: &Arc<Shared>,
    stream: std::net::TcpStream,
    peer: Peer,
    mut progress: Progress,
    begun: Option<Begun>,
    room: Room,
) {
    let stage = if progress.decided.is_some() { Stage::Reading } else { Stage::Silent };
    let waiting = Waiting::new(shared, peer, stage);
    tokio::spawn(async move {
        let shared = &waiting.shared;
        let stream = match room {
            Room::Made => {
                yield_now().await;
                move_down(stream.into()).into()
            }
            _ => stream,
        };
        // Fails only without a runtime, or without memory for the event.
        let Ok(stream) = TcpStream::from_std(stream) else {
            crowded_out(shared, peer.address);
            return;
        };
        let finished = tokio::select! {
            biased;
            // First, so that whoever is told to go does nothing else.
            () = waiting.told.notified() => Finished::CrowdedOut,
            finished = serve(shared, &stream, peer, &mut progress, begun) => finished,
            () = shared.takeover.begins() => finish_now(shared, &stream, peer, &progress),
        };
        let Ok(stream) = stream.into_std() else { return };
        match (finished, progress.decided) {
            (Finished::Hold, _) => _ = shared.hold(peer.conn, stream),
            (Finished::Shutdown, Some(Decided { reply, .. })) => {
                let farewell = Farewell { peer: peer.address, stream, reply: reply.to_vec() };
                shared.give_order(Order::Kill(farewell));
            }
            (Finished::PutAside, decided) => {
                let progress = Progress { decided, ..progress };
                shared.takeover.put_aside(Unfinished { stream, peer: peer.address, progress });
            }
            (Finished::CrowdedOut, decided) => {
                crowded_out(shared, peer.address);
                if decided.is_some() {
                    cut_off(&stream);
                }
            }
            (Finished::Close | Finished::Shutdown, _) => {}
        }
    });
}

/// What is to be done with a connection after all that could be done for it.
enum Finished {
    Close,
    Hold,
    Shutdown,
    /// To be gone on with later, by another port mapper maybe.
    PutAside,
    /// To be closed for others.
    CrowdedOut,
}

pub(crate) fn crowded_out(shared: &Shared, peer: SocketAddr) {
    shared.counters.crowded_out.add_one();
    shared.notices.push(Notice::CrowdedOut { peer });
}

/// Has the close of a connection reset it: an orderly end would make what has gone
/// out of a listing look like the whole of it.
pub(crate) fn cut_off(stream: &impl AsFd) {
    // Fails only for what is no socket.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Leaves nothing but requests that changed nothing yet, and replies to them.
fn finish_now(shared: &Shared, stream: &TcpStream, peer: Peer, progress: &Progress) -> Finished {
    match &progress.decided {
        Some(decided) if decided.next == Next::Hold => {
            // A few bytes into an empty buffer, even if the runtime does not know that.
            let sent = send(stream, decided.rest(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
            finish_registration(shared, peer, sent == Ok(decided.rest().len()))
        }
        Some(decided) if decided.is_part => {
            shared.counters.unread.add_one();
            Finished::Close
        }
        _ => Finished::PutAside,
    }
}

fn finish_registration(shared: &Shared, peer: Peer, sent: bool) -> Finished {
    if sent {
        shared.counters.answered.add_one();
        return Finished::Hold;
    }
    shared.counters.unread.add_one();
    shared.end_connection(peer.conn, DownReason::Closed);
    Finished::Close
}

/// Counts a connection while it waits, and cleans up should its task panic.
struct Waiting {
    shared: Arc<Shared>,
    peer: Peer,
    /// Hears that it has to go.
    told: Arc<Notify>,
}

impl Waiting {
    fn new(shared: &Arc<Shared>, peer: Peer, stage: Stage) -> Self {
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        let told = shared.crowd.enter(peer.conn, peer.address.ip(), stage);
        Self { shared: shared.clone(), peer, told }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.crowd.leave(self.peer.conn);
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        self.shared.takeover.one_less_waits();
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

/// Serves a connection from where it is to its end. Where it waits, the progress
/// is such that another one can go on.
async fn serve(
    shared: &Arc<Shared>,
    stream: &TcpStream,
    peer: Peer,
    progress: &mut Progress,
    begun: Option<Begun>,
) -> Finished {
    let Progress { received, decided } = progress;
    let decided = match decided {
        Some(decided) => decided,
        undecided => {
            let answer = match answer(shared, stream, peer, received, begun).await {
                Answered::Not => return Finished::Close,
                Answered::Watch(watch) => {
                    watch::serve(shared, stream, peer, &watch, undecided).await;
                    return Finished::Close;
                }
                Answered::With(answer) => answer,
            };
            let decided = undecided.insert(answer);
            match decided.next {
                Next::Shutdown => return Finished::Shutdown,
                Next::Hold => shared.keep(peer.conn, stream.as_fd()),
                _ => {}
            }
            if shared.rules().delays_replies {
                shared.delay_write().await;
            }
            decided
        }
    };
    let sent = write_all(shared, stream, peer, decided).await.is_ok();
    if decided.next == Next::Hold {
        return finish_registration(shared, peer, sent);
    }
    if sent {
        shared.counters.answered.add_one();
    } else {
        shared.counters.unread.add_one();
        cut_off(stream);
    }
    Finished::Close
}

/// What a peer gets.
enum Answered {
    /// Nothing.
    Not,
    With(Decided),
    /// What happens, for as long as it wants.
    Watch(Watch),
}

/// The reply to what the peer asks.
async fn answer(
    shared: &Arc<Shared>,
    stream: &TcpStream,
    peer: Peer,
    received: &mut Received,
    begun: Option<Begun>,
) -> Answered {
    let connected_to = || stream.local_addr().ok().map(|address: SocketAddr| address.ip());
    if begun.is_none() && !admit(shared, shared.rules(), peer, connected_to) {
        return Answered::Not;
    }
    let Some(body) = read_request(shared, stream, peer, received).await else {
        return Answered::Not;
    };
    let mut known = Known::default();
    let (mut answer, mut reply) = match begun {
        Some((pending, reply)) => (Answer::Pending(pending), reply),
        None => {
            let mut reply = Vec::new();
            let rules = shared.rules();
            (respond(shared, rules, body, peer, connected_to, &mut known, &mut reply), reply)
        }
    };
    let next = loop {
        match answer {
            // It is about to be registered, or refused; or one of those that watch, of whom
            // there may be so many.
            Answer::Ready(Next::Hold) | Answer::Pending(Pending::Name(_) | Pending::Watch(_)) => {
                shared.crowd.leave(peer.conn);
            }
            _ => shared.crowd.advance(peer.conn, Stage::Reading),
        }
        match answer {
            Answer::Ready(next) => break next,
            Answer::Pending(Pending::Name(mut wait)) => {
                // Whatever a peer sends before its reply ends its registration.
                if timeout(wait.pause(), stream.peek(&mut [0])).await.is_ok() {
                    wait.give_up();
                }
                known.wait = Some(wait);
                let rules = shared.rules();
                answer = respond(shared, rules, body, peer, connected_to, &mut known, &mut reply);
            }
            Answer::Pending(Pending::Applicant) => {
                let (searching, local) = (shared.clone(), stream.local_addr().ok());
                let search = tokio::task::spawn_blocking(move || {
                    local.map(|local| searching.applicant(peer.address, local))
                });
                // A search that panics has found nothing.
                let found = search.await.ok().flatten();
                known.applicant = Some(Box::new(found.unwrap_or_default()));
                let rules = shared.rules();
                answer = respond(shared, rules, body, peer, connected_to, &mut known, &mut reply);
            }
            Answer::Pending(Pending::Holder(node)) => {
                let searching = shared.clone();
                let search = tokio::task::spawn_blocking(move || searching.holder(&node));
                // A search that panics has found nothing.
                info::push_holder(search.await.unwrap_or_default(), &mut reply);
                break Next::Close;
            }
            Answer::Pending(Pending::Watch(watch)) => return Answered::Watch(watch),
        }
    };
    if reply.is_empty() {
        return Answered::Not;
    }
    bound_buffer(stream, &reply);
    let Some(reply) = shared.keep_reply(&reply) else {
        crowded_out(shared, peer.address);
        return Answered::Not;
    };
    Answered::With(Decided { reply, sent: 0, next, is_part: false })
}

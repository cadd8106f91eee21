//! Connections that watch: they are told which nodes are registered, and then of
//! every change, until one side ends that.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use epmd_core::{Event, Glob, Next, Present, Refusal, Told};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};

use crate::connection::Decided;
use crate::feed::{Change, Missed, Snapshot};
use crate::shared::{Peer, Shared};
use crate::transfer::write_all;

/// Between two looks at what has happened at the least: many nodes that come and go
/// at once cost few writes. The first is told at once.
const INTERVAL: Duration = Duration::from_millis(20);

/// Changes told in a row before others get their turn.
const BATCH: usize = 500;

/// A watcher hears from the server at least so often, or in a quarter of the
/// time-out if that is shorter: else it may take it for dead.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// What is watched, and by whom.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) glob: Glob,
    pub(crate) is_local: bool,
}

/// Counts a watcher.
struct Watcher<'s>(&'s Shared);

impl<'s> Watcher<'s> {
    /// None if there are as many as there may be.
    fn new(shared: &'s Shared) -> Option<Self> {
        let limit = shared.config.read().max_watchers as usize;
        let watcher = Self(shared);
        (shared.watchers.fetch_add(1, Ordering::Relaxed) < limit).then_some(watcher)
    }
}

impl Drop for Watcher<'_> {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells a watcher what happens for as long as it takes that. What is not sent yet is
/// in `unsent`, so that whoever ends this early knows whether a message is cut off.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    stream: &TcpStream,
    peer: Peer,
    watch: &Watch,
    unsent: &mut Option<Decided>,
) {
    let Some(_watcher) = Watcher::new(shared) else {
        return shared.refuse_unanswered(peer.address, Refusal::TooManyWatchers);
    };
    shared.counters.watches.add_one();
    set_limit(shared, stream);
    if tell(shared, stream, peer, watch, unsent).await.is_ok() {
        shared.counters.answered.add_one();
    } else {
        shared.counters.unread.add_one();
        // What the system keeps for it is of no use.
        let _ = stream.set_zero_linger();
    }
}

/// Has the system end the connection of a peer that is gone without a word: that
/// does not acknowledge what it is sent. Where it cannot, it takes longer.
fn set_limit(shared: &Shared, stream: &TcpStream) {
    let socket = SockRef::from(stream);
    // To be told what happens at once.
    let _ = socket.set_tcp_nodelay(true);
    let limit = shared.packet_timeout();
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(limit));
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(limit));
}

/// Back when the peer has ended it.
///
/// # Errors
/// When it does not take in time what it is told, or the connection is broken.
async fn tell(
    shared: &Arc<Shared>,
    stream: &TcpStream,
    peer: Peer,
    watch: &Watch,
    unsent: &mut Option<Decided>,
) -> io::Result<()> {
    let mut missed = Missed(0);
    loop {
        let (snapshot, mut follower) = shared.follow(&watch.glob);
        send(shared, stream, peer, begin(missed, &snapshot, watch), unsent).await?;
        drop(snapshot);
        let mut told = Instant::now();
        missed = loop {
            let changes = match follower.take(BATCH) {
                Ok(changes) => changes,
                Err(missed) => break missed,
            };
            let is_last = changes.len() < BATCH;
            let mut messages = encoded(&changes, watch);
            let due = told + SIGN_OF_LIFE.min(shared.packet_timeout() / 4);
            if messages.is_empty() && Instant::now() >= due {
                Told::Alive.encode(&mut messages);
            }
            if !messages.is_empty() {
                send(shared, stream, peer, messages, unsent).await?;
                told = Instant::now();
            }
            if !is_last {
                tokio::task::yield_now().await;
                continue;
            }
            if !changes.is_empty() {
                sleep(INTERVAL).await;
            }
            tokio::select! {
                // Whoever ends it is told first what happened before.
                biased;
                () = follower.changed() => {}
                () = sleep_until(due) => {}
                ended = end(stream) => return ended,
            }
        };
    }
}

/// The messages that tell of all nodes.
fn begin(missed: Missed, snapshot: &Snapshot, watch: &Watch) -> Vec<u8> {
    let mut out = Vec::new();
    Told::Begin { missed: missed.0 }.encode(&mut out);
    for event in &snapshot.nodes {
        if let Event::Up { name, port, node_type, creation, .. } = event {
            let creation = if watch.is_local { creation.get() } else { 0 };
            let (port, node_type) = (*port, *node_type);
            Told::Node(Present { creation, port, node_type, name: name.as_str() }).encode(&mut out);
        }
    }
    Told::End { sequence: snapshot.sequence }.encode(&mut out);
    out
}

/// The messages that tell of those changes that are watched.
fn encoded(changes: &[Change], watch: &Watch) -> Vec<u8> {
    let mut out = Vec::new();
    for Change { sequence, event } in changes {
        if watch.glob.matches(event.name().as_str()) {
            Told::event(*sequence, event, watch.is_local).encode(&mut out);
        }
    }
    out
}

async fn send(
    shared: &Shared,
    stream: &TcpStream,
    peer: Peer,
    messages: Vec<u8>,
    unsent: &mut Option<Decided>,
) -> io::Result<()> {
    let part = Decided { reply: messages.into(), sent: 0, next: Next::Close, is_part: true };
    write_all(shared, stream, peer, unsent.insert(part)).await?;
    *unsent = None;
    Ok(())
}

/// Waits until the peer ends the connection, or sends something, which ends it too.
async fn end(stream: &TcpStream) -> io::Result<()> {
    loop {
        stream.readable().await?;
        match stream.try_read(&mut [0; 64]) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

//! The side that hands over.

use std::future::pending;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Duration;

use parking_lot::RwLockUpgradableReadGuard;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{sleep, timeout};

use super::protocol::{Channel, Connection, Contents, Hello, Message, TakeoverRefusal, VERSION};
use super::{Household, Takeover, aside};
use crate::connection::{self, Unfinished, crowded_out, cut_off};
use crate::estate::{self, Place};
use crate::notices::Notice;
use crate::platform::{self, OtherProcess};
use crate::service_manager::ServiceManager;
use crate::shared::{Peer, Shared};

/// How long a successor may take to say hello. Nothing waits for it meanwhile.
const GREETING: Duration = Duration::from_secs(1);

/// How long a server may be without anybody who serves.
const PAUSE: Duration = Duration::from_secs(2);

/// How long connections may take until they are put aside. They wait for nothing
/// by then.
const PUT_ASIDE: Duration = Duration::from_millis(500);

/// How long it may take to tell each other why nothing is handed over.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How long a successor that comes too late may take to say hello.
const LATE_GREETING: Duration = Duration::from_millis(100);

/// How long it takes to try again what failed for want of a descriptor, say.
const RETRY: Duration = Duration::from_millis(100);

/// Whoever wants to take over, and may.
#[derive(Debug)]
pub(crate) struct Successor {
    channel: Channel,
    pid: i32,
    within: Option<Within>,
    /// Hears of success; of a failure by the other end's being dropped.
    done: Option<Sender<()>>,
}

impl Successor {
    /// One that has stood by.
    pub(super) const fn heir(channel: Channel, pid: i32, done: Sender<()>) -> Self {
        Self { channel, pid, within: None, done: Some(done) }
    }
}

/// A connection to whoever is to take over.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) connection: OwnedFd,
    pub(crate) within: Option<Within>,
}

/// That the successor is another version of this library, in this process.
#[derive(Debug)]
pub(crate) struct Within {
    /// Whether the server listens on what it was handed.
    pub(crate) handed_over: bool,
    /// Hears of success, as that of a [`Successor`].
    pub(crate) done: Sender<()>,
}

/// Waits for a successor, and orders the thread to hand over.
pub(crate) async fn await_successor(shared: Arc<Shared>) -> io::Result<()> {
    // A descriptor of its own, as for a listener.
    let listener = shared.takeover.socket.lock().as_ref().map(|it| it.listener.try_clone());
    let listener = listener.transpose()?.map(watch).transpose()?;
    loop {
        let offer = tokio::select! {
            offer = accept(listener.as_ref()) => offer,
            () = shared.takeover.offer.notified() => shared.takeover.offered.lock().take(),
        };
        let Some(offer) = offer else { continue };
        // Who does not speak the protocol is nobody.
        if let Ok(Some(successor)) = greet(&shared, offer).await {
            shared.order_to_hand_over(successor);
            // The thread ends this job first.
            return pending().await;
        }
    }
}

#[expect(deprecated, reason = "an OwnedFd keeps what the unsafe form makes its caller promise")]
fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}

async fn accept(listener: Option<&AsyncFd<OwnedFd>>) -> Option<Offer> {
    let Some(listener) = listener else { return pending().await };
    let accepted = listener.async_io(Interest::READABLE, platform::accept_from).await;
    if accepted.is_err() {
        sleep(RETRY).await;
    }
    accepted.ok().map(|connection| Offer { connection, within: None })
}

/// Exchanges greetings, with none to hand over to now if it is one that stands by.
/// Clients are served meanwhile.
async fn greet(shared: &Shared, offer: Offer) -> io::Result<Option<Successor>> {
    let Offer { connection, within } = offer;
    let (channel, greeting) = hear(connection).await?;
    let (hello, stands_by) = match greeting {
        Message::Hello(hello) => (hello, false),
        Message::StandBy(hello) => (hello, true),
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    let process = channel.other_process()?;
    let refusal = if stands_by && shared.reports.manager().is_some() {
        // Who is to go on is known.
        Some(TakeoverRefusal::ServiceManager)
    } else {
        reason_to_refuse(shared, &process, &hello, within.is_some())
    };
    if let Some(refusal) = refusal {
        channel.say(&Message::Refused(refusal))?;
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let keeper = shared.reports.manager().is_some_and(ServiceManager::is_keeper);
    let keeper = keeper.then(|| std::os::unix::process::parent_id().cast_signed());
    let descriptors = shared.held.len() + shared.waiting.load(Ordering::Relaxed);
    channel.say(&Message::Hello(Hello { portmapper_takeover: VERSION, keeper, descriptors }))?;
    if stands_by {
        shared.takeover.heirs.add(channel, process.pid());
        return Ok(None);
    }
    let pid = process.pid();
    match hear(channel.into_socket()).await? {
        (channel, Message::Prepared) => {
            let done = within.as_ref().map(|within| within.done.clone());
            Ok(Some(Successor { channel, pid, within, done }))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

async fn hear(connection: OwnedFd) -> io::Result<(Channel, Message)> {
    let connection = watch(connection)?;
    drop(timeout(GREETING, connection.readable()).await??);
    let channel = Channel::new(connection.into_inner(), GREETING);
    let message = channel.hear()?;
    Ok((channel, message))
}

fn reason_to_refuse(
    shared: &Shared,
    process: &OtherProcess,
    hello: &Hello,
    is_within: bool,
) -> Option<TakeoverRefusal> {
    if !process.is_trusted() {
        return Some(TakeoverRefusal::NotPermitted);
    }
    if hello.portmapper_takeover < VERSION {
        return Some(TakeoverRefusal::Version);
    }
    let manager = shared.reports.manager().filter(|manager| !manager.is_keeper() && !is_within);
    manager.map(|_| TakeoverRefusal::ServiceManager)
}

/// Hands over; whether that was done. If not, everything is as before but for
/// connections to [go on](go_on) with. The jobs of the thread have to have ended.
pub(crate) async fn hand_over(shared: &Arc<Shared>, successor: Successor) -> bool {
    let Successor { mut channel, pid, within, done } = successor;
    channel.allow(PAUSE);
    let given = match put_all_aside(shared).await {
        Ok(()) => give(shared, &channel, within.as_ref()),
        Err(error) => Err(error),
    };
    match given {
        Ok(()) => {
            if within.is_some() {
                shared.reports.fall_silent();
            } else {
                // First of all, so that the owner does not take the end for a defect.
                shared.notices.push(Notice::TakenOver { pid });
                refuse_others(&shared.takeover);
            }
            // What is kept, and what is not closed for good, is the successor's.
            shared.leaves.store(true, Ordering::Relaxed);
            shared.close();
            if let Some(done) = done {
                // Whoever does not wait any more sees that it is closed.
                let _ = done.send(());
            }
            true
        }
        Err(error) => {
            channel.allow(LAST_WORDS);
            let reason = reason(&channel, error);
            // It may be gone.
            let _ = channel.say(&Message::Failed { reason: reason.clone() });
            shared.keep_again();
            shared.notices.push(Notice::NotTakenOver { pid, reason });
            false
        }
    }
}

/// What a successor that gave up has to say of it, else what the system says.
fn reason(channel: &Channel, error: io::Error) -> String {
    let told = match error.kind() {
        io::ErrorKind::UnexpectedEof => channel.hear().ok(),
        _ => None,
    };
    match told {
        Some(Message::Failed { reason }) => reason,
        _ => error.to_string(),
    }
}

/// Has every connection that waits end its task.
async fn put_all_aside(shared: &Shared) -> io::Result<()> {
    let takeover = &shared.takeover;
    takeover.begun.store(true, Ordering::Relaxed);
    takeover.begin.notify_waiters();
    let all = async {
        while shared.waiting.load(Ordering::Relaxed) > 0 {
            takeover.less.notified().await;
        }
    };
    timeout(PUT_ASIDE, all).await?;
    // One of them may have been granted a KILL.
    if shared.order.lock().is_some() {
        return Err(io::Error::other("it is about to end"));
    }
    Ok(())
}

/// Goes on with the connections that were put aside, if any were.
pub(crate) fn go_on(shared: &Arc<Shared>) {
    let takeover = &shared.takeover;
    takeover.begun.store(false, Ordering::Relaxed);
    for Unfinished { stream, peer, progress } in std::mem::take(&mut *takeover.aside.lock()) {
        let peer = Peer { conn: shared.number(stream.as_raw_fd()), address: peer };
        connection::go_on(shared, stream, peer, progress);
    }
}

/// Gives the successor all there is, and lets go of it once it serves. Readers that it
/// is not to go on with are closed then: if it does not serve, this server goes on with
/// them too.
fn give(shared: &Shared, channel: &Channel, within: Option<&Within>) -> io::Result<()> {
    // Names are looked up all the while, but none comes or goes.
    let registry = shared.registry.upgradable_read();
    let listeners = shared.listeners.lock();
    let waiting = shared.takeover.aside.lock();
    let (chosen, too_many) = aside::part(&waiting);
    shared.held.lend(|socket_of| {
        let mut descriptors: Vec<_> = listeners.iter().map(|one| one.socket.as_fd()).collect();
        let mut places: Vec<_> = listeners.iter().map(|one| *one.place.lock()).collect();
        // Records that are kept in this process go on counting.
        let sequence = within.map_or(0, |_| shared.kept.sequence());
        let records = estate::snapshot(&registry, sequence, |conn| {
            let slot = u32::try_from(descriptors.len()).ok()?;
            descriptors.push(socket_of(conn)?);
            places.push(shared.kept.store.slot(conn).map_or(Place::Nowhere, Place::Slot));
            Some(slot)
        });
        let household = within.map(|within| Household::of(shared, within.handed_over, places));
        let (household, manager) = household.unzip();
        descriptors.extend(manager.flatten());
        descriptors.extend(chosen.iter().map(|one| one.stream.as_fd()));
        let household = household.map(|it| serde_json::to_vec(&it)).transpose()?;
        let household = household.unwrap_or_default();
        send_all(channel, listeners.len(), &records, &chosen, &household, &descriptors)
    })?;
    match channel.hear()? {
        Message::Ready => {}
        Message::Failed { reason } => return Err(io::Error::other(reason)),
        _ => return Err(io::ErrorKind::InvalidData.into()),
    }
    if within.is_none() {
        shared.reports.stopping();
    }
    channel.say(&Message::Done)?;
    match channel.hear() {
        // One that is just slow has everything.
        Ok(Message::Serving) => {}
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
        Ok(Message::Failed { reason }) => return Err(io::Error::other(reason)),
        Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
        Err(error) => return Err(error),
    }
    for one in too_many {
        crowded_out(shared, one.peer);
        cut_off(&one.stream);
    }
    drop((listeners, waiting));
    // From here on no name is left to be dropped, which would close its connection
    // for the successor, too.
    *RwLockUpgradableReadGuard::upgrade(registry) = shared.new_registry();
    Ok(())
}

fn send_all(
    channel: &Channel,
    listeners: usize,
    records: &[u8],
    waiting: &[&Unfinished],
    household: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let data: Vec<&[u8]> = waiting.iter().map(|one| aside::data(one)).collect();
    let connections = waiting.iter().zip(&data).map(|(one, data)| Connection {
        peer: one.peer,
        is_answered: one.progress.decided.is_some(),
        data: data.len(),
    });
    let connections = serde_json::to_vec(&connections.collect::<Vec<_>>())?;
    let data = data.concat();
    channel.say(&Message::Contents(Contents {
        records: records.len(),
        connections: connections.len(),
        data: data.len(),
        household: household.len(),
        listeners,
        descriptors: descriptors.len(),
    }))?;
    for bytes in [records, &connections, &data, household] {
        channel.send_bytes(bytes)?;
    }
    channel.send_descriptors(descriptors)
}

/// Tells those that wait to take over that they are too late.
fn refuse_others(takeover: &Takeover) {
    let socket = takeover.socket.lock();
    let Some(socket) = &*socket else { return };
    while let Ok(connection) = platform::accept_from(&socket.listener) {
        let channel = Channel::new(connection, LATE_GREETING);
        // It may be gone.
        let _ =
            channel.hear().and_then(|_| channel.say(&Message::Refused(TakeoverRefusal::TakenOver)));
    }
}

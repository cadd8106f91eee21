//! The server's thread: it runs the runtime, and in it the jobs that accept,
//! watch registered connections and wake the owner.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::listen::Listener;
use crate::notices::Notice;
use crate::platform::{self, Held};
use crate::reports;
use crate::shared::{Farewell, Order, Phase, Shared};
use crate::takeover;

/// How long a server goes on without an owner: long enough for a supervisor
/// to restart one, too short for a port to stay taken by nobody.
const GRACE: Duration = Duration::from_secs(5);

/// Between two times that the owner, or who follows, is woken at the least: many nodes that come and
/// go at once cost few switches to another thread. The first is told at once.
const WAKE_INTERVAL: Duration = Duration::from_millis(20);

/// How long requests that were accepted have before the process is started anew: a
/// newcomer may be waiting for its name.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

/// How long a job that failed (for want of a descriptor, say) waits.
const RETRY: Duration = Duration::from_millis(100);

/// Builds the runtime. It outlives a thread that panics, and with it the
/// connections that wait.
pub(crate) fn build() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_io()
        .enable_time()
        // Look at sockets often: an accept batch is a long turn already.
        .event_interval(4)
        // For searches of /proc, one at a time.
        .max_blocking_threads(1)
        .thread_name("epmd")
        .build()
}

/// Starts a thread that serves until it is ordered to stop, or dies; the
/// runtime of one that died comes back for the next.
pub(crate) fn start(
    shared: Arc<Shared>,
    runtime: Runtime,
) -> io::Result<JoinHandle<Option<Runtime>>> {
    *shared.phase.lock() = Phase::Running;
    let served_by = shared.clone();
    let thread = std::thread::Builder::new().name("epmd".into()).spawn(move || {
        let shared = served_by;
        let served = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async {
                while serve(&shared).await.is_err() {
                    sleep(RETRY).await;
                }
            });
        }));
        let left = match served {
            Ok(()) => {
                // With it go the connections that wait.
                drop(runtime);
                shared.close();
                None
            }
            Err(_) => {
                *shared.phase.lock() = Phase::Down;
                Some(runtime)
            }
        };
        (shared.wake_owner)();
        left
    });
    if thread.is_err() {
        *shared.phase.lock() = Phase::Down;
    }
    thread
}

/// Who was accepted is answered before this process makes way for the next one, but
/// for who takes too long to ask.
async fn answer_who_waits(shared: &Shared) {
    let begun = Instant::now();
    while shared.waiting.load(Ordering::Relaxed) > 0 && begun.elapsed() < LAST_ANSWERS {
        sleep(Duration::from_millis(1)).await;
    }
}

/// Serves until the server is to end. Panics when a job does.
///
/// # Errors
/// When a job cannot go on, for want of a descriptor, say.
async fn serve(shared: &Arc<Shared>) -> io::Result<()> {
    let mut jobs = start_jobs(shared);
    let mut accepting: Vec<Arc<Listener>> = Vec::new();
    loop {
        let order = shared.order.lock().take();
        match order {
            None => {}
            Some(Order::Stop) => {
                jobs.shutdown().await;
                if shared.leaves.load(Ordering::Relaxed) {
                    answer_who_waits(shared).await;
                }
                return Ok(());
            }
            Some(Order::Kill(farewell)) => {
                jobs.shutdown().await;
                drop(accepting);
                end_by_kill(shared, farewell);
                return Ok(());
            }
            Some(Order::HandOver(successor)) => {
                jobs.shutdown().await;
                if takeover::hand_over(shared, successor).await {
                    return Ok(());
                }
                jobs = start_jobs(shared);
                accepting.clear();
                // Another order may have come meanwhile.
                continue;
            }
            #[expect(clippy::panic, reason = "it is what was ordered")]
            Some(Order::Panic) => panic!("ordered to, by a test"),
        }
        follow_listeners(shared, &mut accepting, &mut jobs);
        tokio::select! {
            () = shared.changed.notified() => {}
            () = grace_ends(shared) => return Ok(()),
            Some(ended) = jobs.join_next() => match ended {
                Ok(outcome) => outcome?,
                Err(failure) if failure.is_panic() => resume_unwind(failure.into_panic()),
                Err(_) => {}
            },
        }
    }
}

/// Starts all that listeners are not needed for.
fn start_jobs(shared: &Arc<Shared>) -> JoinSet<io::Result<()>> {
    let mut jobs = JoinSet::new();
    jobs.spawn(wake_owner(shared.clone()));
    jobs.spawn(wake_follower(shared.clone()));
    jobs.spawn(Held::watch(shared.clone()));
    jobs.spawn(reports::report(shared.clone()));
    jobs.spawn(takeover::await_successor(shared.clone()));
    takeover::go_on(shared);
    jobs
}

/// Waits until the server has had no owner for too long. Whoever changes that
/// notifies [`Shared::changed`].
async fn grace_ends(shared: &Shared) {
    let orphaned_since = *shared.orphaned_since.lock();
    match orphaned_since {
        Some(since) => tokio::time::sleep_until((since + GRACE).into()).await,
        None => std::future::pending().await,
    }
}

/// Has every listener of the server accepted on. Those that were retired end
/// by themselves.
fn follow_listeners(
    shared: &Arc<Shared>,
    accepting: &mut Vec<Arc<Listener>>,
    jobs: &mut JoinSet<io::Result<()>>,
) {
    let listeners = shared.listeners.lock().clone();
    accepting.retain(|one| listeners.iter().any(|other| Arc::ptr_eq(one, other)));
    for listener in listeners {
        if !accepting.iter().any(|other| Arc::ptr_eq(&listener, other)) {
            jobs.spawn(platform::accept(shared.clone(), listener.clone()));
            accepting.push(listener);
        }
    }
}

async fn wake_owner(shared: Arc<Shared>) -> io::Result<()> {
    loop {
        shared.notices.waiting.notified().await;
        (shared.wake_owner)();
        sleep(WAKE_INTERVAL).await;
    }
}

async fn wake_follower(shared: Arc<Shared>) -> io::Result<()> {
    loop {
        shared.feed.waiting.notified().await;
        let wake = shared.wake_follower.lock().clone();
        if let Some(wake) = wake {
            wake();
        }
        sleep(WAKE_INTERVAL).await;
    }
}

/// Frees the port before the reply tells that it is free.
fn end_by_kill(shared: &Shared, farewell: Farewell) {
    let Farewell { peer, mut stream, reply } = farewell;
    // First of all, so that the owner does not take the end for a defect.
    shared.notices.push(Notice::Killed { peer });
    shared.reports.stopping();
    shared.close();
    // Two bytes into an empty buffer. If the peer is gone, so be it.
    if stream.write(&reply).is_ok() {
        shared.counters.answered.add_one();
    } else {
        shared.counters.unread.add_one();
    }
}

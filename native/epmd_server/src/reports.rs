//! What a service manager is told of the server: that it serves, how it is, that
//! it is alive, and that it is about to end.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use crate::notices::Notice;
use crate::service_manager::ServiceManager;
use crate::shared::Shared;

/// The shortest time between two changes of the status.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// How long a message waits that finds the queue of the manager full.
const RETRY: Duration = Duration::from_millis(100);

/// The same for descriptors to be kept: until it has them, nodes can be lost.
const BUSY_RETRY: Duration = Duration::from_millis(5);

/// How long ends of connections are left to come together, of which the manager is
/// told.
const GATHERING: Duration = Duration::from_millis(20);

/// What the service manager is told. It outlives the server's thread, whose
/// successor repeats nothing.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    manager: OnceLock<ServiceManager>,
    told: Mutex<Told>,
    /// Tells that the status may have changed, or that there is a manager.
    changed: Notify,
    /// Whether the owner was asked for a sign of life.
    asked: AtomicBool,
    answered: Notify,
}

#[derive(Debug, Default)]
struct Told {
    ready: bool,
    status: String,
    stopping: bool,
    /// Whether the last message did not arrive.
    unreachable: bool,
}

impl Reports {
    /// Reports to this manager from now on. The first one stays; a second one is
    /// none.
    pub(crate) fn report_to(&self, manager: ServiceManager) -> Option<&ServiceManager> {
        self.manager.set(manager).ok()?;
        self.changed.notify_one();
        self.manager.get()
    }

    /// Who is reported to.
    pub(crate) fn manager(&self) -> Option<&ServiceManager> {
        self.manager.get()
    }

    /// Tells that the status may be another one.
    pub(crate) fn status_changed(&self) {
        if self.manager.get().is_some() {
            self.changed.notify_one();
        }
    }

    /// The owner does its work.
    pub(crate) fn owner_lives(&self) {
        if self.asked.swap(false, Ordering::AcqRel) {
            self.answered.notify_one();
        }
    }

    /// Tells that the server ends because it was asked to.
    pub(crate) fn stopping(&self) {
        let Some(manager) = self.manager.get() else { return };
        if !std::mem::replace(&mut self.told.lock().stopping, true) {
            // If it does not arrive, the manager sees the end all the same.
            let _ = manager.send_last("STOPPING=1\nSTATUS=Stopping");
            if manager.is_keeper() {
                // It listens too, until it hears of this.
                let _ = manager.wait();
            }
        }
    }

    /// Tells nothing any more: another one does.
    pub(crate) fn fall_silent(&self) {
        self.told.lock().stopping = true;
    }

    /// Tells a service manager that was told of an end that there is none. That one.
    pub(crate) fn take_back_stopping(&self) -> Option<&ServiceManager> {
        let manager = self.manager.get()?;
        let mut told = self.told.lock();
        if !std::mem::take(&mut told.stopping) {
            return None;
        }
        // If it does not arrive now, it does with the status.
        let _ = manager.send("READY=1");
        told.ready = false;
        Some(manager)
    }
}

/// Tells the service manager what there is to tell, once there is one.
pub(crate) async fn report(shared: std::sync::Arc<Shared>) -> io::Result<()> {
    let manager = loop {
        match shared.reports.manager.get() {
            Some(manager) => break manager,
            None => shared.reports.changed.notified().await,
        }
    };
    tokio::join!(
        report_status(&shared, manager),
        report_life(&shared, manager),
        send_waiting(&shared, manager)
    );
    Ok(())
}

async fn report_status(shared: &Shared, manager: &ServiceManager) {
    let reports = &shared.reports;
    let mut next = Instant::now();
    // Who is told by a keeper that it is ready, after a takeover above all, counts on it
    // that no node is lost from then on. (Others take their time to store.)
    while manager.is_keeper() && !shared.has_all_kept() {
        sleep(BUSY_RETRY).await;
    }
    loop {
        let status = status(shared);
        let (ready, same) = {
            let told = reports.told.lock();
            (told.ready, told.status == status)
        };
        if !(ready && same) {
            let ready = if ready { "" } else { "READY=1\n" };
            if deliver(shared, manager, &format!("{ready}STATUS={status}")).await {
                let mut told = reports.told.lock();
                told.ready = true;
                told.status = status;
            }
            next = Instant::now() + STATUS_INTERVAL;
        }
        // Nothing wakes the thread until there is something to tell.
        reports.changed.notified().await;
        sleep_until(next).await;
    }
}

/// Tells that the server lives: this thread, and its owner, which is woken and
/// takes its notices.
async fn report_life(shared: &Shared, manager: &ServiceManager) {
    let Some(period) = manager.watchdog else { return };
    // The first one at once: the thread before may have died when it was due.
    let mut ticks = interval((period / 2).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        shared.reports.asked.store(true, Ordering::Release);
        (shared.wake_owner)();
        shared.reports.answered.notified().await;
        deliver(shared, manager, "WATCHDOG=1").await;
    }
}

/// Sends what the descriptor store was not told at once.
async fn send_waiting(shared: &Shared, manager: &ServiceManager) {
    let store = &shared.kept.store;
    loop {
        while let Err(error) = store.send_waiting(manager, &shared.held) {
            let is_busy = error.kind() == io::ErrorKind::WouldBlock;
            if !is_busy {
                tell_unreachable(shared, Some(error));
            }
            sleep(if is_busy { BUSY_RETRY } else { RETRY }).await;
        }
        store.waiting.notified().await;
        if store.has_time() {
            // More connections end meanwhile, and are told of at once.
            sleep(GATHERING).await;
        }
    }
}

/// Sends a message, waiting while the queue is full; whether it arrived.
async fn deliver(shared: &Shared, manager: &ServiceManager, message: &str) -> bool {
    let sent = loop {
        match manager.send(message) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(RETRY).await,
            sent => break sent,
        }
    };
    let arrived = sent.is_ok();
    tell_unreachable(shared, sent.err());
    arrived
}

/// Tells of a manager that cannot be reached, once.
fn tell_unreachable(shared: &Shared, error: Option<io::Error>) {
    let mut told = shared.reports.told.lock();
    let failed_before = std::mem::replace(&mut told.unreachable, error.is_some());
    if let Some(error) = error.filter(|_| !failed_before) {
        shared.notices.push(Notice::ServiceManagerUnreachable { error: error.to_string() });
    }
}

/// What `systemctl status` shows.
fn status(shared: &Shared) -> String {
    let nodes = shared.registry.read().len();
    let plural = if nodes == 1 { "" } else { "s" };
    let listeners = shared.listeners.lock();
    let addresses: Vec<_> = listeners.iter().map(|one| one.address.to_string()).collect();
    format!("{nodes} node{plural} registered; listening on {}", addresses.join(", "))
}

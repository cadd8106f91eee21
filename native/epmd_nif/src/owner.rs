//! The Erlang process that owns the server: whoever attached last.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use epmd_server::Notice;
use parking_lot::Mutex;
use rustler::{Env, LocalPid, Monitor, OwnedEnv, Resource, ResourceArc};

use crate::place;
use crate::terms::{self, atoms};

/// The owner, if there is one.
#[derive(Default)]
pub(crate) struct Owner {
    pid: Arc<Mutex<Option<LocalPid>>>,
    watch: Mutex<Option<ResourceArc<Watch>>>,
}

/// Tells when a process ends, as long as it is kept.
pub(crate) struct Watch(());

static WATCHES: AtomicUsize = AtomicUsize::new(0);

impl Watch {
    fn new() -> Self {
        WATCHES.fetch_add(1, Ordering::Relaxed);
        Self(())
    }

    /// How many there are.
    pub(crate) fn count() -> usize {
        WATCHES.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHES.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Resource for Watch {
    const IMPLEMENTS_DOWN: bool = true;

    fn down<'a>(&'a self, _env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        place::owner_ended(pid);
    }
}

impl Owner {
    /// Makes the caller the owner. Whether it was not before.
    pub(crate) fn attach(&self, env: Env<'_>) -> bool {
        let pid = env.pid();
        if self.pid.lock().replace(pid) == Some(pid) {
            return false;
        }
        let watch = ResourceArc::new(Watch::new());
        // It is alive: it makes this call.
        let _ = env.monitor(&watch, &pid);
        *self.watch.lock() = Some(watch);
        true
    }

    /// Forgets the owner if it is this one; whether it was: another one may have
    /// attached before this end was told.
    pub(crate) fn detach(&self, pid: LocalPid) -> bool {
        let mut owner = self.pid.lock();
        let was = *owner == Some(pid);
        if was {
            *owner = None;
        }
        was
    }

    /// Sends the owner what is left to take. Not for a scheduler's thread.
    pub(crate) fn send(&self, notices: &[Notice], missed: u64) {
        if let Some(pid) = *self.pid.lock() {
            let _ = OwnedEnv::new().send_and_clear(&pid, |env| {
                let notices: Vec<_> = notices.iter().map(|it| terms::notice(env, it)).collect();
                (atoms::portmapper(), notices, missed)
            });
        }
    }

    /// What sends `portmapper` to the owner. Only the server's thread may call it: a
    /// scheduler's could not send this way.
    pub(crate) fn wake(&self) -> Box<dyn Fn() + Send + Sync> {
        let owner = self.pid.clone();
        Box::new(move || {
            if let Some(pid) = *owner.lock() {
                // An owner that is gone has a successor that looks by itself.
                let _ = OwnedEnv::new().send_and_clear(&pid, |_| atoms::portmapper());
            }
        })
    }
}

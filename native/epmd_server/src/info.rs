//! What the server tells a local client of itself and of nodes, in reply to INFO.

use std::sync::atomic::Ordering;

use epmd_core::push_fact;

use crate::platform::{Holder, PortHolder};
use crate::shared::Shared;

/// Appends who holds a name, as far as that is known.
pub(crate) fn push_holder(holder: Holder, out: &mut Vec<u8>) {
    if let Some(PortHolder { pid, program }) = holder.process {
        push_fact(out, "pid", pid);
        push_fact(out, "program", program);
    }
    if let Some(user) = holder.user {
        push_fact(out, "user", user);
    }
}

/// Appends what the registry does not know. `docs/protocol.md` lists the keys.
pub(crate) fn push_facts(shared: &Shared, out: &mut Vec<u8>) {
    push_fact(out, "program", "portmapper");
    push_fact(out, "version", env!("CARGO_PKG_VERSION"));
    push_fact(out, "pid", std::process::id());
    push_fact(out, "uptime_ms", shared.started.elapsed().as_millis());
    for listener in shared.listeners.lock().iter() {
        push_fact(out, "address", listener.address);
    }
    push_fact(out, "exposure", shared.config.read().exposure.as_str());
    let waiting = shared.waiting.load(Ordering::Relaxed);
    push_fact(out, "open_connections", shared.held.len() + waiting);
    push_fact(out, "waiting_connections", waiting);
    push_fact(out, "waiting_notices", shared.notices.len());
    let counters = shared.counters.values();
    for (name, count) in counters.named() {
        push_fact(out, name, count);
    }
    for (reason, count) in counters.ended {
        push_fact(out, &format!("ended_{}", reason.as_str()), count);
    }
    for (reason, count) in counters.refused {
        push_fact(out, &format!("refused_{}", reason.as_str()), count);
    }
}

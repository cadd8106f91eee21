//! A registration whose name is held. A holder that is gone makes way; one that
//! may be about to go is waited for, a little; any other stays.
//!
//! A holder is gone when its connection has ended, or when the socket that was
//! seen to listen on its port as it registered listens no more: the connection
//! is a leftover then, passed on to a child of the node, say. Who was not seen
//! to listen (a C node that publishes its port first, or one that another host
//! or network namespace is forwarded for) stays as long as its connection does.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use epmd_core::{ConnId, DownReason, Node, Owner, Registry};
use parking_lot::Mutex;

use crate::notices::Notice;
use crate::shared::Shared;

/// Who asks for a name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Newcomer<'a> {
    pub(crate) name: &'a str,
    pub(crate) port: u16,
    /// None for the VM itself.
    pub(crate) peer: Option<SocketAddr>,
}

/// A holder that is gone, and how that showed.
#[derive(Debug)]
pub(crate) struct Gone {
    conn: ConnId,
    reason: DownReason,
}

/// Looks whether the holder of a name is gone. The kernel may have to be asked
/// for that, so it is done before the registry is locked for the change.
pub(crate) fn find_gone(shared: &Shared, newcomer: Newcomer<'_>, evicts: bool) -> Option<Gone> {
    let node = shared.registry.read().lookup(newcomer.name)?.clone();
    let Owner::Connection(conn) = node.owner else {
        return None;
    };
    let ended = || shared.held.has_ended(conn);
    let is_gone = ended() || evicts && is_leftover(shared, conn, &node, newcomer.port);
    if !is_gone {
        return None;
    }
    // A node that is just closing has both ends close at about the same time.
    let reason = if ended() { DownReason::Closed } else { DownReason::Evicted };
    Some(Gone { conn, reason })
}

/// Unregisters the holder of a name if it is the one that is gone. The connection
/// of one that stays; the VM itself always does, and has none.
pub(crate) fn make_way(
    shared: &Shared,
    registry: &mut Registry,
    newcomer: Newcomer<'_>,
    gone: Option<Gone>,
) -> Option<ConnId> {
    let node = registry.lookup(newcomer.name)?;
    let Owner::Connection(conn) = node.owner else {
        return None;
    };
    let Some(Gone { reason, .. }) = gone.filter(|gone| gone.conn == conn) else {
        return Some(conn);
    };
    if reason == DownReason::Evicted {
        shared.counters.evicted.add_one();
        shared.notices.push(Notice::Evicted {
            name: newcomer.name.to_owned(),
            port: node.registration.port,
            peer: node.peer,
            successor: newcomer.peer,
        });
    }
    let event = registry.unregister_connection(conn, reason);
    shared.release(conn);
    if let Some(event) = event {
        shared.tell(registry, event);
    }
    None
}

/// Whether a holder's connection is all that is left of it. In doubt it is not.
fn is_leftover(shared: &Shared, conn: ConnId, node: &Node, port_of_newcomer: u16) -> bool {
    let port = node.registration.port;
    let (Some(listener), Some(peer), 0) = (node.listener, node.peer, node.registration.protocol)
    else {
        return false;
    };
    if shared.sockets.listener(port) == Some(listener) {
        return false;
    }
    let listeners = shared.sockets.listeners(port);
    // A table without our own end of the connection is that of another network.
    listens_no_more(listener, listeners.ok(), port == port_of_newcomer)
        && is_in_table(shared, conn, peer)
}

/// Whether the socket that listened on a port does no more, by what does now, if
/// that can be known. Another one may be the holder's too, opened anew, unless
/// the newcomer says that it is its own.
fn listens_no_more(listener: u64, now: Option<Vec<u64>>, of_newcomer: bool) -> bool {
    now.is_some_and(|now| now.is_empty() || of_newcomer && !now.contains(&listener))
}

fn is_in_table(shared: &Shared, conn: ConnId, peer: SocketAddr) -> bool {
    let Some(local) = shared.held.local_address(conn) else {
        return false;
    };
    matches!(shared.sockets.connection(canonical(local), peer), Ok(Some(_)))
}

/// IPv4 addresses in IPv6 form as what they are.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip if ip == address.ip() => address,
        ip => SocketAddr::new(ip, address.port()),
    }
}

/// A newcomer that waits for a holder to go. A node that is started again at
/// once may be faster than the end of its own last connection
/// (erlang/otp#11083).
#[derive(Debug)]
pub(crate) struct Wait {
    holder: ConnId,
    rounds: u32,
}

/// How often a newcomer looks again: after 1 ms, 2 ms, 4 ms, ..., 63 in all.
const ROUNDS: u32 = 6;

impl Wait {
    /// Makes the next look the last one.
    pub(crate) const fn give_up(&mut self) {
        self.rounds = ROUNDS;
    }

    /// Until the next look.
    pub(crate) const fn pause(&self) -> Duration {
        Duration::from_millis(1 << self.rounds)
    }
}

/// How many holders may be waited for in this time, each once: what a flood of
/// duplicates can cost.
const MAX_WAITS: usize = 32;
const WAITS_RESET: Duration = Duration::from_secs(1);

/// The holders that are waited for, or were in vain a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Waits(Mutex<HashMap<ConnId, Instant>>);

impl Waits {
    /// Whether a newcomer is to wait, or to go on waiting.
    pub(crate) fn go_on(&self, holder: ConnId, wait: Option<Wait>) -> Option<Wait> {
        match wait {
            None => self.begin(holder).then_some(Wait { holder, rounds: 0 }),
            Some(wait) => (wait.holder == holder && wait.rounds + 1 < ROUNDS)
                .then_some(Wait { holder, rounds: wait.rounds + 1 }),
        }
    }

    fn begin(&self, holder: ConnId) -> bool {
        let mut waits = self.0.lock();
        if waits.contains_key(&holder) || waits.len() >= MAX_WAITS {
            waits.retain(|_, begun| begun.elapsed() < WAITS_RESET);
        }
        let begins = !waits.contains_key(&holder) && waits.len() < MAX_WAITS;
        if begins {
            waits.insert(holder, Instant::now());
        }
        begins
    }

    /// The holder is gone: it was not in vain.
    pub(crate) fn end(&self, wait: Option<Wait>) {
        if let Some(wait) = wait {
            self.0.lock().remove(&wait.holder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(number: u32) -> ConnId {
        ConnId::new(number, 7)
    }

    #[test]
    fn a_holder_listens_as_long_as_nothing_else_is_certain() {
        for of_newcomer in [false, true] {
            assert!(!listens_no_more(7, None, of_newcomer), "the table cannot be read");
            assert!(!listens_no_more(7, Some(vec![6, 7]), of_newcomer));
            assert!(listens_no_more(7, Some(vec![]), of_newcomer));
        }
        assert!(!listens_no_more(7, Some(vec![8]), false), "it may be the holder's");
        assert!(listens_no_more(7, Some(vec![8]), true));
    }

    #[test]
    fn a_newcomer_waits_63_ms_and_no_longer() {
        let waits = Waits::default();
        let mut pauses = Vec::new();
        let mut wait = waits.go_on(holder(1), None);
        while let Some(waiting) = wait {
            pauses.push(waiting.pause().as_millis());
            wait = waits.go_on(holder(1), Some(waiting));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32]);
    }

    #[test]
    fn a_holder_is_waited_for_by_one_and_not_again_at_once() {
        let waits = Waits::default();
        let first = waits.go_on(holder(1), None);
        assert!(first.is_some());
        assert!(waits.go_on(holder(1), None).is_none());
        assert!(waits.go_on(holder(2), first).is_none(), "it waits for no other holder");
        waits.end(waits.go_on(holder(3), None));
        assert!(waits.go_on(holder(3), None).is_some(), "the one before was not in vain");
    }

    #[test]
    fn no_more_than_32_are_waited_for_at_a_time() {
        let waits = Waits::default();
        let begun = (0..100).filter(|&n| waits.go_on(holder(n), None).is_some()).count();
        assert_eq!(begun, MAX_WAITS);
        let long_ago = Instant::now().checked_sub(WAITS_RESET).unwrap();
        waits.0.lock().values_mut().for_each(|begun| *begun = long_ago);
        assert!(waits.go_on(holder(0), None).is_some());
    }
}

//! What a server does with a request: the same however its bytes came.

use std::net::IpAddr;

use epmd_core::{
    Caller, DownReason, Name, Next, Outcome, Owner, Refusal, Registry, Request, is_local,
};

use crate::info;
use crate::notices::Notice;
use crate::platform::Held;
use crate::shared::{Peer, Rules, Shared};

/// Carries out the request in `body` and appends the reply to `out`.
///
/// `connected_to` yields the local address of the connection; it is asked for
/// only where it decides. What is left to do is to send the reply, and then
/// [`Next::Close`], [`Next::Hold`] or [`Next::Shutdown`].
pub(crate) fn respond(
    shared: &Shared,
    rules: Rules,
    body: &[u8],
    peer: Peer,
    connected_to: impl FnOnce() -> Option<IpAddr>,
    out: &mut Vec<u8>,
) -> Next {
    let Rules { policy, debug, .. } = rules;
    if debug >= 3 {
        shared.notices.push(Notice::Received { peer: peer.address, body: body.to_vec() });
    }
    let permitted = Request::decode(body).and_then(|request| {
        let local = !policy.needs_local_peer(&request) || is_local(peer.address.ip(), connected_to);
        policy.permit(&request, local).map(|()| request)
    });
    let request = match permitted {
        Ok(request) => request,
        Err(refusal) => {
            shared.refuse_unanswered(peer.address, refusal);
            return Next::Close;
        }
    };
    if debug >= 1 {
        let (name, request) = (name_of(&request), request.as_str());
        shared.notices.push(Notice::Asked { peer: peer.address, request, name });
    }
    if answer(shared, &request, out) {
        return Next::Close;
    }
    let caller = Caller {
        conn: peer.conn,
        peer: peer.address,
        epmd_port: shared.port(),
        relaxed: policy.relaxed,
    };
    if request == Request::Kill {
        // Nodes that have closed already do not stand in its way.
        Held::end_those_that_have(shared);
    }
    let mut registry = shared.registry.write();
    make_way(shared, &mut registry, &request);
    let Outcome { reply, next, refused, event } = registry.apply(&request, &caller, Shared::now());
    reply.encode(out);
    if let Some(event) = event {
        shared.tell(event);
    }
    drop(registry);
    if let Some(refusal) = refused {
        shared.refuse(peer.address, refusal, name_of(&request));
    }
    if let Next::CloseAlso(conn) = next {
        shared.release(conn);
        return Next::Close;
    }
    next
}

/// Whether a peer may ask for anything. If not, it is refused: what it has to
/// say is not waited for.
pub(crate) fn admit(
    shared: &Shared,
    rules: Rules,
    peer: Peer,
    connected_to: impl FnOnce() -> Option<IpAddr>,
) -> bool {
    let admitted = rules.policy.serves_remote_peers() || is_local(peer.address.ip(), connected_to);
    if !admitted {
        shared.refuse_unanswered(peer.address, Refusal::NotLocal);
    }
    admitted
}

/// Answers a request that changes nothing, while others read too.
fn answer(shared: &Shared, request: &Request<'_>, out: &mut Vec<u8>) -> bool {
    let port = match request {
        Request::Names | Request::Dump => {
            shared.counters.listings.add_one();
            shared.port()
        }
        Request::Info => shared.port(),
        _ => 0,
    };
    let registry = shared.registry.read();
    let Some(reply) = registry.answer(request, port) else {
        return false;
    };
    match reply {
        epmd_core::Reply::PortPlease2(Some(_)) => shared.counters.lookups_hit.add_one(),
        epmd_core::Reply::PortPlease2(None) => shared.counters.lookups_missed.add_one(),
        _ => {}
    }
    reply.encode(out);
    drop(registry);
    if *request == Request::Info {
        info::push_facts(shared, out);
    }
    true
}

/// A close that has already arrived is seen before a registration that came
/// after it.
fn make_way(shared: &Shared, registry: &mut Registry, request: &Request<'_>) {
    let Request::Alive2(alive) = request else {
        return;
    };
    let holder = Name::check(alive.name).ok().and_then(|name| registry.lookup(name));
    if let Some(Owner::Connection(conn)) = holder.map(|node| node.owner)
        && shared.held.has_ended(conn)
    {
        let event = registry.unregister_connection(conn, DownReason::Closed);
        shared.release(conn);
        if let Some(event) = event {
            shared.tell(event);
        }
    }
}

fn name_of(request: &Request<'_>) -> Option<Name> {
    request.name().and_then(|name| Name::new(name).ok())
}

/// The stream ended before the request was complete.
pub(crate) fn ended_early(shared: &Shared, peer: Peer, received: usize) {
    if received == 0 {
        // Whoever only checks that the port accepts does this.
        shared.counters.silent.add_one();
    } else {
        shared.refuse_unanswered(peer.address, Refusal::Incomplete);
    }
}

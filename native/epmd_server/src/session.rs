//! What a server does with a request: the same however its bytes came.

use std::net::IpAddr;

use epmd_core::{
    Caller, Glob, Name, Next, Node, Outcome, Refusal, Registry, Reply, Request, is_local,
};

use crate::duplicate::{Gone, Newcomer, Wait, find_gone, make_way};
use crate::info;
use crate::notices::Notice;
use crate::platform::Held;
use crate::quotas::Applicant;
use crate::shared::{Peer, Rules, Shared};
use crate::watch::Watch;

/// How far a request was carried out.
pub(crate) enum Answer {
    /// The reply is to be sent, and then this to be done: [`Next::Close`],
    /// [`Next::Hold`] or [`Next::Shutdown`].
    Ready(Next),
    /// Something is to be done first that takes a while.
    Pending(Pending),
}

pub(crate) enum Pending {
    /// The name of the registration may be free in a moment: to be carried out
    /// again after a pause.
    Name(Wait),
    /// Whose the registration would be is to be found: to be carried out again then.
    Applicant,
    /// Who holds the name of this node is to be found, and appended.
    Holder(Box<Node>),
    /// The peer is to be told what happens from now on.
    Watch(Watch),
}

/// What was found out before a registration is carried out again.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) wait: Option<Wait>,
    pub(crate) applicant: Option<Box<Applicant>>,
}

impl Known {
    const fn is_nothing(&self) -> bool {
        self.wait.is_none() && self.applicant.is_none()
    }
}

/// Carries out the request in `body` and appends the reply to `out`.
///
/// `connected_to` yields the local address of the connection; it is asked for
/// only where it decides. `known` is what was found out since the last time, if this
/// is not the first.
pub(crate) fn respond(
    shared: &Shared,
    rules: Rules,
    body: &[u8],
    peer: Peer,
    connected_to: impl FnOnce() -> Option<IpAddr>,
    known: &mut Known,
    out: &mut Vec<u8>,
) -> Answer {
    let Rules { policy, debug, .. } = rules;
    let debug = if known.is_nothing() { debug } else { 0 };
    if debug >= 3 {
        shared.notices.push(Notice::Received { peer: peer.address, body: body.to_vec() });
    }
    let permitted = Request::decode(body).and_then(|request| {
        // A watcher is told what it may know.
        let matters = policy.needs_local_peer(&request) || matches!(request, Request::Watch(_));
        let local = !matters || is_local(peer.address.ip(), connected_to);
        policy.permit(&request, local).map(|()| (request, local))
    });
    let (request, is_local) = match permitted {
        Ok(permitted) => permitted,
        Err(refusal) => {
            shared.refuse_unanswered(peer.address, refusal);
            return Answer::Ready(Next::Close);
        }
    };
    if debug >= 1 {
        let (name, request) = (name_of(&request), request.as_str());
        shared.notices.push(Notice::Asked { peer: peer.address, request, name });
    }
    if let Request::Watch(glob) = request {
        return Answer::Pending(Pending::Watch(Watch { glob: Glob::new(glob), is_local }));
    }
    if let Some(answer) = answer(shared, &request, out) {
        return answer;
    }
    if request == Request::Kill {
        // Nodes that have closed already do not stand in its way.
        Held::end_those_that_have(shared);
    }
    let newcomer = newcomer(&request, peer);
    if newcomer.is_some() && rules.max_nodes_per_process.is_some() && known.applicant.is_none() {
        return Answer::Pending(Pending::Applicant);
    }
    let gone = newcomer.and_then(|new| find_gone(shared, new, rules.evicts));
    // The kernel is asked while nobody waits for the lock.
    let listener =
        newcomer.filter(|new| rules.looks_at_listeners && may_have(shared, *new, gone.as_ref()));
    let caller = Caller {
        conn: peer.conn,
        peer: peer.address,
        epmd_port: shared.port(),
        relaxed: policy.relaxed,
        listener: listener.and_then(|new| shared.sockets.listener(new.port)),
    };
    let mut registry = shared.registry.write();
    let holder = newcomer.and_then(|new| make_way(shared, &mut registry, new, gone));
    if let Some(holder) = holder {
        if let Some(wait) = shared.waits.go_on(holder, known.wait.take()) {
            return Answer::Pending(Pending::Name(wait));
        }
    } else {
        shared.waits.end(known.wait.take());
    }
    let applicant = known.applicant.as_deref();
    let Outcome { reply, next, refused, event } =
        match over_quota(shared, rules, &registry, newcomer, applicant) {
            Some(refusal) => Registry::refuse(&request, refusal),
            None => registry.apply(&request, &caller, Shared::now()),
        };
    reply.encode(out);
    if let Some(event) = event {
        shared.tell(&registry, event);
    }
    if let (Next::Hold, Some(applicant)) = (next, applicant) {
        shared.quotas.add(peer.conn, applicant);
    }
    drop(registry);
    if let Some(refusal) = refused {
        shared.deny(peer.address, refusal, name_of(&request), applicant);
    }
    if let Next::CloseAlso(conn) = next {
        shared.release(conn);
        return Answer::Ready(Next::Close);
    }
    Answer::Ready(next)
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
fn answer(shared: &Shared, request: &Request<'_>, out: &mut Vec<u8>) -> Option<Answer> {
    let port = match request {
        Request::Names | Request::Match(_) | Request::Dump => {
            shared.counters.listings.add_one();
            shared.port()
        }
        Request::Info | Request::NodeInfo(_) => shared.port(),
        _ => 0,
    };
    let registry = shared.registry.read();
    let reply = registry.answer(request, port)?;
    reply.encode(out);
    let node = match reply {
        Reply::PortPlease2(found) => {
            let counters = &shared.counters;
            let counter =
                if found.is_some() { &counters.lookups_hit } else { &counters.lookups_missed };
            counter.add_one();
            None
        }
        Reply::NodeInfo { node, .. } => node.cloned(),
        _ => None,
    };
    if *request == Request::Info {
        // While no node comes or goes.
        info::push_facts(shared, out);
    }
    drop(registry);
    Some(match node {
        Some(node) => Answer::Pending(Pending::Holder(Box::new(node))),
        None => Answer::Ready(Next::Close),
    })
}

/// Who asks for a name, in a registration of a valid one.
fn newcomer<'a>(request: &Request<'a>, peer: Peer) -> Option<Newcomer<'a>> {
    let Request::Alive2(alive) = request else {
        return None;
    };
    let name = Name::check(alive.name).ok()?;
    Some(Newcomer { name, port: alive.port, peer: Some(peer.address) })
}

/// Why a name that is free may not be registered, if its process has too many.
fn over_quota(
    shared: &Shared,
    rules: Rules,
    registry: &Registry,
    newcomer: Option<Newcomer<'_>>,
    applicant: Option<&Applicant>,
) -> Option<Refusal> {
    let (newcomer, applicant, max) = (newcomer?, applicant?, rules.max_nodes_per_process?);
    let is_free = registry.lookup(newcomer.name).is_none();
    let is_over = is_free && shared.quotas.are_used_up(applicant, max);
    is_over.then_some(Refusal::TooManyNodesOfProcess)
}

/// Whether a name is free, or about to be.
fn may_have(shared: &Shared, newcomer: Newcomer<'_>, gone: Option<&Gone>) -> bool {
    gone.is_some() || shared.registry.read().lookup(newcomer.name).is_none()
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

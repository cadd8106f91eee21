//! Erlang processes that are told what happens to nodes. They are kept here, and not
//! by the process that has them told, so that its end costs no subscriber anything:
//! each call sends and remembers how far that went, and no process ends within one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use epmd_core::{Event, Glob};
use epmd_server::{Change, Follower, Server, Snapshot};
use parking_lot::Mutex;
use rustler::env::SavedTerm;
use rustler::{Binary, Encoder, Env, LocalPid, OwnedEnv, Term};

use crate::terms::{self, atoms};

static SUBSCRIPTIONS: Mutex<Vec<Arc<Subscription>>> = Mutex::new(Vec::new());

struct Subscription {
    reference: Mutex<(OwnedEnv, SavedTerm)>,
    pid: LocalPid,
    pattern: String,
    glob: Glob,
    place: Mutex<Place>,
}

/// How far a subscriber was told what has happened.
enum Place {
    /// Nothing yet.
    Start,
    /// Up to where the follower is.
    At(Follower),
    /// Everything: the subscription has ended.
    End,
}

/// What is left to tell a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    Nothing,
    /// More may have happened.
    More,
    /// All nodes, since what happened meanwhile is not known any more.
    All,
}

impl Subscription {
    fn reference<'a>(&self, env: Env<'a>) -> Term<'a> {
        let saved = self.reference.lock();
        saved.0.run(|own| saved.1.load(own).in_env(env))
    }

    /// `{portmapper, Reference, Sequence, What}`. A subscriber that is gone will be
    /// forgotten.
    fn send(&self, env: Env<'_>, sequence: u64, what: impl Encoder) {
        let message = (atoms::portmapper(), self.reference(env), sequence, what);
        let _ = env.send(&self.pid, message);
    }
}

fn find(reference: Term<'_>) -> Option<Arc<Subscription>> {
    let (env, all) = (reference.get_env(), SUBSCRIPTIONS.lock());
    all.iter().find(|one| one.reference(env) == reference).cloned()
}

/// Adds a subscriber, unless it is there.
pub(crate) fn add(reference: Term<'_>, pid: LocalPid, pattern: &str) {
    if find(reference).is_none() {
        let own = OwnedEnv::new();
        let saved = own.save(reference);
        let reference = Mutex::new((own, saved));
        let place = Mutex::new(Place::Start);
        let (pattern, glob) = (pattern.to_owned(), Glob::new(pattern));
        let subscription = Subscription { reference, pid, pattern, glob, place };
        SUBSCRIPTIONS.lock().push(Arc::new(subscription));
    }
}

/// Forgets a subscriber, and sends it nothing any more; whether it was there.
pub(crate) fn remove(reference: Term<'_>) -> bool {
    let env = reference.get_env();
    let mut all = SUBSCRIPTIONS.lock();
    let position = all.iter().position(|one| one.reference(env) == reference);
    let removed = position.map(|position| all.swap_remove(position));
    drop(all);
    // Another process may be about to tell it something.
    removed.map(|one| *one.place.lock() = Place::End).is_some()
}

/// Forgets all subscribers.
pub(crate) fn clear() {
    SUBSCRIPTIONS.lock().clear();
}

/// Tells all subscribers that nothing more will be told, and forgets them.
pub(crate) fn end(env: Env<'_>) {
    for subscription in std::mem::take(&mut *SUBSCRIPTIONS.lock()) {
        let sequence = match std::mem::replace(&mut *subscription.place.lock(), Place::End) {
            Place::Start => 0,
            Place::At(follower) => follower.sequence(),
            Place::End => continue,
        };
        subscription.send(env, sequence, atoms::stopped());
    }
}

/// Every reference with its subscriber and its pattern.
pub(crate) fn all(env: Env<'_>) -> Vec<(Term<'_>, LocalPid, Binary<'_>)> {
    let all = SUBSCRIPTIONS.lock();
    let pattern = |one: &Subscription| terms::binary(env, one.pattern.as_bytes());
    all.iter().map(|one| (one.reference(env), one.pid, pattern(one))).collect()
}

/// Tells a subscriber what has happened, looking at so many changes at most. None if
/// there is no such subscriber.
pub(crate) fn deliver(
    env: Env<'_>,
    server: &Server,
    reference: Term<'_>,
    limit: usize,
) -> Option<Left> {
    let subscription = find(reference)?;
    let mut place = subscription.place.lock();
    let follower = match &mut *place {
        Place::Start => return Some(Left::All),
        Place::At(follower) => follower,
        Place::End => return None,
    };
    if !server.is_followed_by(follower) {
        return Some(Left::All);
    }
    let Ok(changes) = follower.take(limit) else { return Some(Left::All) };
    for Change { sequence, event } in &changes {
        if subscription.glob.matches(event.name().as_str()) {
            subscription.send(env, *sequence, change(env, event));
        }
    }
    Some(if changes.len() == limit { Left::More } else { Left::Nothing })
}

/// Tells a subscriber of all nodes, and that it goes on from there. None if there is no
/// such subscriber.
pub(crate) fn deliver_all(env: Env<'_>, server: &Server, reference: Term<'_>) -> Option<()> {
    let subscription = find(reference)?;
    let mut place = subscription.place.lock();
    let (Snapshot { sequence, nodes }, follower) = server.follow(&subscription.glob);
    let missed = match &mut *place {
        Place::Start => 0.encode(env),
        Place::At(before) if server.is_followed_by(before) => {
            (sequence - before.sequence()).encode(env)
        }
        Place::End => return None,
        // Those of a server that is no more.
        Place::At(_) => atoms::unknown().encode(env),
    };
    let nodes: Vec<_> = nodes.iter().map(|node| about(env, node)).collect();
    subscription.send(env, sequence, (atoms::nodes(), nodes, missed));
    *place = Place::At(follower);
    Some(())
}

/// `{up, Node}' or `{down, Node}`.
fn change<'a>(env: Env<'a>, event: &Event) -> Term<'a> {
    let tag = match event {
        Event::Up { .. } => atoms::up(),
        Event::Down { .. } => atoms::down(),
    };
    (tag, about(env, event)).encode(env)
}

fn about<'a>(env: Env<'a>, event: &Event) -> Term<'a> {
    let name = (atoms::name(), terms::binary(env, event.name().as_str().as_bytes()).encode(env));
    match event {
        Event::Up { port, node_type, creation, peer, .. } => terms::map(
            env,
            &[
                name,
                (atoms::port(), port.encode(env)),
                (atoms::node_type(), node_type.encode(env)),
                (atoms::creation(), creation.get().encode(env)),
                (atoms::peer(), terms::peer(env, *peer)),
            ],
        ),
        Event::Down { creation, reason, .. } => terms::map(
            env,
            &[
                name,
                (atoms::creation(), creation.get().encode(env)),
                (atoms::reason(), terms::atom(env, reason.as_str()).encode(env)),
            ],
        ),
    }
}

/// The process that has subscribers told.
#[derive(Default)]
pub(crate) struct Teller {
    pid: Arc<Mutex<Option<LocalPid>>>,
    /// Whether it was woken since it looked.
    is_woken: Arc<AtomicBool>,
}

impl Teller {
    /// Makes the caller the one that is woken by what happens from now on.
    pub(crate) fn attach(&self, env: Env<'_>) {
        *self.pid.lock() = Some(env.pid());
        self.is_woken.store(false, Ordering::Release);
    }

    /// What sends it `portmapper`, once until it has looked. Only the server's thread
    /// may call it.
    pub(crate) fn wake(&self) -> Arc<dyn Fn() + Send + Sync> {
        let (pid, is_woken) = (self.pid.clone(), self.is_woken.clone());
        Arc::new(move || {
            if is_woken.swap(true, Ordering::AcqRel) {
                return;
            }
            if let Some(pid) = *pid.lock() {
                // One that is gone has a successor that looks by itself.
                let _ = OwnedEnv::new().send_and_clear(&pid, |_| atoms::portmapper());
            }
        })
    }
}

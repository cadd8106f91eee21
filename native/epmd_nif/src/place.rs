//! Where the server of this VM is. There is one at the most: in this library, or in
//! another version of it, or in none.

use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;

use epmd_server::{Phase, Server};
use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustler::{Decoder, Error, LocalPid, NifResult, Term};

use crate::library::Library;
use crate::owner::Owner;
use crate::subscriptions::{self, Teller};
use crate::terms::atoms;

/// The server, and the process that it wakes.
pub(crate) struct Handle {
    pub(crate) server: Server,
    pub(crate) owner: Owner,
    pub(crate) teller: Teller,
}

impl Handle {
    pub(crate) fn new(server: Server, owner: Owner) -> Self {
        let teller = Teller::default();
        server.wake_on_change(teller.wake());
        Self { server, owner, teller }
    }
}

// A panic under one of its locks leaves the server as it was before or after
// the change: registry and queues are changed by single calls.
impl std::panic::RefUnwindSafe for Handle {}

enum Place {
    Nowhere,
    Here(Handle),
    /// Handed over to that library, which may have handed it over in turn.
    There(&'static Library),
}

impl Place {
    fn handle(&self) -> Option<&Handle> {
        match self {
            Self::Here(handle) => Some(handle),
            Self::Nowhere | Self::There(_) => None,
        }
    }
}

/// Read for as long as a call lasts: the server moves between two calls.
static PLACE: RwLock<Place> = RwLock::new(Place::Nowhere);

/// The server, for a call from Erlang. Erlang's term for it is the number of a
/// library that had it once.
pub(crate) struct Current(MappedRwLockReadGuard<'static, Handle>);

impl Deref for Current {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.0
    }
}

impl<'a> Decoder<'a> for Current {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        current(term.decode()?).map_err(Absence::raise)
    }
}

/// Why there is no server for a call.
#[derive(Debug)]
pub(crate) enum Absence {
    /// There is none.
    NotRunning,
    /// It has moved, and so have all calls: this one got its turn late, as those to
    /// dirty schedulers may, and is to be made again.
    Moved,
    /// It could not be moved here.
    Failed(String),
}

impl Absence {
    pub(crate) fn raise(self) -> Error {
        Error::RaiseTerm(match self {
            Self::NotRunning => Box::new((atoms::not_running(), atoms::portmapper())),
            Self::Moved => Box::new(atoms::moved()),
            Self::Failed(reason) => Box::new((atoms::not_handed_over(), reason)),
        })
    }
}

/// The server. It is in this library afterwards.
pub(crate) fn current(number: u64) -> Result<Current, Absence> {
    if let Some(current) = here(PLACE.read()) {
        return Ok(current);
    }
    let mut place = PLACE.write();
    let library = match *place {
        Place::Here(_) => None,
        Place::There(library) => Some(library),
        Place::Nowhere => Some(Library::other(number).ok_or(Absence::NotRunning)?),
    };
    if let Some(library) = library {
        *place = Place::Here(fetch(library)?);
    }
    here(RwLockWriteGuard::downgrade(place)).ok_or(Absence::NotRunning)
}

fn here(place: RwLockReadGuard<'static, Place>) -> Option<Current> {
    RwLockReadGuard::try_map(place, Place::handle).ok().map(Current)
}

/// Has another library hand the server over.
fn fetch(library: &'static Library) -> Result<Handle, Absence> {
    let failed = |error: io::Error| Absence::Failed(error.to_string());
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|error| failed(error.into()))?;
    let giver = std::thread::Builder::new().name("epmd move".into());
    let giver = giver.spawn(move || library.hand_over(theirs)).map_err(failed)?;
    let owner = Owner::default();
    let server = Server::take_over_within(ours, owner.wake());
    match (giver.join(), server) {
        (Ok(Outcome::NotRunning), _) => Err(Absence::NotRunning),
        (Ok(Outcome::Moved), _) => Err(Absence::Moved),
        (_, Ok(server)) => Ok(Handle::new(server, owner)),
        (_, Err(error)) => Err(Absence::Failed(error.to_string())),
    }
}

/// What became of a request to hand the server over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    NotRunning,
    /// The one that asks was loaded before the one that has it.
    Moved,
    Failed,
}

/// Hands the server over. Not for a scheduler's thread.
pub(crate) fn hand_over(socket: OwnedFd, to: &'static Library) -> Outcome {
    let mut place = PLACE.write();
    let outcome = match &*place {
        Place::Nowhere => Outcome::NotRunning,
        Place::There(library) => library.hand_over_to(socket, to),
        Place::Here(_) if to.is_older_than(Library::own()) => Outcome::Moved,
        Place::Here(handle) => match handle.server.hand_over_within(socket) {
            Ok(()) => Outcome::Done,
            Err(_) if handle.server.phase() == Phase::Closed => Outcome::NotRunning,
            Err(_) => Outcome::Failed,
        },
    };
    if outcome == Outcome::Done
        && let Place::Here(Handle { server, owner, .. }) =
            std::mem::replace(&mut *place, Place::There(to))
    {
        let (notices, missed) = server.take_notices(usize::MAX);
        owner.send(&notices, missed);
        // Whoever has them told adds them there.
        subscriptions::clear();
    }
    outcome
}

/// Puts a new server here.
pub(crate) fn put(handle: Handle) {
    *PLACE.write() = Place::Here(handle);
}

/// Takes the server away, if it is here.
pub(crate) fn take() -> Option<Handle> {
    let mut place = PLACE.write();
    match std::mem::replace(&mut *place, Place::Nowhere) {
        Place::Here(handle) => Some(handle),
        other => {
            *place = other;
            None
        }
    }
}

/// Tells the server that its owner may have ended.
pub(crate) fn owner_ended(pid: LocalPid) {
    if let Some(handle) = PLACE.read().handle()
        && handle.owner.detach(pid)
    {
        handle.server.detach();
    }
}

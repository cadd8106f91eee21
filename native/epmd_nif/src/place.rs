//! Where the server of this VM is. There is one at the most: in this library, or in
//! another version of it, or in none.

use std::ops::Deref;

use epmd_server::Server;
use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
use rustler::{Decoder, Error, LocalPid, NifResult, Term};

use crate::owner::Owner;
use crate::terms::atoms;

/// The server, and the process that it wakes.
pub(crate) struct Handle {
    pub(crate) server: Server,
    pub(crate) owner: Owner,
}

// A panic under one of its locks leaves the server as it was before or after
// the change: registry and queues are changed by single calls.
impl std::panic::RefUnwindSafe for Handle {}

/// Read for as long as a call lasts.
static PLACE: RwLock<Option<Handle>> = RwLock::new(None);

/// The server, for a call from Erlang. Erlang's term for it is a number.
pub(crate) struct Current(MappedRwLockReadGuard<'static, Handle>);

impl Deref for Current {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.0
    }
}

impl<'a> Decoder<'a> for Current {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        term.decode().and_then(|number| current(number).ok_or_else(not_running))
    }
}

fn not_running() -> Error {
    Error::RaiseTerm(Box::new((atoms::not_running(), atoms::portmapper())))
}

/// The server, if there is one.
pub(crate) fn current(_number: u64) -> Option<Current> {
    RwLockReadGuard::try_map(PLACE.read(), Option::as_ref).ok().map(Current)
}

/// Puts a new server here.
pub(crate) fn put(handle: Handle) {
    *PLACE.write() = Some(handle);
}

/// Takes the server away, if it is here.
pub(crate) fn take() -> Option<Handle> {
    PLACE.write().take()
}

/// Tells the server that its owner may have ended.
pub(crate) fn owner_ended(pid: LocalPid) {
    if let Some(handle) = &*PLACE.read()
        && handle.owner.detach(pid)
    {
        handle.server.detach();
    }
}

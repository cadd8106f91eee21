//! Standing by for the port mapper of another VM, for one Erlang process.

use epmd_server::{Config, StandBy, TakeoverError};
use parking_lot::Mutex;
use rustler::{Encoder, LocalPid, OwnedEnv};

use crate::library::Library;
use crate::owner::Owner;
use crate::place::{self, Handle};
use crate::terms::atoms;

/// What stands by. The next one takes its place.
static STAND_BY: Mutex<Option<StandBy>> = Mutex::new(None);

/// Stands by. The process is sent `{portmapper_stand_by, {ok, Server}}` once the server
/// is here, or `{portmapper_stand_by, ended}`.
pub(crate) fn begin(config: Config, pid: LocalPid) -> Result<(), TakeoverError> {
    let owner = Owner::default();
    let wake = owner.wake();
    let stand_by = StandBy::begin(config, wake, move |outcome| {
        let number = outcome.ok().map(|server| {
            // Whoever it is for may be gone: it closes if nobody comes.
            server.detach();
            place::put(Handle::new(server, owner));
            Library::own().number()
        });
        // A process that is gone looks for a server itself when it is restarted.
        let _ = OwnedEnv::new().send_and_clear(&pid, |env| {
            let outcome = match number {
                Some(number) => (rustler::types::atom::ok(), number).encode(env),
                None => atoms::ended().encode(env),
            };
            (atoms::portmapper_stand_by(), outcome)
        });
    })?;
    *STAND_BY.lock() = Some(stand_by);
    Ok(())
}

/// Stands by no longer, if it does.
pub(crate) fn end() {
    *STAND_BY.lock() = None;
}

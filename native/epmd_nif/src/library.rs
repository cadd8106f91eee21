//! This library as the VM loads it: again after the module was purged, or beside
//! another version of it in a hot code upgrade. (rustler's `init!` leaves
//! `upgrade` out, and would leak memory each time.)
//!
//! A library stays mapped once it is loaded. So another version that was loaded
//! before can be asked to hand its server over, by the one thing that every
//! version exports in the same form: [`Library`].

#![allow(unsafe_code, reason = "what the VM and other versions call is C")]

use std::ffi::{CStr, c_int, c_void};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};
use rustler::codegen_runtime::{
    ErlNifEntry, ErlNifEnv, ErlNifFunc, ErlNifTerm, ResourceRegistration, internal_write_symbols,
    inventory,
};
use rustler::{Env, Nif};

use crate::owner::Watch;
use crate::place::{self, Outcome};

/// What every version of the library exports, by this name and in this form. For
/// another form, the name has to be another one.
#[repr(C)]
pub(crate) struct Library {
    /// When the VM loaded it last, in nanoseconds of the monotonic clock.
    loaded: AtomicU64,
    /// Hands the server over to a library, by a connected socket, which is the
    /// callee's. An [`Outcome`] as a number.
    hand_over: extern "C" fn(socket: c_int, to: &'static Library) -> c_int,
}

const NAME: &CStr = c"PORTMAPPER_LIBRARY_1";

#[unsafe(no_mangle)]
static PORTMAPPER_LIBRARY_1: Library = Library { loaded: AtomicU64::new(0), hand_over };

extern "C" fn hand_over(socket: c_int, to: &'static Library) -> c_int {
    // SAFETY: the caller gave it away.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    match place::hand_over(socket, to) {
        Outcome::Done => 0,
        Outcome::NotRunning => 1,
        Outcome::Moved => 2,
        Outcome::Failed => 3,
    }
}

impl Library {
    /// The one that this code is in.
    pub(crate) fn own() -> &'static Self {
        &PORTMAPPER_LIBRARY_1
    }

    /// The number that Erlang knows it by.
    pub(crate) fn number(&'static self) -> u64 {
        ptr::from_ref(self).expose_provenance() as u64
    }

    /// The one of that number, if that is another one.
    pub(crate) fn other(number: u64) -> Option<&'static Self> {
        let address = ptr::with_exposed_provenance::<Self>(usize::try_from(number).ok()?);
        let mut symbol = libc::Dl_info {
            dli_fname: ptr::null(),
            dli_fbase: ptr::null_mut(),
            dli_sname: ptr::null(),
            dli_saddr: ptr::null_mut(),
        };
        // SAFETY: the address is only compared with those of what is mapped.
        let is_mapped = unsafe { libc::dladdr(address.cast(), &mut symbol) } != 0;
        let begins = is_mapped && ptr::eq(symbol.dli_saddr, address.cast());
        // SAFETY: the name is mapped, too.
        let is_library = begins && unsafe { CStr::from_ptr(symbol.dli_sname) } == NAME;
        // SAFETY: what has this name has this form, and stays mapped.
        let library = is_library.then(|| unsafe { &*address });
        library.filter(|other| !ptr::eq(*other, Self::own()))
    }

    /// Whether the VM has loaded the other one since.
    pub(crate) fn is_older_than(&self, other: &Self) -> bool {
        self.loaded.load(Ordering::Relaxed) < other.loaded.load(Ordering::Relaxed)
    }

    /// Has it hand the server over to this one.
    pub(crate) fn hand_over(&self, socket: OwnedFd) -> Outcome {
        self.hand_over_to(socket, Self::own())
    }

    /// The same to any.
    pub(crate) fn hand_over_to(&self, socket: OwnedFd, to: &'static Self) -> Outcome {
        match (self.hand_over)(socket.into_raw_fd(), to) {
            0 => Outcome::Done,
            1 => Outcome::NotRunning,
            2 => Outcome::Moved,
            _ => Outcome::Failed,
        }
    }
}

/// What the VM asks for whenever it loads the library.
#[unsafe(no_mangle)]
extern "C" fn nif_init() -> *const ErlNifEntry {
    /// The VM only reads it.
    struct Entry(ErlNifEntry);
    // SAFETY: what it points to is never changed or freed.
    unsafe impl Send for Entry {}
    // SAFETY: as above.
    unsafe impl Sync for Entry {}

    static ENTRY: OnceLock<Entry> = OnceLock::new();
    let entry = ENTRY.get_or_init(|| {
        // SAFETY: the VM has set up all that it calls by now.
        unsafe { internal_write_symbols() };
        let functions: Vec<ErlNifFunc> = inventory::iter::<Nif>().map(Nif::get_def).collect();
        let mut entry = ErlNifEntry::new(c"portmapper_nif", functions.leak(), load);
        entry.upgrade = Some(upgrade);
        Entry(entry)
    });
    &raw const entry.0
}

/// Loaded where no other version is, or where the other one was purged already, as
/// `release_handler` does.
unsafe extern "C" fn load(env: *mut ErlNifEnv, _: *mut *mut c_void, _: ErlNifTerm) -> c_int {
    // SAFETY: the VM's for this call.
    let env = unsafe { Env::new_init_env(&env, env) };
    // At most one other load of the module is there, and has one of the names. No
    // call reads meanwhile what this writes: `attach`, which alone uses the type,
    // is no dirty NIF, and the VM has neither let anybody call the new code nor has
    // it left anybody in the old one, in an upgrade by stopping its schedulers.
    let registered = ["owner", "owner again"]
        .into_iter()
        .any(|name| ResourceRegistration::new::<Watch>().with_name(name).register(env).is_ok());
    let now = clock_gettime(ClockId::Monotonic);
    let now = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
    PORTMAPPER_LIBRARY_1.loaded.store(now, Ordering::Relaxed);
    c_int::from(!registered)
}

/// Loaded beside another version, or beside itself.
unsafe extern "C" fn upgrade(
    env: *mut ErlNifEnv,
    own_data: *mut *mut c_void,
    _: *mut *mut c_void,
    info: ErlNifTerm,
) -> c_int {
    // SAFETY: as for this function.
    unsafe { load(env, own_data, info) }
}

//! This library as the VM loads it: again after the module was purged, or beside
//! itself while the code of before is still there. (rustler's `init!` leaves
//! `upgrade` out, and would leak memory each time.)

#![allow(unsafe_code, reason = "what the VM calls is C")]

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

use rustler::codegen_runtime::{
    ErlNifEntry, ErlNifEnv, ErlNifFunc, ErlNifTerm, ResourceRegistration, internal_write_symbols,
    inventory,
};
use rustler::{Env, Nif};

use crate::owner::Watch;

/// The number that Erlang knows the server by.
pub(crate) fn number() -> u64 {
    nif_init as *const () as u64
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

/// Loaded where no other load is, or where the other one was purged already.
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
    c_int::from(!registered)
}

/// Loaded beside another load.
unsafe extern "C" fn upgrade(
    env: *mut ErlNifEnv,
    own_data: *mut *mut c_void,
    _: *mut *mut c_void,
    info: ErlNifTerm,
) -> c_int {
    // SAFETY: as for this function.
    unsafe { load(env, own_data, info) }
}

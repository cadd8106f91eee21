//! The boundary between Erlang and [`epmd_server`]: each function decodes,
//! calls and encodes. Documented in `erlang_src/portmapper_nif.erl`.

#![deny(unsafe_code)]

mod config;
mod errors;
mod system;
mod terms;

use std::sync::Arc;

use epmd_core::{Glob, Name, Registration};
use epmd_server::{Inheritance, InheritanceError, Phase, Server, ServiceManager};
use parking_lot::Mutex;
use rustler::types::atom::ok;
use rustler::{Atom, Binary, Env, LocalPid, Monitor, OwnedEnv, Resource, ResourceArc, Term};

use crate::terms::{atoms, binary};

/// The server as a resource. Whoever attached last is its owner.
struct Handle {
    server: Server,
    owner: Owner,
}

// A panic under one of its locks leaves the server as it was before or after
// the change: registry and queues are changed by single calls.
impl std::panic::RefUnwindSafe for Handle {}

type Owner = Arc<Mutex<Option<LocalPid>>>;

#[rustler::resource_impl]
impl Resource for Handle {
    const IMPLEMENTS_DOWN: bool = true;

    fn down<'a>(&'a self, _env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        let mut owner = self.owner.lock();
        // Another one may have attached before this end was told.
        if *owner == Some(pid) {
            *owner = None;
            self.server.detach();
        }
    }
}

rustler::init!("portmapper_nif");

#[rustler::nif(schedule = "DirtyIo")]
fn start<'a>(
    env: Env<'a>,
    config: Term<'a>,
    descriptors: Vec<i32>,
    variables: Vec<(String, Binary<'a>)>,
) -> Result<ResourceArc<Handle>, Term<'a>> {
    let config = config::read(env, config)?;
    let value = |name: &str| variables.iter().find(|(variable, _)| variable == name);
    let manager = ServiceManager::from_environment(|name| value(name).map(|(_, text)| &text[..]))
        .map_err(|error| errors::service_manager(env, error))?;
    let inherited = inherit(&descriptors, value("LISTEN_FDNAMES").map(|(_, names)| &names[..]))
        .map_err(|error| errors::inheritance(env, error))?;
    let owner = Owner::default();
    let started = Server::start_with(config, inherited.estate, wake(owner.clone()));
    let server = started.map_err(|error| errors::listen(env, error))?;
    if let Some(manager) = inherited.keeper.or(manager) {
        server.report_and_keep(manager, inherited.leftovers);
    }
    Ok(ResourceArc::new(Handle { server, owner }))
}

/// Takes what was handed over to this process; the names are joined by colons.
fn inherit(descriptors: &[i32], names: Option<&[u8]>) -> Result<Inheritance, InheritanceError> {
    let names = String::from_utf8_lossy(names.unwrap_or_default());
    let names = names.split(':').map(str::to_owned).chain(std::iter::repeat(String::new()));
    let descriptors = system::take_descriptors(descriptors)?;
    Inheritance::sort(descriptors.into_iter().zip(names).collect())
}

/// Sends `portmapper` to the owner. Only the server's thread calls it: a
/// scheduler's could not send this way.
fn wake(owner: Owner) -> Box<dyn Fn() + Send + Sync> {
    Box::new(move || {
        if let Some(pid) = *owner.lock() {
            // An owner that is gone has a successor that looks by itself.
            let _ = OwnedEnv::new().send_and_clear(&pid, |_| atoms::portmapper());
        }
    })
}

#[rustler::nif]
fn attach(env: Env<'_>, handle: ResourceArc<Handle>) -> Atom {
    let pid = env.pid();
    *handle.owner.lock() = Some(pid);
    // It is alive: it makes this call.
    let _ = env.monitor(&handle, &pid);
    handle.server.attach();
    phase_atom(handle.server.phase())
}

#[rustler::nif]
fn reference(handle: ResourceArc<Handle>) -> ResourceArc<Handle> {
    handle
}

#[rustler::nif]
fn phase(handle: ResourceArc<Handle>) -> Atom {
    phase_atom(handle.server.phase())
}

fn phase_atom(phase: Phase) -> Atom {
    match phase {
        Phase::Running => atoms::running(),
        Phase::Down => atoms::down(),
        Phase::Closed => atoms::closed(),
    }
}

#[rustler::nif(schedule = "DirtyIo")]
fn resume(handle: ResourceArc<Handle>) -> Atom {
    // Without success the phase is still `down`, and the caller tries again.
    let _ = handle.server.resume();
    phase_atom(handle.server.phase())
}

#[rustler::nif(schedule = "DirtyIo")]
fn trim_memory() -> Atom {
    system::trim_memory();
    ok()
}

#[rustler::nif(schedule = "DirtyIo")]
fn stop(handle: ResourceArc<Handle>) -> Atom {
    handle.server.stop();
    ok()
}

#[rustler::nif(schedule = "DirtyIo")]
fn leave(handle: ResourceArc<Handle>) -> Atom {
    handle.server.leave();
    ok()
}

#[rustler::nif]
fn panic_thread(handle: ResourceArc<Handle>) -> Atom {
    handle.server.panic_thread();
    ok()
}

#[rustler::nif]
fn take_notices(env: Env<'_>, handle: ResourceArc<Handle>, limit: usize) -> (Vec<Term<'_>>, u64) {
    let (notices, missed) = handle.server.take_notices(limit);
    (notices.iter().map(|notice| terms::notice(env, notice)).collect(), missed)
}

#[rustler::nif]
fn lookup<'a>(
    env: Env<'a>,
    handle: ResourceArc<Handle>,
    name: Binary<'a>,
) -> Result<Term<'a>, Atom> {
    let node = text(&name).and_then(|name| handle.server.lookup(name));
    node.map(|node| terms::node(env, name, &node)).ok_or_else(atoms::not_found)
}

#[rustler::nif(schedule = "DirtyIo")]
fn lookup_with_holder<'a>(
    env: Env<'a>,
    handle: ResourceArc<Handle>,
    name: Binary<'a>,
) -> Result<Term<'a>, Atom> {
    let found = text(&name).and_then(|name| handle.server.lookup_with_holder(name));
    let (node, holder) = found.ok_or_else(atoms::not_found)?;
    let node = terms::node(env, name, &node);
    // It is a map.
    let told = node.map_put(atoms::holder(), terms::holder(env, holder));
    Ok(told.unwrap_or(node))
}

/// What is not UTF-8 is no name, and so the name of no node.
fn text<'a>(bytes: &'a Binary<'_>) -> Option<&'a str> {
    std::str::from_utf8(bytes).ok()
}

#[rustler::nif(schedule = "DirtyCpu")]
fn names<'a>(
    env: Env<'a>,
    handle: ResourceArc<Handle>,
    glob: Binary<'a>,
) -> Vec<(Binary<'a>, u16)> {
    let names = text(&glob).map(|glob| handle.server.names(&Glob::new(glob)));
    names
        .iter()
        .flatten()
        .map(|(name, port)| (binary(env, name.as_str().as_bytes()), *port))
        .collect()
}

#[rustler::nif]
fn count(handle: ResourceArc<Handle>) -> usize {
    handle.server.count()
}

/// The kernel may have to be asked about a holder of the name.
#[rustler::nif(schedule = "DirtyIo")]
#[expect(clippy::too_many_arguments, reason = "the fields of a registration, once")]
fn register(
    env: Env<'_>,
    handle: ResourceArc<Handle>,
    name: Binary<'_>,
    port: u16,
    node_type: u8,
    protocol: u8,
    highest_version: u16,
    lowest_version: u16,
    extra: Binary<'_>,
) -> Result<u32, Atom> {
    let extra = extra.as_slice().into();
    let registration =
        Registration { port, node_type, protocol, highest_version, lowest_version, extra };
    Name::new(&name)
        .and_then(|name| handle.server.register(name, registration))
        .map_err(|refusal| terms::refusal(env, refusal))
}

#[rustler::nif]
fn unregister(handle: ResourceArc<Handle>, name: Binary<'_>) -> bool {
    text(&name).is_some_and(|name| handle.server.unregister(name))
}

#[rustler::nif]
fn drop_name(handle: ResourceArc<Handle>, name: Binary<'_>) -> bool {
    text(&name).is_some_and(|name| handle.server.drop_name(name))
}

#[rustler::nif]
fn info<'a>(env: Env<'a>, handle: ResourceArc<Handle>) -> Term<'a> {
    terms::info(env, &handle.server.info())
}

#[rustler::nif]
fn config<'a>(env: Env<'a>, handle: ResourceArc<Handle>) -> Term<'a> {
    config::write(env, &handle.server.config())
}

#[rustler::nif(schedule = "DirtyIo")]
fn reconfigure<'a>(
    env: Env<'a>,
    handle: ResourceArc<Handle>,
    config: Term<'a>,
) -> Result<(), Term<'a>> {
    let config = config::read(env, config)?;
    handle.server.reconfigure(config).map_err(|error| errors::reconfigure(env, error))
}

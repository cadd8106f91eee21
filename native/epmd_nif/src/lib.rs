//! The boundary between Erlang and [`epmd_server`]: each function decodes,
//! calls and encodes. Documented in `erlang_src/portmapper_nif.erl`.

#![deny(unsafe_code)]

mod config;
mod errors;
mod heir;
mod library;
mod owner;
mod place;
mod subscriptions;
mod system;
mod terms;

use epmd_core::{Glob, Name, Registration};
use epmd_server::{Config, Inheritance, InheritanceError, Phase, Server, ServiceManager};
use rustler::types::atom::ok;
use rustler::{Atom, Binary, Env, LocalPid, NifResult, Term};

use crate::library::Library;
use crate::owner::{Owner, Watch};
use crate::place::{Absence, Current, Handle};
use crate::subscriptions::Left;
use crate::terms::{atoms, binary};

#[rustler::nif(schedule = "DirtyIo")]
fn start<'a>(
    env: Env<'a>,
    config: Term<'a>,
    descriptors: Vec<i32>,
    variables: Vec<(String, Binary<'a>)>,
) -> Result<u64, Term<'a>> {
    let config = config::read(env, config)?;
    let value = |name: &str| variables.iter().find(|(variable, _)| variable == name);
    let manager = ServiceManager::from_environment(|name| value(name).map(|(_, text)| &text[..]))
        .map_err(|error| errors::service_manager(env, error))?;
    let inherited = inherit(&descriptors, value("LISTEN_FDNAMES").map(|(_, names)| &names[..]))
        .map_err(|error| errors::inheritance(env, error))?;
    let owner = Owner::default();
    let wake = owner.wake();
    // Who was handed something goes on with that: it may be the next one after a
    // successor that was killed.
    let server = if config.takeover && inherited.estate.is_empty() {
        Server::take_over(config, wake).map_err(|error| errors::takeover(env, error))?
    } else {
        let config = Config { takeover: false, ..config };
        Server::start_with(config, inherited.estate, wake)
            .map_err(|error| errors::listen(env, error))?
    };
    if let Some(manager) = inherited.keeper.or(manager) {
        server.report_and_keep(manager, inherited.leftovers);
    }
    place::put(Handle::new(server, owner));
    Ok(Library::own().number())
}

/// Takes what was handed over to this process; the names are joined by colons.
fn inherit(descriptors: &[i32], names: Option<&[u8]>) -> Result<Inheritance, InheritanceError> {
    let names = String::from_utf8_lossy(names.unwrap_or_default());
    let names = names.split(':').map(str::to_owned).chain(std::iter::repeat(String::new()));
    let descriptors = system::take_descriptors(descriptors)?;
    Inheritance::sort(descriptors.into_iter().zip(names).collect())
}

#[rustler::nif]
fn attach(env: Env<'_>, number: u64) -> NifResult<Atom> {
    match place::current(number) {
        Ok(current) => {
            if current.owner.attach(env) {
                current.server.attach();
            }
            Ok(phase_of(&current))
        }
        Err(Absence::NotRunning) => Ok(atoms::none()),
        Err(absence) => Err(absence.raise()),
    }
}

#[rustler::nif]
fn phase(number: u64) -> Atom {
    match place::current(number) {
        Ok(current) => phase_of(&current),
        Err(Absence::NotRunning) => atoms::none(),
        Err(Absence::Moved | Absence::Failed(_)) => atoms::elsewhere(),
    }
}

fn phase_of(current: &Current) -> Atom {
    match current.server.phase() {
        Phase::Running => atoms::running(),
        Phase::Down => atoms::down(),
        Phase::Closed => atoms::closed(),
    }
}

#[rustler::nif(schedule = "DirtyIo")]
fn resume(current: Current) -> Atom {
    // Without success the phase is still `down`, and the caller tries again.
    let _ = current.server.resume();
    phase_of(&current)
}

#[rustler::nif(schedule = "DirtyIo")]
fn trim_memory() -> Atom {
    system::trim_memory();
    ok()
}

#[rustler::nif]
fn resources() -> usize {
    Watch::count()
}

#[rustler::nif(schedule = "DirtyIo")]
fn stop(current: Current) -> Atom {
    end(current, Server::stop)
}

#[rustler::nif(schedule = "DirtyIo")]
fn leave(current: Current) -> Atom {
    end(current, Server::leave)
}

fn end(current: Current, end: fn(&Server)) -> Atom {
    // It is taken once no call uses it.
    drop(current);
    if let Some(handle) = place::take() {
        end(&handle.server);
    }
    ok()
}

/// Whether another VM that stood by serves now.
#[rustler::nif(schedule = "DirtyIo")]
fn hand_on(current: Current) -> bool {
    current.server.hand_on()
}

#[rustler::nif(schedule = "DirtyIo")]
fn stand_by<'a>(env: Env<'a>, config: Term<'a>) -> Result<(), Term<'a>> {
    let config = config::read(env, config)?;
    heir::begin(config, env.pid()).map_err(|error| errors::takeover(env, error))
}

#[rustler::nif]
fn stand_down() -> Atom {
    heir::end();
    ok()
}

#[rustler::nif]
fn adopt(current: Current, name: Binary<'_>, peer_port: u16) -> Result<u32, Atom> {
    let creation = text(&name).and_then(|name| current.server.adopt(name, peer_port));
    creation.ok_or_else(atoms::not_found)
}

#[rustler::nif]
fn panic_thread(current: Current) -> Atom {
    current.server.panic_thread();
    ok()
}

#[rustler::nif]
fn take_notices(env: Env<'_>, number: u64, limit: usize) -> NifResult<(Vec<Term<'_>>, u64)> {
    let (notices, missed) = match place::current(number) {
        Ok(current) => current.server.take_notices(limit),
        Err(Absence::NotRunning) => Default::default(),
        Err(absence) => return Err(absence.raise()),
    };
    Ok((notices.iter().map(|notice| terms::notice(env, notice)).collect(), missed))
}

#[rustler::nif]
fn attach_teller(env: Env<'_>, current: Current) -> u64 {
    current.teller.attach(env);
    Library::own().number()
}

#[rustler::nif]
fn subscribe(reference: Term<'_>, pid: LocalPid, glob: Binary<'_>) -> bool {
    let pattern = Glob::check(&glob);
    pattern.map(|pattern| subscriptions::add(reference, pid, pattern)).is_ok()
}

#[rustler::nif]
fn unsubscribe(reference: Term<'_>) -> bool {
    subscriptions::remove(reference)
}

#[rustler::nif]
fn subscriptions(env: Env<'_>) -> Vec<(Term<'_>, LocalPid, Binary<'_>)> {
    subscriptions::all(env)
}

#[rustler::nif]
fn deliver(env: Env<'_>, current: Current, reference: Term<'_>, limit: usize) -> Atom {
    match subscriptions::deliver(env, &current.server, reference, limit) {
        Some(Left::Nothing) | None => atoms::none(),
        Some(Left::More) => atoms::more(),
        Some(Left::All) => atoms::all(),
    }
}

#[rustler::nif(schedule = "DirtyCpu")]
fn deliver_all(env: Env<'_>, current: Current, reference: Term<'_>) -> bool {
    subscriptions::deliver_all(env, &current.server, reference).is_some()
}

#[rustler::nif]
fn end_subscriptions(env: Env<'_>) -> Atom {
    subscriptions::end(env);
    ok()
}

#[rustler::nif]
fn count_suppressed(current: Current, lines: u64) -> Atom {
    current.server.count_suppressed(lines);
    ok()
}

#[rustler::nif]
fn lookup<'a>(env: Env<'a>, current: Current, name: Binary<'a>) -> Result<Term<'a>, Atom> {
    let node = text(&name).and_then(|name| current.server.lookup(name));
    node.map(|node| terms::node(env, name, &node)).ok_or_else(atoms::not_found)
}

#[rustler::nif(schedule = "DirtyIo")]
fn lookup_with_holder<'a>(
    env: Env<'a>,
    current: Current,
    name: Binary<'a>,
) -> Result<Term<'a>, Atom> {
    let found = text(&name).and_then(|name| current.server.lookup_with_holder(name));
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
fn names<'a>(env: Env<'a>, current: Current, glob: Binary<'a>) -> Vec<(Binary<'a>, u16)> {
    let names = text(&glob).map(|glob| current.server.names(&Glob::new(glob)));
    names
        .iter()
        .flatten()
        .map(|(name, port)| (binary(env, name.as_str().as_bytes()), *port))
        .collect()
}

#[rustler::nif]
fn count(current: Current) -> usize {
    current.server.count()
}

/// The kernel may have to be asked about a holder of the name.
#[rustler::nif(schedule = "DirtyIo")]
#[expect(clippy::too_many_arguments, reason = "the fields of a registration, once")]
fn register(
    env: Env<'_>,
    current: Current,
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
        .and_then(|name| current.server.register(name, registration))
        .map_err(|refusal| terms::refusal(env, refusal))
}

#[rustler::nif]
fn unregister(current: Current, name: Binary<'_>) -> bool {
    text(&name).is_some_and(|name| current.server.unregister(name))
}

#[rustler::nif]
fn drop_name(current: Current, name: Binary<'_>) -> bool {
    text(&name).is_some_and(|name| current.server.drop_name(name))
}

#[rustler::nif]
fn info<'a>(env: Env<'a>, current: Current) -> Term<'a> {
    terms::info(env, &current.server.info())
}

#[rustler::nif]
fn config<'a>(env: Env<'a>, current: Current) -> Term<'a> {
    config::write(env, &current.server.config())
}

#[rustler::nif(schedule = "DirtyIo")]
fn reconfigure<'a>(env: Env<'a>, current: Current, config: Term<'a>) -> Result<(), Term<'a>> {
    let config = config::read(env, config)?;
    current.server.reconfigure(config).map_err(|error| errors::reconfigure(env, error))
}

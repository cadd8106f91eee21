//! Values as Erlang terms. The shapes are documented in
//! `erlang_src/portmapper_nif.erl`.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use epmd_core::{Event, Name, Node, Refusal};
use epmd_server::{CounterValues, Holder, Info, Notice, PortHolder};
use rustler::types::tuple::make_tuple;
use rustler::{Atom, Binary, Encoder, Env, NewBinary, Term};

/// The atoms of the boundary.
pub(crate) mod atoms {
    rustler::atoms! {
        portmapper, running, down, closed, key, value, expected, bad_config, needs_restart,
        address_in_use, cannot_bind, too_many_addresses, cannot_start_thread, address,
        addresses, port, holder, pid, program, unknown, reason, count, vm, name,
        node_type = "type", protocol, highest_version, lowest_version, extra, creation, since, peer,
        uptime, nodes, exposure, open_connections, waiting_connections, waiting_notices,
        counters, ended, too_many, refused, up, timed_out, crowded_out, panicked,
        out_of_descriptors, descriptors_suffice, address_skipped, file_limit_kept, killed,
        undefined, not_found, descriptor, not_listening, connected, asked, received,
        service_manager_unreachable, evicted, user, all, more, stopped, bad_estate, went_on,
        store_too_small, not_recorded, state_file_unreadable, none, elsewhere, not_running,
        moved, not_handed_over, version, path, takeover_socket, no_port_mapper,
        takeover_not_permitted, takeover_refused, takeover_failed, portmapper_stand_by,
        heirs, no_takeover_socket, not_taken_over, taken_over, elixir_struct = "__struct__",
    }
}

/// Makes an atom of one of our own words. There are few, all known beforehand.
pub(crate) fn atom(env: Env<'_>, word: &'static str) -> Atom {
    Atom::from_str(env, word).unwrap_or_else(|_| atoms::unknown())
}

pub(crate) fn refusal(env: Env<'_>, refusal: Refusal) -> Atom {
    atom(env, refusal.as_str())
}

pub(crate) fn binary<'a>(env: Env<'a>, bytes: &[u8]) -> Binary<'a> {
    NewBinary::from_slice(env, bytes).into()
}

fn text<'a>(env: Env<'a>, text: &str) -> Term<'a> {
    binary(env, text.as_bytes()).to_term(env)
}

pub(crate) fn path<'a>(env: Env<'a>, path: &Path) -> Term<'a> {
    binary(env, path.as_os_str().as_bytes()).to_term(env)
}

/// A map from keys that differ.
pub(crate) fn map<'a>(env: Env<'a>, pairs: &[(Atom, Term<'a>)]) -> Term<'a> {
    let (keys, values): (Vec<_>, Vec<_>) =
        pairs.iter().map(|&(key, value)| (key.to_term(env), value)).unzip();
    // Fails only for keys that are given twice.
    Term::map_from_term_arrays(env, &keys, &values).unwrap_or_else(|_| Term::map_new(env))
}

/// The same of pairs whose number is known, which takes less time; least if the keys
/// are in alphabetical order.
fn map_of<'a, const N: usize>(env: Env<'a>, pairs: [(Atom, Term<'a>); N]) -> Term<'a> {
    let keys = pairs.map(|(key, _)| key.to_term(env));
    let values = pairs.map(|(_, value)| value);
    Term::map_from_term_arrays(env, &keys, &values).unwrap_or_else(|_| Term::map_new(env))
}

/// `{Tag, Map}`, the form of every error with values.
pub(crate) fn tagged_map<'a>(env: Env<'a>, tag: Atom, pairs: &[(Atom, Term<'a>)]) -> Term<'a> {
    (tag, map(env, pairs)).encode(env)
}

/// What the system said of a call that failed.
pub(crate) fn system_error<'a>(env: Env<'a>, error: &std::io::Error) -> (Atom, Term<'a>) {
    (atoms::reason(), text(env, &error.to_string()))
}

/// An address as `inet` has it.
pub(crate) fn ip(env: Env<'_>, ip: IpAddr) -> Term<'_> {
    match ip {
        IpAddr::V4(ip) => make_tuple(env, &ip.octets().map(|part| part.encode(env))),
        IpAddr::V6(ip) => make_tuple(env, &ip.segments().map(|part| part.encode(env))),
    }
}

/// `{Address, Port}`.
fn socket_address(env: Env<'_>, address: SocketAddr) -> Term<'_> {
    (ip(env, address.ip()), address.port()).encode(env)
}

/// `{Address, Port}`, or `vm` for what the VM registered itself.
pub(crate) fn peer(env: Env<'_>, peer: Option<SocketAddr>) -> Term<'_> {
    peer.map_or_else(|| atoms::vm().to_term(env), |address| socket_address(env, address))
}

pub(crate) fn node<'a>(env: Env<'a>, name: Binary<'a>, node: &Node) -> Term<'a> {
    let registration = &node.registration;
    map_of(
        env,
        [
            (atoms::creation(), node.creation.get().encode(env)),
            (atoms::extra(), binary(env, &registration.extra).to_term(env)),
            (atoms::highest_version(), registration.highest_version.encode(env)),
            (atoms::lowest_version(), registration.lowest_version.encode(env)),
            (atoms::name(), name.to_term(env)),
            (atoms::node_type(), registration.node_type.encode(env)),
            (atoms::peer(), peer(env, node.peer)),
            (atoms::port(), registration.port.encode(env)),
            (atoms::protocol(), registration.protocol.encode(env)),
            (atoms::since(), node.since.0.encode(env)),
        ],
    )
}

/// What is known of who holds a name.
pub(crate) fn holder(env: Env<'_>, holder: Holder) -> Term<'_> {
    let Holder { process, user } = holder;
    let process = process.map(|PortHolder { pid, program }| {
        [(atoms::pid(), pid.encode(env)), (atoms::program(), text(env, &program))]
    });
    let user = user.map(|user| (atoms::user(), text(env, &user)));
    let pairs: Vec<_> = process.into_iter().flatten().chain(user).collect();
    map(env, &pairs)
}

pub(crate) fn info<'a>(env: Env<'a>, info: &Info) -> Term<'a> {
    let addresses: Vec<_> =
        info.addresses.iter().map(|&address| socket_address(env, address)).collect();
    map(
        env,
        &[
            (atoms::addresses(), addresses.encode(env)),
            (atoms::version(), text(env, env!("CARGO_PKG_VERSION"))),
            (atoms::exposure(), atom(env, info.exposure.as_str()).encode(env)),
            (atoms::uptime(), (info.uptime.as_millis() as u64).encode(env)),
            (atoms::nodes(), info.nodes.encode(env)),
            (atoms::open_connections(), info.open_connections.encode(env)),
            (atoms::waiting_connections(), info.waiting_connections.encode(env)),
            (atoms::waiting_notices(), info.waiting_notices.encode(env)),
            (atoms::heirs(), info.heirs.encode(env)),
            (atoms::counters(), counters(env, &info.counters)),
        ],
    )
}

fn counters<'a>(env: Env<'a>, counters: &CounterValues) -> Term<'a> {
    let refused: Vec<_> = counters
        .refused
        .iter()
        .map(|&(reason, count)| (refusal(env, reason), count.encode(env)))
        .collect();
    let ended: Vec<_> = counters
        .ended
        .iter()
        .map(|&(reason, count)| (atom(env, reason.as_str()), count.encode(env)))
        .collect();
    let mut pairs =
        vec![(atoms::refused(), map(env, &refused)), (atoms::ended(), map(env, &ended))];
    pairs.extend(
        counters.named().into_iter().map(|(name, count)| (atom(env, name), count.encode(env))),
    );
    map(env, &pairs)
}

fn optional<'a>(env: Env<'a>, name: Option<&Name>) -> Term<'a> {
    name.map_or_else(|| atoms::undefined().to_term(env), |name| text(env, name.as_str()))
}

pub(crate) fn notice<'a>(env: Env<'a>, notice: &Notice) -> Term<'a> {
    let from = |address: &SocketAddr| socket_address(env, *address);
    match notice {
        Notice::Node(Event::Up { name, port, creation, peer: address, .. }) => {
            let name = text(env, name.as_str());
            (atoms::up(), name, port, creation.get(), peer(env, *address)).encode(env)
        }
        Notice::Node(Event::Down { name, creation, reason }) => {
            let reason = atom(env, reason.as_str());
            (atoms::down(), text(env, name.as_str()), creation.get(), reason).encode(env)
        }
        Notice::Connected { peer } => (atoms::connected(), from(peer)).encode(env),
        Notice::Asked { peer, request, name } => {
            let request = text(env, request);
            (atoms::asked(), from(peer), request, optional(env, name.as_ref())).encode(env)
        }
        Notice::Received { peer, body } => {
            (atoms::received(), from(peer), binary(env, body)).encode(env)
        }
        Notice::Refused { peer, reason, name } => {
            let name = optional(env, name.as_ref());
            (atoms::refused(), from(peer), refusal(env, *reason), name).encode(env)
        }
        Notice::TooMany { peer, reason, name, by } => {
            let (name, by) = (optional(env, name.as_ref()), holder(env, by.clone()));
            (atoms::too_many(), from(peer), refusal(env, *reason), name, by).encode(env)
        }
        Notice::Evicted { name, port, peer: address, successor } => {
            let (address, successor) = (peer(env, *address), peer(env, *successor));
            (atoms::evicted(), text(env, name), port, address, successor).encode(env)
        }
        Notice::TimedOut { peer } => (atoms::timed_out(), from(peer)).encode(env),
        Notice::CrowdedOut { peer } => (atoms::crowded_out(), from(peer)).encode(env),
        Notice::Panicked { peer } => (atoms::panicked(), from(peer)).encode(env),
        Notice::OutOfDescriptors => atoms::out_of_descriptors().to_term(env),
        Notice::DescriptorsSuffice => atoms::descriptors_suffice().to_term(env),
        Notice::AddressSkipped { address, error } => {
            (atoms::address_skipped(), from(address), text(env, error)).encode(env)
        }
        Notice::FileLimitKept { error } => (atoms::file_limit_kept(), text(env, error)).encode(env),
        Notice::WentOn { nodes, gone } => (atoms::went_on(), nodes, gone).encode(env),
        Notice::StoreTooSmall { slots, limit } => {
            (atoms::store_too_small(), slots, limit).encode(env)
        }
        Notice::NotRecorded { file, error } => {
            let file = file.as_ref().map(|file| path(env, file));
            let file = file.unwrap_or_else(|| atoms::undefined().to_term(env));
            (atoms::not_recorded(), file, text(env, error)).encode(env)
        }
        Notice::StateFileUnreadable { kept_as, error } => {
            (atoms::state_file_unreadable(), path(env, kept_as), text(env, error)).encode(env)
        }
        Notice::ServiceManagerUnreachable { error } => {
            (atoms::service_manager_unreachable(), text(env, error)).encode(env)
        }
        Notice::NoTakeoverSocket { path: at, error, is_required } => {
            let at = path(env, at);
            (atoms::no_takeover_socket(), at, text(env, error), is_required).encode(env)
        }
        Notice::NotTakenOver { pid, reason } => {
            (atoms::not_taken_over(), pid, text(env, reason)).encode(env)
        }
        Notice::TakenOver { pid } => (atoms::taken_over(), pid).encode(env),
        Notice::Killed { peer } => (atoms::killed(), from(peer)).encode(env),
        _ => atoms::unknown().to_term(env),
    }
}

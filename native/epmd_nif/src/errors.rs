//! Errors as `{Tag, Map}`, documented in `erlang_src/portmapper_nif.erl`.

use epmd_server::{
    InheritanceError, ListenError, ReconfigureError, ServiceManagerError, TakeoverError,
};
use rustler::{Encoder, Env, Term};

use crate::terms::{atom, atoms, binary, ip, map, path, system_error, tagged_map};

pub(crate) fn listen(env: Env<'_>, error: ListenError) -> Term<'_> {
    match error {
        ListenError::InUse { address, holder } => {
            let holder = holder.map_or_else(
                || atoms::unknown().to_term(env),
                |holder| {
                    let program = binary(env, holder.program.as_bytes()).to_term(env);
                    let pid = holder.pid.encode(env);
                    map(env, &[(atoms::pid(), pid), (atoms::program(), program)])
                },
            );
            let address_ip = (atoms::address(), ip(env, address.ip()));
            let port = (atoms::port(), address.port().encode(env));
            let pairs = [address_ip, port, (atoms::holder(), holder)];
            tagged_map(env, atoms::address_in_use(), &pairs)
        }
        ListenError::CannotBind { address, error } => {
            let address_ip = (atoms::address(), ip(env, address.ip()));
            let port = (atoms::port(), address.port().encode(env));
            let pairs = [address_ip, port, system_error(env, &error)];
            tagged_map(env, atoms::cannot_bind(), &pairs)
        }
        ListenError::TooManyAddresses(count) => {
            let pairs = [(atoms::count(), count.encode(env))];
            tagged_map(env, atoms::too_many_addresses(), &pairs)
        }
        ListenError::NotListening(descriptor) => not_listening(env, descriptor),
        ListenError::Thread(error) => {
            tagged_map(env, atoms::cannot_start_thread(), &[system_error(env, &error)])
        }
        _ => atoms::unknown().to_term(env),
    }
}

fn not_listening(env: Env<'_>, descriptor: i32) -> Term<'_> {
    tagged_map(env, atoms::not_listening(), &[(atoms::descriptor(), descriptor.encode(env))])
}

pub(crate) fn inheritance(env: Env<'_>, error: InheritanceError) -> Term<'_> {
    if let InheritanceError::NotListening(descriptor) = error {
        return not_listening(env, descriptor);
    }
    let reason = binary(env, error.to_string().as_bytes()).to_term(env);
    tagged_map(env, atoms::bad_estate(), &[(atoms::reason(), reason)])
}

pub(crate) fn takeover(env: Env<'_>, error: TakeoverError) -> Term<'_> {
    let reason = |text: &str| (atoms::reason(), binary(env, text.as_bytes()).to_term(env));
    match error {
        TakeoverError::NoSocket => {
            let key = (atoms::key(), atoms::takeover_socket().to_term(env));
            let expected = binary(env, b"default or a path, to take over").to_term(env);
            tagged_map(env, atoms::bad_config(), &[key, (atoms::expected(), expected)])
        }
        TakeoverError::NobodyThere { path: at, error } => {
            let pairs = [(atoms::path(), path(env, &at)), system_error(env, &error)];
            tagged_map(env, atoms::no_port_mapper(), &pairs)
        }
        TakeoverError::NotPermitted { path: at } => {
            let pairs = [(atoms::path(), path(env, &at))];
            tagged_map(env, atoms::takeover_not_permitted(), &pairs)
        }
        TakeoverError::Refused(refusal) => refused(env, refusal.as_str()),
        TakeoverError::Version => refused(env, "version"),
        TakeoverError::Listen(error) => listen(env, error),
        TakeoverError::Estate(error) => {
            tagged_map(env, atoms::bad_estate(), &[reason(&error.to_string())])
        }
        TakeoverError::Failed(text) => tagged_map(env, atoms::takeover_failed(), &[reason(&text)]),
        _ => atoms::unknown().to_term(env),
    }
}

fn refused<'a>(env: Env<'a>, reason: &'static str) -> Term<'a> {
    let reason = (atoms::reason(), atom(env, reason).to_term(env));
    tagged_map(env, atoms::takeover_refused(), &[reason])
}

/// A variable is named by its name; its value is known to whoever read it.
pub(crate) fn service_manager(env: Env<'_>, error: ServiceManagerError) -> Term<'_> {
    match error {
        ServiceManagerError::BadVariable { variable, expected } => {
            let variable = (atoms::key(), atom(env, variable).to_term(env));
            let expected = (atoms::expected(), binary(env, expected.as_bytes()).to_term(env));
            tagged_map(env, atoms::bad_config(), &[variable, expected])
        }
        ServiceManagerError::Socket(error) => {
            let tag = atoms::service_manager_unreachable();
            tagged_map(env, tag, &[system_error(env, &error)])
        }
        _ => atoms::unknown().to_term(env),
    }
}

pub(crate) fn reconfigure(env: Env<'_>, error: ReconfigureError) -> Term<'_> {
    match error {
        ReconfigureError::Listen(error) => listen(env, error),
        ReconfigureError::NeedsRestart(key) => {
            let pairs = [(atoms::key(), atom(env, key).to_term(env))];
            tagged_map(env, atoms::needs_restart(), &pairs)
        }
        _ => atoms::closed().to_term(env),
    }
}

//! The configuration as an Erlang map, read and checked by serde.

use epmd_server::Config;
use rustler::serde::{Deserializer, Error, to_term};
use rustler::{Env, MapIterator, Term};
use serde::de::IntoDeserializer;
use serde::de::value::MapDeserializer;
use serde_path_to_error::Segment;

use crate::terms::{atoms, binary, tagged_map};

/// A value of the map. (rustler takes a map for a struct only if it carries
/// Elixir's `__struct__`, so the outermost level is read here.)
struct Value<'a>(Term<'a>);

impl<'de, 'a: 'de> IntoDeserializer<'de, Error> for Value<'a> {
    type Deserializer = Deserializer<'a>;

    fn into_deserializer(self) -> Deserializer<'a> {
        self.0.into()
    }
}

/// Reads a configuration from a map with atoms as keys.
///
/// # Errors
/// `{bad_config, #{key, value, expected}}` for the first key or value that is
/// wrong.
pub(crate) fn read<'a>(env: Env<'a>, term: Term<'a>) -> Result<Config, Term<'a>> {
    let entries: Vec<(Term<'a>, Term<'a>)> =
        MapIterator::new(term).map(Iterator::collect).unwrap_or_default();
    let named = entries.iter().map(|&(key, value)| (key_name(key), Value(value)));
    serde_path_to_error::deserialize(MapDeserializer::new(named)).map_err(|error| {
        let path = error.path().iter().next();
        let wrong = entries.iter().find(|(key, _)| match path {
            Some(Segment::Map { key: name }) => key_name(*key) == *name,
            _ => Config::expected(&key_name(*key)).is_none(),
        });
        let &(key, value) = wrong.unwrap_or(&(term, term));
        let expected = Config::expected(&key_name(key)).unwrap_or(Config::KEYS);
        let pairs = [
            (atoms::key(), key),
            (atoms::value(), value),
            (atoms::expected(), binary(env, expected.as_bytes()).to_term(env)),
        ];
        tagged_map(env, atoms::bad_config(), &pairs)
    })
}

/// The name of a key; what is not an atom has none, and so is unknown.
fn key_name(key: Term<'_>) -> String {
    key.atom_to_string().unwrap_or_default()
}

/// The configuration as a map of the same form.
pub(crate) fn write<'a>(env: Env<'a>, config: &Config) -> Term<'a> {
    // Both calls fail only for what is not a struct.
    to_term(env, config)
        .ok()
        .and_then(|map| map.map_remove(atoms::elixir_struct()).ok())
        .unwrap_or_else(|| Term::map_new(env))
}

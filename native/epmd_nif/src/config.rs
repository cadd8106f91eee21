//! The configuration as an Erlang map, read and checked by serde.

use epmd_server::Config;
use rustler::serde::{Deserializer, Error, to_term};
use rustler::{Env, MapIterator, Term};
use serde::de::value::MapDeserializer;
use serde::de::{self, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_path_to_error::Segment;

use crate::terms::{atom, atoms, binary, tagged_map};

/// A value of the map, read for what it is: rustler would cut an integer to the
/// type that is asked for, where serde checks its bounds.
///
/// (The map itself is read here because rustler takes one for a struct only if
/// it carries Elixir's `__struct__`.)
struct Value<'a>(Term<'a>);

impl<'de, 'a: 'de> de::Deserializer<'de> for Value<'a> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        Deserializer::from(self.0).deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        // rustler would take a binary for the atom of that text.
        if self.0.is_atom() {
            Deserializer::from(self.0).deserialize_enum(name, variants, visitor)
        } else {
            self.deserialize_any(visitor)
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        option unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}

impl<'de, 'a: 'de> IntoDeserializer<'de, Error> for Value<'a> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
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

/// The words that [`write`] makes atoms of.
const WORDS: [&str; 30] = [
    "port",
    "addresses",
    "exposure",
    "watch_remote",
    "max_watchers",
    "subscriber_queue",
    "relaxed_command_check",
    "evict_stale",
    "packet_timeout",
    "local_reserve",
    "max_nodes",
    "max_nodes_per_process",
    "delay_accept",
    "delay_write",
    "remembered_names",
    "raise_file_limit",
    "process_name",
    "trim_memory",
    "systemd",
    "stored_descriptors",
    "state_file",
    "takeover_socket",
    "takeover",
    "debug",
    "log_level",
    "all",
    "lookup",
    "local",
    "default",
    "none",
];

/// The configuration as a map of the same form.
pub(crate) fn write<'a>(env: Env<'a>, config: &Config) -> Term<'a> {
    // The serializer makes binaries of words that no atom in this VM has yet.
    for word in WORDS {
        atom(env, word);
    }
    // Both calls fail only for what is not a struct.
    to_term(env, config)
        .ok()
        .and_then(|map| map.map_remove(atoms::elixir_struct()).ok())
        .unwrap_or_else(|| Term::map_new(env))
}

//! What those who follow a registry are told, and how it is asked.

use std::collections::HashMap;

use epmd_core::{ConnId, Creation, Event, Name, Reply};

/// Who is up, going by the events alone.
#[derive(Debug, Default)]
pub struct Up(pub HashMap<Name, Creation>);

impl Up {
    /// Takes note of an event.
    ///
    /// # Panics
    /// When it does not follow from those before.
    pub fn hear(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Up { name, creation, .. }) => {
                assert_eq!(self.0.insert(name, creation), None, "up twice");
            }
            Some(Event::Down { name, creation, .. }) => {
                assert_eq!(self.0.remove(&name), Some(creation), "down without up");
            }
            None => {}
        }
    }
}

/// Few descriptors, so that they are used again by other connections.
pub fn connection(number: u32) -> ConnId {
    ConnId::new(number, number as i32 % 7)
}

/// The bytes of a reply.
pub fn encoded(reply: &Reply<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    reply.encode(&mut out);
    out
}

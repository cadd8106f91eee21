//! What the virtual machine says: the assignments of `sd_notify(3)`.

use thiserror::Error;

/// The longest name of a descriptor (`FDNAME_MAX` of systemd).
const MAX_NAME: usize = 255;

/// The assignments that mean something to the keeper.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Message<'t> {
    /// It serves.
    pub(crate) ready: bool,
    /// It ends, and needs no successor.
    pub(crate) stopping: bool,
    /// It tells how it is.
    pub(crate) has_status: bool,
    /// The name under which to hold the descriptors that came along.
    pub(crate) store: Option<&'t str>,
    /// The names whose descriptors to close. (systemd takes one at a time.)
    pub(crate) remove: Vec<&'t str>,
}

/// Why a message is ignored.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum BadMessage {
    #[error("it is too long")]
    TooLong,
    #[error("it comes from process {0}")]
    Stranger(i32),
    #[error("it is not a list of assignments")]
    NoAssignments,
    #[error("it has no name for a descriptor, a wrong one, or too many")]
    BadName,
    #[error("it has no descriptor to store")]
    NoDescriptor,
    #[error("{0} descriptors are stored already")]
    NoRoom(usize),
}

impl<'t> Message<'t> {
    /// Reads the assignments, one a line. `BARRIER` needs none here: what came along
    /// is closed when all before is done.
    pub(crate) fn read(text: &'t [u8]) -> Result<Self, BadMessage> {
        let text = std::str::from_utf8(text).map_err(|_| BadMessage::NoAssignments)?;
        let (mut message, mut names) = (Self::default(), Vec::new());
        let (mut store, mut remove) = (false, false);
        for line in text.lines() {
            match line.split_once('=').ok_or(BadMessage::NoAssignments)? {
                ("READY", "1") => message.ready = true,
                ("STOPPING", "1") => message.stopping = true,
                ("STATUS", _) => message.has_status = true,
                ("FDSTORE", "1") => store = true,
                ("FDSTOREREMOVE", "1") => remove = true,
                ("FDNAME", name) if is_name(name) => names.push(name),
                ("FDNAME", _) => return Err(BadMessage::BadName),
                _ => {}
            }
        }
        if store {
            let &[name] = names.as_slice() else { return Err(BadMessage::BadName) };
            message.store = Some(name);
        }
        if remove {
            let has_names = !names.is_empty();
            message.remove = has_names.then_some(names).ok_or(BadMessage::BadName)?;
        }
        Ok(message)
    }

    /// Whether it is for whoever watches over the service, too.
    pub(crate) const fn is_report(&self) -> bool {
        self.ready || self.stopping || self.has_status
    }
}

/// A name that can be handed over among others, in the environment.
fn is_name(name: &str) -> bool {
    let fits = |byte: u8| (b' '..0x7f).contains(&byte) && byte != b':';
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_keeper_needs_is_read_and_the_rest_ignored() {
        let none = Message::default();
        let read = |text: &'static str| Message::read(text.as_bytes()).unwrap();
        assert_eq!(read(""), none);
        assert_eq!(read("WATCHDOG=1"), none);
        assert_eq!(read("BARRIER=1"), none);
        let status = Message { has_status: true, ..Message::default() };
        assert_eq!(read("READY=0\nSTATUS=a=b"), status);
        assert_eq!(read("READY=1\n"), Message { ready: true, ..Message::default() });
        assert_eq!(read("STOPPING=1\nSTATUS=Stopping"), Message { stopping: true, ..status });
        let store = Message { store: Some("1z"), ..Message::default() };
        assert_eq!(read("FDNAME=1z\nFDSTORE=1"), store);
        let remove = Message { remove: vec!["x", "y"], ..Message::default() };
        assert_eq!(read("FDSTOREREMOVE=1\nFDNAME=x\nFDNAME=y"), remove);
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for text in ["READY", "READY=1\n\nSTATUS=x", "\u{0}"] {
            assert_eq!(Message::read(text.as_bytes()), Err(BadMessage::NoAssignments), "{text}");
        }
        assert_eq!(Message::read(b"STATUS=\xff"), Err(BadMessage::NoAssignments));
        let long = format!("FDSTORE=1\nFDNAME={}", "x".repeat(256));
        let several = "FDSTORE=1\nFDNAME=a\nFDNAME=b";
        let remove = "FDSTOREREMOVE=1\nFDNAME=a:b";
        for text in ["FDSTORE=1", "FDSTOREREMOVE=1", "FDSTORE=1\nFDNAME=", remove, several, &long] {
            assert_eq!(Message::read(text.as_bytes()), Err(BadMessage::BadName), "{text}");
        }
    }
}

//! Where ours differs on purpose from C `epmd`: each maps what C shows to what
//! ours has to show. Numbers are those of "Where we differ on purpose" in the
//! protocol notes.

use super::creation::Verdict;
use super::observation::{Observation, Outcome, Reply};
use super::script::Held;
use super::wire::{End, Text, length_of};

/// A difference on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// 1: C unregisters the holder of a name when a duplicate is reset.
    DuplicateLeavesTheHolder,
    /// 2: C answers `NOEXISTSTOPPED`.
    StopOfUnknownNameIsNoexistAlone,
    /// 3: C closes a look-up of 255 characters unanswered.
    NameOf255CharactersIsFound,
    /// 4: C keeps the connection, and so reads what comes after the request.
    RefusedConnectionIsClosed,
    /// 8: C may still see the old life of a name that registers again.
    CloseIsSeenBeforeRegistration,
    /// 9: C registers the empty name.
    EmptyNameIsRefused,
}

impl Difference {
    /// In the order in which they apply: a refusal closes.
    const ALL: [Self; 6] = [
        Self::DuplicateLeavesTheHolder,
        Self::StopOfUnknownNameIsNoexistAlone,
        Self::NameOf255CharactersIsFound,
        Self::CloseIsSeenBeforeRegistration,
        Self::EmptyNameIsRefused,
        Self::RefusedConnectionIsClosed,
    ];

    /// What ours has to show where C showed `seen` of a request. `held` is who
    /// was registered then.
    pub fn apply_all(mut seen: Observation, request: &[u8], held: &[Held]) -> Observation {
        Self::ALL.iter().for_each(|difference| difference.apply(&mut seen, request, held));
        seen
    }

    fn apply(self, seen: &mut Observation, request: &[u8], held: &[Held]) {
        match (self, &mut seen.outcome) {
            (Self::DuplicateLeavesTheHolder, Outcome::Survived(survived)) => *survived = true,
            (
                Self::StopOfUnknownNameIsNoexistAlone,
                Outcome::Stopped { reply, end, node: None },
            ) if **reply == *b"NOEXISTSTOPPED" => {
                let reply = Reply::Bytes(b"NOEXIST".into());
                seen.outcome = Outcome::Answered(reply, *end);
            }
            (
                Self::NameOf255CharactersIsFound,
                Outcome::Answered(Reply::Bytes(reply), End::Closed),
            ) if reply.is_empty() => {
                if let Some(name) = name_of_255_characters(request) {
                    *reply = found(held, name).into();
                }
            }
            (Self::CloseIsSeenBeforeRegistration, Outcome::Returned { refused_first, .. }) => {
                *refused_first = false;
            }
            (Self::EmptyNameIsRefused, outcome) => {
                if let Outcome::Answered(Reply::Alive { result, creation, .. }, end) = outcome
                    && request[11..13] == [0, 0]
                {
                    (*result, *creation, *end) = (1, Verdict::Refused(99), End::Closed);
                }
                if let Outcome::Answered(Reply::Listing(lines), _) = outcome {
                    lines.retain(is_named);
                }
                seen.dump.retain(is_named);
            }
            (
                Self::RefusedConnectionIsClosed,
                Outcome::Answered(Reply::Alive { result: 1, .. }, end),
            ) => {
                // Bytes that nobody read make a close a reset.
                let surplus = request.len() > length_of(request);
                *end = if surplus { End::Reset } else { End::Closed };
            }
            _ => {}
        }
    }
}

/// Whether this line of DUMP is of a name that ours would have registered.
fn is_named(line: &Text) -> bool {
    !line.starts_with(b"old/unused name <>, port = ")
}

/// The name that a request looks up, if it is as long as a name may be.
fn name_of_255_characters(request: &[u8]) -> Option<&[u8]> {
    let (head, name) = request.split_at_checked(3)?;
    let name = name.strip_suffix(b"\0").unwrap_or(name);
    let text = std::str::from_utf8(name).ok()?;
    let fits = head[2] == b'z' && length_of(request) == request.len();
    (fits && !name.contains(&0) && text.chars().count() == 255).then_some(name)
}

/// The reply to a look-up: its body is that of the registration.
fn found(held: &[Held], name: &[u8]) -> Vec<u8> {
    match held.iter().find(|held| *held.name == *name) {
        Some(held) => [b"w\0", &held.registration[..]].concat(),
        None => b"w\x01".to_vec(),
    }
}

//! Node names. The one place that decodes UTF-8.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::Refusal;
use crate::limits::{MAX_NAME_BYTES, MAX_NAME_CHARS};

/// The name of a node, the part before the `@`: UTF-8 of 1 to 255 characters
/// without NUL. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// Checks bytes by the rules for names, without copying them.
    ///
    /// # Errors
    /// [`Refusal::InvalidName`] when empty, not UTF-8 or with a NUL,
    /// [`Refusal::NameTooLong`] above 1,020 bytes or 255 characters.
    pub fn check(bytes: &[u8]) -> Result<&str, Refusal> {
        if bytes.len() > MAX_NAME_BYTES {
            return Err(Refusal::NameTooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Refusal::InvalidName)?;
        if text.is_empty() || text.contains('\0') {
            return Err(Refusal::InvalidName);
        }
        // A text of at most 255 bytes cannot have more characters.
        if text.len() > MAX_NAME_CHARS && text.chars().count() > MAX_NAME_CHARS {
            return Err(Refusal::NameTooLong);
        }
        Ok(text)
    }

    /// Takes a name from bytes; errors as [`Name::check`].
    pub fn new(bytes: &[u8]) -> Result<Self, Refusal> {
        Self::check(bytes).map(|text| Self(text.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// Lets maps with `Name` keys be asked with the bytes of a request.
impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_at_most_255_characters_of_any_width() {
        for wide in ["n", "é", "漢", "😀"] {
            assert!(Name::new(wide.repeat(255).as_bytes()).is_ok(), "{wide}");
            assert_eq!(Name::new(wide.repeat(256).as_bytes()), Err(Refusal::NameTooLong), "{wide}");
        }
    }

    #[test]
    fn a_name_is_strict_utf8_without_nul() {
        for good in ["n", "\u{fffe}", "\u{ffff}", "\u{10ffff}"] {
            assert_eq!(Name::check(good.as_bytes()), Ok(good));
        }
        let bad: [&[u8]; 8] = [
            b"",
            b"a\0b",
            b"\xff",
            b"\xc3",
            b"\xc0\x80",         // overlong
            b"\xed\xa0\x80",     // surrogate
            b"\xf4\x90\x80\x80", // above 10FFFF
            b"\xe0\x9f\xbf",     // overlong
        ];
        for bytes in bad {
            assert_eq!(Name::check(bytes), Err(Refusal::InvalidName), "{bytes:?}");
        }
    }
}

//! Patterns over names.

use std::str::Chars;

use crate::{Name, Refusal};

/// A pattern over names. `*` stands for any characters or none, `?` for one,
/// `[a-z]` for one of these, and `[!a-z]` for one that is none of these; a set
/// may have several ranges and single characters, and `]` if that comes first.
/// Anything else stands for itself, as does a `[` that nothing closes: `[*]` is
/// an asterisk.
///
/// To match takes at most about half as many steps as the square of the name's
/// characters, whatever the pattern is, and as many as they are for a usual one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Any,
    One(Single),
}

/// What stands for one character.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Single {
    Any,
    This(char),
    Set { is_listed: bool, ranges: Vec<(char, char)> },
}

impl Single {
    fn matches(&self, character: char) -> bool {
        match self {
            Self::Any => true,
            Self::This(this) => *this == character,
            Self::Set { is_listed, ranges } => {
                let within = |&(first, last): &(char, char)| (first..=last).contains(&character);
                ranges.iter().any(within) == *is_listed
            }
        }
    }
}

impl Glob {
    /// Takes any text as a pattern; one without `*`, `?` and `[` matches itself
    /// alone.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = pattern.chars();
        while let Some(character) = rest.next() {
            let part = match character {
                // Two are as good as one.
                '*' if parts.last() == Some(&Part::Any) => continue,
                '*' => Part::Any,
                '?' => Part::One(Single::Any),
                '[' => Part::One(take_set(&mut rest).unwrap_or(Single::This('['))),
                other => Part::One(Single::This(other)),
            };
            parts.push(part);
        }
        Self(parts)
    }

    /// Checks the bytes of a request: a pattern obeys the rules for names.
    ///
    /// # Errors
    /// As [`Name::check`].
    pub fn check(bytes: &[u8]) -> Result<&str, Refusal> {
        Name::check(bytes)
    }

    /// Whether every name fits the pattern.
    #[must_use]
    pub fn matches_all(&self) -> bool {
        self.0 == [Part::Any]
    }

    /// Whether the whole name fits the pattern.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (mut parts, mut rest) = (self.0.as_slice(), name.chars());
        // Behind the last asterisk: what follows it, and where that is tried. An
        // earlier one need not be looked at again.
        let mut behind: Option<(&[Part], Chars<'_>)> = None;
        loop {
            match parts.split_first() {
                Some((Part::Any, [])) => return true,
                Some((Part::Any, following)) => {
                    parts = following;
                    behind = Some((following, rest.clone()));
                    continue;
                }
                Some((Part::One(single), following)) => {
                    let Some(character) = rest.next() else { return false };
                    if single.matches(character) {
                        parts = following;
                        continue;
                    }
                }
                None if rest.as_str().is_empty() => return true,
                None => {}
            }
            let Some((following, from)) = &mut behind else { return false };
            if from.next().is_none() {
                return false;
            }
            (parts, rest) = (following, from.clone());
        }
    }
}

/// Takes a set up to its closing bracket, if it has one.
fn take_set(rest: &mut Chars<'_>) -> Option<Single> {
    let mut behind = rest.clone();
    let is_listed = !behind.as_str().starts_with('!');
    if !is_listed {
        behind.next();
    }
    let mut ranges = Vec::new();
    loop {
        let first = behind.next()?;
        if first == ']' && !ranges.is_empty() {
            break;
        }
        let mut ahead = behind.clone();
        let last = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(last)) if last != ']' => {
                behind = ahead;
                last
            }
            _ => first,
        };
        ranges.push((first, last));
    }
    *rest = behind;
    Some(Single::Set { is_listed, ranges })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Glob::new(pattern).matches(name)
    }

    #[test]
    fn a_glob_matches_whole_names() {
        for (pattern, names) in [
            ("n", &["n"][..]),
            ("web*", &["web", "web12", "web*"]),
            ("*", &["", "anything"]),
            ("**", &["", "anything"]),
            ("*@?", &["n@1", "n@2@3"]),
            ("n?", &["né", "n?"]),
            ("*a*b", &["ab", "aab", "abab", "xaxb"]),
            ("a*a", &["aa", "aba"]),
        ] {
            for name in names {
                assert!(matches(pattern, name), "{pattern} {name}");
            }
        }
        for (pattern, name) in
            [("n", "n1"), ("web*", "aweb"), ("?", ""), ("", "n"), ("*a*b", "ba"), ("a*a", "a")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_set_stands_for_one_of_its_characters() {
        for (pattern, yes, no) in [
            ("[a-c]", "abc", "d-]"),
            ("[abc]", "abc", "d"),
            ("[!a-c]", "dé!", "abc"),
            ("[a-cx-z_]", "abcxyz_", "dw-"),
            ("[]]", "]", "["),
            ("[!]]", "[", "]"),
            ("[a-]", "a-", "b"),
            ("[-a]", "a-", "b"),
            ("[*?[]", "*?[", "a"),
            ("[α-ω]", "λ", "a"),
            // Backwards, nothing is between them.
            ("[z-a]", "", "az-"),
        ] {
            for character in yes.chars() {
                assert!(matches(pattern, &character.to_string()), "{pattern} {character}");
            }
            for character in no.chars() {
                assert!(!matches(pattern, &character.to_string()), "{pattern} {character}");
            }
        }
        assert!(matches("n[0-9]*", "n1_a") && !matches("n[0-9]*", "n_1"));
    }

    #[test]
    fn a_bracket_that_nothing_closes_stands_for_itself() {
        for pattern in ["[", "[a", "[]", "[!]", "a[b-"] {
            assert!(matches(pattern, pattern), "{pattern}");
            assert!(!matches(pattern, "a"), "{pattern}");
        }
        assert!(matches("[a*", "[ab"));
    }

    #[test]
    fn a_pattern_made_to_take_long_does_not() {
        let glob = Glob::new(&"*a".repeat(127));
        let name = "a".repeat(254) + "b";
        let started = std::time::Instant::now();
        assert!((0..1_000).all(|_| !glob.matches(&name)));
        // 32,000 steps each; without a bound there were more than atoms on earth.
        assert!(started.elapsed().as_secs() < 20);
    }

    /// What the pattern means, as it reads.
    fn naively(pattern: &[char], name: &[char]) -> bool {
        match (pattern, name) {
            ([], _) => name.is_empty(),
            (['*', rest @ ..], _) => (0..=name.len()).any(|at| naively(rest, &name[at..])),
            (['?', rest @ ..], [_, name @ ..]) => naively(rest, name),
            ([first, rest @ ..], [other, name @ ..]) => first == other && naively(rest, name),
            (_, []) => false,
        }
    }

    proptest! {
        #[test]
        fn asterisks_and_question_marks_mean_what_they_say(
            pattern in "[ab?*]{0,8}",
            name in "[ab]{0,10}",
        ) {
            let characters = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = naively(&characters(&pattern), &characters(&name));
            prop_assert_eq!(matches(&pattern, &name), expected);
        }

        #[test]
        fn any_text_is_a_pattern(pattern in "[^*?\\[]{0,40}", name in ".{0,40}") {
            prop_assert!(matches(&pattern, &pattern));
            prop_assert_eq!(matches(&pattern, &name), pattern == name);
            let _ = matches(&name, &pattern);
        }
    }
}

//! The command line: `--key value`, after the mode and the release.

use std::path::PathBuf;

use crate::subject::Manager;
use crate::trouble::Kind;

/// What is asked for.
#[derive(Debug)]
pub struct Options {
    pub mode: String,
    pub release: PathBuf,
    pub manager: Manager,
    pairs: Vec<(String, String)>,
}

/// What is printed when it cannot be understood.
pub const USAGE: &str = "usage: soak rings|scale|long|table RELEASE [--KEY VALUE]...";

impl Options {
    /// Reads the arguments of this program.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mode = arguments.next().ok_or(USAGE)?;
        let release = arguments.next().ok_or(USAGE)?;
        let release = PathBuf::from(&release)
            .canonicalize()
            .map_err(|error| format!("{release}: {error}"))?;
        let mut pairs = Vec::new();
        while let Some(word) = arguments.next() {
            let key = word.strip_prefix("--").ok_or(USAGE)?.to_owned();
            pairs.push((key, arguments.next().ok_or(USAGE)?));
        }
        let mut options = Self { mode, release, manager: Manager::Keeper, pairs };
        options.manager = match options.text("manager") {
            None | Some("keeper") => Manager::Keeper,
            Some("systemd") => Manager::Systemd,
            Some("user-systemd") => Manager::UserSystemd,
            Some(other) => {
                let expected = "keeper, systemd or user-systemd";
                return Err(format!("--manager {other}: expected {expected}"));
            }
        };
        Ok(options)
    }

    /// The keys and values, as they were given.
    pub fn words(&self) -> impl Iterator<Item = String> {
        self.pairs.iter().flat_map(|(key, value)| [format!("--{key}"), value.clone()])
    }

    /// The value of a key.
    pub fn text(&self, key: &str) -> Option<&str> {
        let pair = self.pairs.iter().rev().find(|(name, _)| name == key);
        pair.map(|(_, value)| value.as_str())
    }

    /// The value of a key that is a number.
    ///
    /// # Errors
    /// When it is none.
    pub fn number(&self, key: &str, default: usize) -> Result<usize, String> {
        let number = |text: &str| text.parse().map_err(|_| format!("--{key} {text}: not a number"));
        self.text(key).map_or(Ok(default), number)
    }

    /// Each kind of trouble as often as its key says.
    ///
    /// # Errors
    /// When one of them is no number.
    pub fn troubles(&self, defaults: &[(Kind, usize)]) -> Result<Vec<Kind>, String> {
        let mut troubles = Vec::new();
        for &(kind, default) in defaults {
            troubles.extend(vec![kind; self.number(kind.key(), default)?]);
        }
        Ok(troubles)
    }
}

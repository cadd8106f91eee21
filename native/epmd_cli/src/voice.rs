//! Where messages of a program go that stays.

use std::fs::File;
use std::io::Write;

use crate::output::say;
use crate::syslog;

/// Where messages go.
#[derive(Debug)]
pub(crate) enum Voice {
    /// To the standard error stream.
    Foreground,
    /// To the system log; at first also to whoever started the program.
    Background {
        /// Whoever started it waits for the end of this: then what was written is
        /// the reason why it did not start.
        starter: Option<File>,
        /// Whether it waits until the virtual machine serves.
        until_served: bool,
        /// The terminal.
        terminal: Option<File>,
    },
}

impl Voice {
    pub(crate) fn tell(&mut self, message: &str) {
        match self {
            Self::Foreground => say(message),
            Self::Background { starter: Some(starter), .. } => {
                let _ = writeln!(starter, "{message}");
            }
            Self::Background { starter: None, terminal, .. } => {
                syslog::log(message);
                if let Some(terminal) = terminal {
                    let _ = writeln!(terminal, "epmd: {message}");
                }
            }
        }
    }

    /// Lets whoever started the program go on, unless it waits for more.
    pub(crate) fn release_starter(&mut self) {
        if let Self::Background { starter, until_served: false, .. } = self {
            *starter = None;
        }
    }

    /// Lets go of that and of the terminal.
    pub(crate) fn release_all(&mut self) {
        if let Self::Background { starter, terminal, .. } = self {
            *starter = None;
            *terminal = None;
        }
    }
}

//! What the program prints, and how it ends.

use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

use serde::Serialize;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Success,
    Failure,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        match status {
            Status::Success => Self::SUCCESS,
            Status::Failure => Self::FAILURE,
        }
    }
}

/// Prints something; whether somebody may still read it.
pub(crate) fn write(text: &str) -> bool {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// Prints a result, and passes the status on. Who reads it may have seen
/// enough: that is no error.
pub(crate) fn print(text: &str, status: Status) -> Status {
    let _ = write(text);
    status
}

/// The same as JSON, on a line.
pub(crate) fn print_json(value: &impl Serialize, status: Status) -> Status {
    // Fails only for maps with keys that are no text.
    let text = serde_json::to_string(value).unwrap_or_default();
    print(&(text + "\n"), status)
}

/// Tells the user something on the standard error stream.
pub(crate) fn say(message: &str) {
    let _ = writeln!(stderr(), "epmd: {message}");
}

//! How a virtual machine has ended.

use std::fmt;
use std::io;

use rustix::process::WaitStatus;

use super::life::START_TIMEOUT;

/// Why there is no virtual machine any more.
#[derive(Debug)]
pub(crate) enum End {
    /// There has been none.
    NotStarted(io::Error),
    /// It did not serve in time, and was killed.
    NotInTime,
    Ended(WaitStatus),
}

impl End {
    /// An exit status, in the form in which a shell tells it: 128 and the number of
    /// the signal, if one ended the process.
    pub(crate) fn status(&self) -> u8 {
        let Self::Ended(status) = self else { return 1 };
        let signal = status.terminating_signal().map(|signal| 128 + signal);
        let status = status.exit_status().or(signal).unwrap_or(1);
        u8::try_from(status).unwrap_or(1)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted(error) => {
                write!(f, "cannot start the Erlang virtual machine: {error}")
            }
            Self::NotInTime => {
                let seconds = START_TIMEOUT.as_secs();
                write!(
                    f,
                    "the Erlang virtual machine did not answer within {seconds} seconds and was \
                     killed"
                )
            }
            Self::Ended(status) => match status.terminating_signal() {
                Some(signal) => {
                    write!(f, "the Erlang virtual machine was ended by signal {signal}")
                }
                None => {
                    write!(f, "the Erlang virtual machine ended with status {}", self.status())
                }
            },
        }
    }
}

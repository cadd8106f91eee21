//! Taking over from the port mapper that serves the port. The virtual machine does it;
//! here it is found out whether it will.

use epmd_server::{Config, TakeoverError};
use thiserror::Error;

use crate::client::{connect, names};

/// Why nothing will be taken over.
#[derive(Debug, Error)]
pub(crate) enum CannotTakeOver {
    #[error("no EPMD serves port {0}: there is nothing to take over")]
    NoEpmd(u16),
    #[error(
        "the EPMD on port {port} is none of this kind, or another user's: {error}. To end it \
         and take its place, use -replace"
    )]
    Stranger { port: u16, error: TakeoverError },
    #[error("cannot take over: {0}")]
    Refused(TakeoverError),
}

/// Asks the port mapper whether it would hand over. It goes on as before.
pub(crate) fn check(config: &Config) -> Result<(), CannotTakeOver> {
    let port = config.port;
    epmd_server::check_takeover(config).map_err(|error| match error {
        TakeoverError::NobodyThere { .. } if connect(port).and_then(names).is_err() => {
            CannotTakeOver::NoEpmd(port)
        }
        TakeoverError::NobodyThere { .. } => CannotTakeOver::Stranger { port, error },
        error => CannotTakeOver::Refused(error),
    })
}

//! Standing by: to take over from a port mapper when it stops.

use std::os::fd::OwnedFd;

use super::{Predecessor, TakeoverError};
use crate::platform;
use crate::start::Wake;
use crate::{Config, Server};

/// Waits, in a thread of its own, for the port mapper on a port to stop in an orderly
/// way, and takes everything over from it then. Dropping this ends the wait.
#[derive(Debug)]
pub struct StandBy {
    connection: OwnedFd,
}

impl StandBy {
    /// Stands by for the port mapper on the port of the configuration, and for it alone.
    /// `ended` is called in that thread: with a server that has taken over, or why there is
    /// none, and never will be.
    ///
    /// # Errors
    /// See [`TakeoverError`]: when nobody is there, or there is no thread to be had.
    pub fn begin(
        config: Config,
        wake_owner: Wake,
        ended: impl FnOnce(Result<Server, TakeoverError>) + Send + 'static,
    ) -> Result<Self, TakeoverError> {
        let connection = super::connect(&config.takeover_socket, config.port)?;
        let own = connection.try_clone()?;
        std::thread::Builder::new().name("epmd stand-by".into()).spawn(move || {
            let predecessor = Predecessor::await_offer(own);
            ended(predecessor.and_then(|it| Server::succeed(config, it, wake_owner)));
        })?;
        Ok(Self { connection })
    }
}

impl Drop for StandBy {
    fn drop(&mut self) {
        platform::hang_up(&self.connection);
    }
}

impl Server {
    /// Makes a node of this VM that has registered by a connection from this port, with
    /// another port mapper, one that is registered without. Its creation.
    #[must_use]
    pub fn adopt(&self, name: &str, peer_port: u16) -> Option<u32> {
        let mut registry = self.shared.registry.write();
        let peer = registry.lookup(name)?.peer?;
        if !peer.ip().is_loopback() || peer.port() != peer_port {
            return None;
        }
        let (conn, creation) = registry.adopt(name)?;
        drop(registry);
        self.shared.release(conn);
        Some(creation.get())
    }
}

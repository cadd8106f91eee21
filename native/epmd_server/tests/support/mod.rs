//! Helpers that know servers only by their addresses, and how to start ours.

use std::net::{Ipv4Addr, SocketAddr};

use epmd_server::{Addresses, Config, Server};

pub mod creation;
pub mod difference;
pub mod generate;
pub mod observation;
pub mod oracle;
pub mod script;
pub mod wire;

/// A server of ours. Dropping it ends it.
pub struct Ours {
    pub addr: SocketAddr,
    server: Server,
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.server.stop();
    }
}

/// Starts one as it starts by default, or with relaxed command checks.
pub fn ours(relaxed: bool) -> Ours {
    ours_with(Config { relaxed_command_check: relaxed, ..Config::default() })
}

/// Starts one on loopback addresses alone, on a port that the system chooses.
pub fn ours_with(config: Config) -> Ours {
    let addresses = Addresses::List(vec![Ipv4Addr::LOCALHOST.into()]);
    let config = Config { port: 0, addresses, ..config };
    let server = Server::start(config, Box::new(|| ())).expect("a free port");
    let addresses = server.info().addresses;
    let addr = addresses.into_iter().find(SocketAddr::is_ipv4).expect("an IPv4 loopback");
    Ours { addr, server }
}

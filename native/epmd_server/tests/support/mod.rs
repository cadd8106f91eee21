//! Helpers that know servers only by their addresses, and how to start ours.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use epmd_server::{Addresses, Config, Server, TakeoverSocket};
use oracle::Oracle;

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
    served: Served,
}

enum Served {
    Here(Server),
    /// It ends by being dropped.
    By(#[expect(dead_code, reason = "kept for its end")] Oracle),
}

impl Drop for Ours {
    fn drop(&mut self) {
        if let Served::Here(server) = &self.served {
            server.stop();
        }
    }
}

/// Starts one as it starts by default, or with relaxed command checks.
pub fn ours(relaxed: bool) -> Ours {
    ours_with(Config { relaxed_command_check: relaxed, ..Config::default() })
}

/// Starts one on loopback addresses alone, on a port that the system chooses: in
/// this process, or the executable that `OUR_EPMD` names.
pub fn ours_with(config: Config) -> Ours {
    if let Some(program) = std::env::var_os("OUR_EPMD") {
        let timeout = config.packet_timeout.duration().as_secs().to_string();
        let mut options = vec!["-packet_timeout", &timeout];
        options.extend(config.relaxed_command_check.then_some("-relaxed_command_check"));
        let program = Oracle::of(Path::new(&program), &options);
        return Ours { addr: program.addr, served: Served::By(program) };
    }
    let addresses = Addresses::List(vec![Ipv4Addr::LOCALHOST.into()]);
    let config = Config { port: 0, addresses, takeover_socket: TakeoverSocket::None, ..config };
    let server = Server::start(config, Box::new(|| ())).expect("a free port");
    let addresses = server.info().addresses;
    let addr = addresses.into_iter().find(SocketAddr::is_ipv4).expect("an IPv4 loopback");
    Ours { addr, served: Served::Here(server) }
}

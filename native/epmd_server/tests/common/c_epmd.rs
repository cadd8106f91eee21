//! OTP's own `epmd`, in a host where every port is free.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use super::wait_until;
use super::wire::v4;

/// A running C `epmd` on all addresses. Dropping it ends it.
pub struct CEpmd(Child);

impl CEpmd {
    /// Starts it with relaxed command checks.
    pub fn start(port: u16) -> Self {
        let mut command = Command::new("epmd");
        command.args(["-relaxed_command_check", "-port", &port.to_string()]);
        command.env_remove("ERL_EPMD_ADDRESS");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let epmd = Self(command.spawn().expect("epmd is on the path"));
        wait_until("epmd listens", || TcpStream::connect(v4(port)).is_ok());
        epmd
    }
}

impl Drop for CEpmd {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

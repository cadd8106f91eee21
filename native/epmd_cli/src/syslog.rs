//! Messages of a program that has no terminal.

use std::os::unix::net::UnixDatagram;

/// Facility daemon, severity error (RFC 3164, 4.1.1).
const DAEMON_ERROR: u8 = 3 << 3 | 3;

/// Where the system log, or the journal in its stead, takes messages.
const SOCKET: &str = "/dev/log";

/// Sends a message to the system log. Without one it is lost.
pub(crate) fn log(message: &str) {
    let line = format!("<{DAEMON_ERROR}>epmd[{}]: {message}", std::process::id());
    let _ = UnixDatagram::unbound().and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket.send_to(line.as_bytes(), SOCKET)
    });
}

//! A client of the port mapper on this host.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use epmd_core::{Listing, Request};

/// How long it waits for anything: a port mapper that answers does so at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects to whoever listens on a port of this host: over IPv6, else IPv4.
pub(crate) fn connect(port: u16) -> io::Result<TcpStream> {
    connect_to(Ipv6Addr::LOCALHOST.into(), port, PATIENCE)
        .or_else(|_| connect_to(Ipv4Addr::LOCALHOST.into(), port, PATIENCE))
}

/// Connects, with a limit for this and for every read and write that follows.
pub(crate) fn connect_to(ip: IpAddr, port: u16, patience: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(ip, port), patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    Ok(stream)
}

/// Sends a request and reads the whole reply.
pub(crate) fn ask(mut stream: TcpStream, request: &Request<'_>) -> io::Result<Vec<u8>> {
    stream.write_all(&request.encode())?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    Ok(reply)
}

/// The names of an EPMD that is reached over this connection; an error if there
/// is none, or it answers as none does.
pub(crate) fn names(stream: TcpStream) -> io::Result<Listing> {
    let reply = ask(stream, &Request::Names)?;
    Listing::decode(&reply).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

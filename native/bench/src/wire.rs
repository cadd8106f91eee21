//! Clients that measure.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use epmd_core::{Alive2, Request, Response};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

/// A port that nobody listens on.
///
/// # Errors
/// When the system has none.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port())
}

/// Where the nodes connect to that are held. To find a port for one more connection
/// takes the longer the more there are to the same address: both processors would be
/// busy with what other clients do.
pub const HELD_AT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Connects to a port of this host.
///
/// # Errors
/// When nobody listens there.
pub fn connect(port: u16) -> io::Result<TcpStream> {
    connect_to(Ipv4Addr::LOCALHOST, port)
}

fn connect_to(address: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((address, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// The same from an address of the loopback network: one alone has too few ports for
/// many connections, and for those that have just ended.
///
/// # Errors
/// As [`connect`], or when it is none.
pub fn connect_from(source: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    bind(&socket, &SocketAddrV4::new(source, 0))?;
    rustix::net::connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// A port that is listened on as long as this process lives: that of all nodes
/// that it registers. (Those of OTP listen before they register.)
///
/// # Errors
/// When the system has none.
pub fn node_port() -> io::Result<u16> {
    static LISTENER: OnceLock<TcpListener> = OnceLock::new();
    let listener = match LISTENER.get() {
        Some(listener) => listener,
        None => {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            LISTENER.get_or_init(|| listener)
        }
    };
    Ok(listener.local_addr()?.port())
}

/// Registers a node as `erl` does; its connection, once the reply is there.
///
/// # Errors
/// When it is refused, or not answered.
pub fn register(port: u16, name: &str) -> io::Result<TcpStream> {
    register_at(Ipv4Addr::LOCALHOST, port, name)
}

/// The same at an address of this host.
///
/// # Errors
/// As [`register`].
pub fn register_at(address: Ipv4Addr, port: u16, name: &str) -> io::Result<TcpStream> {
    let mut stream = connect_to(address, port)?;
    register_over(&mut stream, node(name, node_port()?))?;
    Ok(stream)
}

/// What `erl` says of a node that listens on this port.
#[must_use]
pub const fn node(name: &str, port: u16) -> Alive2<'_> {
    Alive2 {
        port,
        node_type: 77,
        protocol: 0,
        highest_version: 6,
        lowest_version: 5,
        name: name.as_bytes(),
        extra: b"",
    }
}

/// Registers a node by its connection; its creation.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] when it is refused, others when it is not answered.
pub fn register_over(stream: &mut TcpStream, node: Alive2<'_>) -> io::Result<u32> {
    stream.write_all(&Request::Alive2(node).encode())?;
    let mut reply = [0; 6];
    stream.read_exact(&mut reply)?;
    match Response::decode(&reply) {
        Some(Response::Alive2(Some(creation))) => Ok(creation),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// Asks for all names; the whole reply.
///
/// # Errors
/// When it is not answered.
pub fn names(port: u16) -> io::Result<Vec<u8>> {
    let mut stream = connect(port)?;
    stream.write_all(&Request::Names.encode())?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    if reply.len() < 4 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(reply) }
}

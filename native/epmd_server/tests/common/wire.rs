//! Requests as bytes, and connections that show how they end. Nothing here
//! uses the code under test.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::{DEADLINE, wait_until};

pub const NAMES: &[u8] = b"\0\x01n";
pub const DUMP: &[u8] = b"\0\x01d";
pub const KILL: &[u8] = b"\0\x01k";
pub const NOT_FOUND: &[u8] = b"w\x01";
pub const REFUSED: &[u8] = b"v\x01\0\0\0\x63";
pub const UNANSWERED: &[u8] = b"";

/// Puts the length field before a body.
pub fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u16).to_be_bytes(), body].concat()
}

/// A registration as `erl` of today asks for it.
pub fn alive2(name: &[u8], port: u16) -> Vec<u8> {
    alive2_with(name, port, 6, b"")
}

/// A registration by a node of some highest version, with extra data.
pub fn alive2_with(name: &[u8], port: u16, highest: u16, extra: &[u8]) -> Vec<u8> {
    let mut body = vec![b'x'];
    body.extend(port.to_be_bytes());
    body.extend([77, 0]);
    body.extend(highest.to_be_bytes());
    body.extend(5_u16.to_be_bytes());
    for part in [name, extra] {
        body.extend((part.len() as u16).to_be_bytes());
        body.extend(part);
    }
    framed(&body)
}

pub fn port_please(name: &[u8]) -> Vec<u8> {
    framed(&[b"z", name].concat())
}

pub fn stop(name: &[u8]) -> Vec<u8> {
    framed(&[b"s", name].concat())
}

/// The reply to a look-up of what [`alive2`] registered.
pub fn found(name: &[u8], port: u16) -> Vec<u8> {
    let sized = [&(name.len() as u16).to_be_bytes(), name].concat();
    [b"w\0", &port.to_be_bytes()[..], b"M\0\0\x06\0\x05", &sized, b"\0\0"].concat()
}

pub fn v4(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Closed,
    Reset,
}

/// A connection to a server. Dropping it closes it.
#[derive(Debug)]
pub struct Client(TcpStream);

impl From<TcpStream> for Client {
    fn from(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self(stream)
    }
}

impl Client {
    pub fn connect(port: u16) -> Self {
        Self::connect_to(v4(port))
    }

    pub fn connect_to(server: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&server, DEADLINE);
        stream.unwrap_or_else(|error| panic!("cannot connect to {server}: {error}")).into()
    }

    /// The client's own address.
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Sends what the server is willing to take: it may have closed already,
    /// which the reading side shows.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// The same connection as another descriptor, for another process.
    pub fn duplicate(&self) -> std::os::fd::OwnedFd {
        self.0.try_clone().unwrap().into()
    }

    /// Ends the sending side alone.
    pub fn finish_sending(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes with a reset instead of an orderly end.
    pub fn reset(self) {
        SockRef::from(&self.0).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Reads so many bytes.
    pub fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Waits until so many bytes can be read.
    pub fn wait_for_bytes(&self, count: usize) {
        let mut buffer = vec![0; count];
        wait_until("bytes come", || self.0.peek(&mut buffer).unwrap() == count);
    }

    /// Reads until the connection ends.
    pub fn read_to_end(&mut self) -> (Vec<u8>, End) {
        let mut bytes = Vec::new();
        match self.0.read_to_end(&mut bytes) {
            Ok(_) => (bytes, End::Closed),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => (bytes, End::Reset),
            Err(error) => panic!("{error} after \"{}\"", bytes.escape_ascii()),
        }
    }

    /// Whether the connection stands, with nothing to be read.
    pub fn is_open(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let peeked = self.0.peek(&mut [0]);
        self.0.set_nonblocking(false).unwrap();
        matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Waits until the server has taken all that was sent out of its socket, so
    /// that whatever is sent next is a read of its own. Over 127.0.0.1 alone.
    pub fn wait_until_read(&self) {
        let port = |address: std::io::Result<SocketAddr>| address.unwrap().port();
        let (server, client) = (port(self.0.peer_addr()), port(self.0.local_addr()));
        // The kernel's table of sockets: addresses, state, and what is queued.
        let ends = format!(" 0100007F:{server:04X} 0100007F:{client:04X} ");
        wait_until("the server reads", || {
            let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
            let queues = table.split_once(&ends).and_then(|(_, rest)| rest.split(' ').nth(1));
            queues.is_none_or(|queues| queues.ends_with(":00000000"))
        });
    }
}

/// Asks on a connection of its own; the reply, and how the connection ended.
pub fn ask_and_see(server: SocketAddr, request: &[u8]) -> (Vec<u8>, End) {
    let mut client = Client::connect_to(server);
    client.send(request);
    client.read_to_end()
}

/// Asks on a connection of its own; the whole reply.
pub fn ask(port: u16, request: &[u8]) -> Vec<u8> {
    ask_and_see(v4(port), request).0
}

/// Registers a node of today; its connection, and its creation.
pub fn register(port: u16, name: &[u8]) -> (Client, u32) {
    registered(port, &alive2(name, 4711))
}

/// A node that listens, as those of OTP do before they register.
pub fn listening_node(port: u16, name: &[u8]) -> (TcpListener, Client, u32) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (client, creation) = register_listening(port, name, &listener);
    (listener, client, creation)
}

/// Registers a node that listens there.
pub fn register_listening(port: u16, name: &[u8], listener: &TcpListener) -> (Client, u32) {
    registered(port, &alive2(name, listener.local_addr().unwrap().port()))
}

/// Registers a node with this request.
pub fn registered(port: u16, request: &[u8]) -> (Client, u32) {
    let mut client = Client::connect(port);
    client.send(request);
    let reply = client.read(6);
    assert_eq!(reply[..2], *b"v\0", "registered by {}", request.escape_ascii());
    (client, u32::from_be_bytes(*reply.last_chunk().unwrap()))
}

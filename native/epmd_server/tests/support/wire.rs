//! Requests as bytes, and connections that show how they end. Nothing here uses
//! the code under test.

use std::borrow::Borrow;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Deref;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use socket2::{Domain, SockRef, Socket, Type};

/// By when whatever a server does must have happened.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Held while a process starts: until its program runs it has copies of all
/// descriptors, and a socket that is closed here stays open there.
pub static STARTING: RwLock<()> = RwLock::new(());

/// Bytes that print as text.
#[derive(Clone, PartialEq, Eq)]
pub struct Text(pub Vec<u8>);

/// With repetitions as `{part*times}`: names are long at their limits.
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = &self.0[..];
        f.write_str("\"")?;
        while !rest.is_empty() {
            let times =
                |length| rest.chunks(length).take_while(|part| *part == &rest[..length]).count();
            let repeated = (1..=rest.len().min(4)).find(|&length| times(length) >= 10);
            let taken = if let Some(length) = repeated {
                write!(f, "{{{}*{}}}", rest[..length].escape_ascii(), times(length))?;
                length * times(length)
            } else {
                write!(f, "{}", rest[..1].escape_ascii())?;
                1
            };
            rest = &rest[taken..];
        }
        f.write_str("\"")
    }
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

// Lets pieces be put together with `concat`.
impl Borrow<[u8]> for Text {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl<B: Into<Vec<u8>>> From<B> for Text {
    fn from(bytes: B) -> Self {
        Self(bytes.into())
    }
}

/// A registration to ask for.
#[derive(Debug, Clone)]
pub struct Node {
    pub name: Text,
    pub port: u16,
    pub node_type: u8,
    pub protocol: u8,
    pub highest: u16,
    pub lowest: u16,
    pub extra: Text,
}

impl Node {
    /// As `erl` of today registers.
    pub fn new(name: &[u8], port: u16) -> Self {
        Self {
            name: name.into(),
            port,
            node_type: 77,
            protocol: 0,
            highest: 6,
            lowest: 5,
            extra: b"".into(),
        }
    }

    /// The body of its ALIVE2.
    pub fn body(&self) -> Vec<u8> {
        let mut body = vec![b'x'];
        body.extend(self.port.to_be_bytes());
        body.extend([self.node_type, self.protocol]);
        body.extend(self.highest.to_be_bytes());
        body.extend(self.lowest.to_be_bytes());
        for part in [&self.name, &self.extra] {
            body.extend((part.len() as u16).to_be_bytes());
            body.extend(&part.0);
        }
        body
    }

    /// Its ALIVE2 as it goes over the wire.
    pub fn request(&self) -> Vec<u8> {
        framed(&self.body())
    }
}

/// Puts the length field before a body.
pub fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u16).to_be_bytes(), body].concat()
}

/// How long a request is by its length field.
pub fn length_of(request: &[u8]) -> usize {
    2 + usize::from(u16::from_be_bytes([request[0], request[1]]))
}

/// A request that is a tag and something behind it.
pub fn tagged(tag: u8, rest: &[u8]) -> Vec<u8> {
    framed(&[&[tag], rest].concat())
}

/// How a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Open,
    Closed,
    Reset,
}

/// A connection to a server. Dropping it closes it.
#[derive(Debug)]
pub struct Wire(TcpStream);

impl Wire {
    pub fn connect(server: SocketAddr) -> Self {
        Self::over(TcpStream::connect_timeout(&server, DEADLINE).expect("the server accepts"))
    }

    /// Connects from another IPv4 address of this host.
    pub fn connect_from(address: &str, server: SocketAddr) -> Self {
        let own = SocketAddr::new(address.parse().expect("an address"), 0);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&own.into()).expect("an address of this host");
        socket.connect(&server.into()).expect("the server accepts");
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("an open socket");
        stream.set_read_timeout(Some(DEADLINE)).expect("an open socket");
        stream.set_write_timeout(Some(DEADLINE)).expect("an open socket");
        Self(stream)
    }

    /// Sends what the server is willing to take: it may have closed already,
    /// which the reading side shows.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// Ends the sending side alone.
    pub fn finish_sending(&self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }

    /// Closes, so that the server can see it when this returns.
    pub fn close(self) {
        let _none_starts = STARTING.read();
        drop(self.0);
    }

    /// Closes with a reset instead of an orderly end.
    pub fn reset(self) {
        self.reset_when_closed();
        self.close();
    }

    fn reset_when_closed(&self) {
        let _ = SockRef::from(&self.0).set_linger(Some(Duration::ZERO));
    }

    /// Reads until the connection ends; it is `Open` when it has not at the
    /// deadline.
    pub fn read_to_end(&mut self) -> (Vec<u8>, End) {
        self.read_at_most(usize::MAX)
    }

    /// Reads so many bytes, or fewer if the connection ends before.
    pub fn read_at_most(&mut self, count: usize) -> (Vec<u8>, End) {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        while bytes.len() < count {
            let room = buffer.len().min(count - bytes.len());
            match self.0.read(&mut buffer[..room]) {
                Ok(0) => {
                    // Or the server's end stays in TIME_WAIT, one of thousands.
                    self.reset_when_closed();
                    return (bytes, End::Closed);
                }
                Ok(got) => bytes.extend(&buffer[..got]),
                Err(error) => return (bytes, end_of(&error)),
            }
        }
        (bytes, End::Open)
    }

    /// How the connection stands right now.
    pub fn peek(&self) -> End {
        self.0.set_nonblocking(true).expect("an open socket");
        let seen = match self.0.peek(&mut [0]) {
            Ok(0) => End::Closed,
            Ok(_) => End::Open,
            Err(error) => end_of(&error),
        };
        self.0.set_nonblocking(false).expect("an open socket");
        seen
    }
}

fn end_of(error: &std::io::Error) -> End {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => End::Open,
        _ => End::Reset,
    }
}

/// Asks on a connection of its own, and reads to its end.
pub fn ask(server: SocketAddr, request: &[u8]) -> (Vec<u8>, End) {
    let mut wire = Wire::connect(server);
    wire.send(request);
    wire.read_to_end()
}

/// The reply to NAMES.
pub fn names(server: SocketAddr) -> Vec<u8> {
    ask(server, &tagged(b'n', b"")).0
}

/// Whether NAMES lists this name.
pub fn is_listed(server: SocketAddr, name: &[u8]) -> bool {
    let line = [b"name ", name, b" at port "].concat();
    contains(&names(server), &line)
}

/// Waits until the server has dealt with everything that arrived before.
pub fn fence(server: SocketAddr) {
    let mut last = Wire::connect(server);
    // Accepted after `last`, so that `last` waits for its request in the server
    // when it comes: servers may answer new connections before others that wait.
    names(server);
    last.send(&tagged(b'n', b""));
    last.read_to_end();
    // C goes through its sockets in any order; now it is through with all.
    names(server);
}

pub fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Whether something holds before the deadline.
pub fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if started.elapsed() > DEADLINE {
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

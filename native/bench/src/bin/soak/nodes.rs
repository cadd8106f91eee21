//! Nodes that are nothing but a registration.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use bench::wire::node;
use epmd_core::{Alive2, Request, Response};
use rustix::net::{RecvFlags, recv};

use crate::epmd::{Epmd, NODES_CONNECT_TO, connect};
use crate::roll::Answer;

/// So many ports are listened on for all nodes of a run.
const PORTS: usize = 16;

/// What the nodes of a run listen on.
#[derive(Debug)]
pub struct Listeners(Vec<TcpListener>);

impl Listeners {
    /// Some that the system chooses.
    ///
    /// # Errors
    /// When it has none.
    pub fn open() -> io::Result<Self> {
        let open = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        (0..PORTS).map(open).collect::<io::Result<_>>().map(Self)
    }

    fn port(&self, number: usize) -> io::Result<u16> {
        let listener = self.0.get(number % PORTS).ok_or(ErrorKind::NotFound)?;
        Ok(listener.local_addr()?.port())
    }
}

/// A node that is registered.
#[derive(Debug)]
pub struct Node {
    name: String,
    place: usize,
    port: u16,
    creation: u32,
    stream: TcpStream,
}

/// A node that has closed its connection.
#[derive(Debug)]
pub struct Gone {
    name: String,
    place: usize,
    port: u16,
    creation: u32,
}

impl Node {
    /// Registers a name for the first time.
    ///
    /// # Errors
    /// When it is not answered.
    pub fn register(epmd: &Epmd, listeners: &Listeners, name: &str) -> io::Result<Self> {
        let place = epmd.roll.add(name);
        let gone = Gone { name: name.to_owned(), place, port: listeners.port(place)?, creation: 0 };
        gone.register(epmd)
    }

    /// Closes the connection. From now on nobody may see the node if `at_once`;
    /// else it may take a moment.
    pub fn close(self, epmd: &Epmd, at_once: bool) -> Gone {
        let Self { name, place, port, creation, stream } = self;
        epmd.roll.set(place, Answer::Changing);
        drop(stream);
        if at_once {
            epmd.roll.set(place, Answer::Nobody);
        }
        Gone { name, place, port, creation }
    }

    /// Notes a fault unless the connection stands and the name has the creation
    /// that it began with.
    ///
    /// # Errors
    /// When the port mapper does not answer.
    pub fn check(&self, epmd: &Epmd) -> io::Result<()> {
        self.check_connection(epmd);
        self.check_creation(epmd, epmd.creation(&self.name)?);
        Ok(())
    }

    /// Notes a fault unless this is the creation that it began with.
    pub fn check_creation(&self, epmd: &Epmd, creation: Option<u32>) {
        if creation != Some(self.creation) {
            let (name, own) = (&self.name, self.creation);
            epmd.faults.add(format!("the creation of {name} is {creation:?} instead of {own}"));
        }
    }

    /// Notes a fault unless the connection stands.
    pub fn check_connection(&self, epmd: &Epmd) {
        let seen = recv(&self.stream, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        if !matches!(seen, Err(rustix::io::Errno::AGAIN)) {
            epmd.faults.add(format!("the connection of {} has ended: {seen:?}", self.name));
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Registers the name that this node has, which must be refused.
    ///
    /// # Errors
    /// When it is not answered.
    pub fn contest(&self, epmd: &Epmd) -> io::Result<()> {
        let response = epmd.insist("ALIVE2", || alive(epmd, &self.name, self.port))?.0;
        if response != Response::Alive2(None) {
            let name = &self.name;
            epmd.faults.add(format!("a second node as {name} is not refused: {response:?}"));
        }
        self.check_connection(epmd);
        Ok(())
    }
}

impl Gone {
    /// Waits until the port mapper has noticed; then nobody may see it any more.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn await_end(&self, epmd: &Epmd, patience: Duration) -> io::Result<()> {
        epmd.await_end(&self.name, patience)?;
        epmd.roll.set(self.place, Answer::Nobody);
        Ok(())
    }

    /// Notes a fault if the next answer knows it.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn check(&self, epmd: &Epmd) -> io::Result<()> {
        epmd.look_up(self.place)
    }

    /// Registers it again: its next life.
    ///
    /// # Errors
    /// When it is not answered.
    pub fn register(self, epmd: &Epmd) -> io::Result<Node> {
        let Self { name, place, port, creation: last } = self;
        epmd.roll.set(place, Answer::Changing);
        let mut attempts = 0;
        let (creation, stream) = epmd.insist("ALIVE2", || {
            attempts += 1;
            let (response, stream) = alive(epmd, &name, port)?;
            match response {
                Response::Alive2(Some(creation)) => Ok((creation, stream)),
                _ => Err(io::Error::other(format!("{name} is refused"))),
            }
        })?;
        // One that was cut off may have been carried out.
        let lives = last + 1..=last + attempts;
        if last > 0 && !lives.contains(&creation) {
            epmd.faults.add(format!("{name} follows creation {last} with {creation}"));
        }
        epmd.roll.set(place, Answer::Node(registration(&name, port).registration()));
        Ok(Node { name, place, port, creation, stream })
    }
}

fn registration(name: &str, port: u16) -> Alive2<'_> {
    // So that no look-up can be answered with another node.
    Alive2 { extra: name.as_bytes(), ..node(name, port) }
}

/// Registers once.
fn alive(epmd: &Epmd, name: &str, port: u16) -> io::Result<(Response, TcpStream)> {
    let mut stream = connect(NODES_CONNECT_TO, epmd.port)?;
    stream.write_all(&Request::Alive2(registration(name, port)).encode())?;
    let mut reply = [0; 6];
    stream.read_exact(&mut reply)?;
    let response = Response::decode(&reply).ok_or(ErrorKind::InvalidData)?;
    Ok((response, stream))
}

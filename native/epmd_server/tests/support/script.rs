//! Operations on a server, and what can be seen of each from outside.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};

use super::creation::{Creations, Verdict};
use super::observation::{Observation, Outcome, Reply, listing};
use super::wire::{
    End, Node, Text, Wire, ask, contains, eventually, fence, is_listed, length_of, tagged,
};

/// One operation. Registrations that stay are addressed by index, modulo their
/// number; where there is none the operation does nothing.
#[derive(Debug, Clone)]
pub enum Op {
    /// Sends bytes over a connection of its own, a piece at a time, and reads
    /// the reply. A registration that is accepted stays.
    Ask { pieces: Vec<Text>, half_close: bool },
    /// Sends bytes and resets the connection without reading. Only for requests
    /// that change nothing.
    AskAndReset { bytes: Text },
    /// Asks for a registration and resets the connection before the reply.
    RegisterAndReset { node: Node },
    /// The same with the name of a registered node.
    DuplicateAndReset { holder: usize },
    /// Begins a request without ending it.
    Begin { bytes: Text, sent: usize },
    /// Sends the rest of a request that was begun, and reads the reply.
    Finish { begun: usize },
    /// Ends a registration.
    Leave { holder: usize, how: Leaving },
    /// Ends a registration and asks for its name at once.
    Return { holder: usize, highest: u16, reset: bool },
}

/// How a registered node leaves.
#[derive(Debug, Clone)]
pub enum Leaving {
    Close,
    Reset,
    HalfClose,
    Data(Text),
}

/// A registered node as its client sees it.
#[derive(Debug)]
pub struct Held {
    pub name: Vec<u8>,
    /// What its ALIVE2 says, from the port to the end of the extra data.
    pub registration: Vec<u8>,
    wire: Wire,
}

/// A request that was begun.
#[derive(Debug)]
struct Begun {
    wire: Wire,
    request: Vec<u8>,
    sent: usize,
}

/// The clients of one server.
#[derive(Debug)]
pub struct Clients {
    server: SocketAddr,
    /// Whether to expect that the server closes after it refused an ALIVE2:
    /// waiting for what does not come takes long.
    closes_refused: bool,
    held: Vec<Held>,
    begun: Vec<Begun>,
    creations: Creations,
    killed: bool,
}

impl Clients {
    pub fn new(server: SocketAddr, closes_refused: bool) -> Self {
        let creations = Creations::default();
        Self { server, closes_refused, held: vec![], begun: vec![], creations, killed: false }
    }

    /// Whether the server has ended.
    pub fn killed(&self) -> bool {
        self.killed
    }

    pub fn held(&self) -> &[Held] {
        &self.held
    }

    /// The request whose reply an operation is going to show.
    pub fn request_of(&self, op: &Op) -> Vec<u8> {
        match op {
            Op::Ask { pieces, .. } => pieces.concat(),
            Op::Finish { begun } if !self.begun.is_empty() => {
                self.begun[begun % self.begun.len()].request.clone()
            }
            _ => vec![],
        }
    }

    /// Performs an operation, until all that follows from it can be seen.
    pub fn perform(&mut self, op: &Op) -> Observation {
        self.creations.read_clock();
        let outcome = match op {
            Op::Ask { pieces, half_close } => self.ask(pieces, *half_close),
            Op::AskAndReset { bytes } => {
                self.send_and_reset(bytes);
                Outcome::Left(End::Reset)
            }
            Op::RegisterAndReset { node } => self.register_and_reset(node),
            Op::DuplicateAndReset { holder } => self.duplicate_and_reset(*holder),
            Op::Begin { bytes, sent } => self.begin(bytes, *sent),
            Op::Finish { begun } => self.finish(*begun),
            Op::Leave { holder, how } => self.leave(*holder, how),
            Op::Return { holder, highest, reset } => self.come_back(*holder, *highest, *reset),
        };
        let dump = if self.killed { vec![] } else { self.dump() };
        let held = self.held.iter().map(|held| held.wire.peek()).collect();
        Observation { outcome, dump, held }
    }

    fn ask(&mut self, pieces: &[Text], half_close: bool) -> Outcome {
        let mut wire = Wire::connect(self.server);
        let request = pieces.concat();
        for (index, piece) in pieces.iter().enumerate() {
            if index > 0 {
                fence(self.server);
            }
            wire.send(piece);
        }
        if half_close {
            wire.finish_sending();
        }
        self.answer(wire, request, half_close)
    }

    /// Reads the reply to a request that was sent whole.
    fn answer(&mut self, mut wire: Wire, request: Vec<u8>, half_close: bool) -> Outcome {
        let (reply, end) = match request.get(2) {
            Some(b'x') => {
                let (mut reply, end) = wire.read_at_most(1);
                match reply.first() {
                    Some(b'v') => reply.extend(wire.read_at_most(5).0),
                    Some(b'y') => reply.extend(wire.read_at_most(3).0),
                    _ => {}
                }
                (reply, end)
            }
            _ => wire.read_to_end(),
        };
        match (request.get(2), &reply[..]) {
            (Some(b'x'), [b'v' | b'y', ..]) => self.registered(wire, request, &reply, half_close),
            (Some(b'k'), b"OK") => self.all_end(),
            (Some(b's'), [.., b'P', b'E', b'D']) => {
                let name = request[3..length_of(&request)].split(|&byte| byte == 0).next();
                // C says so of unknown names too; then nobody is stopped.
                let stopped = self.held.iter().position(|held| Some(&held.name[..]) == name);
                let node = stopped.map(|at| self.held.remove(at).wire.read_to_end().1);
                Outcome::Stopped { reply: Text(reply), end, node }
            }
            (Some(b'n' | b'd'), [_, _, _, _, ..]) => {
                Outcome::Answered(Reply::Listing(listing(self.server, &reply)), end)
            }
            _ => Outcome::Answered(Reply::Bytes(Text(reply)), end),
        }
    }

    fn registered(
        &mut self,
        mut wire: Wire,
        request: Vec<u8>,
        reply: &[u8],
        half_close: bool,
    ) -> Outcome {
        let highest = u16::from_be_bytes([request[7], request[8]]);
        let name_end = 13 + usize::from(u16::from_be_bytes([request[11], request[12]]));
        let name = request[13..name_end].to_vec();
        let accepted = reply[1] == 0;
        let number = reply[2..].iter().fold(0, |number, &byte| number << 8 | u32::from(byte));
        let creation = if accepted {
            self.creations.accept(&name, highest, number)
        } else {
            Verdict::Refused(number)
        };
        let reply = Reply::Alive { tag: reply[0], result: reply[1], creation };
        let ends =
            half_close || request.len() > length_of(&request) || !accepted && self.closes_refused;
        let end = if ends {
            let (more, end) = wire.read_to_end();
            assert_eq!(Text(more), Text(vec![]), "behind the reply to ALIVE2");
            end
        } else {
            fence(self.server);
            wire.peek()
        };
        if accepted && name.is_empty() {
            // Only C accepts it. Keeping it would list it everywhere.
            wire.close();
            self.wait_until_gone(&name);
        } else if accepted && end == End::Open {
            let extra = u16::from_be_bytes([request[name_end], request[name_end + 1]]);
            let registration = request[3..name_end + 2 + usize::from(extra)].to_vec();
            self.held.push(Held { name, registration, wire });
        } else {
            wire.reset();
        }
        Outcome::Answered(reply, end)
    }

    /// What follows from a granted KILL.
    fn all_end(&mut self) -> Outcome {
        self.killed = true;
        let refusing = eventually(|| {
            let refused = |error: std::io::Error| error.kind() == ErrorKind::ConnectionRefused;
            TcpStream::connect(self.server).err().is_some_and(refused)
        });
        let held = self.held.drain(..).map(|mut held| held.wire.read_to_end().1).collect();
        Outcome::Killed { refusing, held }
    }

    /// Sends to a server that has accepted the connection: C takes a peer that
    /// was gone before for a remote one.
    fn send_and_reset(&self, bytes: &[u8]) {
        let mut wire = Wire::connect(self.server);
        fence(self.server);
        wire.send(bytes);
        wire.reset();
    }

    fn register_and_reset(&mut self, node: &Node) -> Outcome {
        if self.held.iter().any(|held| *held.name == *node.name) {
            return Outcome::Nothing;
        }
        self.send_and_reset(&node.request());
        // The port tells this life of the name from those before.
        let remembered = [b"old/unused name <", &node.name[..], b">, port = "].concat();
        let line = [&remembered[..], node.port.to_string().as_bytes(), b","].concat();
        let dump = || ask(self.server, &tagged(b'd', b"")).0;
        assert!(eventually(|| contains(&dump(), &line)), "not remembered: {node:?}");
        self.creations.skip(&node.name);
        Outcome::Left(End::Reset)
    }

    fn duplicate_and_reset(&mut self, holder: usize) -> Outcome {
        let Some(Held { name, wire, .. }) = self.take(holder) else {
            return Outcome::Nothing;
        };
        self.send_and_reset(&Node::new(&name, 9).request());
        fence(self.server);
        let survived = is_listed(self.server, &name);
        // C may have lost the node: end it here, so that both go on alike.
        wire.close();
        self.wait_until_gone(&name);
        Outcome::Survived(survived)
    }

    fn begin(&mut self, bytes: &[u8], sent: usize) -> Outcome {
        let mut wire = Wire::connect(self.server);
        wire.send(&bytes[..sent]);
        fence(self.server);
        let end = wire.peek();
        self.begun.push(Begun { wire, request: bytes.to_vec(), sent });
        Outcome::Left(end)
    }

    fn finish(&mut self, begun: usize) -> Outcome {
        if self.begun.is_empty() {
            return Outcome::Nothing;
        }
        let Begun { mut wire, request, sent } = self.begun.remove(begun % self.begun.len());
        wire.send(&request[sent..]);
        self.answer(wire, request, false)
    }

    fn leave(&mut self, holder: usize, how: &Leaving) -> Outcome {
        let Some(Held { name, mut wire, .. }) = self.take(holder) else {
            return Outcome::Nothing;
        };
        let end = match how {
            Leaving::Close => {
                wire.close();
                End::Closed
            }
            Leaving::Reset => {
                wire.reset();
                End::Reset
            }
            Leaving::HalfClose => {
                wire.finish_sending();
                wire.read_to_end().1
            }
            Leaving::Data(bytes) => {
                wire.send(bytes);
                wire.read_to_end().1
            }
        };
        self.wait_until_gone(&name);
        Outcome::Left(end)
    }

    fn come_back(&mut self, holder: usize, highest: u16, reset: bool) -> Outcome {
        let Some(Held { name, wire, registration }) = self.take(holder) else {
            return Outcome::Nothing;
        };
        let port = u16::from_be_bytes([registration[0], registration[1]]);
        let node = Node { highest, ..Node::new(&name, port) };
        let mut next = Wire::connect(self.server);
        if reset {
            wire.reset();
        } else {
            wire.close();
        }
        next.send(&node.request());
        let mut outcome = self.answer(next, node.request(), false);
        let refused_first = matches!(outcome, Outcome::Answered(Reply::Alive { result: 1, .. }, _));
        if refused_first {
            self.wait_until_gone(&name);
            outcome = self.ask(&[node.request().into()], false);
        }
        match outcome {
            Outcome::Answered(reply, end) => Outcome::Returned { refused_first, reply, end },
            other => other,
        }
    }

    fn take(&mut self, holder: usize) -> Option<Held> {
        let count = self.held.len();
        (count > 0).then(|| self.held.remove(holder % count))
    }

    fn wait_until_gone(&self, name: &[u8]) {
        let gone = eventually(|| !is_listed(self.server, name));
        assert!(gone, "{:?} left and is still listed", Text(name.to_vec()));
    }

    fn dump(&self) -> Vec<Text> {
        listing(self.server, &ask(self.server, &tagged(b'd', b"")).0)
    }
}

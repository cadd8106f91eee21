//! What the fuzz targets do with their input. These are plain functions, so that
//! the seeds run under `cargo test` as well.

mod histories;

use epmd_core::{
    Alive2, Caller, DownReason, Event, Framer, Glob, Listing, Name, Next, Owner, Refusal,
    Registrant, Registration, Registry, Request, Response, Told, UnixMillis,
};

pub use histories::histories;
use histories::told::{Up, connection, encoded};

/// One connection: the size of its first piece and of all later ones (0: as
/// much as may be read), and then what the peer sends.
pub fn bytes(data: &[u8]) {
    let _ = (Response::decode(data), Listing::decode(data));
    if let Some(told) = Told::decode(data) {
        let mut wire = Vec::new();
        told.encode(&mut wire);
        assert_eq!(wire[2..], *data);
    }
    let Some((&[first, later], stream)) = data.split_first_chunk() else { return };

    let whole = read(stream, 0, 0);
    let pieces = read(stream, first, later);
    match whole {
        Err(Refusal::SurplusData) => {
            let length = usize::from(u16::from_be_bytes([stream[0], stream[1]]));
            assert!(pieces == whole || pieces == Ok(Some(&stream[2..2 + length])));
        }
        _ => assert_eq!(pieces, whole),
    }
    let Ok(Some(body)) = pieces else { return };
    let Ok(request) = Request::decode(body) else { return };
    assert_is_read_as_written(&request);

    let mut world = World::new(0);
    world.ask(&Request::decode(b"x\x12\x34M\0\0\x06\0\x05\0\x02n1\0\0").unwrap(), false);
    world.ask(&Request::decode(b"x\x12\x34M\0\0\x05\0\x05\0\x02n2\0\x01.").unwrap(), false);
    world.end(2, DownReason::Closed);
    world.ask(&request, false);
}

/// A life of a registry: how many names it remembers, and then operations of
/// two bytes: what is done, and with which name, connection or time.
pub fn sequences(data: &[u8]) {
    let Some((&max_remembered, mut rest)) = data.split_first() else { return };
    let mut world = World::new(usize::from(max_remembered % 4));
    while let Some((&[op, operand], tail)) = rest.split_first_chunk() {
        rest = tail;
        let connection = u32::from(operand.wrapping_sub(b'0'));
        let next = match op {
            b'x' => world.ask(&alive2(6, &[operand]), false),
            b'y' => world.ask(&alive2(5, &[operand]), false),
            b'z' | b'n' | b'M' | b'W' | b'd' | b'k' | b's' => world.receive(&[op, operand], false),
            b'K' => world.receive(b"k", true),
            // A body of any bytes, as many as the operand says.
            b'w' => {
                let (body, tail) = rest.split_at(rest.len().min(operand.into()));
                rest = tail;
                world.receive(body, false)
            }
            b'e' => world.end(connection, DownReason::Closed),
            b'E' => world.end(connection, DownReason::SurplusData),
            b'v' => world.register_vm(&[operand]),
            b'u' => world.unregister(&[operand], DownReason::Unregistered),
            b'f' => world.unregister(&[operand], DownReason::Dropped),
            b't' => world.clock(u64::from(operand)),
            b'T' => world.clock(u64::from(u32::MAX) - u64::from(operand)),
            _ => Next::Close,
        };
        if next == Next::Shutdown {
            return;
        }
    }
}

/// Reads the stream as a shell does, never more than there is room for.
fn read(stream: &[u8], first: u8, later: u8) -> Result<Option<&[u8]>, Refusal> {
    let (mut framer, mut got) = (Framer::default(), 0);
    while got < stream.len() {
        let room = framer.room(got).min(stream.len() - got);
        let size = usize::from(if got == 0 { first } else { later });
        got += if size == 0 { room } else { room.min(size) };
        let body = framer.push(&stream[..got])?;
        if body.is_some() {
            return Ok(body);
        }
        assert_ne!(framer.room(got), 0, "nothing to wait for");
    }
    Ok(None)
}

fn assert_is_read_as_written(request: &Request<'_>) {
    let wire = request.encode();
    let again = Framer::default().push(&wire).unwrap().unwrap();
    let expected = match request {
        // These stand on bytes that are ignored, and so are not written.
        Request::Stop(b"") | Request::Alive2(Alive2 { name: b"", extra: b"", .. }) => {
            Err(Refusal::Malformed)
        }
        request => Ok(request.clone()),
    };
    assert_eq!(Request::decode(again), expected);
}

fn alive2(highest_version: u16, name: &[u8]) -> Request<'_> {
    Request::Alive2(Alive2 {
        port: 4660,
        node_type: 77,
        protocol: 0,
        highest_version,
        lowest_version: 5,
        name,
        extra: name,
    })
}

/// A registry, and what its events and replies have told of it.
struct World {
    registry: Registry,
    max_remembered: usize,
    up: Up,
    most_up: usize,
    served: u32,
    now: UnixMillis,
}

impl World {
    fn new(max_remembered: usize) -> Self {
        Self {
            registry: Registry::with_max_remembered(max_remembered),
            max_remembered,
            up: Up::default(),
            most_up: 0,
            served: 0,
            now: UnixMillis(1_700_000_000_000),
        }
    }

    fn receive(&mut self, body: &[u8], relaxed: bool) -> Next {
        match Request::decode(body) {
            Ok(request) => self.ask(&request, relaxed),
            Err(_) => Next::Close,
        }
    }

    /// Asks over a new connection; the first one is number 1.
    fn ask(&mut self, request: &Request<'_>, relaxed: bool) -> Next {
        self.served += 1;
        let peer = ([127, 0, 0, 1], 1).into();
        let conn = connection(self.served);
        let caller = Caller { conn, peer, epmd_port: 4369, relaxed, listener: None };
        let before = self.dump();

        let outcome = self.registry.apply(request, &caller, self.now);
        let (next, refused, event) = (outcome.next, outcome.refused, outcome.event);
        let reply = encoded(&outcome.reply);

        if refused.is_some() {
            assert_eq!((self.dump(), &event), (before, &None), "a refusal changes nothing");
        }
        self.check_reply(request, refused, &reply);
        self.check(event);
        next
    }

    fn end(&mut self, number: u32, reason: DownReason) -> Next {
        let event = self.registry.unregister_connection(connection(number), reason);
        assert!(
            self.registry.nodes().all(|(_, n)| n.owner != Owner::Connection(connection(number)))
        );
        self.check(event);
        Next::Close
    }

    fn register_vm(&mut self, name: &[u8]) -> Next {
        if let (Ok(name), Request::Alive2(alive)) = (Name::new(name), alive2(6, name)) {
            let about = alive.registration();
            let up = self.registry.register(name, about, Registrant::VM, self.now);
            self.check(up.ok().map(|(_, event)| event));
        }
        Next::Close
    }

    fn unregister(&mut self, name: &[u8], reason: DownReason) -> Next {
        if let Ok(name) = Name::check(name) {
            let down = self.registry.unregister(name, reason);
            self.check(down.map(|(_, event)| event));
        }
        Next::Close
    }

    fn clock(&mut self, seconds: u64) -> Next {
        self.now = UnixMillis(seconds * 1000);
        Next::Close
    }

    /// A client reads from the reply what the registry holds.
    fn check_reply(&self, request: &Request<'_>, refused: Option<Refusal>, reply: &[u8]) {
        match request {
            Request::Alive2(alive) => {
                let node = str::from_utf8(alive.name).ok().and_then(|n| self.registry.lookup(n));
                let creation = node.filter(|_| refused.is_none()).map(|n| n.creation);
                let number = creation.map(|c| c.for_version(alive.highest_version));
                assert_eq!(number.is_none(), refused.is_some());
                assert_eq!(Response::decode(reply), Some(Response::Alive2(number)));
            }
            Request::PortPlease2(name) => {
                let found = self.registry.lookup(name).map(|node| {
                    (Name::new(name.as_bytes()).unwrap(), Registration::clone(&node.registration))
                });
                assert_eq!(Response::decode(reply), Some(Response::PortPlease2(found)));
            }
            Request::Names | Request::Match(_)
                if !self.up.0.keys().any(|name| name.as_str().contains('\n')) =>
            {
                let glob = match request {
                    Request::Match(glob) => Glob::new(glob),
                    _ => Glob::new("*"),
                };
                let nodes = self.registry.nodes().filter(|(name, _)| glob.matches(name.as_str()));
                let nodes = nodes.map(|(name, n)| (name.to_string(), n.registration.port));
                let listing = Listing { epmd_port: 4369, nodes: nodes.collect() };
                assert_eq!(Listing::decode(reply), Some(listing));
            }
            _ => {}
        }
    }

    /// Takes note of an event, and compares what all have told with the registry.
    fn check(&mut self, event: Option<Event>) {
        self.up.hear(event);
        self.most_up = self.most_up.max(self.up.0.len());
        assert_eq!(self.registry.len(), self.up.0.len());
        assert_eq!(self.registry.nodes().count(), self.up.0.len());
        for (name, node) in self.registry.nodes() {
            assert_eq!(self.up.0.get(name), Some(&node.creation));
            assert_eq!(self.registry.lookup(name.as_str()), Some(node));
            assert!(node.creation.get() >= 4);
        }
        assert!(self.registry.remembered().all(|(name, _)| !self.up.0.contains_key(name)));
        let known = self.up.0.len() + self.registry.remembered().count();
        assert!(known <= self.most_up + self.max_remembered + 1, "{known} names are kept");
    }

    fn dump(&self) -> Vec<u8> {
        self.registry.answer(&Request::Dump, 4369).map(|reply| encoded(&reply)).unwrap()
    }
}

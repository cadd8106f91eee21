//! The registry as `epmd_srv.c` has it; only that a new name always starts from
//! the clock.

use epmd_core::{
    Alive2, Caller, ConnId, Creation, DownReason, Event, Glob, Name, Next, Node, Owner, Refusal,
    Registrant, Registration, Remembered, Request, UnixMillis,
};

/// The two lists of `epmd_srv.c`, with its functions by their names.
#[derive(Debug, PartialEq)]
pub struct Model {
    /// Newest first.
    pub reg: Vec<(Name, Node)>,
    /// Oldest first.
    pub unreg: Vec<(Name, Remembered)>,
    pub max_remembered: usize,
}

/// What came of a request: the reply, what to do then, a refusal, an event.
pub type Came = (Vec<u8>, Next, Option<Refusal>, Option<Event>);

impl Model {
    pub fn do_request(&mut self, request: &Request<'_>, caller: &Caller, now: UnixMillis) -> Came {
        let close = |reply: &[u8]| (reply.to_vec(), Next::Close, None, None);
        let mut listing = u32::from(caller.epmd_port).to_be_bytes().to_vec();
        match request {
            Request::Alive2(alive) => self.alive2(alive, caller, now),
            Request::PortPlease2(name) => {
                match self.reg.iter().find(|(n, _)| n.as_str() == *name) {
                    Some((name, node)) => close(&port2_resp(name.as_str().as_bytes(), node)),
                    None => close(b"w\x01"),
                }
            }
            Request::Watch(_) => close(b""),
            Request::Names | Request::Match(_) => {
                let glob = match request {
                    Request::Match(glob) => Glob::new(glob),
                    _ => Glob::new("*"),
                };
                for (name, node) in self.reg.iter().filter(|(name, _)| glob.matches(name.as_str()))
                {
                    listing.extend(
                        format!("name {name} at port {}\n", node.registration.port).bytes(),
                    );
                }
                close(&listing)
            }
            Request::Dump => {
                for (name, node) in &self.reg {
                    let (port, fd) = (node.registration.port, node.owner.descriptor());
                    let line = format!("active name     <{name}> at port {port}, fd = {fd}\n\0");
                    listing.extend(line.bytes());
                }
                for (name, Remembered { port, descriptor, .. }) in &self.unreg {
                    let line =
                        format!("old/unused name <{name}>, port = {port}, fd = {descriptor} \n\0");
                    listing.extend(line.bytes());
                }
                close(&listing)
            }
            Request::Info => {
                let counts = format!("nodes {}\nremembered {}\n", self.reg.len(), self.unreg.len());
                listing.extend(counts.bytes());
                close(&listing)
            }
            Request::NodeInfo(name) => {
                if let Some((_, node)) = self.reg.iter().find(|(other, _)| other.as_str() == *name)
                {
                    let (port, creation) = (node.registration.port, node.creation.get());
                    let peer = node.peer.map_or("vm".to_owned(), |peer| peer.to_string());
                    let since = node.since.0;
                    let facts = format!(
                        "port {port}\ncreation {creation}\nsince_ms {since}\npeer {peer}\n"
                    );
                    listing.extend(facts.bytes());
                }
                close(&listing)
            }
            Request::Kill if !caller.relaxed && !self.reg.is_empty() => {
                (b"NO".to_vec(), Next::Close, Some(Refusal::NodesRegistered), None)
            }
            Request::Kill => (b"OK".to_vec(), Next::Shutdown, None, None),
            Request::Stop(name) => match self.node_unreg(name, DownReason::Stopped) {
                Some((Owner::Connection(conn), event)) => {
                    (b"STOPPED".to_vec(), Next::CloseAlso(conn), None, Some(event))
                }
                Some((Owner::Vm, event)) => (b"STOPPED".to_vec(), Next::Close, None, Some(event)),
                None => close(b"NOEXIST"),
            },
        }
    }

    fn alive2(&mut self, alive: &Alive2<'_>, caller: &Caller, now: UnixMillis) -> Came {
        let by = Registrant {
            owner: Owner::Connection(caller.conn),
            peer: Some(caller.peer),
            listener: caller.listener,
        };
        let registered =
            judged(alive.name).and_then(|name| self.node_reg2(name, alive.registration(), by, now));
        let number = registered.as_ref().map_or(99, |(creation, _)| creation.get());
        let result = u8::from(registered.is_err());
        let reply = if alive.highest_version >= 6 {
            [&[b'v', result][..], &number.to_be_bytes()].concat()
        } else if result == 0 {
            vec![b'y', 0, 0, (number % 3 + 1) as u8]
        } else {
            vec![b'y', 1, 0, 99]
        };
        match registered {
            Ok((_, event)) => (reply, Next::Hold, None, Some(event)),
            Err(refusal) => (reply, Next::Close, Some(refusal), None),
        }
    }

    pub fn node_reg2(
        &mut self,
        name: Name,
        registration: Registration,
        by: Registrant,
        since: UnixMillis,
    ) -> Result<(Creation, Event), Refusal> {
        let Registrant { owner, peer, listener } = by;
        if registration.extra.len() > 1020 {
            return Err(Refusal::ExtraTooLong);
        }
        if self.reg.iter().any(|(other, _)| *other == name) {
            return Err(Refusal::NameInUse);
        }
        let mut counter = (since.0 / 1000) as u32;
        if let Some(position) = self.unreg.iter().position(|(other, _)| *other == name) {
            counter = self.unreg.remove(position).1.creation.get();
        } else if self.unreg.len() > self.max_remembered {
            self.unreg.remove(0);
        }
        let creation = bump(counter);
        let (port, node_type) = (registration.port, registration.node_type);
        let event = Event::Up { name: name.clone(), port, node_type, creation, peer };
        let node = Node { registration, creation, since, owner, peer, listener };
        self.reg.insert(0, (name, node));
        Ok((creation, event))
    }

    pub fn node_unreg(&mut self, name: &[u8], reason: DownReason) -> Option<(Owner, Event)> {
        let position = self.reg.iter().position(|(other, _)| other.as_str().as_bytes() == name)?;
        let (name, Node { creation, owner, registration, .. }) = self.reg.remove(position);
        let (port, descriptor) = (registration.port, owner.descriptor());
        self.unreg.push((name.clone(), Remembered { port, descriptor, creation, lost: None }));
        Some((owner, Event::Down { name, creation, reason }))
    }

    pub fn node_unreg_sock(&mut self, conn: ConnId, reason: DownReason) -> Option<Event> {
        let owned = |(_, node): &&(Name, Node)| node.owner == Owner::Connection(conn);
        let name = self.reg.iter().find(owned)?.0.clone();
        self.node_unreg(name.as_str().as_bytes(), reason).map(|(_, event)| event)
    }
}

fn judged(name: &[u8]) -> Result<Name, Refusal> {
    match str::from_utf8(name) {
        _ if name.len() > 1020 => Err(Refusal::NameTooLong),
        Err(_) => Err(Refusal::InvalidName),
        Ok(text) if text.is_empty() || text.contains('\0') => Err(Refusal::InvalidName),
        Ok(text) if text.chars().count() > 255 => Err(Refusal::NameTooLong),
        Ok(_) => Ok(Name::new(name).unwrap()),
    }
}

fn bump(counter: u32) -> Creation {
    let number = match counter.wrapping_add(1) {
        0..4 => 4,
        next => next,
    };
    Creation::from_clock(UnixMillis(u64::from(number - 1) * 1000))
}

fn port2_resp(name: &[u8], node: &Node) -> Vec<u8> {
    let about = &node.registration;
    let length = |part: &[u8]| (part.len() as u16).to_be_bytes();
    [
        b"w\0",
        &about.port.to_be_bytes()[..],
        &[about.node_type, about.protocol],
        &about.highest_version.to_be_bytes(),
        &about.lowest_version.to_be_bytes(),
        &length(name),
        name,
        &length(&about.extra),
        &about.extra,
    ]
    .concat()
}

//! Random histories of the registry beside a naive one, written after the lists
//! of `epmd_srv.c`; only that a new name always starts from the clock.

#![cfg(test)]

use std::collections::HashMap;
use std::net::SocketAddr;

use epmd_core::{
    Alive2, Caller, ConnId, Creation, DownReason, Event, Name, Next, Node, Owner, Refusal,
    Registration, Registry, Remembered, Reply, Request, UnixMillis,
};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_registry_is_what_a_naive_one_would_be(
        max_remembered in 0..4_usize,
        history in prop::collection::vec(op(), 0..80),
    ) {
        let mut pair = Pair::new(max_remembered);
        for op in &history {
            pair.step(op);
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Alive2(Vec<u8>, Registration),
    PortPlease2(Vec<u8>),
    Names,
    Info,
    NodeInfo(Vec<u8>),
    Dump,
    Kill {
        relaxed: bool,
    },
    Stop(Vec<u8>),
    /// Of the connection of an earlier request, whatever became of it.
    End(prop::sample::Index, DownReason),
    RegisterVm(Vec<u8>, Registration),
    Unregister(Vec<u8>, DownReason),
    Clock(UnixMillis),
}

fn op() -> impl Strategy<Value = Op> {
    let end = prop_oneof![Just(DownReason::Closed), Just(DownReason::SurplusData)];
    let out = prop_oneof![Just(DownReason::Dropped), Just(DownReason::Unregistered)];
    prop_oneof![
        6 => (any_name(), registration()).prop_map(|(name, about)| Op::Alive2(name, about)),
        2 => good_name().prop_map(Op::PortPlease2),
        1 => Just(Op::Names),
        1 => Just(Op::Info),
        1 => good_name().prop_map(Op::NodeInfo),
        1 => Just(Op::Dump),
        1 => any::<bool>().prop_map(|relaxed| Op::Kill { relaxed }),
        2 => any_name().prop_map(Op::Stop),
        5 => (any::<prop::sample::Index>(), end).prop_map(|(conn, why)| Op::End(conn, why)),
        1 => (good_name(), registration()).prop_map(|(name, about)| Op::RegisterVm(name, about)),
        2 => (good_name(), out).prop_map(|(name, why)| Op::Unregister(name, why)),
        1 => clock().prop_map(Op::Clock),
    ]
}

fn good_name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        9 => (b'a'..b'i').prop_map(|letter| vec![letter]),
        1 => Just("é".repeat(255).into_bytes()),
    ]
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        9 => good_name(),
        1 => prop_oneof![
            Just(vec![]),
            Just(vec![b'a', 0]),
            Just(vec![0xff]),
            Just(vec![b'a'; 256]),
            Just("é".repeat(256).into_bytes()),
            Just(vec![0xff; 1021]),
        ],
    ]
}

fn registration() -> impl Strategy<Value = Registration> {
    let highest_version = prop_oneof![Just(0), Just(5), Just(6), any::<u16>()];
    let extra = prop_oneof![9 => 0..4_usize, 1 => 1019..1022_usize];
    (any::<(u16, u8, u8, u16)>(), highest_version, extra).prop_map(
        |((port, node_type, protocol, lowest_version), highest_version, extra)| Registration {
            port,
            node_type,
            protocol,
            highest_version,
            lowest_version,
            extra: vec![node_type; extra].into(),
        },
    )
}

/// Also times from which a creation goes past its last number.
fn clock() -> impl Strategy<Value = UnixMillis> {
    let last = u64::from(u32::MAX) * 1000;
    prop_oneof![0..9000_u64, 1_700_000_000_000..1_700_000_009_000_u64, last - 5000..last + 5000]
        .prop_map(UnixMillis)
}

/// The registry, the naive one, and what both are asked with.
struct Pair {
    registry: Registry,
    model: Model,
    /// Who is up, going by the events alone.
    up: HashMap<Name, Creation>,
    now: UnixMillis,
    served: u32,
}

impl Pair {
    fn new(max_remembered: usize) -> Self {
        Self {
            registry: Registry::with_max_remembered(max_remembered),
            model: Model { reg: vec![], unreg: vec![], max_remembered },
            up: HashMap::new(),
            now: UnixMillis(1_700_000_000_000),
            served: 0,
        }
    }

    fn step(&mut self, op: &Op) {
        let event = match op {
            Op::Alive2(name, about) => self.ask(&alive2(name, about), false),
            Op::PortPlease2(name) => {
                self.ask(&Request::PortPlease2(str::from_utf8(name).unwrap()), false)
            }
            Op::Names => self.ask(&Request::Names, false),
            Op::Info => self.ask(&Request::Info, false),
            Op::NodeInfo(name) => {
                self.ask(&Request::NodeInfo(str::from_utf8(name).unwrap()), false)
            }
            Op::Dump => self.ask(&Request::Dump, false),
            Op::Kill { relaxed } => self.ask(&Request::Kill, *relaxed),
            Op::Stop(name) => self.ask(&Request::Stop(name), true),
            Op::End(index, reason) => {
                let conn = connection(index.index(self.served as usize + 1) as u32);
                let event = self.registry.unregister_connection(conn, *reason);
                assert_eq!(event, self.model.node_unreg_sock(conn, *reason));
                assert!(!self.registry.is_registered(conn));
                event
            }
            Op::RegisterVm(name, about) => {
                let name = Name::new(name).unwrap();
                let about = about.clone();
                let expected =
                    self.model.node_reg2(name.clone(), about.clone(), Owner::Vm, None, self.now);
                let up = self.registry.register(name, about, Owner::Vm, None, self.now);
                assert_eq!(up, expected);
                up.ok().map(|(_, event)| event)
            }
            Op::Unregister(name, reason) => {
                let name = str::from_utf8(name).unwrap();
                let down = self.registry.unregister(name, *reason);
                assert_eq!(down, self.model.node_unreg(name.as_bytes(), *reason));
                down.map(|(_, event)| event)
            }
            Op::Clock(now) => {
                self.now = *now;
                None
            }
        };
        self.pair_up(event);
        assert_eq!(self.state(), self.model);
        assert_eq!(self.registry.len(), self.model.reg.len());
        assert_eq!(self.registry.is_empty(), self.model.reg.is_empty());
        for (name, node) in &self.model.reg {
            assert_eq!(self.registry.lookup(name.as_str()), Some(node));
            assert_eq!(self.up.get(name), Some(&node.creation));
        }
        assert_eq!(self.up.len(), self.model.reg.len());
    }

    /// Asks both over a new connection.
    fn ask(&mut self, request: &Request<'_>, relaxed: bool) -> Option<Event> {
        self.served += 1;
        let peer = SocketAddr::from(([127, 0, 0, 1], self.served as u16));
        let caller = Caller { conn: connection(self.served), peer, epmd_port: 4369, relaxed };
        let before = self.state();
        let read_only = self.registry.answer(request, caller.epmd_port).map(|r| encoded(&r));

        let outcome = self.registry.apply(request, &caller, self.now);
        let reply = encoded(&outcome.reply);
        let came = (reply.clone(), outcome.next, outcome.refused, outcome.event);

        assert_eq!(came, self.model.do_request(request, &caller, self.now));
        if came.2.is_some() || read_only.is_some() {
            assert_eq!((self.state(), &came.3), (before, &None), "no change");
        }
        assert!(read_only.is_none_or(|answer| answer == reply));
        assert_eq!(self.registry.is_registered(caller.conn), came.1 == Next::Hold);
        came.3
    }

    fn pair_up(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Up { name, creation, .. }) => {
                assert_eq!(self.up.insert(name, creation), None, "up twice");
            }
            Some(Event::Down { name, creation, .. }) => {
                assert_eq!(self.up.remove(&name), Some(creation), "down without up");
            }
            None => {}
        }
    }

    fn state(&self) -> Model {
        let nodes = self.registry.nodes().map(|(name, node)| (name.clone(), node.clone()));
        let gone = self.registry.remembered().map(|(name, gone)| (name.clone(), gone.clone()));
        Model { reg: nodes.collect(), unreg: gone.collect(), ..self.model }
    }
}

/// Few descriptors, so that they are used again by other connections.
fn connection(served: u32) -> ConnId {
    ConnId::new(served, served as i32 % 7)
}

fn alive2<'a>(name: &'a [u8], about: &'a Registration) -> Request<'a> {
    Request::Alive2(Alive2 {
        port: about.port,
        node_type: about.node_type,
        protocol: about.protocol,
        highest_version: about.highest_version,
        lowest_version: about.lowest_version,
        name,
        extra: &about.extra,
    })
}

fn encoded(reply: &Reply<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    reply.encode(&mut out);
    out
}

/// The two lists of `epmd_srv.c`, with its functions by their names.
#[derive(Debug, PartialEq)]
struct Model {
    /// Newest first.
    reg: Vec<(Name, Node)>,
    /// Oldest first.
    unreg: Vec<(Name, Remembered)>,
    max_remembered: usize,
}

type Came = (Vec<u8>, Next, Option<Refusal>, Option<Event>);

impl Model {
    fn do_request(&mut self, request: &Request<'_>, caller: &Caller, now: UnixMillis) -> Came {
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
            Request::Names => {
                for (name, node) in &self.reg {
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
        let owner = Owner::Connection(caller.conn);
        let registered = judged(alive.name).and_then(|name| {
            self.node_reg2(name, alive.registration(), owner, Some(caller.peer), now)
        });
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

    fn node_reg2(
        &mut self,
        name: Name,
        registration: Registration,
        owner: Owner,
        peer: Option<SocketAddr>,
        since: UnixMillis,
    ) -> Result<(Creation, Event), Refusal> {
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
        let event = Event::Up { name: name.clone(), port: registration.port, creation, peer };
        let node = Node { registration, creation, since, owner, peer, listener: None };
        self.reg.insert(0, (name, node));
        Ok((creation, event))
    }

    fn node_unreg(&mut self, name: &[u8], reason: DownReason) -> Option<(Owner, Event)> {
        let position = self.reg.iter().position(|(other, _)| other.as_str().as_bytes() == name)?;
        let (name, Node { creation, owner, registration, .. }) = self.reg.remove(position);
        let (port, descriptor) = (registration.port, owner.descriptor());
        self.unreg.push((name.clone(), Remembered { port, descriptor, creation }));
        Some((owner, Event::Down { name, creation, reason }))
    }

    fn node_unreg_sock(&mut self, conn: ConnId, reason: DownReason) -> Option<Event> {
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

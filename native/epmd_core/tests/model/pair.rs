//! The registry and the naive one, and what happens to both.

use std::net::SocketAddr;

use epmd_core::{
    Alive2, Caller, DownReason, Event, Name, Next, Registrant, Registration, Registry, Request,
    UnixMillis,
};

use super::naive::Model;
use super::told::{Up, connection, encoded};

/// What a history is made of.
#[derive(Debug, Clone)]
pub enum Op {
    Alive2(Vec<u8>, Registration),
    PortPlease2(Vec<u8>),
    Names,
    Match(&'static str),
    Info,
    NodeInfo(Vec<u8>),
    Dump,
    Kill {
        relaxed: bool,
    },
    Stop(Vec<u8>),
    /// Of the connection of an earlier request, whatever became of it.
    End(u32, DownReason),
    RegisterVm(Vec<u8>, Registration),
    Unregister(Vec<u8>, DownReason),
    Clock(UnixMillis),
}

/// The registry, the naive one, and what both are asked with.
pub struct Pair {
    registry: Registry,
    model: Model,
    up: Up,
    now: UnixMillis,
    served: u32,
}

impl Pair {
    /// Both before anything happens.
    pub fn new(max_remembered: usize) -> Self {
        Self {
            registry: Registry::with_max_remembered(max_remembered),
            model: Model { reg: vec![], unreg: vec![], max_remembered },
            up: Up::default(),
            now: UnixMillis(1_700_000_000_000),
            served: 0,
        }
    }

    /// Has something happen to both, and compares them.
    pub fn step(&mut self, op: &Op) {
        let event = match op {
            Op::Alive2(name, about) => self.ask(&alive2(name, about), false),
            Op::PortPlease2(name) => {
                self.ask(&Request::PortPlease2(str::from_utf8(name).unwrap()), false)
            }
            Op::Match(glob) => self.ask(&Request::Match(glob), false),
            Op::Names => self.ask(&Request::Names, false),
            Op::Info => self.ask(&Request::Info, false),
            Op::NodeInfo(name) => {
                self.ask(&Request::NodeInfo(str::from_utf8(name).unwrap()), false)
            }
            Op::Dump => self.ask(&Request::Dump, false),
            Op::Kill { relaxed } => self.ask(&Request::Kill, *relaxed),
            Op::Stop(name) => self.ask(&Request::Stop(name), true),
            Op::End(number, reason) => {
                let conn = connection(number % (self.served + 1));
                let event = self.registry.unregister_connection(conn, *reason);
                assert_eq!(event, self.model.node_unreg_sock(conn, *reason));
                assert!(!self.registry.is_registered(conn));
                event
            }
            Op::RegisterVm(name, about) => {
                let name = Name::new(name).unwrap();
                let about = about.clone();
                let expected =
                    self.model.node_reg2(name.clone(), about.clone(), Registrant::VM, self.now);
                let up = self.registry.register(name, about, Registrant::VM, self.now);
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
        self.up.hear(event);
        assert_eq!(self.state(), self.model);
        assert_eq!(self.registry.len(), self.model.reg.len());
        assert_eq!(self.registry.is_empty(), self.model.reg.is_empty());
        for (name, node) in &self.model.reg {
            assert_eq!(self.registry.lookup(name.as_str()), Some(node));
            assert_eq!(self.up.0.get(name), Some(&node.creation));
        }
        assert_eq!(self.up.0.len(), self.model.reg.len());
    }

    /// Asks both over a new connection.
    fn ask(&mut self, request: &Request<'_>, relaxed: bool) -> Option<Event> {
        self.served += 1;
        let peer = SocketAddr::from(([127, 0, 0, 1], self.served as u16));
        let conn = connection(self.served);
        let caller = Caller { conn, peer, epmd_port: 4369, relaxed, listener: None };
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

    fn state(&self) -> Model {
        let nodes = self.registry.nodes().map(|(name, node)| (name.clone(), node.clone()));
        let gone = self.registry.remembered().map(|(name, gone)| (name.clone(), gone.clone()));
        Model { reg: nodes.collect(), unreg: gone.collect(), ..self.model }
    }
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

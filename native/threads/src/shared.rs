//! Of what the threads share, what is of interest here.

use std::net::SocketAddr;
use std::sync::Arc;

use epmd_core::{
    ConnId, DownReason, Event, Name, Owner, Registrant, Registration, Registry, UnixMillis,
};

use crate::feed::Feed;
use crate::platform::TcpSocket;
use crate::quotas::Quotas;
use crate::{Mutex, RwLock};

#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) registry: RwLock<Registry>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) quotas: Quotas,
    pub(crate) held: Held,
}

/// The connections that are registrations: all have the same end.
#[derive(Default)]
pub(crate) struct Held(Mutex<()>);

impl Held {
    pub(crate) fn local_address(&self, _conn: ConnId) -> Option<SocketAddr> {
        self.0.lock();
        Some(address(4369))
    }
}

impl Shared {
    #[allow(clippy::unused_self, reason = "as the real one")]
    pub(crate) fn peer_socket(&self, peer: SocketAddr, _local: SocketAddr) -> Option<TcpSocket> {
        Some(TcpSocket { inode: peer.port().into(), uid: 0 })
    }

    /// Registers a node by a connection of that number.
    pub(crate) fn register(&self, number: u32) {
        let about = Registration {
            port: 4711,
            node_type: 77,
            protocol: 0,
            highest_version: 6,
            lowest_version: 5,
            extra: Box::default(),
        };
        let owner = Owner::Connection(connection(number));
        let peer = Some(address(number as u16));
        let by = Registrant { owner, peer, listener: None };
        let mut registry = self.registry.write();
        let registered = registry.register(name(number), about, by, UnixMillis(0));
        let (_, event) = registered.unwrap();
        self.tell(&event);
    }

    /// Unregisters it, in the order in which the server does.
    pub(crate) fn end(&self, number: u32) {
        let conn = connection(number);
        let mut registry = self.registry.write();
        let ended = registry.unregister_connection(conn, DownReason::Closed);
        self.tell(&ended.unwrap());
        drop(registry);
        self.quotas.remove(conn);
    }

    /// By whoever holds the lock of the registry.
    fn tell(&self, event: &Event) {
        self.feed.push(event);
    }
}

pub(crate) fn name(number: u32) -> Name {
    Name::new(format!("n{number}").as_bytes()).unwrap()
}

pub(crate) fn address(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn connection(number: u32) -> ConnId {
    ConnId::new(number, 7)
}

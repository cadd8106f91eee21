//! How many nodes each process has, where that is limited.
//!
//! The process of a node is the one that has the other end of its connection. One that
//! cannot be looked into (of another user, unless by root) counts as its user: all such
//! processes of a user have the quota of one. One whose end the system does not know has
//! none.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use epmd_core::{ConnId, Owner};
use parking_lot::Mutex;

use crate::platform::{self, Holder, TcpSocket};
use crate::shared::Shared;

/// Whose quota a node counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Account {
    Process(i32),
    User(u32),
}

/// Who is about to register a node.
#[derive(Debug, Default)]
pub(crate) struct Applicant {
    account: Option<Account>,
    pub(crate) holder: Holder,
}

/// Whose the nodes are.
#[derive(Debug, Default)]
pub(crate) struct Quotas(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    accounts: HashMap<ConnId, Account>,
    used: HashMap<Account, usize>,
    /// Whether every node is in one that can be.
    is_complete: bool,
}

impl Quotas {
    /// There are nodes of which it is not known whose they are.
    pub(crate) fn are_incomplete(&self) {
        self.0.lock().is_complete = false;
    }

    /// Whether somebody has as many nodes as it may have.
    pub(crate) fn are_used_up(&self, applicant: &Applicant, max: usize) -> bool {
        let inner = self.0.lock();
        let used = applicant.account.and_then(|account| inner.used.get(&account));
        used.is_some_and(|&used| used >= max)
    }

    /// A node was registered.
    pub(crate) fn add(&self, conn: ConnId, applicant: &Applicant) {
        if let Some(account) = applicant.account {
            self.0.lock().add(conn, account);
        }
    }

    /// A connection is no registration any more, if it was.
    pub(crate) fn remove(&self, conn: ConnId) {
        let mut inner = self.0.lock();
        let Some(account) = inner.accounts.remove(&conn) else { return };
        if let Some(used) = inner.used.get_mut(&account) {
            *used -= 1;
            if *used == 0 {
                inner.used.remove(&account);
            }
        }
    }

    /// The processes that have nodes, those with the most of them first.
    fn processes(&self) -> Vec<i32> {
        let inner = self.0.lock();
        let mut processes: Vec<_> = inner
            .used
            .iter()
            .filter_map(|(account, used)| match account {
                Account::Process(pid) => Some((*used, *pid)),
                Account::User(_) => None,
            })
            .collect();
        processes.sort_unstable_by(|one, other| other.cmp(one));
        processes.into_iter().map(|(_, pid)| pid).collect()
    }
}

impl Inner {
    fn add(&mut self, conn: ConnId, account: Account) {
        if self.accounts.insert(conn, account).is_none() {
            *self.used.entry(account).or_default() += 1;
        }
    }
}

impl Shared {
    /// Who is at the other end of a connection. Looks at the descriptors of other
    /// processes, so not for the server's thread.
    pub(crate) fn applicant(&self, peer: SocketAddr, local: SocketAddr) -> Applicant {
        let Some(socket) = self.peer_socket(peer, local) else { return Applicant::default() };
        let unknown = self.nodes_without_account();
        let inodes = unknown.iter().map(|(_, socket)| socket.inode).chain([socket.inode]);
        let inodes: HashSet<_> = inodes.collect();
        let processes = platform::holders_of(&inodes, &self.quotas.processes());
        let account = |socket: &TcpSocket| match processes.get(&socket.inode) {
            Some(&pid) => Account::Process(pid),
            None => Account::User(socket.uid),
        };
        // None ends meanwhile.
        let registry = self.registry.read();
        let mut quotas = self.quotas.0.lock();
        for (conn, socket) in unknown {
            if registry.is_registered(conn) {
                quotas.add(conn, account(&socket));
            }
        }
        drop((registry, quotas));
        let pid = processes.get(&socket.inode).copied();
        Applicant { account: Some(account(&socket)), holder: platform::holder_with(socket, pid) }
    }

    /// Nodes that were registered before anybody asked whose they are.
    fn nodes_without_account(&self) -> Vec<(ConnId, TcpSocket)> {
        let registry = self.registry.read();
        let mut quotas = self.quotas.0.lock();
        if std::mem::replace(&mut quotas.is_complete, true) {
            return Vec::new();
        }
        let nodes = registry.oldest_first().filter_map(|(_, node)| match node.owner {
            Owner::Connection(conn) if !quotas.accounts.contains_key(&conn) => {
                Some((conn, node.peer?))
            }
            _ => None,
        });
        let nodes: Vec<_> = nodes.collect();
        drop((registry, quotas));
        let socket = |(conn, peer)| {
            let local = self.held.local_address(conn)?;
            Some((conn, self.peer_socket(peer, local)?))
        };
        nodes.into_iter().filter_map(socket).collect()
    }
}

//! Who may ask for what.

use std::net::IpAddr;

use crate::{Refusal, Request};

/// The rules that an operator can set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// Allows STOP, and KILL while nodes are registered
    /// (`-relaxed_command_check`).
    pub relaxed: bool,
}

impl Policy {
    /// Whether a request needs a local peer at all. The shell asks this first
    /// where finding out about the peer costs a system call.
    #[must_use]
    pub const fn needs_local_peer(request: &Request<'_>) -> bool {
        match request {
            Request::Alive2(_)
            | Request::Dump
            | Request::Info
            | Request::Kill
            | Request::Stop(_) => true,
            Request::PortPlease2(_) | Request::Names => false,
        }
    }

    /// Permits a request of a peer, or refuses it unanswered.
    ///
    /// # Errors
    /// [`Refusal::NotLocal`], [`Refusal::NotPermitted`].
    pub const fn permit(&self, request: &Request<'_>, local: bool) -> Result<(), Refusal> {
        if Self::needs_local_peer(request) && !local {
            return Err(Refusal::NotLocal);
        }
        if matches!(request, Request::Stop(_)) && !self.relaxed {
            return Err(Refusal::NotPermitted);
        }
        Ok(())
    }
}

/// Whether a peer is on this host: its address is a loopback one, or the very
/// address that it connected to (`conn_local_peer_check` in `epmd_srv.c`).
///
/// IPv4 addresses in IPv6 form are judged as IPv4. `connected_to` is asked for
/// only when the peer's address does not decide.
pub fn is_local(peer: IpAddr, connected_to: impl FnOnce() -> Option<IpAddr>) -> bool {
    let peer = peer.to_canonical();
    peer.is_loopback() || connected_to().is_some_and(|address| address.to_canonical() == peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(peer: &str, connected_to: &str) -> bool {
        is_local(peer.parse().unwrap(), || Some(connected_to.parse().unwrap()))
    }

    #[test]
    fn loopback_and_the_own_address_are_local() {
        assert!(local("127.0.0.1", "127.0.0.1"));
        assert!(local("127.8.9.1", "127.0.0.1"));
        assert!(local("::1", "::1"));
        assert!(local("::ffff:127.0.0.1", "::ffff:127.0.0.1"));
        assert!(local("192.0.2.1", "192.0.2.1"));
        assert!(local("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(local("2001:db8::1", "2001:db8::1"));
    }

    #[test]
    fn any_other_address_is_remote() {
        assert!(!local("192.0.2.2", "192.0.2.1"));
        assert!(!local("::ffff:192.0.2.2", "::ffff:192.0.2.1"));
        assert!(!local("2001:db8::2", "2001:db8::1"));
        assert!(!local("128.0.0.1", "127.0.0.1"));
        assert!(!is_local("192.0.2.1".parse().unwrap(), || None));
    }

    #[test]
    fn remote_peers_may_look_up_and_list_but_not_change() {
        let policy = Policy { relaxed: true };
        for allowed in [Request::PortPlease2("n"), Request::Names] {
            assert_eq!(policy.permit(&allowed, false), Ok(()));
        }
        for refused in [Request::Dump, Request::Info, Request::Kill, Request::Stop(b"n")] {
            assert_eq!(policy.permit(&refused, false), Err(Refusal::NotLocal));
            assert_eq!(policy.permit(&refused, true), Ok(()));
        }
    }

    #[test]
    fn stop_needs_relaxed_checking() {
        let strict = Policy::default();
        assert_eq!(strict.permit(&Request::Stop(b"n"), true), Err(Refusal::NotPermitted));
        assert_eq!(strict.permit(&Request::Kill, true), Ok(()));
    }
}

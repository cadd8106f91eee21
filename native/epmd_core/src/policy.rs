//! Who may ask for what.

use std::net::IpAddr;

use crate::{Refusal, Request};

/// The rules that an operator can set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// Allows STOP, and KILL while nodes are registered
    /// (`-relaxed_command_check`).
    pub relaxed: bool,
    /// What remote peers may ask for (`exposure`).
    pub exposure: Exposure,
    /// Whether remote peers that may list names may watch them, too
    /// (`watch_remote`).
    pub watch_remote: bool,
}

/// What a peer on another host may ask for. Whoever is local may ask for
/// everything that the rest of the [`Policy`] permits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Exposure {
    /// To look names up and to list them, as C `epmd` has it.
    #[default]
    All,
    /// To look up a name that it knows.
    Lookup,
    /// For nothing.
    Local,
}

impl Exposure {
    /// The word for it, for Erlang.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Lookup => "lookup",
            Self::Local => "local",
        }
    }
}

impl Policy {
    /// Whether a remote peer may ask for anything. Else it is refused without
    /// waiting for its request.
    #[must_use]
    pub const fn serves_remote_peers(&self) -> bool {
        !matches!(self.exposure, Exposure::Local)
    }

    /// Whether a request needs a local peer at all. The shell asks this first
    /// where finding out about the peer costs a system call.
    #[must_use]
    pub const fn needs_local_peer(&self, request: &Request<'_>) -> bool {
        match request {
            Request::Alive2(_)
            | Request::Dump
            | Request::Info
            | Request::NodeInfo(_)
            | Request::Kill
            | Request::Stop(_) => true,
            Request::PortPlease2(_) => !self.serves_remote_peers(),
            Request::Names | Request::Match(_) => !matches!(self.exposure, Exposure::All),
            Request::Watch(_) => !(self.watch_remote && matches!(self.exposure, Exposure::All)),
        }
    }

    /// Permits a request of a peer, or refuses it unanswered.
    ///
    /// # Errors
    /// [`Refusal::NotLocal`], [`Refusal::NotPermitted`].
    pub const fn permit(&self, request: &Request<'_>, local: bool) -> Result<(), Refusal> {
        if self.needs_local_peer(request) && !local {
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
    use crate::Alive2;

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
    fn exposure_decides_what_remote_peers_may_ask_for() {
        let requests = [
            Request::PortPlease2("n"),
            Request::Names,
            Request::Match("n*"),
            Request::Watch("n*"),
            Request::Dump,
            Request::Info,
            Request::NodeInfo("n"),
            Request::Kill,
            Request::Stop(b"n"),
            Request::Alive2(Alive2 {
                port: 1,
                node_type: 77,
                protocol: 0,
                highest_version: 6,
                lowest_version: 5,
                name: b"n",
                extra: b"",
            }),
        ];
        for (exposure, allowed) in [(Exposure::All, 3), (Exposure::Lookup, 1), (Exposure::Local, 0)]
        {
            let policy = Policy { relaxed: true, exposure, ..Policy::default() };
            assert_eq!(policy.serves_remote_peers(), allowed > 0);
            for (index, request) in requests.iter().enumerate() {
                assert_eq!(policy.permit(request, true), Ok(()), "{exposure:?} {request:?}");
                let of_remote = if index < allowed { Ok(()) } else { Err(Refusal::NotLocal) };
                assert_eq!(policy.permit(request, false), of_remote, "{exposure:?} {request:?}");
                // Who may ask from anywhere need not be known.
                assert_eq!(policy.needs_local_peer(request), of_remote.is_err());
            }
        }
    }

    #[test]
    fn remote_peers_may_watch_what_they_may_list_where_that_is_wanted() {
        for exposure in [Exposure::All, Exposure::Lookup, Exposure::Local] {
            for watch_remote in [false, true] {
                let policy = Policy { watch_remote, exposure, ..Policy::default() };
                let may = watch_remote && exposure == Exposure::All;
                assert_eq!(policy.permit(&Request::Watch("n*"), false).is_ok(), may);
                assert_eq!(policy.permit(&Request::Watch("n*"), true), Ok(()));
            }
        }
    }

    #[test]
    fn stop_needs_relaxed_checking() {
        let strict = Policy::default();
        assert_eq!(strict.permit(&Request::Stop(b"n"), true), Err(Refusal::NotPermitted));
        assert_eq!(strict.permit(&Request::Kill, true), Ok(()));
    }
}

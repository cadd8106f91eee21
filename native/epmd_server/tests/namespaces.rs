//! Hosts of another kind, and peers on other hosts: what they may ask for does
//! not depend on the address that they come from or connect to.

#![cfg(test)]

mod common;

use std::net::{IpAddr, SocketAddr};

use common::c_epmd::CEpmd;
use common::namespace::{FAR_ADDRESSES, FAR_INDEX, NEAR_ADDRESSES, Remote, with_remote};
use common::process::{sh, skip};
use common::served::{Served, list, local, relaxed};
use common::wire::{
    DUMP, KILL, NAMES, NOT_FOUND, UNANSWERED, alive2, ask, ask_and_see, found, framed, port_please,
    register, stop,
};
use epmd_core::{Exposure, Refusal};
use epmd_server::{Addresses, Config, Notice};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

fn all() -> Config {
    Config { addresses: Addresses::All, ..relaxed() }
}

/// Serves in every exposure, to itself over the loopback address that there is
/// and to a remote peer over the link, and misses nothing else.
fn assert_serves(remote: &mut Remote, loopback: &str, near: &str, skipped: &[&str]) {
    for exposure in [Exposure::All, Exposure::Lookup, Exposure::Local] {
        let server = Served::with(Config { exposure, ..all() });
        server.register_own("n1");
        let notices = server.notices();
        let missing: Vec<_> = notices
            .iter()
            .filter_map(|notice| match notice {
                Notice::AddressSkipped { address, .. } => Some(address.ip().to_string()),
                _ => None,
            })
            .collect();
        let port = server.port();
        let listing = ask_and_see(at(loopback, port), NAMES).0;
        assert!(listing.ends_with(b"name n1 at port 4711\n"), "{exposure:?} {listing:?}");
        if exposure == Exposure::Local {
            assert_eq!(missing, skipped);
            assert!(server.ips().iter().all(IpAddr::is_loopback), "{:?}", server.ips());
            let refused = remote.try_to_ask(None, at(near, port), NAMES);
            assert_eq!(refused, Err("refused".to_owned()));
        } else {
            assert_eq!(remote.ask(at(near, port), &port_please(b"n1")), found(b"n1", 4711));
            let listed = if exposure == Exposure::All { &listing[..] } else { UNANSWERED };
            assert_eq!(remote.ask(at(near, port), NAMES), listed);
        }
    }
}

#[test]
fn a_host_with_ipv6_disabled_is_served_over_ipv4() {
    with_remote("a_host_with_ipv6_disabled_is_served_over_ipv4", |remote| {
        sh("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6
            ip addr add 10.99.0.1/24 dev near");
        remote.sh("ip addr add 10.99.0.2/24 dev far");
        assert_serves(remote, "127.0.0.1", "10.99.0.1", &["::1"]);
        let server = Served::with(local());
        assert_eq!(server.ips(), [ip("127.0.0.1")]);
        let required = Config { addresses: list(&["::1"]), ..local() };
        assert!(epmd_server::Server::start(required, Box::new(|| ())).is_err());
    });
}

#[test]
fn a_host_without_ipv6_addresses_is_served_over_ipv4() {
    with_remote("a_host_without_ipv6_addresses_is_served_over_ipv4", |remote| {
        sh("ip -6 addr flush dev lo; ip addr add 10.99.0.1/24 dev near");
        remote.sh("ip addr add 10.99.0.2/24 dev far");
        assert_serves(remote, "127.0.0.1", "10.99.0.1", &["::1"]);
    });
}

#[test]
fn a_host_without_ipv4_is_served_over_ipv6() {
    with_remote("a_host_without_ipv4_is_served_over_ipv6", |remote| {
        if std::net::TcpListener::bind("[::]:0").is_err() {
            return skip("a_host_without_ipv4_is_served_over_ipv6", "no IPv6");
        }
        sh("ip -4 addr flush dev lo; ip addr add fd99::1/64 dev near nodad");
        remote.sh("ip addr add fd99::2/64 dev far nodad");
        assert_serves(remote, "::1", "fd99::1", &["127.0.0.1"]);
    });
}

#[test]
fn a_host_with_both_is_served_over_both() {
    with_remote("a_host_with_both_is_served_over_both", |remote| {
        sh(NEAR_ADDRESSES);
        remote.sh(FAR_ADDRESSES);
        assert_serves(remote, "127.0.0.1", "10.99.0.1", &[]);
        assert_serves(remote, "::1", "fd99::1", &[]);
    });
}

/// A host with addresses of every kind, a second one of them elsewhere.
fn with_many_addresses(test: &str, body: impl FnOnce(&mut Remote)) {
    with_remote(test, |remote| {
        sh(NEAR_ADDRESSES);
        sh("ip link add other type veth peer name beyond
            ip link set other up; ip link set beyond up
            ip addr add 10.98.0.1/24 dev other; ip addr add fd98::1/64 dev other nodad");
        remote.sh(FAR_ADDRESSES);
        remote.sh("ip route add 10.98.0.0/24 via 10.99.0.1; ip route add fd98::/64 via fd99::1");
        body(remote);
    });
}

/// Every way to the host, as the remote one has it.
fn ways(port: u16) -> Vec<SocketAddr> {
    let link_local = format!("fe80::1%{FAR_INDEX}");
    ["10.99.0.1", "10.98.0.1", "::ffff:10.99.0.1", "fd99::1", "fd98::1", &link_local]
        .map(|ip| match ip.parse() {
            Ok(ip) => SocketAddr::new(ip, port),
            Err(_) => format!("[{ip}]:{port}").parse().unwrap(),
        })
        .to_vec()
}

fn requests() -> Vec<Vec<u8>> {
    let mut requests: Vec<_> = [NAMES, DUMP, KILL, b"\0\0", b"\0\x01zn", b"\xff\xff"]
        .into_iter()
        .map(<[u8]>::to_vec)
        .collect();
    requests.extend([port_please(b"n1"), port_please(b"n2"), port_please(b""), stop(b"n1")]);
    requests.extend([alive2(b"n2", 1), alive2(b"n1", 1), framed(b"?"), framed(b"info")]);
    requests
}

#[test]
fn remote_peers_are_answered_as_by_epmd_whatever_address_they_connect_to() {
    let test = "remote_peers_are_answered_as_by_epmd_whatever_address_they_connect_to";
    with_many_addresses(test, |remote| {
        let server = Served::with(all());
        let (node, _) = register(server.port(), b"n1");
        let epmd = (CEpmd::start(4400), 4400);
        let (theirs, _) = register(epmd.1, b"n1");
        server.notices();
        for (ours, other) in ways(server.port()).into_iter().zip(ways(epmd.1)) {
            for request in requests() {
                let mut expected = remote.ask(other, &request);
                if request == NAMES {
                    // Each tells its own port.
                    expected[..4].copy_from_slice(&u32::from(server.port()).to_be_bytes());
                }
                let text = request.escape_ascii();
                assert_eq!(remote.ask(ours, &request), expected, "{text} to {ours}");
            }
        }
        assert!(node.is_open() && theirs.is_open());
        assert_eq!(server.count(), 1);
        let expected = ["10.99.0.2", "fd99::2", "fe80::2"].map(ip);
        let refused = refused_as_remote(&server);
        // Over every way: ALIVE2 twice, DUMP, KILL, STOP and our own INFO.
        assert_eq!(refused.len(), ways(0).len() * 6);
        assert!(refused.iter().all(|ip| expected.contains(ip)), "{refused:?}");
    });
}

/// The peers that were refused because they are not local.
fn refused_as_remote(server: &Served) -> Vec<IpAddr> {
    server
        .notices()
        .iter()
        .filter_map(|notice| match notice {
            Notice::Refused { peer, reason: Refusal::NotLocal, .. } => Some(peer.ip()),
            _ => None,
        })
        .collect()
}

#[test]
fn every_address_of_the_host_is_local_to_the_host_itself() {
    with_many_addresses("every_address_of_the_host_is_local_to_the_host_itself", |_| {
        for exposure in [Exposure::All, Exposure::Lookup, Exposure::Local] {
            let many = list(&["10.99.0.1", "10.98.0.1", "fd99::1", "fd98::1"]);
            let server = Served::with(Config { exposure, addresses: many, ..relaxed() });
            for address in server.info().addresses {
                assert_eq!(ask_and_see(address, &stop(b"n2")).0, b"NOEXIST", "{address}");
            }
        }
        let server = Served::with(all());
        let link_local = format!("[fe80::1%{}]:{}", FAR_INDEX - 1, server.port());
        assert_eq!(ask_and_see(link_local.parse().unwrap(), &stop(b"n2")).0, b"NOEXIST");
    });
}

#[test]
fn a_remote_peer_with_an_address_of_the_host_is_not_taken_for_the_host() {
    let test = "a_remote_peer_with_an_address_of_the_host_is_not_taken_for_the_host";
    with_many_addresses(test, |remote| {
        // The host is as trusting as it can be made.
        sh("for each in all near other; do
                echo 0 > /proc/sys/net/ipv4/conf/$each/rp_filter
                echo 1 > /proc/sys/net/ipv4/conf/$each/accept_local
            done");
        remote.sh("ip addr add 10.98.0.1/32 dev far; ip addr add fd98::1/128 dev far nodad");
        let server = Served::with(all());
        server.register_own("n1");
        server.notices();
        // It can be reached from the addresses that are the peer's alone.
        for near in ["10.99.0.1", "fd99::1"] {
            assert_eq!(remote.ask(at(near, server.port()), &stop(b"n1")), UNANSWERED);
        }
        for (own, near) in [("10.98.0.1", "10.99.0.1"), ("fd98::1", "fd99::1")] {
            let asked = remote.try_to_ask(Some(ip(own)), at(near, server.port()), &stop(b"n1"));
            // The host's answer goes to the host, which knows of no such thing.
            assert_eq!(asked, Err("no answer".to_owned()), "from {own}");
        }
        assert_eq!(server.count(), 1);
        assert_eq!(refused_as_remote(&server), ["10.99.0.2", "fd99::2"].map(ip));
        assert_eq!(server.counters().accepted, 2);
    });
}

#[test]
fn a_remote_peer_that_reaches_a_loopback_address_stays_remote() {
    let test = "a_remote_peer_that_reaches_a_loopback_address_stays_remote";
    with_many_addresses(test, |remote| {
        // Some proxies have hosts route their loopback addresses.
        sh("echo 1 > /proc/sys/net/ipv4/conf/near/route_localnet");
        remote.sh("echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet
            ip addr flush dev lo
            ip route flush table local 127.0.0.0/8
            ip route add 127.0.0.0/8 via 10.99.0.1 src 10.99.0.2");
        let server = Served::with(relaxed());
        server.register_own("n1");
        let loopback = at("127.0.0.1", server.port());
        assert_eq!(remote.ask(loopback, &port_please(b"n1")), found(b"n1", 4711));
        assert_eq!(remote.ask(loopback, &port_please(b"n2")), NOT_FOUND);
        server.notices();
        for request in [stop(b"n1"), KILL.to_vec(), DUMP.to_vec(), alive2(b"n2", 1)] {
            assert_eq!(remote.ask(loopback, &request), UNANSWERED);
        }
        let nobody = Config { exposure: Exposure::Local, ..relaxed() };
        server.reconfigure(nobody).unwrap();
        assert_eq!(remote.ask(loopback, &port_please(b"n1")), UNANSWERED);
        assert_eq!(refused_as_remote(&server), [ip("10.99.0.2"); 5]);
        assert_eq!(ask(server.port(), &port_please(b"n1")), found(b"n1", 4711));
    });
}

//! Hosts of another kind, each a network namespace: without IPv6, without
//! IPv4, and with remote peers. The namespace ends with its processes.

#![cfg(test)]

mod common;

use std::net::SocketAddr;
use std::process::Command;

use common::process::{Partner, hear, is_own, role, sh, skip, tell};
use common::served::{Served, list, local, relaxed};
use common::wire::{
    DUMP, KILL, NAMES, UNANSWERED, alive2, ask_and_see, found, port_please, register, stop,
};
use epmd_core::Refusal;
use epmd_server::{Addresses, Config, Notice};

/// Runs a command in a network namespace of its own. Whoever is not root
/// becomes it in a user namespace, where the system allows that.
fn namespace(test: &str) -> Option<&'static [&'static str]> {
    if role().is_some() {
        return Some(&[]);
    }
    let ways: [&[&str]; 2] = [&["unshare", "--net"], &["unshare", "--map-root-user", "--net"]];
    let works = |way: &&[&str]| {
        let output = Command::new(way[0]).args(&way[1..]).args(["ip", "link"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let way = ways.into_iter().find(works);
    if way.is_none() {
        skip(test, "no network namespaces here (not root, or no unshare and ip)");
    }
    way
}

#[test]
fn a_host_without_ipv6_is_served_over_ipv4_with_a_notice() {
    let test = "a_host_without_ipv6_is_served_over_ipv4_with_a_notice";
    let Some(namespace) = namespace(test) else { return };
    if !is_own(test, namespace) {
        return;
    }
    sh("ip link set lo up; echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6");
    let server = Served::with(local());
    assert_eq!(server.ips(), ["127.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
    let [Notice::AddressSkipped { address, .. }] = &server.notices()[..] else {
        panic!("one notice, of the address")
    };
    assert_eq!(*address, SocketAddr::new("::1".parse().unwrap(), server.port()));
    assert_eq!(ask_and_see(server.local_address().unwrap(), NAMES).0.len(), 4);

    let all = Served::with(Config { addresses: Addresses::All, ..local() });
    assert_eq!(ask_and_see(all.local_address().unwrap(), NAMES).0.len(), 4);
    let required = Config { addresses: list(&["::1"]), ..local() };
    assert!(epmd_server::Server::start(required, Box::new(|| ())).is_err());
}

#[test]
fn a_host_without_ipv4_is_served_over_ipv6_with_a_notice() {
    let test = "a_host_without_ipv4_is_served_over_ipv6_with_a_notice";
    let Some(namespace) = namespace(test) else { return };
    if !is_own(test, namespace) {
        return;
    }
    if std::net::TcpListener::bind("[::]:0").is_err() {
        return skip(test, "no IPv6");
    }
    sh(
        "ip link set lo up; ip -4 addr flush dev lo; echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6",
    );
    let server = Served::with(Config { addresses: list(&["::1"]), ..local() });
    let at: SocketAddr = server.info().addresses[0];
    assert_eq!((server.info().addresses.len(), at.ip().to_string()), (1, "::1".to_owned()));
    assert!(matches!(
        &server.notices()[..],
        [Notice::AddressSkipped { address, .. }] if address.ip().to_string() == "127.0.0.1"
    ));
    assert_eq!(ask_and_see(at, NAMES).0.len(), 4);
}

#[test]
fn remote_peers_may_look_up_and_list_but_change_nothing() {
    let test = "remote_peers_may_look_up_and_list_but_change_nothing";
    let Some(namespace) = namespace(test) else { return };
    match role().as_deref() {
        None => {
            is_own(test, namespace);
        }
        Some("own") => serve_remote_peers(test),
        Some(_) => be_remote(),
    }
}

const ADDRESSES: [&str; 2] = ["10.99.0.1", "fd99::1"];

fn serve_remote_peers(test: &str) {
    let mut remote = Partner::start(test, "remote", &["unshare", "--net"]);
    assert_eq!(remote.hear(), "here");
    sh(&format!(
        "ip link set lo up
         ip link add near type veth peer name far netns {}
         ip addr add 10.99.0.1/24 dev near
         ip addr add fd99::1/64 dev near nodad
         ip link set near up",
        remote.pid()
    ));
    let server = Served::with(Config { addresses: list(&ADDRESSES), ..relaxed() });
    let (node, _) = register(server.port(), b"n1");
    server.notices();
    assert_eq!(remote.ask(&server.port().to_string()), "done");

    assert!(node.is_open());
    assert_eq!(server.count(), 1);
    let notices = server.notices();
    let not_local = |notice: &Notice| {
        matches!(notice, Notice::Refused { peer, reason: Refusal::NotLocal, .. }
            if ["10.99.0.2", "fd99::2"].contains(&peer.ip().to_string().as_str()))
    };
    assert_eq!(notices.iter().filter(|one| not_local(one)).count(), 8, "{notices:?}");
    // The host's own address is as good as a loopback one.
    for ip in ADDRESSES {
        let address = SocketAddr::new(ip.parse().unwrap(), server.port());
        assert_eq!(ask_and_see(address, &stop(b"n2")).0, b"NOEXIST");
    }
    // Its end takes the link and the addresses with it.
    remote.tell("bye");
    remote.finish();
}

fn be_remote() {
    tell("here");
    let port: u16 = hear().unwrap().parse().unwrap();
    sh(
        "ip addr add 10.99.0.2/24 dev far; ip addr add fd99::2/64 dev far nodad; ip link set far up",
    );
    for ip in ADDRESSES {
        let server = SocketAddr::new(ip.parse().unwrap(), port);
        common::wait_until("the link is up", || std::net::TcpStream::connect(server).is_ok());
        let ask = |request: &[u8]| ask_and_see(server, request).0;
        assert_eq!(ask(&port_please(b"n1")), found(b"n1", 4711));
        assert!(ask(NAMES).ends_with(b"name n1 at port 4711\n"));
        for request in [&alive2(b"n2", 1)[..], DUMP, KILL, &stop(b"n1")] {
            assert_eq!(ask(request), UNANSWERED);
        }
    }
    tell("done");
    hear();
}

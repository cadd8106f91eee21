//! What peers on another host get to know, as the operator has it.

#![cfg(test)]

mod common;

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use common::load::Load;
use common::namespace::{FAR_ADDRESSES, NEAR_ADDRESSES, Remote, with_remote};
use common::process::sh;
use common::served::{Served, has_ipv6, list, local, port_of_our_own, relaxed};
use common::wire::{
    DUMP, KILL, NAMES, NOT_FOUND, UNANSWERED, alive2, ask, ask_and_see, found, framed, port_please,
    register, stop, v4,
};
use epmd_core::{Exposure, Refusal};
use epmd_server::{Addresses, Config, Notice};
use socket2::{Domain, Socket, Type};

const FAMILIES: [&str; 3] = ["10.99.0.1", "::ffff:10.99.0.1", "fd99::1"];

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

fn all_addresses(exposure: Exposure) -> Config {
    Config { exposure, addresses: Addresses::All, ..relaxed() }
}

fn linked(test: &str, body: impl FnOnce(&mut Remote)) {
    with_remote(test, |remote| {
        sh(NEAR_ADDRESSES);
        remote.sh(FAR_ADDRESSES);
        body(remote);
    });
}

/// What is for local peers alone, whatever the exposure.
fn for_local_peers() -> Vec<Vec<u8>> {
    vec![
        DUMP.to_vec(),
        KILL.to_vec(),
        framed(b"info"),
        framed(b"W*"),
        stop(b"n1"),
        alive2(b"n2", 1),
    ]
}

fn refused_as_remote(server: &Served) -> u64 {
    let refused = server.counters().refused;
    refused.into_iter().find(|(reason, _)| *reason == Refusal::NotLocal).unwrap().1
}

#[test]
fn lookup_answers_remote_peers_that_know_a_name_and_no_others() {
    linked("lookup_answers_remote_peers_that_know_a_name_and_no_others", |remote| {
        let server = Served::with(all_addresses(Exposure::Lookup));
        let (node, _) = register(server.port(), b"n1");
        for ip in FAMILIES {
            let server = at(ip, server.port());
            assert_eq!(remote.ask(server, &port_please(b"n1")), found(b"n1", 4711));
            assert_eq!(remote.ask(server, &port_please(b"n2")), NOT_FOUND);
            let listings = [NAMES.to_vec(), framed(b"M*")];
            for request in for_local_peers().into_iter().chain(listings) {
                let text = request.escape_ascii();
                assert_eq!(remote.ask(server, &request), UNANSWERED, "{text} to {server}");
            }
        }
        assert_eq!(refused_as_remote(&server), 24);
        assert_eq!(server.counters().listings, 0);
        assert!(node.is_open());
        for ip in ["127.0.0.1", "10.99.0.1", "fd99::1"] {
            let listing = ask_and_see(at(ip, server.port()), NAMES).0;
            assert!(listing.ends_with(b"name n1 at port 4711\n"), "to itself at {ip}");
        }
    });
}

#[test]
fn local_keeps_the_port_closed_to_remote_peers() {
    linked("local_keeps_the_port_closed_to_remote_peers", |remote| {
        let server = Served::with(all_addresses(Exposure::Local));
        // There is a way: another port answers.
        let other = Served::with(all_addresses(Exposure::All));
        for ip in FAMILIES {
            assert_eq!(remote.ask(at(ip, other.port()), NAMES).len(), 4);
            let asked = remote.try_to_ask(None, at(ip, server.port()), NAMES);
            assert_eq!(asked, Err("refused".to_owned()), "at {ip}");
        }
        assert_eq!(ask(server.port(), NAMES).len(), 4);
        assert_eq!(server.counters().accepted, 1);
    });
}

#[test]
fn local_refuses_remote_peers_everything_on_addresses_that_are_listed() {
    linked("local_refuses_remote_peers_everything_on_addresses_that_are_listed", |remote| {
        for addresses in [list(&["10.99.0.1", "fd99::1"]), list(&["0.0.0.0", "::"])] {
            let server = Served::with(Config { addresses, ..all_addresses(Exposure::Local) });
            let (node, _) = register(server.port(), b"n1");
            server.notices();
            assert_refused_everything(remote, &server);
            assert!(node.is_open());
            for ip in ["127.0.0.1", "::1", "10.99.0.1", "fd99::1"] {
                let own = at(ip, server.port());
                assert_eq!(ask_and_see(own, &port_please(b"n1")).0, found(b"n1", 4711));
                assert_eq!(ask_and_see(own, &stop(b"n2")).0, b"NOEXIST", "to itself at {ip}");
            }
        }
    });
}

/// For all addresses of both families, as a service manager makes it.
fn dual_stack() -> TcpListener {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    socket.set_only_v6(false).unwrap();
    socket.bind(&at("::", 0).into()).unwrap();
    socket.listen(16).unwrap();
    socket.into()
}

#[test]
fn exposure_holds_on_a_socket_for_both_families_that_was_handed_over() {
    linked("exposure_holds_on_a_socket_for_both_families_that_was_handed_over", |remote| {
        let socket = dual_stack();
        let address = socket.local_addr().unwrap();
        let config = all_addresses(Exposure::Local);
        let server = Served::on(config, vec![socket.try_clone().unwrap()]);
        let (node, _) = register(server.port(), b"n1");
        server.notices();
        assert_refused_everything(remote, &server);
        for exposure in [Exposure::All, Exposure::Lookup, Exposure::Local] {
            let before = refused_as_remote(&server);
            server.reconfigure(all_addresses(exposure)).unwrap();
            // Its other holder would keep remote peers waiting if it was left.
            assert_eq!(server.info().addresses, [address]);
            for ip in FAMILIES {
                let at = at(ip, server.port());
                let looked_up = remote.ask(at, &port_please(b"n1"));
                assert_eq!(looked_up.is_empty(), exposure == Exposure::Local, "{at}");
                assert_eq!(remote.ask(at, NAMES).is_empty(), exposure != Exposure::All);
                for request in for_local_peers() {
                    assert_eq!(remote.ask(at, &request), UNANSWERED);
                }
                assert_eq!(ask_and_see(at, &stop(b"n2")).0, b"NOEXIST", "to itself at {ip}");
            }
            // Of the two requests that read, these are for local peers alone.
            let reads = match exposure {
                Exposure::All => 0,
                Exposure::Lookup => 1,
                Exposure::Local => 2,
            };
            assert_eq!(refused_as_remote(&server) - before, 3 * (6 + reads));
        }
        assert!(node.is_open());
    });
}

/// Each refusal is counted and told with the peer, and no connection is kept
/// waiting, beside that of a node.
fn assert_refused_everything(remote: &mut Remote, server: &Served) {
    let before = refused_as_remote(server);
    let mut asked = 0;
    for ip in FAMILIES {
        let address = at(ip, server.port());
        let reads = [NAMES.to_vec(), port_please(b"n1"), b"\0\x09z".to_vec(), b"\0\0".to_vec()];
        for request in for_local_peers().into_iter().chain(reads) {
            let text = request.escape_ascii();
            assert_eq!(remote.ask(address, &request), UNANSWERED, "{text} to {address}");
            asked += 1;
        }
        remote.wait_silently(address);
        asked += 1;
    }
    assert_eq!(refused_as_remote(server) - before, asked);
    let peers: Vec<IpAddr> = ["10.99.0.2", "fd99::2"].map(|ip| ip.parse().unwrap()).to_vec();
    let notices = server.notices();
    assert_eq!(notices.len() as u64, asked);
    for notice in notices {
        let Notice::Refused { peer, reason: Refusal::NotLocal, name: None } = notice else {
            panic!("{notice:?}")
        };
        assert!(peers.contains(&peer.ip()), "{peer}");
    }
    server.wait_for_open_connections(1);
}

#[test]
fn exposure_changes_while_it_serves_and_nodes_stay() {
    linked("exposure_changes_while_it_serves_and_nodes_stay", |remote| {
        let server = Served::with(all_addresses(Exposure::All));
        let port = server.port();
        let (node, _) = register(port, b"n1");
        let before = server.lookup("n1");
        let load = Load::start(v4(port), 3, &port_please(b"n1"), &found(b"n1", 4711));
        let found = Ok(found(b"n1", 4711));
        let closed = Err("refused".to_owned());
        for _ in 0..3 {
            for (exposure, looked_up, listed) in [
                (Exposure::Local, &closed, None),
                (Exposure::All, &found, Some(true)),
                (Exposure::Lookup, &found, Some(false)),
            ] {
                server.reconfigure(all_addresses(exposure)).unwrap();
                assert_eq!(server.info().exposure, exposure);
                load.go_on(50);
                for ip in FAMILIES {
                    let at = at(ip, port);
                    assert_eq!(remote.try_to_ask(None, at, &port_please(b"n1")), *looked_up);
                    let listing = remote.try_to_ask(None, at, NAMES);
                    assert_eq!(listing.ok().map(|listing| !listing.is_empty()), listed);
                }
            }
        }
        load.finish();
        assert_eq!(server.port(), port);
        assert_eq!(server.lookup("n1"), before);
        assert!(node.is_open());
    });
}

#[test]
fn a_peer_that_waits_is_judged_by_what_holds_when_it_asks() {
    linked("a_peer_that_waits_is_judged_by_what_holds_when_it_asks", |remote| {
        let addresses = list(&["10.99.0.1", "127.0.0.1"]);
        let config = |exposure| Config { exposure, addresses: addresses.clone(), ..relaxed() };
        let server = Served::with(config(Exposure::All));
        let address = at("10.99.0.1", server.port());
        remote.begin(address, &NAMES[..2]);
        server.wait_for_open_connections(1);
        server.reconfigure(config(Exposure::Local)).unwrap();
        assert_eq!(remote.end(&NAMES[2..]), UNANSWERED);
        assert_eq!(refused_as_remote(&server), 1);
        assert_eq!(server.counters().listings, 0);
    });
}

#[test]
fn local_listens_on_the_loopback_addresses_alone() {
    let port = port_of_our_own();
    let config = |exposure| Config { port, ..all_addresses(exposure) };
    let server = Served::with(config(Exposure::Local));
    let mut expected: Vec<IpAddr> = vec!["127.0.0.1".parse().unwrap()];
    expected.extend(has_ipv6().then(|| "::1".parse::<IpAddr>().unwrap()));
    assert_eq!(server.ips(), expected);
    assert!(TcpStream::connect(at("127.0.0.2", server.port())).is_err());
    assert_eq!(server.config().addresses, Addresses::All);

    server.reconfigure(config(Exposure::All)).unwrap();
    assert_eq!(ask_and_see(at("127.0.0.2", server.port()), NAMES).0.len(), 4);
    server.reconfigure(config(Exposure::Local)).unwrap();
    assert_eq!(server.ips(), expected);
    assert!(TcpStream::connect(at("127.0.0.2", server.port())).is_err());
}

#[test]
fn exposure_alone_leaves_listed_addresses_as_they_are() {
    let server = Served::local();
    let before = server.info().addresses;
    for exposure in [Exposure::Local, Exposure::Lookup, Exposure::All] {
        server.reconfigure(Config { exposure, ..local() }).unwrap();
        assert_eq!(server.info().addresses, before);
        assert_eq!(ask(server.port(), NAMES).len(), 4);
    }
}

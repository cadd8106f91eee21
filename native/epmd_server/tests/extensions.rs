//! The requests of our own, where they come from or go to another host or another
//! EPMD.

#![cfg(test)]
#![cfg(target_os = "linux")]

mod common;

use common::c_epmd::CEpmd;
use common::namespace::{FAR_ADDRESSES, NEAR_ADDRESSES, with_remote};
use common::process::sh;
use common::served::{Served, local};
use common::wait_until;
use common::wire::{
    Client, NAMES, UNANSWERED, ask, ask_and_see, found, framed, port_please, register, v4,
};
use epmd_server::{Addresses, Config};

#[test]
fn c_epmd_closes_what_is_our_own_unanswered_and_lives_on() {
    with_remote("c_epmd_closes_what_is_our_own_unanswered_and_lives_on", |_| {
        let epmd = (CEpmd::start(4400), 4400);
        let (node, _) = register(epmd.1, b"web1");
        let longest = [b"M", "é".repeat(255).as_bytes()].concat();
        let bodies: [&[u8]; 9] =
            [b"M*", b"Mweb*", b"M", b"M\0", &longest, b"W*", b"Wweb[0-9]", b"info", b"info web1"];
        for body in bodies.iter().cycle().take(50 * bodies.len()) {
            let (reply, _) = ask_and_see(v4(epmd.1), &framed(body));
            assert_eq!(reply, UNANSWERED, "{}", body.escape_ascii());
        }
        // In pieces, as over a slow network.
        let mut slow = Client::connect(epmd.1);
        for byte in framed(b"Wweb*") {
            slow.send(&[byte]);
            slow.wait_until_read();
        }
        assert_eq!(slow.read_to_end().0, UNANSWERED);
        assert!(node.is_open());
        assert_eq!(ask(epmd.1, &port_please(b"web1")), found(b"web1", 4711));
        assert!(ask(epmd.1, NAMES).ends_with(b"name web1 at port 4711\n"));
        let (_another, _) = register(epmd.1, b"web2");
    });
}

#[test]
fn remote_peers_watch_where_that_is_wanted_and_get_no_creations() {
    with_remote("remote_peers_watch_where_that_is_wanted_and_get_no_creations", |remote| {
        sh(NEAR_ADDRESSES);
        remote.sh(FAR_ADDRESSES);
        let addresses = Addresses::All;
        let config = Config { addresses, watch_remote: true, ..local() };
        let server = Served::with(config);
        let at = |ip: &str| std::net::SocketAddr::new(ip.parse().unwrap(), server.port());
        let (_node, _) = register(server.port(), b"n1");
        for ip in ["10.99.0.1", "fd99::1"] {
            assert!(remote.ask(at(ip), &framed(b"M?1")).ends_with(b"name n1 at port 4711\n"));
        }
        remote.begin(at("10.99.0.1"), &framed(b"Wn*"));
        wait_until("it watches", || server.counters().watches == 1);
        server.register_own("n2");
        server.register_own("other");
        assert!(server.drop_name("n2"));
        // To say more ends it.
        let told = remote.end(b"x");
        let expected = [
            &b"\0\x09B\0\0\0\0\0\0\0\0"[..],
            b"\0\x0aN\0\0\0\0\x12\x67Mn1",
            b"\0\x09E\0\0\0\0\0\0\0\x01",
            b"\0\x12U\0\0\0\0\0\0\0\x02\0\0\0\0\x12\x67Mn2",
            b"\0\x10D\0\0\0\0\0\0\0\x04\0\0\0\0\x03n2",
        ];
        assert_eq!(told, expected.concat());
    });
}

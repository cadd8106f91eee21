//! A name that is held: a holder that is gone does not keep the next one out,
//! and one that lives, or may live, is never lost to it.

#![cfg(test)]

mod common;

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::process::{Partner, hear, role, skip, tell};
use common::served::{Served, local};
use common::wait_until;
use common::wire::{Client, REFUSED, alive2, alive2_with, ask, port_please, registered, v4};
use epmd_core::{DownReason, Event};
use epmd_server::{Config, Notice};

/// A node that listens, as those of OTP do before they register.
struct Node {
    listener: TcpListener,
    client: Client,
    creation: u32,
}

impl Node {
    fn start(server: u16, name: &[u8]) -> Self {
        Self::start_at(server, name, 0)
    }

    fn start_at(server: u16, name: &[u8], port: u16) -> Self {
        let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (client, creation) = registered(server, &alive2(name, port));
        Self { listener, client, creation }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// Ends, while a child has its connection.
    fn leave_behind(self) -> Leftover {
        let (port, leftover) = (self.port(), Leftover::of(&self.client));
        drop(self);
        // A process that another test is just starting may have its sockets yet.
        wait_until("nobody listens", || TcpStream::connect(v4(port)).is_err());
        leftover
    }
}

/// A process that has a connection and knows nothing of it.
struct Leftover(Child);

impl Leftover {
    fn of(client: &Client) -> Self {
        let mut command = Command::new("sleep");
        Self(command.arg("600").stdin(Stdio::from(client.duplicate())).spawn().unwrap())
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn down(notices: &[Notice]) -> Vec<DownReason> {
    let reason = |notice: &Notice| match notice {
        Notice::Node(Event::Down { reason, .. }) => Some(*reason),
        _ => None,
    };
    notices.iter().filter_map(reason).collect()
}

#[test]
fn a_living_node_stays_when_others_ask_for_its_name_10_000_times() {
    let server = Served::local();
    let node = Node::start(server.port(), b"n1");
    let before = server.lookup("n1").unwrap();
    let started = Instant::now();
    for round in 0..10_000 {
        // As if at the same port now and then.
        let port = if round % 2 == 0 { node.port() } else { 1 };
        assert_eq!(ask(server.port(), &alive2(b"n1", port)), REFUSED);
    }
    // One a second waits.
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    assert_eq!(server.lookup("n1").unwrap(), before);
    assert!(node.client.is_open());
    assert_eq!((server.counters().evicted, server.counters().unregistered), (0, 0));
}

#[test]
fn a_connection_that_a_child_has_makes_way_for_the_next_life() {
    let server = Served::local();
    // The next life listens on another port, or on the same.
    for same_port in [false, true] {
        let first = Node::start(server.port(), b"n1");
        let (creation, port, peer) = (first.creation, first.port(), first.client.address());
        let leftover = first.leave_behind();
        assert_eq!(server.count(), 1, "its connection stands");
        server.notices();
        let next = Node::start_at(server.port(), b"n1", if same_port { port } else { 0 });
        assert_eq!(next.creation, creation + 1);
        let successor = Some(next.client.address());
        let notices = server.notices();
        let evicted = Notice::Evicted { name: "n1".into(), port, peer: Some(peer), successor };
        assert_eq!(notices[0], evicted);
        assert_eq!(down(&notices), [DownReason::Evicted]);
        // What is left does no harm when it ends.
        drop(leftover);
        assert_eq!(ask(server.port(), &port_please(b"n1"))[..2], *b"w\0");
        drop(next);
        server.wait_for_count(0);
    }
    assert_eq!(server.counters().evicted, 2);
}

#[test]
fn a_node_that_was_killed_is_followed_though_its_child_lives() {
    const TEST: &str = "a_node_that_was_killed_is_followed_though_its_child_lives";
    if role().is_some() {
        let server = hear().unwrap().parse().unwrap();
        let node = Node::start(server, b"n1");
        let child = Leftover::of(&node.client);
        tell(&child.0.id().to_string());
        // Until it is killed.
        hear();
        return;
    }
    let server = Served::local();
    let mut partner = Partner::start(TEST, "node", &[]);
    let child: i32 = partner.ask(&server.port().to_string()).parse().unwrap();
    let child = rustix::process::Pid::from_raw(child).unwrap();
    drop(partner);
    assert!(rustix::process::test_kill_process(child).is_ok(), "its child lives");
    let _next = Node::start(server.port(), b"n1");
    rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
    assert_eq!(server.counters().evicted, 1);
}

#[test]
fn the_vm_gets_a_name_whose_node_is_gone() {
    let server = Served::local();
    let _leftover = Node::start(server.port(), b"n1").leave_behind();
    // Until the server has put the connection by, which is after it replied, it cannot
    // tell whose it is; the VM does not wait as others do. It has when it asks for more.
    assert_eq!(ask(server.port(), &port_please(b"n1"))[..2], *b"w\0");
    server.register_own("n1");
    assert_eq!(server.counters().evicted, 1);
}

/// Asserts that whoever holds `n1` keeps it.
fn assert_kept(server: &Served, why: &str) {
    let before = server.lookup("n1").unwrap();
    for port in [1, 0, before.registration.port] {
        assert_eq!(ask(server.port(), &alive2(b"n1", port)), REFUSED, "{why}, port {port}");
    }
    assert_eq!(server.lookup("n1").unwrap(), before, "{why}");
    assert_eq!(server.counters().evicted, 0, "{why}");
}

#[test]
fn a_node_that_was_not_seen_to_listen_is_kept() {
    let server = Served::local();
    for port in [4711, 0] {
        let (client, _) = registered(server.port(), &alive2(b"n1", port));
        assert_kept(&server, "it never listened");
        drop(client);
        server.wait_for_count(0);
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (_client, _) = registered(server.port(), &alive2(b"n1", port));
    drop(TcpListener::bind(v4(port)).unwrap());
    assert_kept(&server, "it listened later");
}

#[test]
fn a_node_of_another_protocol_is_kept() {
    let server = Served::local();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut request = alive2_with(b"n1", listener.local_addr().unwrap().port(), 6, b"");
    request[6] = 1;
    let (_client, _) = registered(server.port(), &request);
    drop(listener);
    assert_kept(&server, "its protocol is not TCP");
}

#[test]
fn a_node_on_whose_port_another_socket_listens_is_kept() {
    let server = Served::local();
    let node = Node::start(server.port(), b"n1");
    let (port, client) = (node.port(), node.client);
    drop(node.listener);
    // As if it had opened its socket anew.
    let _listener = TcpListener::bind(("127.0.0.9", port)).unwrap();
    let before = server.lookup("n1").unwrap();
    assert_eq!(ask(server.port(), &alive2(b"n1", 1)), REFUSED);
    assert_eq!(server.lookup("n1").unwrap(), before);
    assert!(client.is_open());
}

#[test]
fn a_name_of_the_vm_is_kept() {
    let server = Served::local();
    server.register_own("n1");
    assert_kept(&server, "it is the VM's");
}

#[test]
fn every_node_is_kept_where_it_is_configured_so() {
    let server = Served::with(Config { evict_stale: false, ..local() });
    let _leftover = Node::start(server.port(), b"n1").leave_behind();
    assert_kept(&server, "evict_stale is off");
    // Who registered then was not looked at.
    server.reconfigure(Config { evict_stale: true, ..server.config() }).unwrap();
    assert_kept(&server, "evict_stale was off");
}

#[test]
fn a_node_of_another_network_than_the_server_is_kept() {
    const TEST: &str = "a_node_of_another_network_than_the_server_is_kept";
    const PORT: &str = "EPMD_SERVER_TEST_PORT";
    if role().is_some() {
        return serve_elsewhere(std::env::var(PORT).unwrap().parse().unwrap());
    }
    let works = Command::new("unshare").args(["--net", "true"]).status();
    if !works.is_ok_and(|status| status.success()) {
        return skip(TEST, "no network namespaces here (not root, or no unshare)");
    }
    // The server of that network serves on a socket of this one.
    let served = TcpListener::bind("127.0.0.1:0").unwrap();
    let node = TcpListener::bind("127.0.0.1:0").unwrap();
    let (server, port) = [&served, &node].map(|one| one.local_addr().unwrap().port()).into();
    let mut command = Command::new("unshare");
    command.arg("--net").arg(std::env::current_exe().unwrap());
    command.args(["--exact", TEST, "--nocapture", "--test-threads=1"]);
    command.env("EPMD_SERVER_TEST_ROLE", "server").env(PORT, port.to_string());
    let stdin = std::os::fd::OwnedFd::from(served);
    let mut process = Leftover(command.stdin(stdin).stdout(Stdio::piped()).spawn().unwrap());
    let mut told = BufReader::new(process.0.stdout.take().unwrap()).lines();
    let mut await_line = |line: &str| assert!(told.any(|told| told.unwrap().ends_with(line)));
    await_line("serves");
    let (client, _) = registered(server, &alive2(b"n1", port));
    await_line("listens no more");
    drop(node);
    assert_eq!(ask(server, &alive2(b"n1", 1)), REFUSED);
    assert!(client.is_open());
}

/// Serves on the standard input, while a socket of this network has the port of
/// a node of that one; until killed.
fn serve_elsewhere(port: u16) {
    common::process::sh("ip link set lo up");
    let listener = TcpListener::bind(v4(port)).unwrap();
    let inherited = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let server = Served::on(local(), vec![inherited.into()]);
    tell("serves");
    let mistaken = || server.lookup("n1").is_some_and(|node| node.listener.is_some());
    wait_until("it is mistaken for the node's", mistaken);
    drop(listener);
    tell("listens no more");
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn nobody_waits_for_one_that_waits_for_a_name() {
    let server = Served::local();
    let nodes: Vec<_> =
        (0..100).map(|n: u32| Node::start(server.port(), n.to_string().as_bytes())).collect();
    let started = Instant::now();
    let mut waiting: Vec<_> = (0..100)
        .map(|n: u32| {
            let mut client = Client::connect(server.port());
            client.send(&alive2(n.to_string().as_bytes(), 1));
            client
        })
        .collect();
    assert_eq!(ask(server.port(), &port_please(b"none")), *b"w\x01");
    // No more than 32 wait at a time, each for 63 ms; the others are refused.
    let at_once = started.elapsed();
    let refused =
        waiting.iter_mut().map(|one| one.read(6)).filter(|reply| reply == REFUSED).count();
    assert_eq!(refused, nodes.len());
    assert!(at_once < Duration::from_secs(1), "{at_once:?}");
}

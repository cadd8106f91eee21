//! A service manager is told what the server does, by the real protocol, and
//! neither a slow nor an absent one keeps the server from its work.

#![cfg(test)]

mod common;

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use common::process::is_own;
use common::served::{Served, list, local};
use common::wire::{Client, KILL, NOT_FOUND, ask, port_please, register};
use common::{DEADLINE, wait_until};
use epmd_server::{Config, Notice, Phase, ServiceManager};

/// A service manager of the test's own.
struct Manager {
    socket: UnixDatagram,
    address: String,
}

impl Manager {
    /// One with an abstract address that nobody else has.
    fn start(test: &str) -> Self {
        let name = format!("portmapper-{test}-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Self { socket, address: format!("@{name}") }
    }

    /// As the server gets to know it.
    fn told_of(&self, watchdog: Option<Duration>) -> ServiceManager {
        let period = watchdog.map(|period| period.as_micros().to_string());
        let found = ServiceManager::from_environment(|variable| match variable {
            "NOTIFY_SOCKET" => Some(self.address.as_bytes()),
            "WATCHDOG_USEC" => period.as_deref().map(str::as_bytes),
            _ => None,
        });
        found.unwrap().unwrap()
    }

    fn serve(&self) -> Served {
        let server = Served::local();
        server.report_to(self.told_of(None));
        server
    }

    fn receive(&self, within: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(within)).unwrap();
        let mut buffer = [0; 4096];
        match self.socket.recv(&mut buffer) {
            Ok(count) => Some(String::from_utf8(buffer[..count].to_vec()).unwrap()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn next(&self) -> String {
        self.receive(DEADLINE).expect("a message")
    }

    fn is_told_nothing_for(&self, while_: Duration) -> bool {
        self.receive(while_).is_none()
    }
}

/// What a server on loopback tells with so many nodes.
fn status(server: &Served, nodes: &str) -> String {
    let addresses: Vec<_> = server.info().addresses.iter().map(ToString::to_string).collect();
    format!("STATUS={nodes} registered; listening on {}", addresses.join(", "))
}

#[test]
fn the_manager_is_told_when_the_server_serves() {
    let manager = Manager::start("ready");
    let server = manager.serve();
    assert_eq!(manager.next(), format!("READY=1\n{}", status(&server, "0 nodes")));
    assert_eq!(ask(server.port(), &port_please(b"n1")), NOT_FOUND);
}

#[test]
fn the_socket_of_the_manager_may_be_a_file() {
    let path = std::env::temp_dir().join(format!("portmapper-manager-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path).unwrap();
    let manager = Manager { socket, address: path.to_str().unwrap().to_owned() };
    let _server = manager.serve();
    let told = manager.next();
    std::fs::remove_file(&path).unwrap();
    assert!(told.starts_with("READY=1\n"), "{told}");
}

#[test]
fn the_status_counts_the_nodes_at_most_once_a_second() {
    let manager = Manager::start("status");
    let server = manager.serve();
    manager.next();
    let mut last = Instant::now();
    let nodes: Vec<_> =
        (0..50).map(|index| register(server.port(), format!("n{index}").as_bytes())).collect();
    let wanted = status(&server, "50 nodes");
    for count in 0.. {
        let told = manager.next();
        assert!(last.elapsed() > Duration::from_millis(900), "{told} after {:?}", last.elapsed());
        last = Instant::now();
        if told == wanted {
            break;
        }
        assert!(count < 3, "{told}");
    }
    drop(nodes);
    server.wait_for_count(0);
    while manager.next() != status(&server, "0 nodes") {}
    let _node = register(server.port(), b"n1");
    assert_eq!(manager.next(), status(&server, "1 node"));
}

#[test]
fn the_status_tells_new_addresses() {
    let manager = Manager::start("addresses");
    let server = manager.serve();
    manager.next();
    let config = Config { addresses: list(&["127.0.0.2"]), ..server.config() };
    server.reconfigure(config).unwrap();
    let told = manager.next();
    assert!(told.contains("listening on 127.0.0.2:"), "{told}");
}

/// How often the server's thread has slept.
fn sleeps() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let status = tasks
        .map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).unwrap())
        .find(|status| status.starts_with("Name:\tepmd\n"))
        .unwrap();
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.unwrap().trim().parse().unwrap()
}

#[test]
fn nothing_wakes_a_server_that_has_nothing_to_tell() {
    if !is_own("nothing_wakes_a_server_that_has_nothing_to_tell", &[]) {
        return;
    }
    let manager = Manager::start("idle");
    let server = manager.serve();
    manager.next();
    let (node, _) = register(server.port(), b"n1");
    manager.next();
    // It may look once more whether there is something to tell.
    assert!(manager.is_told_nothing_for(Duration::from_millis(1500)));
    let before = sleeps();
    assert!(manager.is_told_nothing_for(Duration::from_secs(3)));
    assert_eq!(sleeps(), before);
    drop(node);
    manager.next();
    wait_until("the thread sleeps again", || sleeps() > before);
}

const PERIOD: Duration = Duration::from_millis(200);

#[test]
fn the_watchdog_hears_of_a_server_whose_owner_lives() {
    let manager = Manager::start("watchdog");
    let server = Served::local();
    server.report_to(manager.told_of(Some(PERIOD)));
    assert!(manager.next().starts_with("READY=1\n"));
    // Its owner is woken, and does not react.
    wait_until("the owner is woken", || server.wakes() > 0);
    assert!(manager.is_told_nothing_for(3 * PERIOD));
    let mut wakes = 0;
    for _ in 0..5 {
        wait_until("the owner is woken", || server.wakes() > wakes);
        wakes = server.wakes();
        let _ = server.take_notices(1);
        assert_eq!(manager.next(), "WATCHDOG=1");
    }
    // An owner at work alone is no sign of life.
    wait_until("the owner is woken", || server.wakes() > wakes);
    server.panic_thread();
    wait_until("the thread is down", || server.phase() == Phase::Down);
    for _ in 0..3 {
        let _ = server.take_notices(1);
        assert!(manager.is_told_nothing_for(PERIOD));
    }
    server.resume().unwrap();
    let taken = Instant::now();
    wait_until("the watchdog hears", || {
        let _ = server.take_notices(1);
        manager.receive(Duration::from_millis(10)).is_some()
    });
    assert!(taken.elapsed() < PERIOD, "{:?}", taken.elapsed());
}

#[test]
fn no_watchdog_is_fed_that_does_not_ask() {
    let manager = Manager::start("no-watchdog");
    let server = manager.serve();
    manager.next();
    let _ = server.take_notices(1);
    assert!(manager.is_told_nothing_for(Duration::from_millis(500)));
    assert_eq!(server.wakes(), 0);
}

#[test]
fn a_thread_that_is_replaced_repeats_nothing_and_goes_on() {
    let manager = Manager::start("resume");
    let server = manager.serve();
    manager.next();
    server.panic_thread();
    wait_until("the thread is down", || server.phase() == Phase::Down);
    server.register_own("n1");
    server.resume().unwrap();
    assert_eq!(manager.next(), status(&server, "1 node"));
    assert!(manager.is_told_nothing_for(Duration::from_millis(1500)));
}

#[test]
fn the_manager_is_told_once_that_the_server_stops() {
    for down in [false, true] {
        let manager = Manager::start(&format!("stop-{down}"));
        let server = manager.serve();
        manager.next();
        if down {
            server.panic_thread();
            wait_until("the thread is down", || server.phase() == Phase::Down);
        }
        server.stop();
        assert_eq!(manager.next(), "STOPPING=1\nSTATUS=Stopping");
        drop(server);
        assert!(manager.is_told_nothing_for(Duration::from_millis(100)));
    }
}

#[test]
fn a_kill_tells_that_the_server_stops_before_it_is_answered() {
    let manager = Manager::start("kill");
    let server = manager.serve();
    manager.next();
    assert_eq!(ask(server.port(), KILL), b"OK");
    assert_eq!(manager.receive(Duration::from_millis(1)).unwrap(), "STOPPING=1\nSTATUS=Stopping");
}

#[test]
fn a_server_that_lost_its_owner_does_not_say_that_it_was_asked_to_stop() {
    let manager = Manager::start("orphan");
    let server = manager.serve();
    manager.next();
    server.detach();
    wait_until("it closes", || server.phase() == Phase::Closed);
    assert!(manager.is_told_nothing_for(Duration::from_millis(100)));
}

#[test]
fn a_manager_that_does_not_read_delays_nobody_and_misses_nothing() {
    let manager = Manager::start("full");
    let filling = UnixDatagram::unbound().unwrap();
    filling.set_nonblocking(true).unwrap();
    let address = SocketAddr::from_abstract_name(&manager.address[1..]).unwrap();
    let queued = (0..).take_while(|_| filling.send_to_addr(b"X=1", &address).is_ok()).count();
    let server = manager.serve();
    let (mut node, _) = register(server.port(), b"n1");
    assert_eq!(ask(server.port(), &port_please(b"n2")), NOT_FOUND);
    assert!(node.is_open());
    for _ in 0..queued {
        assert_eq!(manager.next(), "X=1");
    }
    let ready = manager.next();
    assert!(ready.starts_with("READY=1\n"));
    // It may have come to that before the node did, or after.
    if ready != format!("READY=1\n{}", status(&server, "1 node")) {
        assert_eq!(manager.next(), status(&server, "1 node"));
    }
    server.stop();
    assert_eq!(node.read_to_end().0, b"");
}

#[test]
fn a_manager_that_is_gone_is_told_of_once() {
    let manager = Manager::start("gone");
    let told_of = manager.told_of(None);
    drop(manager);
    let server = Served::with(local());
    server.report_to(told_of);
    let [Notice::ServiceManagerUnreachable { error }] = &server.wait_for_notices(1)[..] else {
        panic!("one notice, of the manager")
    };
    assert!(error.contains("refused"), "{error}");
    server.register_own("n1");
    let mut client = Client::connect(server.port());
    client.send(&port_please(b"n1"));
    assert!(!client.read_to_end().0.is_empty());
    // It may be back: the next change is told, with all that it missed.
    let manager = Manager::start("gone");
    server.register_own("n2");
    assert_eq!(manager.next(), format!("READY=1\n{}", status(&server, "2 nodes")));
    assert!(!server.notices().iter().any(|one| !matches!(one, Notice::Node(_))));
}

//! Ours against OTP's C `epmd`: the same operations over real sockets have to
//! show the same, but for the differences on purpose.
//!
//! `DIFF_SEQUENCES` sets how many random sequences run, `DIFF_SEED` repeats one,
//! and `OUR_EPMD` names an executable to compare instead of a server in here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use epmd_server::Config;
use support::difference::Difference;
use support::generate::sequence;
use support::observation::listing;
use support::oracle::Oracle;
use support::script::{Clients, Op};
use support::wire::{End, Node, Wire, ask, eventually, fence, framed, is_listed, names, tagged};
use support::{ours, ours_with};

/// Operations in a sequence.
const LENGTH: usize = 60;

#[test]
fn random_sequences_show_the_same() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    if let Some(seed) = number("DIFF_SEED") {
        return compare(seed);
    }
    let count: u64 = number("DIFF_SEQUENCES").unwrap_or(500);
    let next = AtomicU64::new(0);
    let worker = || {
        while let seed = next.fetch_add(1, Ordering::Relaxed)
            && seed < count
        {
            compare(seed);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        let failed = workers.into_iter().filter_map(|worker| worker.join().err()).count();
        assert_eq!(failed, 0, "workers that saw a difference");
    });
}

/// Runs a sequence against both.
fn compare(seed: u64) {
    let relaxed = seed % 2 == 1;
    let mut done = Sequence { seed, ops: Vec::new() };
    let (oracle, ours) = (Oracle::start(relaxed), ours(relaxed));
    let mut theirs = Clients::new(oracle.addr, false);
    let mut mine = Clients::new(ours.addr, true);
    for op in sequence(seed, LENGTH) {
        let request = theirs.request_of(&op);
        done.ops.push(op);
        let op = done.ops.last().expect("just pushed");
        let expected = Difference::apply_all(theirs.perform(op), &request, theirs.held());
        assert_eq!(mine.perform(op), expected, "ours, and what C shows");
        if theirs.killed() {
            break;
        }
    }
}

/// Prints what led to a failure.
struct Sequence {
    seed: u64,
    ops: Vec<Op>,
}

impl Drop for Sequence {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("DIFF_SEED={} fails at the last of:", self.seed);
            for op in &self.ops {
                eprintln!("  {op:?}");
            }
        }
    }
}

/// Registers over a connection that is returned with what came back.
fn register(server: SocketAddr, node: &Node) -> (Wire, Vec<u8>) {
    let mut wire = Wire::connect(server);
    wire.send(&node.request());
    let reply = wire.read_at_most(if node.highest < 6 { 4 } else { 6 }).0;
    (wire, reply)
}

fn is_accepted(reply: &[u8]) -> bool {
    matches!(reply, [b'v' | b'y', 0, ..])
}

/// How often, of so many times, a node is lost when a duplicate of it resets its
/// connection before the reply. Stops when it is lost.
fn lost_to_duplicates(server: SocketAddr, times: u32) -> u32 {
    let node = Node::new(b"holder", 4_001);
    let (wire, reply) = register(server, &node);
    assert!(is_accepted(&reply));
    for _ in 0..times {
        let mut duplicate = Wire::connect(server);
        // To C, a peer that is gone before it is accepted is a remote one.
        names(server);
        duplicate.send(&Node { port: 4_002, ..node.clone() }.request());
        duplicate.reset();
        fence(server);
        if !is_listed(server, b"holder") {
            return 1;
        }
    }
    let found = ask(server, &tagged(b'z', b"holder")).0;
    assert_eq!(found, [b"w\0", &node.body()[1..]].concat(), "as it was registered");
    assert_eq!(wire.peek(), End::Open);
    0
}

#[test]
fn difference_1_a_duplicate_that_is_reset_leaves_the_holder() {
    assert_eq!(lost_to_duplicates(Oracle::start(false).addr, 1_000), 1, "C loses the holder");
    assert_eq!(lost_to_duplicates(ours(false).addr, 1_000), 0);
}

#[test]
fn difference_2_stop_of_an_unknown_name_is_noexist_alone() {
    let stop = tagged(b's', b"nobody");
    assert_eq!(ask(Oracle::start(true).addr, &stop).0, b"NOEXISTSTOPPED");
    assert_eq!(ask(ours(true).addr, &stop), (b"NOEXIST".to_vec(), End::Closed));
}

#[test]
fn difference_3_a_name_of_255_characters_can_be_looked_up() {
    let (oracle, ours) = (Oracle::start(false), ours(false));
    for wide in ["n", "é", "漢", "😀"] {
        let node = Node::new(wide.repeat(255).as_bytes(), 4_003);
        let found = [b"w\0", &node.body()[1..]].concat();
        for (server, expected) in [(oracle.addr, vec![]), (ours.addr, found)] {
            let (_wire, reply) = register(server, &node);
            assert!(is_accepted(&reply), "{wide}");
            let seen = ask(server, &tagged(b'z', wide.repeat(255).as_bytes()));
            assert_eq!(seen, (expected, End::Closed), "{wide}");
        }
    }
}

#[test]
fn difference_4_a_refused_connection_is_closed() {
    let refused = |server| {
        let (_holder, _) = register(server, &Node::new(b"holder", 4_004));
        let (wire, reply) = register(server, &Node::new(b"holder", 4_005));
        assert_eq!(reply, b"v\x01\0\0\0\x63");
        wire
    };
    let (oracle, ours) = (Oracle::start(false), ours(false));
    let kept = refused(oracle.addr);
    fence(oracle.addr);
    assert_eq!(kept.peek(), End::Open);
    let mut refused_by_ours = refused(ours.addr);
    assert_eq!(refused_by_ours.read_to_end(), (vec![], End::Closed));
}

/// How many of so many registrations are refused that follow at once on the end
/// of the name's last life. Stops at the first.
fn refused_returns(server: SocketAddr, times: u32) -> u32 {
    let node = Node::new(b"returning", 4_008);
    // In C it comes before the node: it has the lower slot.
    let mut next = Wire::connect(server);
    names(server);
    let (mut last, reply) = register(server, &node);
    assert!(is_accepted(&reply));
    for time in 0..times {
        if time % 2 == 0 {
            last.close();
        } else {
            last.reset();
        }
        next.send(&node.request());
        let reply = next.read_at_most(6).0;
        if !is_accepted(&reply) {
            return 1;
        }
        last = next;
        next = Wire::connect(server);
    }
    0
}

#[test]
fn difference_8_a_close_is_seen_before_a_registration_after_it() {
    assert_eq!(refused_returns(Oracle::start(false).addr, 100_000), 1, "C refuses one");
    assert_eq!(refused_returns(ours(false).addr, 2_000), 0);
}

#[test]
fn difference_9_an_empty_name_is_refused() {
    let node = Node { extra: b"extra".into(), ..Node::new(b"", 4_009) };
    let (oracle, ours) = (Oracle::start(false), ours(false));
    let (_wire, reply) = register(oracle.addr, &node);
    assert!(is_accepted(&reply));
    assert!(is_listed(oracle.addr, b""));
    let (mut wire, reply) = register(ours.addr, &node);
    assert_eq!(reply, b"v\x01\0\0\0\x63");
    assert_eq!(wire.read_to_end(), (vec![], End::Closed));
    assert!(!is_listed(ours.addr, b""));
}

#[test]
fn broken_requests_are_closed_unanswered() {
    let node = Node::new(b"node", 4_010);
    let with_name = |name: &[u8]| Node { name: name.into(), ..node.clone() }.request();
    let patched = |at: usize, bytes: [u8; 2]| {
        let mut body = node.body();
        body[at..at + 2].copy_from_slice(&bytes);
        framed(&body)
    };
    let broken = [
        ("no length", vec![0, 0]),
        ("a length above the limit", vec![0x0b, 0xf2, b'n']),
        ("the greatest length", vec![0xff, 0xff, b'n']),
        ("more than the length says", [tagged(b'n', b""), vec![b'n']].concat()),
        ("an unknown tag", tagged(b'?', b"")),
        ("the old registration", tagged(b'a', b"\x10\x00node")),
        ("the old look-up", tagged(b'p', b"node")),
        ("a reply", tagged(b'w', b"\0")),
        ("a registration without a name", framed(&Node::new(b"", 4_010).body())),
        ("a registration of its tag", tagged(b'x', b"")),
        ("a name longer than the request", patched(9, [0, 5])),
        ("extra data longer than the request", patched(15, [0, 1])),
        ("a NUL in the name", with_name(b"no\0de")),
        ("a NUL behind the name", with_name(b"node\0")),
        ("a look-up of nothing", tagged(b'z', b"")),
        ("a look-up of a NUL", tagged(b'z', b"\0")),
        ("a look-up with a NUL inside", tagged(b'z', b"no\0de")),
        ("a look-up with two NULs behind", tagged(b'z', b"node\0\0")),
        ("a look-up that is not UTF-8", tagged(b'z', b"\xff")),
        ("a look-up of a surrogate", tagged(b'z', b"\xed\xa0\x80")),
        ("a look-up of 256 characters", tagged(b'z', &[b'n'; 256])),
        ("STOP where it is not allowed", tagged(b's', b"holder")),
    ];
    let check = |server, (what, request): &(&str, Vec<u8>)| {
        assert_eq!(ask(server, request), (vec![], End::Closed), "{what} to {server}");
    };
    for relaxed in [false, true] {
        let (oracle, ours) = (Oracle::start(relaxed), ours(relaxed));
        for server in [oracle.addr, ours.addr] {
            let (holder, _) = register(server, &Node::new(b"holder", 4_011));
            let before = names(server);
            let cases = broken.len() - usize::from(relaxed);
            broken[..cases].iter().for_each(|case| check(server, case));
            if relaxed {
                check(server, &("STOP of nothing", tagged(b's', b"")));
            }
            // An end before the request is whole.
            for sent in 0..node.request().len() {
                let mut wire = Wire::connect(server);
                wire.send(&node.request()[..sent]);
                wire.finish_sending();
                assert_eq!(wire.read_to_end(), (vec![], End::Closed), "{sent} bytes");
            }
            assert_eq!(names(server), before);
            assert_eq!(holder.peek(), End::Open);
        }
    }
}

#[test]
fn surplus_that_is_not_read_with_the_length_does_no_harm() {
    let (oracle, ours) = (Oracle::start(false), ours(false));
    let alive = Node::new(b"node", 4_012).body();
    // All that one read takes.
    let longest = framed(&[&alive[..], &[0; 3_057]].concat()[..3_057]);
    for server in [oracle.addr, ours.addr] {
        let with_surplus = |request: &[u8], at: usize| {
            let mut wire = Wire::connect(server);
            wire.send(&request[..at]);
            fence(server);
            wire.send(&[&request[at..], b"surplus"].concat());
            wire.read_to_end()
        };
        // What was not read makes the close a reset.
        let seen = with_surplus(&tagged(b'z', b"nobody"), 2);
        assert_eq!(seen, (b"w\x01".to_vec(), End::Reset), "{server}");
        // A registration reads on, and ends by what it reads.
        for (request, at) in [(framed(&alive), 2), (longest.clone(), 0)] {
            let (reply, end) = with_surplus(&request, at);
            assert!(is_accepted(&reply), "{server} after {at} bytes");
            assert_eq!(end, End::Closed, "{server} after {at} bytes");
            assert!(!is_listed(server, b"node"));
        }
    }
}

#[test]
fn up_to_1001_names_are_remembered() {
    let (oracle, ours) = (Oracle::start(false), ours(false));
    let dumps = [oracle.addr, ours.addr].map(|server| {
        let live_and_leave = |number: u16| {
            let node = Node::new(format!("n{number}").as_bytes(), number);
            let mut wire = Wire::connect(server);
            wire.send(&node.request());
            wire.finish_sending();
            assert!(is_accepted(&wire.read_to_end().0));
        };
        (0..1_005).for_each(live_and_leave);
        // One that is remembered, and one that is not any more.
        [500, 0].into_iter().for_each(live_and_leave);
        listing(server, &ask(server, &tagged(b'd', b"")).0)
    });
    assert_eq!(dumps[0].len(), 1 + 1_001);
    assert_eq!(dumps[1], dumps[0]);
}

#[test]
fn silence_before_a_whole_request_ends_in_time() {
    let timeout = 2_u32.try_into().expect("a time-out");
    let ours = ours_with(Config { packet_timeout: timeout, ..Config::default() });
    let oracle = Oracle::with(&["-packet_timeout", "2"]);
    for server in [oracle.addr, ours.addr] {
        let (holder, _) = register(server, &Node::new(b"holder", 4_013));
        let silent = Wire::connect(server);
        let mut begun = Wire::connect(server);
        begun.send(b"\0\x05");
        // Each byte starts the time anew.
        let mut slow = Wire::connect(server);
        for byte in tagged(b'z', b"nobody") {
            slow.send(&[byte]);
            std::thread::sleep(Duration::from_millis(400));
        }
        assert_eq!(slow.read_to_end(), (b"w\x01".to_vec(), End::Closed));
        for mut wire in [silent, begun] {
            assert_eq!(wire.read_to_end(), (vec![], End::Closed), "{server}");
        }
        assert_eq!(holder.peek(), End::Open);
    }
}

#[test]
fn every_loopback_address_is_local() {
    let (oracle, ours) = (Oracle::start(false), ours(false));
    for server in [oracle.addr, ours.addr] {
        let mut peers = vec![Wire::connect_from("127.9.8.7", server)];
        let v6 = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), server.port());
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            peers.push(Wire::connect(v6));
        }
        for mut wire in peers {
            wire.send(&Node::new(b"node", 4_014).request());
            assert!(is_accepted(&wire.read_at_most(6).0), "{server}");
            assert!(is_listed(server, b"node"));
            wire.close();
            assert!(eventually(|| !is_listed(server, b"node")));
        }
    }
}

//! What either side of a takeover hears.

use std::array::from_fn;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use epmd_core::Request;
use epmd_server::{Addresses, Config, Phase, Server, TakeoverSocket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};

#[path = "../../epmd_server/tests/common/side.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod side;

use side::{Side, pair};

/// How many messages fit into a socket before anybody reads.
const MAX_WORDS: usize = 64;

/// How many descriptors a [`Side`] sends with a message.
const MAX_DESCRIPTORS: usize = 16;

/// After how long whoever says nothing hangs.
const HANGS: Duration = Duration::from_secs(10);

/// Who hears it, the one that hands over (`g`) or its successor, and then what the
/// other one says before it closes, parted by bytes FF. A word is what it is, but for
///
/// - `c` and a number, the parts that are told in contents, parted by bytes FE: the
///   contents with so many listeners, and then the parts;
/// - `d` and a letter for each: [descriptors](descriptor).
///
/// # Panics
/// When it ends the server, or leaves a descriptor.
pub fn takeover(data: &[u8]) {
    let Some((&side, words)) = data.split_first() else { return };
    let before = count_descriptors();
    let words: Vec<_> = words.split(|&byte| byte == 0xff).take(MAX_WORDS).collect();
    match side {
        b'g' => giver_hears(&words),
        _ => successor_hears(&words),
    }
    assert_eq!(count_descriptors(), before, "descriptors are left");
}

fn count_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn config() -> Config {
    Config {
        port: 0,
        addresses: Addresses::List(vec![Ipv4Addr::LOCALHOST.into()]),
        takeover_socket: TakeoverSocket::None,
        ..Config::default()
    }
}

/// Whatever it hears, a node stays registered unless all is another one's.
fn giver_hears(words: &[&[u8]]) {
    let server = Server::start(config(), Box::new(|| ())).unwrap();
    let address = server.info().addresses[0];
    let mut waiting = connect(address);
    waiting.write_all(&[0]).unwrap();
    let mut node = connect(address);
    node.write_all(b"\0\x0fx\x12\x34M\0\0\x06\0\x05\0\x02n1\0\0").unwrap();
    node.read_exact(&mut [0; 6]).unwrap();

    let (ours, theirs) = pair();
    let ours = Side::from(ours);
    let _far = say(&ours, words);
    server.hand_over(theirs);
    hear_all(&ours, &server);
    match server.phase() {
        Phase::Closed => assert_eq!(server.count(), 0),
        phase => {
            assert_eq!(phase, Phase::Running);
            assert!(server.lookup("n1").is_some());
            let seen = recv(&node, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
            assert_eq!(seen, Err(rustix::io::Errno::AGAIN), "the node is cut off");
        }
    }
    assert_eq!(server.info().counters.panicked, 0);
    server.stop();
}

/// Hears whatever the server says until it closes; it hands on to those that stand by.
fn hear_all(side: &Side, server: &Server) {
    let begun = Instant::now();
    loop {
        if !has_news(side) {
            let _ = server.hand_on();
            assert!(begun.elapsed() < HANGS, "it neither says anything nor closes");
        } else if side.receive().0.is_empty() {
            return;
        }
    }
}

fn has_news(side: &Side) -> bool {
    let time = Timespec::try_from(Duration::from_millis(2)).unwrap();
    poll(&mut [PollFd::new(side, PollFlags::IN)], Some(&time)).unwrap() > 0
}

/// Whatever it hears, it answers if it has taken over.
fn successor_hears(words: &[&[u8]]) {
    let (ours, theirs) = pair();
    let ours = Side::from(ours);
    let _far = say(&ours, words);
    let Ok(server) = Server::take_over_from(config(), theirs, Box::new(|| ())) else { return };
    assert_eq!(server.info().nodes, server.count());
    for address in server.info().addresses {
        let mut client = connect(address);
        client.write_all(&Request::Names.encode()).unwrap();
        let mut listing = Vec::new();
        client.read_to_end(&mut listing).unwrap();
        assert!(listing.len() >= 4, "{listing:?}");
    }
    assert_eq!(server.phase(), Phase::Running);
    assert_eq!(server.info().counters.panicked, 0);
    server.stop();
}

/// Says everything, and no more; the other ends of what was sent.
fn say(side: &Side, words: &[&[u8]]) -> Vec<OwnedFd> {
    let kinds = |word: &'_ [u8]| match word {
        [b'd', kinds @ ..] => kinds.len().min(MAX_DESCRIPTORS),
        _ => 0,
    };
    let all = words.iter().map(|word| kinds(word)).sum();
    let mut far = Vec::new();
    for word in words {
        match word {
            [b'c', listeners @ b'0'..=b'9', parts @ ..] => {
                say_contents(side, listeners - b'0', parts, all);
            }
            [b'd', kinds @ ..] => {
                let kinds = kinds.iter().take(MAX_DESCRIPTORS);
                let near: Vec<_> = kinds.map(|&kind| descriptor(kind, &mut far)).collect();
                let near: Vec<_> = near.iter().map(|one| one as &dyn AsFd).collect();
                side.send(b"\n", &near);
            }
            word => side.send(word, &[]),
        }
    }
    shutdown(side, Shutdown::Write).unwrap();
    far
}

fn say_contents(side: &Side, listeners: u8, parts: &[u8], descriptors: usize) {
    let mut parts = parts.splitn(4, |&byte| byte == 0xfe);
    let parts: [&[u8]; 4] = from_fn(|_| parts.next().unwrap_or_default());
    let [records, connections, data, household] = parts.map(<[u8]>::len);
    side.say(&format!(
        r#"{{"contents":{{"records":{records},"connections":{connections},"data":{data},"household":{household},"listeners":{listeners},"descriptors":{descriptors}}}}}"#
    ));
    side.send(&parts.concat(), &[]);
}

/// A socket that listens (`l`), a connection (`n`), or one whose calls block (`b`) or
/// that has ended (`e`), another socket (`u`), or none.
fn descriptor(kind: u8, far: &mut Vec<OwnedFd>) -> OwnedFd {
    match kind {
        b'l' => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().into(),
        b'n' | b'b' | b'e' => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let other = connect(listener.local_addr().unwrap());
            let (one, _) = listener.accept().unwrap();
            one.set_nonblocking(kind != b'b').unwrap();
            if kind != b'e' {
                far.push(other.into());
            }
            one.into()
        }
        b'u' => {
            let (one, other) = pair();
            far.push(other);
            one
        }
        _ => File::from(memfd_create("none", MemfdFlags::CLOEXEC).unwrap()).into(),
    }
}

/// A connection that leaves nothing in the system when it ends.
fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(HANGS)).unwrap();
    set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    stream
}

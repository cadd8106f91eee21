//! What nodes of this host notice.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bench::wire::{node, node_port, register, register_over};
use epmd_core::Request;

use crate::subject::Subject;

/// How long a node has the patience to wait.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long it may take to register and be looked up.
const PROMISE: Duration = Duration::from_millis(100);

/// One time in ten, the machine may be too busy for that.
const ALLOWANCE: Duration = Duration::from_secs(1);

/// Between two nodes.
const PAUSE: Duration = Duration::from_millis(10);

/// What was noticed.
#[derive(Debug)]
pub struct View {
    /// How long each took to register and to be looked up, the longest last.
    times: Vec<Duration>,
    /// What became of one that did not.
    failure: Option<String>,
    lost: usize,
    has_ended: bool,
}

impl View {
    /// What was promised, and is not so.
    pub fn broken_promise(&self) -> Option<String> {
        let nine_of_ten = self.times.get(self.times.len() * 9 / 10).copied().unwrap_or_default();
        let all = self.times.last().copied().unwrap_or_default();
        if self.has_ended {
            Some("it ended".to_owned())
        } else if self.lost > 0 {
            Some(format!("{} nodes were lost", self.lost))
        } else if let Some(failure) = &self.failure {
            Some(failure.clone())
        } else if nine_of_ten > PROMISE || all > ALLOWANCE {
            Some(format!("nine of ten in {nine_of_ten:?}, all in {all:?}"))
        } else {
            None
        }
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds =
            |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1_000.0);
        if self.has_ended {
            return write!(f, "it **ends**, and with it all nodes");
        }
        match &self.failure {
            Some(failure) => write!(f, "**{failure}**")?,
            None => write!(
                f,
                "registered and found in {:.1} ms, at most {:.0} ms",
                milliseconds(self.times.get(self.times.len() / 2)),
                milliseconds(self.times.last())
            )?,
        }
        match self.lost {
            0 => Ok(()),
            1 => write!(f, "; **1 node is lost**"),
            lost => write!(f, "; **{lost} nodes are lost**"),
        }
    }
}

/// Has nodes come and go for a while, each looked up.
pub fn watch(subject: &Subject, duration: Duration, mut is_over: impl FnMut() -> bool) -> View {
    let mut view = View { times: Vec::new(), failure: None, lost: 0, has_ended: false };
    let begun = Instant::now();
    // Once at the least.
    while view.times.is_empty() || begun.elapsed() < duration && !is_over() {
        let node = Instant::now();
        match come_and_go(subject.address(), &format!("probe{}", view.times.len())) {
            Ok(()) => view.times.push(node.elapsed()),
            Err(error) => {
                view.failure = Some(match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                        format!("not registered and found within {} s", PATIENCE.as_secs())
                    }
                    ErrorKind::ConnectionRefused => "nobody listens".to_owned(),
                    ErrorKind::AddrInUse => "its registration is refused".to_owned(),
                    _ => format!("its registration fails: {error}"),
                });
                break;
            }
        }
        sleep(PAUSE);
    }
    view.times.sort_unstable();
    view
}

fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn come_and_go(server: SocketAddr, name: &str) -> io::Result<()> {
    let mut connection = connect(server)?;
    register_over(&mut connection, node(name, node_port()?))?;
    if is_found(server, name)? { Ok(()) } else { Err(io::Error::other("it is not found")) }
}

fn is_found(server: SocketAddr, name: &str) -> io::Result<bool> {
    let mut client = connect(server)?;
    client.write_all(&Request::PortPlease2(name).encode())?;
    let mut reply = Vec::new();
    client.read_to_end(&mut reply)?;
    Ok(reply.starts_with(b"w\0"))
}

/// Nodes that were there before.
#[derive(Debug)]
pub struct Nodes(Vec<(String, TcpStream)>);

/// The name of one of them: 100 bytes, as of long host names.
pub fn name(number: usize) -> String {
    format!("{number:0>100}")
}

impl Nodes {
    /// Registers so many.
    ///
    /// # Errors
    /// When one is refused.
    pub fn register(subject: &Subject, count: usize) -> io::Result<Self> {
        let node = |number| {
            let name = name(number);
            register(subject.port, &name).map(|connection| (name, connection))
        };
        (0..count).map(node).collect::<io::Result<_>>().map(Self)
    }

    /// Adds what became of them, now that the peer is gone.
    pub fn judge(self, subject: &mut Subject, mut view: View) -> View {
        let is_found = |name: &str| {
            // It may have much to do yet.
            (0..50).find_map(|_| {
                let found = is_found(subject.address(), name);
                found.map_err(|_| sleep(Duration::from_millis(20))).ok()
            })
        };
        let lost = self.0.iter().take(20).filter(|(name, _)| is_found(name) != Some(true));
        view.lost = lost.count();
        view.has_ended = subject.has_ended();
        view
    }
}

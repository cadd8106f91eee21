//! Hosts of another kind, each a network namespace that ends with its
//! processes: one for the server, and one for a peer on another host.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::process::{Partner, hear, is_own, role, sh, skip, tell};
use super::wait_until;
use super::wire::{Client, End};

/// The index of the remote end of the link, which link-local addresses need
/// there; that of the near end is one less.
pub const FAR_INDEX: u32 = 72;

/// What joins both hosts. Addresses are up to the test.
const LINK: &str = "ip link set lo up
    ip link add near index 71 type veth peer name far index 72 netns PID
    ip link set near addrgenmode none up";

/// Both ends have an address of every kind: near 1, far 2.
pub const NEAR_ADDRESSES: &str = "ip addr add 10.99.0.1/24 dev near
    ip addr add fd99::1/64 dev near nodad; ip addr add fe80::1/64 dev near nodad";
pub const FAR_ADDRESSES: &str = "ip addr add 10.99.0.2/24 dev far
    ip addr add fd99::2/64 dev far nodad; ip addr add fe80::2/64 dev far nodad";

/// How to run a command in a network namespace of its own. Whoever is not root
/// becomes it in a user namespace, where the system allows that.
fn wrapper(test: &str) -> Option<&'static [&'static str]> {
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

/// Runs a test in a host of its own, with a link to a remote one.
///
/// # Panics
/// When it fails.
pub fn with_remote(test: &str, body: impl FnOnce(&mut Remote)) {
    match role().as_deref() {
        None => {
            if let Some(wrapper) = wrapper(test) {
                is_own(test, wrapper);
            }
        }
        Some("own") => {
            let mut remote = Remote(Partner::start(test, "remote", &["unshare", "--net"]));
            assert_eq!(remote.0.hear(), "here");
            sh(&LINK.replace("PID", &remote.0.pid().to_string()));
            remote.sh("ip link set lo up; ip link set far addrgenmode none up");
            body(&mut remote);
            // Its end takes the link with it.
            remote.0.tell("");
            remote.0.finish();
        }
        Some(_) => be_remote(),
    }
}

/// A host that does as it is told.
pub struct Remote(Partner);

impl Remote {
    /// Runs a shell command there.
    pub fn sh(&mut self, command: &str) {
        assert_eq!(self.0.ask(&format!("sh {}", command.replace('\n', ";"))), "done");
    }

    /// Asks a server from there, once it can be reached; the reply. How the
    /// connection ends depends on what comes first, the request or the refusal.
    pub fn ask(&mut self, server: SocketAddr, request: &[u8]) -> Vec<u8> {
        let told = self.0.ask(&format!("ask {server} {}", hex(request)));
        unhex(told.strip_prefix("answered").unwrap_or_else(|| panic!("{server}: {told}")))
    }

    /// Tries to ask for a second, from an address of its own if one is given.
    pub fn try_to_ask(
        &mut self,
        own: Option<IpAddr>,
        server: SocketAddr,
        request: &[u8],
    ) -> Result<Vec<u8>, String> {
        let own = own.map_or("any".to_owned(), |ip| ip.to_string());
        let told = self.0.ask(&format!("try {own} {server} {}", hex(request)));
        told.strip_prefix("answered").map(unhex).ok_or(told)
    }

    /// Connects, says nothing, and waits for the server's close.
    pub fn wait_silently(&mut self, server: SocketAddr) {
        assert_eq!(self.ask(server, b""), b"");
    }

    /// Opens so many connections from there that say nothing, 5,000 a second, and keeps
    /// them. Does not wait for that.
    pub fn flood(&mut self, server: SocketAddr, count: usize) {
        assert_eq!(self.0.ask(&format!("flood {server} {count}")), "done");
    }

    /// Begins a request from there.
    pub fn begin(&mut self, server: SocketAddr, beginning: &[u8]) {
        assert_eq!(self.0.ask(&format!("begin {server} {}", hex(beginning))), "done");
    }

    /// Sends the rest of the request that was begun; the reply.
    pub fn end(&mut self, rest: &[u8]) -> Vec<u8> {
        unhex(self.0.ask(&format!("end {}", hex(rest))).strip_prefix("answered").unwrap())
    }
}

fn be_remote() {
    tell("here");
    let mut waiting: Option<Client> = None;
    while let Some(line) = hear().filter(|line| !line.is_empty()) {
        let (verb, rest) = line.split_once(' ').unwrap();
        let words: Vec<_> = rest.split(' ').collect();
        let reply = match (verb, &words[..]) {
            ("ask", [server, request]) => answer(reach(server), request),
            ("try", [own, server, request]) => {
                match connect(own.parse().ok(), server.parse().unwrap()) {
                    Ok(client) => answer(client, request),
                    Err(error) => error,
                }
            }
            ("flood", [server, count]) => {
                let (server, count): (SocketAddr, _) =
                    (server.parse().unwrap(), count.parse().unwrap());
                std::thread::spawn(move || {
                    let begun = Instant::now();
                    let mut flood = Vec::new();
                    for number in 0..count {
                        flood.push(std::net::TcpStream::connect(server));
                        let due = begun + Duration::from_micros(200 * number);
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    }
                    // Until this process ends.
                    std::thread::park();
                });
                "done".to_owned()
            }
            ("begin", [server, beginning]) => {
                waiting.insert(reach(server)).send(&unhex(beginning));
                "done".to_owned()
            }
            ("end", [rest]) => answer(waiting.take().unwrap(), rest),
            _ => {
                sh(rest);
                "done".to_owned()
            }
        };
        tell(&reply);
    }
}

fn connect(own: Option<IpAddr>, server: SocketAddr) -> Result<Client, String> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP));
    let socket = socket.unwrap();
    if let Some(ip) = own {
        socket.bind(&SocketAddr::new(ip, 0).into()).unwrap();
    }
    match socket.connect_timeout(&server.into(), Duration::from_secs(1)) {
        Ok(()) => Ok(std::net::TcpStream::from(socket).into()),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Err("refused".to_owned()),
        Err(error) if error.kind() == ErrorKind::TimedOut => Err("no answer".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn reach(server: &str) -> Client {
    let server = server.parse().unwrap();
    let mut client = None;
    wait_until("the server can be reached", || {
        client = connect(None, server).ok();
        client.is_some()
    });
    client.unwrap()
}

fn answer(mut client: Client, request: &str) -> String {
    client.send(&unhex(request));
    let (reply, end) = client.read_to_end();
    assert!(end == End::Closed || reply.is_empty(), "a reply is not reset");
    format!("answered {}", hex(&reply))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let text = text.trim_start();
    let digits = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

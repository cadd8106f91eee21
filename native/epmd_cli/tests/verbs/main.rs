//! The verbs, beside C `epmd`'s: asked of the same port mapper, both programs
//! print the same and exit alike. Those of our own by themselves.

#![cfg(test)]

mod watching;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use epmd_core::{Alive2, Request};
use epmd_server::{Addresses, Config, Server, TakeoverSocket};
use serde_json::{Value, json};

const OURS: &str = env!("CARGO_BIN_EXE_epmd");

/// A server that ends with the test.
struct Served(Server);

impl Served {
    fn with(relaxed_command_check: bool) -> Self {
        let addresses = Addresses::List(vec![Ipv4Addr::LOCALHOST.into()]);
        let takeover_socket = TakeoverSocket::None;
        let config = Config {
            port: 0,
            addresses,
            relaxed_command_check,
            takeover_socket,
            ..Config::default()
        };
        Self(Server::start(config, Box::new(|| ())).unwrap())
    }

    fn port(&self) -> u16 {
        self.0.info().addresses[0].port()
    }

    fn register(&self, name: &str, node_port: u16, extra: &[u8]) -> TcpStream {
        register(self.port(), name, node_port, extra)
    }
}

/// Registers a node; its connection.
fn register(port: u16, name: &str, node_port: u16, extra: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let alive = Alive2 {
        port: node_port,
        node_type: 72,
        protocol: 0,
        highest_version: 6,
        lowest_version: 5,
        name: name.as_bytes(),
        extra,
    };
    stream.write_all(&Request::Alive2(alive).encode()).unwrap();
    let mut reply = [0; 6];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..2], *b"v\0", "{name}");
    stream
}

/// OTP's `epmd`, which ends with the test.
struct CEpmd {
    process: Child,
    port: u16,
}

impl CEpmd {
    fn start() -> Self {
        let port = unused_port();
        let arguments = ["-port", &port.to_string(), "-address", "127.0.0.1"];
        let process = Command::new("epmd").args(arguments).stderr(Stdio::null()).spawn().unwrap();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            std::thread::yield_now();
        }
        Self { process, port }
    }
}

impl Drop for CEpmd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn run(program: &str, port: u16, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(["-port", &port.to_string()]).args(arguments);
    command.env_remove("ERL_EPMD_PORT").output().unwrap()
}

fn shown(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Runs both programs; what they show, which is the same.
fn same(port: u16, arguments: &[&str]) -> (Option<i32>, String, String) {
    let ours = shown(&run(OURS, port, arguments));
    assert_eq!(ours, shown(&run("epmd", port, arguments)), "{arguments:?}");
    ours
}

fn printed(port: u16, arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(OURS, port, arguments);
    assert_eq!(output.stderr.escape_ascii().to_string(), "", "{arguments:?}");
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn as_json(port: u16, arguments: &[&str]) -> (Option<i32>, Value) {
    let (status, text) = printed(port, arguments);
    (status, serde_json::from_str(&text).unwrap())
}

/// Nobody listens there as long as the listener, which holds the port, lives.
fn unused_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A server of one port that answers every request with these bytes.
fn answering(reply: &'static [u8]) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // All of a request, or else the close is a reset.
            let mut length = [0; 2];
            if stream.read_exact(&mut length).is_ok() {
                let mut body = vec![0; u16::from_be_bytes(length).into()];
                let _ = stream.read_exact(&mut body).and_then(|()| stream.write_all(reply));
            }
        }
    });
    port
}

#[test]
fn listings_are_printed_as_they_come() {
    let server = Served::with(false);
    let port = server.port();
    assert_eq!(same(port, &["-names"]).0, Some(0));
    let _nodes = [server.register("n1", 1, b""), server.register("grün", 65_535, b"")];
    drop(server.register("gone", 2, b""));
    while server.0.count() > 2 {
        std::thread::yield_now();
    }
    let (status, out, _) = same(port, &["-names"]);
    assert_eq!(status, Some(0));
    assert_eq!(
        out,
        format!(
            "epmd: up and running on port {port} with data:\\n\
             name gr\\xc3\\xbcn at port 65535\\nname n1 at port 1\\n"
        )
    );
    let (status, out, _) = same(port, &["-dump"]);
    assert_eq!(status, Some(0));
    assert!(out.contains("old/unused name <gone>, port = 2"), "{out}");
    assert_eq!(same(port, &["-started"]), (Some(0), String::new(), String::new()));
}

#[test]
fn a_short_listing_is_printed_at_once() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let (mut reader, out) = UnixStream::pair().unwrap();
    let mut command = Command::new(OURS);
    command.args(["-port", &port, "-names"]).stdout(OwnedFd::from(out));
    let mut ours = command.spawn().unwrap();
    drop(command);
    let (mut stream, _) = listener.accept().unwrap();
    stream.read_exact(&mut [0; 3]).unwrap();
    let first = std::thread::spawn(move || {
        let mut bytes = [0; 1000];
        let length = reader.read(&mut bytes).unwrap();
        bytes[..length].escape_ascii().to_string()
    });
    stream.write_all(&[0, 0, 0, 9]).unwrap();
    // Time in which the heading alone could be printed.
    std::thread::sleep(Duration::from_millis(200));
    stream.write_all(b"name n1 at port 1\n").unwrap();
    drop(stream);
    let expected = "epmd: up and running on port 9 with data:\\nname n1 at port 1\\n";
    assert_eq!(first.join().unwrap(), expected);
    assert!(ours.wait().unwrap().success());
}

#[test]
fn kill_is_denied_while_nodes_are_registered() {
    let server = Served::with(false);
    let node = server.register("n1", 1, b"");
    let denied = "Killing not allowed - living nodes in database.\\n".to_owned();
    assert_eq!(same(server.port(), &["-kill"]), (Some(1), denied, String::new()));
    drop(node);
    assert_eq!(printed(server.port(), &["-kill"]), (Some(0), "Killed\n".to_owned()));
}

#[test]
fn stop_tells_what_came_of_it() {
    let (strict, relaxed) = (Served::with(false), Served::with(true));
    let _nodes = [strict.register("n1", 1, b""), relaxed.register("n1", 1, b"")];
    let refused = "epmd: local epmd responded with <>\\n".to_owned();
    assert_eq!(same(strict.port(), &["-stop", "n1"]), (Some(1), refused, String::new()));
    let unknown = "NOEXIST\\n".to_owned();
    assert_eq!(same(relaxed.port(), &["-stop", "n2"]), (Some(0), unknown, String::new()));
    assert_eq!(printed(relaxed.port(), &["-stop", "n1"]), (Some(0), "STOPPED\n".to_owned()));
    assert_eq!(relaxed.0.count(), 0);
    let long = "n".repeat(1_001);
    let (status, out, _) = same(relaxed.port(), &["-stop", &long]);
    assert_eq!((status, &out[..]), (Some(1), "epmd: Name too long!"));
}

#[test]
fn without_a_port_mapper_verbs_say_so() {
    let port = unused_port();
    for arguments in [&["-names"][..], &["-dump"], &["-kill"], &["-stop", "n1"]] {
        let (status, out, error) = same(port, arguments);
        let expected = (Some(1), "", "epmd: Cannot connect to local epmd\\n");
        assert_eq!((status, &out[..], &error[..]), expected, "{arguments:?}");
    }
    assert_eq!(same(port, &["-started"]), (Some(1), String::new(), String::new()));
}

#[test]
fn what_is_no_answer_is_told_as_c_tells_it() {
    for reply in [&b""[..], b"\0", b"\0\0\x11"] {
        let port = answering(reply);
        for verb in ["-names", "-dump", "-started"] {
            assert_eq!(same(port, &[verb]).0, Some(1), "{verb} answered {reply:?}");
        }
    }
    for reply in [&b""[..], b"N", b"STOP"] {
        let port = answering(reply);
        assert_eq!(same(port, &["-stop", "n1"]).0, Some(1), "{reply:?}");
    }
    for reply in [&b""[..], b"O", b"NO", b"??"] {
        assert_eq!(same(answering(reply), &["-kill"]).0, Some(1), "{reply:?}");
    }
}

#[test]
fn wrong_usage_ends_with_status_1_and_usage_on_stderr() {
    let wrong = [
        &["-names", "-port", "1"][..],
        &["-names", "-dump"],
        &["-port", "0"],
        &["-port"],
        &["-stop"],
        &["-nonsense"],
        &["names"],
        &["-packet_timeout", "0"],
    ];
    for arguments in wrong {
        for program in [OURS, "epmd"] {
            let (status, out, error) = shown(&run(program, 1, arguments));
            assert_eq!((status, &out[..]), (Some(1), ""), "{program} {arguments:?}");
            assert!(error.contains("usage: epmd [-d|-debug]"), "{program} {arguments:?}");
        }
    }
}

#[test]
fn help_and_version_are_told_with_status_0() {
    let (status, help) = printed(1, &["-help"]);
    assert_eq!(status, Some(0));
    assert!(help.starts_with("usage: epmd "), "{help}");
    let version = format!("portmapper {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(printed(1, &["-version"]), (Some(0), version));
}

/// What any EPMD tells of a node.
const OF_NODE: &str = "name n1 at port 4711\ntype 72 (hidden)\nprotocol 0 (tcp)\n\
                       versions 5 to 6\nextra 3 bytes <\\x00v2>\n";

#[test]
fn lookup_tells_of_another_epmd_what_that_knows() {
    let c = CEpmd::start();
    let _node = register(c.port, "n1", 4711, b"\0v2");
    assert_eq!(printed(c.port, &["-lookup", "n1"]), (Some(0), OF_NODE.to_owned()));
    let (status, node) = as_json(c.port, &["-lookup", "n1", "-json"]);
    assert_eq!((status, &node["port"], node.get("pid")), (Some(0), &json!(4711), None));
}

#[test]
fn lookup_tells_what_a_node_said_of_itself_and_who_holds_its_name() {
    let server = Served::with(false);
    let _node = server.register("n1", 4711, b"\0v2");
    let node = server.0.lookup("n1").unwrap();
    let (creation, since, peer) = (node.creation.get(), node.since.0, node.peer.unwrap());
    // The node is in this process.
    let pid = std::process::id();
    let program = std::fs::read_to_string("/proc/self/comm").unwrap().trim_end().to_owned();
    let user = Command::new("id").arg("-un").output().unwrap().stdout;
    let user = String::from_utf8(user).unwrap().trim_end().to_owned();
    let text = format!(
        "{OF_NODE}creation {creation}\nsince_ms {since}\npeer {peer}\n\
         pid {pid}\nprogram {program}\nuser {user}\n"
    );
    assert_eq!(printed(server.port(), &["-lookup", "n1"]), (Some(0), text));
    let value = json!({
        "name": "n1", "port": 4711, "type": 72, "kind": "hidden", "protocol": 0,
        "highest_version": 6, "lowest_version": 5, "extra": [0, 118, 50],
        "creation": creation, "since_ms": since, "peer": peer.to_string(),
        "pid": pid, "program": program, "user": user,
    });
    assert_eq!(as_json(server.port(), &["-lookup", "n1", "-json"]), (Some(0), value));
    let (status, out, error) = shown(&run(OURS, server.port(), &["-lookup", "n2"]));
    assert_eq!((status, &out[..]), (Some(1), ""));
    assert_eq!(error, "epmd: no node is registered as n2\\n");
    assert_eq!(as_json(server.port(), &["-json", "-lookup", "n2"]), (Some(1), Value::Null));
}

#[test]
fn match_lists_the_names_of_a_pattern() {
    let server = Served::with(false);
    let _nodes = ["web1", "db1", "web2"].map(|name| server.register(name, 1, b""));
    let lines = "name web2 at port 1\nname web1 at port 1\n".to_owned();
    assert_eq!(printed(server.port(), &["-match", "web?"]), (Some(0), lines));
    let nodes = json!([{ "name": "db1", "port": 1 }]);
    assert_eq!(as_json(server.port(), &["-match", "d*", "-json"]), (Some(0), nodes));
    let (status, out, error) = shown(&run(OURS, server.port(), &["-match", "x*"]));
    assert_eq!((status, &out[..]), (Some(1), ""));
    assert_eq!(error, "epmd: no registered name matches x*\\n");
    assert_eq!(as_json(server.port(), &["-match", "x*", "-json"]), (Some(1), json!([])));
}

#[test]
fn listings_are_told_as_json() {
    let server = Served::with(false);
    let port = server.port();
    let _node = server.register("n1", 1, b"");
    drop(server.register("gone", 2, b""));
    while server.0.count() > 1 {
        std::thread::yield_now();
    }
    let names = json!({ "port": port, "nodes": [{ "name": "n1", "port": 1 }] });
    assert_eq!(as_json(port, &["-names", "-json"]), (Some(0), names));
    let (status, dump) = as_json(port, &["-dump", "-json"]);
    assert_eq!((status, &dump["port"]), (Some(0), &json!(port)));
    assert_eq!((&dump["active"][0]["name"], &dump["active"][0]["port"]), (&json!("n1"), &json!(1)));
    assert!(dump["active"][0]["fd"].is_number(), "{dump}");
    assert_eq!((&dump["old"][0]["name"], &dump["old"][0]["port"]), (&json!("gone"), &json!(2)));
}

#[test]
fn info_tells_of_ours_and_what_can_be_told_of_another() {
    let server = Served::with(false);
    let port = server.port();
    let _node = server.register("n1", 1, b"");
    let (status, info) = as_json(port, &["-info", "-json"]);
    assert_eq!(status, Some(0));
    assert_eq!((&info["program"], &info["nodes"]), (&json!("portmapper"), &json!(1)));
    assert_eq!(info["addresses"][0], json!(format!("127.0.0.1:{port}")));
    let (status, text) = printed(port, &["-info"]);
    assert_eq!(status, Some(0));
    assert!(
        text.starts_with(&format!("epmd: up and running on port {port} with data:\nnodes 1\n"))
    );

    // To C it is an unknown request.
    let c = CEpmd::start();
    let info = as_json(c.port, &["-info", "-json"]);
    let expected = json!({ "port": c.port, "nodes": 0, "remembered": 0, "program": "unknown" });
    assert_eq!(info, (Some(0), expected));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let server = Served::with(false);
    let _nodes: Vec<_> = (0..200).map(|n| server.register(&format!("n{n}"), n, b"")).collect();
    let line = format!("{OURS} -port {} -names | head -n 1", server.port());
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    assert_eq!(output.stderr.escape_ascii().to_string(), "");
    assert!(output.stdout.starts_with(b"epmd: up and running"));
}

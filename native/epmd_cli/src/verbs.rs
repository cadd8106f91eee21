//! What a running port mapper is asked, and how the answer is printed: as C
//! `epmd` does where it has the verb (`epmd_cli.c`).

use std::io::{self, Read, Write, stdout};
use std::net::TcpStream;

use epmd_core::{Dump, Facts, Glob, Listing, Registration, Request, Response};
use serde::Serialize;
use serde_json::json;

use crate::arguments::Verb;
use crate::client::{ask, connect, names};
use crate::output::{Status, print, print_json, say};
use crate::watching::watch;

/// The longest name that C `epmd` takes for STOP, in bytes.
const MAX_STOP_BYTES: usize = 1000;

/// Asks the port mapper on a port of this host.
pub(crate) fn run(verb: &Verb, port: u16, json: bool) -> Status {
    let silent = *verb == Verb::Started;
    if matches!(verb, Verb::Stop(name) if name.len() > MAX_STOP_BYTES) {
        return print("epmd: Name too long!", Status::Failure);
    }
    let Ok(stream) = connect(port) else {
        if !silent {
            say("Cannot connect to local epmd");
        }
        return Status::Failure;
    };
    match verb {
        Verb::Started => started(stream),
        Verb::Names if !json => copy_listing(stream, &Request::Names),
        Verb::Dump if !json => copy_listing(stream, &Request::Dump),
        Verb::Names => with_reply(stream, &Request::Names, Listing::decode, names_as_json),
        Verb::Dump => with_reply(stream, &Request::Dump, Dump::decode, dump_as_json),
        Verb::Kill => kill(stream),
        Verb::Stop(name) => stop(stream, name),
        Verb::Lookup(name) => lookup(stream, port, name, json),
        Verb::Match(glob) => matching(stream, port, glob, json),
        Verb::Watch(glob) => watch(stream, glob, json),
        Verb::Info => info(stream, port, json),
    }
}

fn started(stream: TcpStream) -> Status {
    let reply = ask(stream, &Request::Names).unwrap_or_default();
    if reply.len() < 4 { Status::Failure } else { Status::Success }
}

/// Prints a listing as it comes, whatever its names are.
fn copy_listing(mut stream: TcpStream, request: &Request<'_>) -> Status {
    let mut port = [0; 4];
    let asked = stream.write_all(&request.encode());
    if asked.and_then(|()| stream.read_exact(&mut port)).is_err() {
        return no_response();
    }
    let mut text = up_and_running(u32::from_be_bytes(port)).into_bytes();
    // The port mapper may end meanwhile, and who reads the output may have seen
    // enough. Who reads once from a pipe gets names too, not the heading alone.
    let _ = stream.read_to_end(&mut text);
    let mut out = stdout().lock();
    let _ = out.write_all(&text).and_then(|()| out.flush());
    Status::Success
}

fn up_and_running(port: u32) -> String {
    format!("epmd: up and running on port {port} with data:\n")
}

fn no_response() -> Status {
    print("epmd: no response from local epmd\n", Status::Failure)
}

/// Prints what a reply means.
fn with_reply<T>(
    stream: TcpStream,
    request: &Request<'_>,
    decode: impl Fn(&[u8]) -> Option<T>,
    show: impl FnOnce(T) -> Status,
) -> Status {
    let reply = ask(stream, request).ok();
    match reply.and_then(|reply| decode(&reply)) {
        Some(decoded) => show(decoded),
        None => no_response(),
    }
}

#[derive(Serialize)]
struct NodeLine<'a> {
    name: &'a str,
    port: u16,
}

fn node_lines(listing: &Listing) -> Vec<NodeLine<'_>> {
    listing.nodes.iter().map(|(name, port)| NodeLine { name, port: *port }).collect()
}

fn names_as_json(listing: Listing) -> Status {
    let nodes = node_lines(&listing);
    print_json(&json!({ "port": listing.epmd_port, "nodes": nodes }), Status::Success)
}

fn dump_as_json(dump: Dump) -> Status {
    let lines = |names: &[epmd_core::DumpedName]| -> Vec<serde_json::Value> {
        let line = |one: &epmd_core::DumpedName| json!({ "name": one.name, "port": one.port, "fd": one.descriptor });
        names.iter().map(line).collect()
    };
    let (active, old) = (lines(&dump.active), lines(&dump.old));
    print_json(&json!({ "port": dump.epmd_port, "active": active, "old": old }), Status::Success)
}

/// An EPMD of another kind closes MATCH unanswered; what it lists is filtered here
/// then, as is what is no request: a pattern that no name can fit.
fn matching(stream: TcpStream, port: u16, pattern: &str, json: bool) -> Status {
    let reply = ask(stream, &Request::Match(pattern)).unwrap_or_default();
    let listing = Listing::decode(&reply).or_else(|| {
        let mut listing = names(connect(port).ok()?).ok()?;
        let glob = Glob::new(pattern);
        listing.nodes.retain(|(name, _)| glob.matches(name));
        Some(listing)
    });
    let Some(listing) = listing else { return no_response() };
    let status = if listing.nodes.is_empty() { Status::Failure } else { Status::Success };
    if json {
        return print_json(&node_lines(&listing), status);
    }
    if listing.nodes.is_empty() {
        say(&format!("no registered name matches {pattern}"));
    }
    let line = |(name, port): &(String, u16)| format!("name {name} at port {port}\n");
    print(&listing.nodes.iter().map(line).collect::<String>(), status)
}

fn kill(stream: TcpStream) -> Status {
    match ask_for(stream, &Request::Kill, 2) {
        Err(_) => no_answer(),
        Ok(reply) if reply.len() < 2 => responded_with(&reply),
        Ok(reply) if reply == b"OK" => print("Killed\n", Status::Success),
        Ok(_) => print("Killing not allowed - living nodes in database.\n", Status::Failure),
    }
}

fn stop(stream: TcpStream, name: &str) -> Status {
    match ask_for(stream, &Request::Stop(name.as_bytes()), 7) {
        Err(_) => no_answer(),
        Ok(reply) if reply.len() < 7 => responded_with(&reply),
        Ok(reply) => print(&format!("{}\n", String::from_utf8_lossy(&reply)), Status::Success),
    }
}

/// The first bytes of a reply; nothing if it has fewer, as in C.
fn ask_for(mut stream: TcpStream, request: &Request<'_>, count: u64) -> io::Result<Vec<u8>> {
    stream.write_all(&request.encode())?;
    let mut reply = Vec::new();
    stream.take(count).read_to_end(&mut reply)?;
    if (reply.len() as u64) < count {
        reply.clear();
    }
    Ok(reply)
}

fn no_answer() -> Status {
    print("epmd: failed to read answer from local epmd\n", Status::Failure)
}

fn responded_with(reply: &[u8]) -> Status {
    let reply = String::from_utf8_lossy(reply);
    print(&format!("epmd: local epmd responded with <{reply}>\n"), Status::Failure)
}

fn lookup(stream: TcpStream, port: u16, name: &str, json: bool) -> Status {
    with_reply(stream, &Request::PortPlease2(name), Response::decode, |response| match response {
        Response::PortPlease2(Some((name, node))) => {
            let (name, facts) = (name.as_str(), facts_about(port, name.as_str(), &node));
            if json {
                return print_json(&node_as_json(name, &node, facts), Status::Success);
            }
            let line = |(key, value): &(String, String)| format!("{key} {value}\n");
            let lines: String = facts.iter().map(line).collect();
            print(&(node_as_text(name, &node) + &lines), Status::Success)
        }
        _ if json => print_json(&serde_json::Value::Null, Status::Failure),
        _ => {
            say(&format!("no node is registered as {name}"));
            Status::Failure
        }
    })
}

/// What else ours tells of a node, and who holds its name. An EPMD of another kind
/// closes the request unanswered.
fn facts_about(port: u16, name: &str, node: &Registration) -> Vec<(String, String)> {
    let reply = connect(port).and_then(|stream| ask(stream, &Request::NodeInfo(name)));
    let facts = reply.ok().and_then(|reply| Facts::decode(&reply)).map(|reply| reply.facts);
    let mut facts = facts.unwrap_or_default().into_iter();
    // Another port is that of a later life.
    if facts.next() != Some(("port".to_owned(), node.port.to_string())) {
        return Vec::new();
    }
    facts.collect()
}

/// What the type of a node stands for.
fn node_kind(node_type: u8) -> &'static str {
    match node_type {
        77 => "erl",
        72 => "hidden",
        104 => "C node",
        110 => "jinterface",
        _ => "unknown",
    }
}

fn node_as_text(name: &str, node: &Registration) -> String {
    let Registration { port, node_type, protocol, highest_version, lowest_version, extra } = node;
    let kind = node_kind(*node_type);
    let protocol_name = if *protocol == 0 { "tcp" } else { "unknown" };
    format!(
        "name {name} at port {port}\ntype {node_type} ({kind})\nprotocol {protocol} \
         ({protocol_name})\nversions {lowest_version} to {highest_version}\nextra {} bytes <{}>\n",
        extra.len(),
        extra.escape_ascii()
    )
}

fn node_as_json(
    name: &str,
    node: &Registration,
    facts: Vec<(String, String)>,
) -> serde_json::Value {
    let mut object = json!({
        "name": name,
        "port": node.port,
        "type": node.node_type,
        "kind": node_kind(node.node_type),
        "protocol": node.protocol,
        "highest_version": node.highest_version,
        "lowest_version": node.lowest_version,
        "extra": node.extra,
    });
    let of_facts = facts.into_iter().map(|(key, value)| {
        let number = value.parse::<u64>().ok().filter(|_| NUMBERS.contains(&key.as_str()));
        (key, number.map_or_else(|| value.into(), Into::into))
    });
    if let Some(object) = object.as_object_mut() {
        object.extend(of_facts);
    }
    object
}

/// Facts about a node that are numbers; a program may have a number as its name.
const NUMBERS: [&str; 3] = ["creation", "since_ms", "pid"];

/// An EPMD of another kind closes INFO unanswered; what it lists is told then.
fn info(stream: TcpStream, port: u16, json: bool) -> Status {
    let reply = ask(stream, &Request::Info).unwrap_or_default();
    let facts = match Facts::decode(&reply) {
        Some(facts) => facts,
        None => match counted(port) {
            Some(facts) => facts,
            None => return no_response(),
        },
    };
    if json {
        return print_json(&facts_as_json(&facts), Status::Success);
    }
    let line = |(key, value): &(String, String)| format!("{key} {value}\n");
    let lines: String = facts.facts.iter().map(line).collect();
    print(&(up_and_running(facts.epmd_port) + &lines), Status::Success)
}

/// What can be told of any EPMD.
fn counted(port: u16) -> Option<Facts> {
    let reply = ask(connect(port).ok()?, &Request::Dump).ok()?;
    let dump = Dump::decode(&reply)?;
    let fact = |key: &str, count: usize| (key.to_owned(), count.to_string());
    let facts = vec![
        fact("nodes", dump.active.len()),
        fact("remembered", dump.old.len()),
        ("program".to_owned(), "unknown".to_owned()),
    ];
    Some(Facts { epmd_port: dump.epmd_port, facts })
}

/// Numbers are numbers; the addresses, of which there may be many, a list.
fn facts_as_json(facts: &Facts) -> serde_json::Value {
    let mut object = serde_json::Map::new();
    object.insert("port".to_owned(), facts.epmd_port.into());
    let mut addresses = Vec::new();
    for (key, value) in &facts.facts {
        let value = value.parse::<u64>().map_or_else(|_| value.as_str().into(), Into::into);
        if key == "address" {
            addresses.push(value);
        } else {
            object.insert(key.clone(), value);
        }
    }
    if !addresses.is_empty() {
        object.insert("addresses".to_owned(), addresses.into());
    }
    object.into()
}

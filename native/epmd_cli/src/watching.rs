//! `epmd -watch`: prints which nodes are registered, and then which come and go, until the
//! connection ends.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use epmd_core::{Present, Request, Told};
use serde_json::{Value, json};

use crate::output::{Status, say, write};

/// A port mapper that is alive says something every 15 seconds.
const SILENCE: Duration = Duration::from_secs(60);

/// Watches the port mapper at the other end.
pub(crate) fn watch(mut stream: TcpStream, glob: &str, json: bool) -> Status {
    let mut view = View { json, ..View::default() };
    match follow(&mut stream, glob, &mut view) {
        // Who reads it has seen enough.
        Ok(()) => Status::Success,
        Err(_) if !view.is_told => {
            say("this EPMD cannot be watched, or does not permit it");
            Status::Failure
        }
        Err(_) => {
            say("the connection to the local epmd has ended");
            Status::Failure
        }
    }
}

/// Back when nobody reads the output any more.
fn follow(stream: &mut TcpStream, glob: &str, view: &mut View) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    stream.write_all(&Request::Watch(glob).encode())?;
    let mut stream = io::BufReader::new(stream);
    let mut body = Vec::new();
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        body.resize(u16::from_be_bytes(length).into(), 0);
        stream.read_exact(&mut body)?;
        // One of another kind is ignored.
        if let Some(told) = Told::decode(&body)
            && !view.show(&told)
        {
            return Ok(());
        }
    }
}

/// What was told so far.
#[derive(Default)]
struct View {
    json: bool,
    is_told: bool,
    missed: u64,
    /// Of all nodes, those that were told.
    nodes: Vec<(String, Value)>,
}

impl View {
    /// Whether somebody reads it.
    fn show(&mut self, told: &Told<'_>) -> bool {
        self.is_told = true;
        match told {
            Told::Begin { missed } => {
                self.missed = *missed;
                self.nodes.clear();
                true
            }
            Told::Node(node) => {
                self.nodes.push((at_port("name", node), as_json(node)));
                true
            }
            Told::End { sequence } => {
                let (lines, nodes): (String, Vec<_>) =
                    std::mem::take(&mut self.nodes).into_iter().unzip();
                let missed = self.missed;
                let heading =
                    if missed == 0 { String::new() } else { format!("missed {missed} changes\n") };
                let event = json!({
                    "event": "nodes", "sequence": sequence, "missed": missed, "nodes": nodes
                });
                self.print(&(heading + &lines), &event)
            }
            Told::Up { sequence, node } => {
                let mut event = as_json(node);
                extend(&mut event, "up", *sequence);
                self.print(&at_port("up", node), &event)
            }
            Told::Down { sequence, creation, reason, name } => {
                let reason = reason.as_str();
                let mut event = json!({ "name": name, "creation": creation, "reason": reason });
                extend(&mut event, "down", *sequence);
                self.print(&format!("down {name} ({reason})\n"), &event)
            }
            Told::Alive => true,
        }
    }

    fn print(&self, text: &str, event: &Value) -> bool {
        if self.json { write(&format!("{event}\n")) } else { write(text) }
    }
}

fn at_port(what: &str, node: &Present<'_>) -> String {
    format!("{what} {} at port {}\n", node.name, node.port)
}

fn as_json(node: &Present<'_>) -> Value {
    let Present { creation, port, node_type, name } = node;
    json!({ "name": name, "port": port, "type": node_type, "creation": creation })
}

fn extend(event: &mut Value, kind: &str, sequence: u64) {
    if let Some(object) = event.as_object_mut() {
        object.insert("event".to_owned(), kind.into());
        object.insert("sequence".to_owned(), sequence.into());
    }
}

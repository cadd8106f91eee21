//! Peers that ask for a listing and do not read it, or read it slowly, cost a bounded
//! amount of memory, and nobody else a thing.

#![cfg(test)]
#![cfg(target_os = "linux")]

mod common;

use std::net::TcpStream;

use common::process::{Partner, hear, role, tell};
use common::served::Served;
use common::wait_until;
use common::wire::{Client, DUMP, NAMES, ask, found, port_please, register, v4};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

/// A server with so many names, each of so many bytes.
fn serve(names: usize, bytes: usize) {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let server = Served::local();
    (0..names).for_each(|n| server.register_own(&format!("{n:0>bytes$}")));
    tell(&server.port().to_string());
    while let Some(question) = hear() {
        match question.as_str() {
            "listings" => tell(&server.counters().listings.to_string()),
            "waiting" => tell(&server.info().waiting_connections.to_string()),
            "crowded out" => tell(&server.counters().crowded_out.to_string()),
            "more" => {
                server.register_own(&format!("more{}", server.count()));
                tell("done");
            }
            _ => {
                let status = std::fs::read_to_string("/proc/self/status").unwrap();
                let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
                tell(line.split_whitespace().nth(1).unwrap());
            }
        }
    }
}

/// None in the process of the server.
fn partner(test: &str, names: usize, bytes: usize) -> Option<(Partner, u16)> {
    if role().is_some() {
        serve(names, bytes);
        return None;
    }
    let mut partner = Partner::start(test, "server", &[]);
    let port = partner.hear().parse().unwrap();
    Some((partner, port))
}

/// A client that takes little before it reads.
fn narrow_client(port: u16) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&v4(port).into()).unwrap();
    TcpStream::from(socket).into()
}

fn kilobytes(server: &mut Partner) -> u64 {
    server.ask("memory").parse().unwrap()
}

/// Has so many ask, each once the one before was answered as far as it takes.
fn readers(
    server: &mut Partner,
    port: u16,
    count: u32,
    mut between: impl FnMut(&mut Partner),
) -> Vec<Client> {
    let before: u32 = server.ask("listings").parse().unwrap();
    let mut readers = Vec::new();
    for number in 0..count {
        let mut reader = narrow_client(port);
        reader.send(if number % 2 == 0 { NAMES } else { DUMP });
        readers.push(reader);
        if number % 20 == 19 {
            between(server);
            wait_until("they are served", || {
                server.ask("listings").parse::<u32>().unwrap() == before + number + 1
            });
        }
    }
    readers
}

#[test]
fn ten_thousand_names_that_many_readers_do_not_read_are_kept_once() {
    let test = "ten_thousand_names_that_many_readers_do_not_read_are_kept_once";
    // More than the system takes for a reader that does not read.
    let Some((mut server, port)) = partner(test, 10_000, 250) else { return };
    let (node, _) = register(port, b"n1");
    let length = ask(port, NAMES).len();
    assert!(length > 2_500_000);
    ask(port, DUMP);
    let before = kilobytes(&mut server);
    let mut stuck = readers(&mut server, port, 300, |_| ());
    wait_until("all wait", || server.ask("waiting") == "300");
    let grown = kilobytes(&mut server).saturating_sub(before);
    println!("{grown} kB for 300 readers of {length} bytes");
    // Each as a connection, and the listings of both kinds.
    assert!(grown < 20_000, "{grown} kB");
    assert_eq!(ask(port, &port_please(b"n1")), found(b"n1", 4711));
    assert!(node.is_open());
    // Who begins to read gets the whole.
    assert_eq!(stuck.swap_remove(150).read_to_end().0.len(), length);
}

#[test]
fn listings_that_differ_take_no_more_than_there_is_memory_for_them() {
    let test = "listings_that_differ_take_no_more_than_there_is_memory_for_them";
    let Some((mut server, port)) = partner(test, 10_000, 250) else { return };
    let (node, _) = register(port, b"n1");
    ask(port, DUMP);
    let before = kilobytes(&mut server);
    let stuck = readers(&mut server, port, 600, |server| _ = server.ask("more"));
    let grown = kilobytes(&mut server).saturating_sub(before);
    println!("{grown} kB, {} were closed", server.ask("crowded out"));
    // Without an end it would be 30 x 2 x 2.7 MB.
    assert!(grown < 100_000, "{grown} kB");
    assert_ne!(server.ask("crowded out"), "0");
    assert_eq!(ask(port, &port_please(b"n1")), found(b"n1", 4711));
    assert!(ask(port, NAMES).len() > 2_500_000, "others are listed all names");
    assert!(node.is_open());
    drop(stuck);
}

//! What the clients do. All of it runs on their processor.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use epmd_core::Request;

use crate::server::Server;
use crate::wire::{HELD_AT, connect, names, register, register_at};

/// The name that is looked up.
pub const LOOKED_UP: &str = "n0";

fn request() -> Vec<u8> {
    Request::PortPlease2(LOOKED_UP).encode()
}

fn finish(mut stream: TcpStream) -> io::Result<()> {
    let mut reply = [0; 64];
    let mut length = 0;
    loop {
        match stream.read(reply.get_mut(length..).unwrap_or_default())? {
            0 => break,
            count => length += count,
        }
    }
    if reply.starts_with(b"w\0") { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Registers names until so many are held; the first is [`LOOKED_UP`].
///
/// # Errors
/// When one is refused.
pub fn hold(server: &Server, held: &mut Vec<TcpStream>, count: usize) -> io::Result<()> {
    while held.len() < count {
        let name = format!("n{}", held.len());
        held.push(register_at(HELD_AT, server.port, &name)?);
    }
    Ok(())
}

/// Look-ups one after the other; how long each took.
///
/// # Errors
/// When one fails.
pub fn one_client(server: &Server, count: usize) -> io::Result<Vec<Duration>> {
    let request = request();
    let lookup = |_| {
        let begun = Instant::now();
        let mut stream = connect(server.port)?;
        stream.write_all(&request)?;
        finish(stream)?;
        Ok(begun.elapsed())
    };
    (0..count).map(lookup).collect()
}

/// As many look-ups by so many clients at a time.
///
/// # Errors
/// When one fails.
pub fn many_clients(server: &Server, clients: usize, count: usize) -> io::Result<()> {
    thread::scope(|scope| {
        let client = |_| scope.spawn(|| one_client(server, count / clients));
        let clients: Vec<_> = (0..clients).map(client).collect();
        for client in clients {
            client.join().map_err(|_| io::Error::other("a client panicked"))??;
        }
        Ok(())
    })
}

/// Look-ups that are all there before the first is answered.
///
/// # Errors
/// When one fails.
pub fn burst(server: &Server, size: usize) -> io::Result<()> {
    let request = request();
    let queued = server.stopped(|| {
        let queue = |_| {
            let mut stream = connect(server.port)?;
            stream.write_all(&request)?;
            Ok(stream)
        };
        (0..size).map(queue).collect::<io::Result<Vec<_>>>()
    })?;
    queued.into_iter().try_for_each(finish)
}

/// Registers a name and closes its connection, again and again.
///
/// # Errors
/// When it is refused.
pub fn register_and_close(server: &Server, count: usize) -> io::Result<()> {
    (0..count).try_for_each(|number| {
        // Names of their own: C may see a close later than the next registration.
        register(server.port, &format!("r{}", number % 100 + 1_000)).map(drop)
    })
}

/// Listings one after the other.
///
/// # Errors
/// When one fails.
pub fn listings(server: &Server, count: usize) -> io::Result<()> {
    (0..count).try_for_each(|_| names(server.port).map(drop))
}

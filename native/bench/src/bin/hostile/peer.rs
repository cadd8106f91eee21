//! The hostile peer.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::{park, sleep};
use std::time::{Duration, Instant};

use bench::chance::Chance;
use bench::wire::node;
use epmd_core::Request;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, SockRef, Socket, Type};

use crate::view::name;

/// How long it waits for anything.
const PATIENCE: Duration = Duration::from_secs(2);

/// The segments of an Ethernet.
const SEGMENT: u32 = 1_460;

/// Connections that a flood keeps at a time.
const KEPT: usize = 3_000;

/// Where its nodes would listen. Nobody does: they are not there.
const PORT: u16 = 4_712;

/// Does it, until it is done or killed. Says so on a line when it is under way.
///
/// # Errors
/// When the verb is none, or the port mapper does not take part.
pub fn play(verb: &str, server: &str, count: &str) -> crate::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let (server, count): (SocketAddr, usize) = (server.parse()?, count.parse()?);
    match verb {
        "silent" => keep((0..count).map_while(|_| connect(server).ok()).collect()),
        "names" => keep((0..count).map_while(|number| own_name(server, number).ok()).collect()),
        "readers" => keep((0..count).map_while(|_| reader(server).ok()).collect()),
        "sippers" => sip((0..count).map_while(|_| reader(server).ok()).collect()),
        "rate" => flood(server, count),
        "bytes" => byte_by_byte(server, count)?,
        "resets" => each(count, |round| reset_at_a_step(server, round))?,
        "halves" => each(count, |round| half(server, round))?,
        "duplicates" => each(count, |_| duplicate(server, true))?,
        "refused" => each(count, |_| duplicate(server, false))?,
        "scan" => each(count, |round| scan(server, round))?,
        "noise" => {
            let mut chance = Chance::new(4369);
            each(count, |round| noise(server, round, &mut chance))?;
        }
        _ => return Err("no such verb".into()),
    }
    Ok(())
}

fn under_way() {
    println!("under way");
}

/// Keeps all connections until it is killed.
fn keep(_connections: Vec<TcpStream>) {
    under_way();
    loop {
        park();
    }
}

fn each(count: usize, mut act: impl FnMut(usize) -> io::Result<()>) -> io::Result<()> {
    under_way();
    (0..count).try_for_each(|round| match act(round) {
        // Who is cut off goes on.
        Err(error) if error.kind() != ErrorKind::ConnectionRefused => Ok(()),
        outcome => outcome,
    })
}

fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn reset(stream: TcpStream) -> io::Result<()> {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))
}

fn alive(name: &str) -> Vec<u8> {
    Request::Alive2(node(name, PORT)).encode()
}

/// A registration that may be granted.
fn own_name(server: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let mut stream = connect(server)?;
    stream.write_all(&alive(&format!("own{number}")))?;
    stream.read_exact(&mut [0; 6])?;
    Ok(stream)
}

/// Asks for a listing, and takes no more of it than it has to.
fn reader(server: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(1)?;
    socket.set_tcp_mss(SEGMENT)?;
    socket.connect_timeout(&server.into(), PATIENCE)?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(&Request::Names.encode())?;
    Ok(stream)
}

fn sip(mut readers: Vec<TcpStream>) {
    under_way();
    loop {
        for reader in &mut readers {
            // Nothing may have come yet.
            let _ = reader.set_read_timeout(Some(Duration::from_millis(1)));
            let _ = reader.read(&mut [0]);
        }
        sleep(Duration::from_secs(1));
    }
}

/// So many in five seconds.
fn flood(server: SocketAddr, count: usize) {
    under_way();
    let (begun, mut kept) = (Instant::now(), VecDeque::new());
    for number in 0..count {
        if let Ok(stream) = connect(server) {
            kept.push_back(stream);
        }
        if kept.len() > KEPT {
            let _ = kept.pop_front().map(reset);
        }
        let due = Duration::from_micros(200) * u32::try_from(number).unwrap_or(u32::MAX);
        sleep((begun + due).saturating_duration_since(Instant::now()));
    }
}

fn byte_by_byte(server: SocketAddr, count: usize) -> io::Result<()> {
    under_way();
    let request = Request::PortPlease2(&name(0)).encode();
    let mut clients = (0..count).map(|_| connect(server)).collect::<io::Result<Vec<_>>>()?;
    for byte in request {
        for client in &mut clients {
            client.write_all(&[byte])?;
        }
        sleep(Duration::from_millis(5));
    }
    clients.iter_mut().try_for_each(|client| client.read_to_end(&mut Vec::new()).map(drop))
}

/// What a peer may send that ends nothing.
fn requests() -> [Vec<u8>; 4] {
    [
        Request::PortPlease2(&name(0)).encode(),
        Request::Names.encode(),
        Request::Dump.encode(),
        alive("fleeting"),
    ]
}

fn reset_at_a_step(server: SocketAddr, round: usize) -> io::Result<()> {
    let [lookup, names, dump, alive] = requests();
    let request = match round % 4 {
        0 => lookup,
        1 => names,
        2 => dump,
        _ => alive,
    };
    let mut stream = connect(server)?;
    let cut = (round / 4) % (request.len() + 2);
    stream.write_all(request.get(..cut).unwrap_or(&request))?;
    if cut > request.len() {
        stream.read_exact(&mut [0])?;
    }
    reset(stream)
}

fn half(server: SocketAddr, round: usize) -> io::Result<()> {
    let [lookup, ..] = requests();
    let mut stream = connect(server)?;
    match round % 4 {
        0 => stream.shutdown(Shutdown::Read)?,
        1 => stream.shutdown(Shutdown::Write)?,
        2 => {
            stream.write_all(lookup.get(..5).unwrap_or_default())?;
            stream.shutdown(Shutdown::Write)?;
        }
        _ => {
            stream.write_all(&lookup)?;
            stream.shutdown(Shutdown::Write)?;
        }
    }
    if round.is_multiple_of(2) {
        reset(stream)
    } else {
        stream.read_to_end(&mut Vec::new()).map(drop)
    }
}

/// Asks for the name of a node that is there.
fn duplicate(server: SocketAddr, is_reset: bool) -> io::Result<()> {
    let mut stream = connect(server)?;
    stream.write_all(&alive(&name(0)))?;
    if is_reset {
        return reset(stream);
    }
    stream.read_exact(&mut [0; 6])?;
    reset(stream)
}

fn scan(server: SocketAddr, round: usize) -> io::Result<()> {
    let stream = connect(server)?;
    // An orderly close occupies a port for a minute.
    if round.is_multiple_of(10) { Ok(()) } else { reset(stream) }
}

/// A packet that is anything, or framed right, or a request in which a byte is another.
/// A KILL and a STOP would do what they say.
fn noise(server: SocketAddr, round: usize, chance: &mut Chance) -> io::Result<()> {
    let mut byte = || chance.below(256) as u8;
    let mut packet: Vec<u8> = (0..40).map(|_| byte()).collect();
    match round % 3 {
        0 => {}
        1 => {
            let tag = *b"xzndx?zi".get(usize::from(byte()) % 8).unwrap_or(&b'?');
            packet.splice(..3, [0, 38, tag]);
        }
        _ => {
            let [lookup, names, dump, alive] = requests();
            packet = match byte() % 4 {
                0 => lookup,
                1 => names,
                2 => dump,
                _ => alive,
            };
            let at = usize::from(byte()) % packet.len();
            if let Some(one) = packet.get_mut(at) {
                *one = byte();
            }
        }
    }
    if matches!(packet.get(2), Some(b'k' | b's')) {
        return Ok(());
    }
    let mut stream = connect(server)?;
    stream.write_all(&packet)?;
    reset(stream)
}

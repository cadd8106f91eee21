//! What the system alone costs: an epoll loop that answers every request with a
//! constant, in one segment with the close.
//!
//!     floor -port PORT ...

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, listen, recv, send};

/// A reply to PORT_PLEASE2 for the name `n0`.
const REPLY: &[u8] = b"w\0\x12\x67M\0\0\x06\0\x05\0\x02n0\0\0";

fn main() -> io::Result<()> {
    let port = std::env::args().nth(2).and_then(|port| port.parse().ok());
    let port = port.ok_or_else(|| io::Error::other("usage: floor -port PORT"))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    // As long a queue as the others have.
    listen(&listener, 4096)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
    let mut waiting: Vec<Option<OwnedFd>> = Vec::new();
    let mut events = [const { MaybeUninit::uninit() }; 64];
    loop {
        let (ready, _) = match epoll::wait(&epoll, events.as_mut_slice(), None) {
            Ok(events) => events,
            // It was stopped and goes on.
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        for event in ready.iter() {
            let data = event.data;
            let Ok(slot @ 1..) = usize::try_from(data.u64()) else {
                accept(&listener, &epoll, &mut waiting)?;
                continue;
            };
            if let Some(socket) = waiting.get_mut(slot).and_then(Option::take) {
                answer(&socket);
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    epoll: &OwnedFd,
    waiting: &mut Vec<Option<OwnedFd>>,
) -> io::Result<()> {
    loop {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = match accept_with(listener, flags) {
            Ok(socket) => socket,
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if answer(&socket) {
            continue;
        }
        let slot = usize::try_from(socket.as_raw_fd()).unwrap_or_default();
        let data = epoll::EventData::new_u64(slot as u64);
        epoll::add(epoll, &socket, data, epoll::EventFlags::IN)?;
        if waiting.len() <= slot {
            waiting.resize_with(slot + 1, || None);
        }
        if let Some(place) = waiting.get_mut(slot) {
            *place = Some(socket);
        }
    }
}

/// Whether there was a request, or an end, to answer.
fn answer(socket: &OwnedFd) -> bool {
    let mut request = [0; 64];
    match recv(socket, &mut request, RecvFlags::empty()) {
        Err(Errno::AGAIN) => return false,
        Ok((1.., _)) => _ = send(socket, REPLY, SendFlags::NOSIGNAL | SendFlags::MORE),
        _ => {}
    }
    true
}

//! The kernel's table of TCP sockets over a netlink socket (`sock_diag(7)`).
//! What a question costs does not grow with the number of connections.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::netlink::SOCK_DIAG;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

use super::sockets::TcpSocket;

// linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h, net/tcp_states.h
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const TCP_LISTEN: u8 = 10;
const INET_DIAG_INFO: u16 = 2;
/// Of `tcpi_data_segs_out` in `struct tcp_info`.
const DATA_SEGS_OUT: usize = 156;

const HEADER_BYTES: usize = 16;
const REQUEST_BYTES: usize = HEADER_BYTES + 56;
const SOCKET_BYTES: usize = HEADER_BYTES + 72;

/// The kernel fills no longer buffer than this in one go, unless it was once
/// given a longer one.
const BUFFER_BYTES: usize = 8192;

/// A netlink socket, for one question at a time.
#[derive(Debug)]
pub(super) struct SockDiag {
    socket: OwnedFd,
    sequence: u32,
}

/// Which sockets a question is about.
#[derive(Clone, Copy)]
struct Filter {
    family: u8,
    /// What is told beside the socket itself.
    extensions: u8,
    states: u32,
    local: SocketAddr,
    remote: SocketAddr,
}

const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

impl SockDiag {
    /// # Errors
    /// When this process may not ask, or the kernel does not answer.
    pub(super) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(SOCK_DIAG))?;
        let mut opened = Self { socket, sequence: 0 };
        // To ask for one socket fails alike without an answer and without a
        // socket, so it is not what tells whether there are answers.
        opened.listeners(1)?;
        Ok(opened)
    }

    /// The socket that gets what comes from `remote` to `local`: that of a
    /// connection, else one that listens.
    pub(super) fn find(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> io::Result<Option<TcpSocket>> {
        self.find_with(local, remote, 0)
    }

    /// The same, with what [`TcpSocket::segments_sent`] tells.
    pub(super) fn find_with_info(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> io::Result<Option<TcpSocket>> {
        self.find_with(local, remote, 1 << (INET_DIAG_INFO - 1))
    }

    fn find_with(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        extensions: u8,
    ) -> io::Result<Option<TcpSocket>> {
        let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
        self.ask(Filter { family, extensions, states: 0, local, remote }, NLM_F_REQUEST)?;
        match self.receive() {
            Ok((mut found, _)) => Ok(found.pop()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every socket that listens on a port.
    pub(super) fn listeners(&mut self, port: u16) -> io::Result<Vec<TcpSocket>> {
        let local = SocketAddr::new(NOWHERE.ip(), port);
        let mut listeners = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let states = 1 << TCP_LISTEN;
            let filter = Filter { family, extensions: 0, states, local, remote: NOWHERE };
            self.ask(filter, NLM_F_REQUEST | NLM_F_DUMP)?;
            loop {
                let (found, done) = self.receive()?;
                listeners.extend(found);
                if done {
                    break;
                }
            }
        }
        Ok(listeners)
    }

    fn ask(&mut self, filter: Filter, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        send(&self.socket, &request(filter, flags, self.sequence), SendFlags::empty())?;
        Ok(())
    }

    /// Takes in what the kernel has answered, and whether that was all. (It
    /// answers while it is asked, so there is nothing to wait for.)
    fn receive(&self) -> io::Result<(Vec<TcpSocket>, bool)> {
        loop {
            let mut buffer = [0; BUFFER_BYTES];
            let (count, _) = recv(&self.socket, buffer.as_mut_slice(), RecvFlags::DONTWAIT)?;
            let bytes = buffer.get(..count).unwrap_or_default();
            // What is left of a question that failed midway is of no interest.
            if read_u32(bytes, 8)? == self.sequence {
                return messages(bytes);
            }
        }
    }
}

/// A question (`struct nlmsghdr`, `struct inet_diag_req_v2`).
fn request(filter: Filter, flags: u16, sequence: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(REQUEST_BYTES);
    out.extend((REQUEST_BYTES as u32).to_ne_bytes());
    out.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    // From whichever address this socket has.
    out.extend(0_u32.to_ne_bytes());
    out.extend([filter.family, IPPROTO_TCP, filter.extensions, 0]);
    out.extend(filter.states.to_ne_bytes());
    for address in [filter.local, filter.remote] {
        out.extend(address.port().to_be_bytes());
    }
    for address in [filter.local, filter.remote] {
        match address.ip() {
            IpAddr::V4(ip) => {
                out.extend(ip.octets());
                out.extend([0; 12]);
            }
            IpAddr::V6(ip) => out.extend(ip.octets()),
        }
    }
    // The link of a link-local address.
    let scope = if let SocketAddr::V6(local) = filter.local { local.scope_id() } else { 0 };
    out.extend(scope.to_ne_bytes());
    // INET_DIAG_NOCOOKIE
    out.extend([0xff; 8]);
    out
}

/// Reads the messages of an answer, and whether they end it.
fn messages(mut bytes: &[u8]) -> io::Result<(Vec<TcpSocket>, bool)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = read_u32(bytes, 0)? as usize;
        let message = bytes.get(..length).ok_or(io::ErrorKind::InvalidData)?;
        match u16::from_ne_bytes(*field(message, 4)?) {
            NLMSG_DONE => return Ok((found, true)),
            NLMSG_ERROR => {
                let error = i32::from_ne_bytes(*field(message, HEADER_BYTES)?);
                return Err(io::Error::from_raw_os_error(-error));
            }
            SOCK_DIAG_BY_FAMILY => found.push(socket(message)?),
            _ => {}
        }
        let next = length.next_multiple_of(4).max(HEADER_BYTES);
        bytes = bytes.get(next..).unwrap_or_default();
    }
    Ok((found, false))
}

/// Reads a `struct inet_diag_msg`.
fn socket(message: &[u8]) -> io::Result<TcpSocket> {
    let [_family, state] = *field(message, HEADER_BYTES)?;
    Ok(TcpSocket {
        listens: state == TCP_LISTEN,
        uid: read_u32(message, HEADER_BYTES + 64)?,
        inode: read_u32(message, HEADER_BYTES + 68)?.into(),
        segments_sent: info(message).and_then(|info| read_u32(info, DATA_SEGS_OUT).ok()),
    })
}

/// Finds the `struct tcp_info` among the attributes of a message, if it is there.
fn info(message: &[u8]) -> Option<&[u8]> {
    let mut attributes = message.get(SOCKET_BYTES..)?;
    loop {
        let length = u16::from_ne_bytes(*attributes.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*field(attributes, 2).ok()?);
        if kind == INET_DIAG_INFO {
            return attributes.get(4..length);
        }
        attributes = attributes.get(length.next_multiple_of(4).max(4)..)?;
    }
}

fn read_u32(bytes: &[u8], at: usize) -> io::Result<u32> {
    Ok(u32::from_ne_bytes(*field(bytes, at)?))
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> io::Result<&[u8; N]> {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

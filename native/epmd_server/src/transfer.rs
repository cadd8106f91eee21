//! Taking in a request and sending a reply, as long as the peer does something in time.

use std::io;

use epmd_core::{Framer, limits::MAX_REQUEST_BYTES};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::connection::{Decided, Received};
use crate::crowd::Stage;
use crate::notices::Notice;
use crate::session::ended_early;
use crate::shared::{Peer, Shared};

/// Reads until the request is complete. Each byte starts the time-out anew.
pub(crate) async fn read_request<'r>(
    shared: &Shared,
    stream: &TcpStream,
    peer: Peer,
    received: &'r mut Received,
) -> Option<&'r [u8]> {
    let Received { framer, bytes } = received;
    loop {
        match framer.push(bytes) {
            Ok(None) => {}
            // Asked again because a borrow cannot leave a loop that goes on.
            Ok(Some(_)) => break,
            Err(refusal) => {
                shared.refuse_unanswered(peer.address, refusal);
                return None;
            }
        }
        let read = timeout(shared.packet_timeout(), read_some(stream, *framer, bytes)).await;
        let Ok(read) = read else {
            shared.counters.timed_out.add_one();
            shared.notices.push(Notice::TimedOut { peer: peer.address });
            return None;
        };
        if !matches!(read, Ok(1..)) {
            ended_early(shared, peer, bytes.len());
            return None;
        }
    }
    framer.push(bytes).ok().flatten()
}

/// Appends what can be read. The buffer for it lives only while there is
/// something to read: silent connections cost no memory.
async fn read_some(stream: &TcpStream, framer: Framer, bytes: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        let mut buffer = [0; MAX_REQUEST_BYTES];
        let room = framer.room(bytes.len()).min(buffer.len());
        let (space, _) = buffer.split_at_mut(room);
        match stream.try_read(space) {
            Ok(count) => {
                bytes.extend(space.iter().take(count));
                return Ok(count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes what is left of a reply, as long as the peer takes some of it in time.
pub(crate) async fn write_all(
    shared: &Shared,
    stream: &TcpStream,
    peer: Peer,
    decided: &mut Decided,
) -> io::Result<()> {
    while !decided.rest().is_empty() {
        timeout(shared.packet_timeout(), stream.writable()).await??;
        match stream.try_write(decided.rest()) {
            Ok(count) => {
                decided.sent += count;
                shared.crowd.advance(peer.conn, Stage::Reading);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

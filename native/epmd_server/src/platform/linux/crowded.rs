//! Accepting while descriptors run short.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use epmd_core::is_local;

use super::{Batch, Buffers, Served, begin, connected_to};
use crate::connection::{self, Progress};
use crate::shared::{Peer, Shared};
use crate::shortage::Room;

/// Serves a connection that may have one of the last descriptors. More may wait then,
/// or have to.
pub(super) fn begin_crowded(
    shared: &Arc<Shared>,
    socket: OwnedFd,
    peer: Peer,
    buffers: &mut Buffers,
) -> Batch {
    let is_local = is_local(peer.address.ip(), || connected_to(&socket));
    let room = shared.make_room(socket.as_raw_fd(), is_local);
    if room == Room::Made {
        connection::begin_when_there_is_room(shared, socket.into(), peer);
        return Batch::Full;
    }
    match begin(shared, socket, peer, buffers) {
        Served::Closed => return Batch::Full,
        Served::Stays => {}
        Served::Early(socket) => {
            connection::go_on(shared, socket.into(), peer, Progress::default());
        }
    }
    match room {
        Room::Not { is_last } if !shared.squeeze_in(peer.conn, is_local, is_last) => {
            Batch::OutOfDescriptors
        }
        _ => Batch::Full,
    }
}

/// When nobody can be accepted.
pub(super) fn make_room_for_next(shared: &Shared) -> Batch {
    if shared.make_room_for_next() { Batch::Full } else { Batch::OutOfDescriptors }
}

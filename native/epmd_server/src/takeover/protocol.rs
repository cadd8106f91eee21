//! What both sides of a takeover say, over a socket that keeps messages apart.
//!
//! ```text
//! successor                      the one that hands over
//! hello                     -->
//!                           <--  hello, or refused
//! prepared                  -->
//!                           <--  contents: how much of everything follows
//!                           <--  the bytes, in pieces
//!                           <--  the descriptors, many a message
//! ready, or failed          -->
//!                           <--  done: all is the successor's
//! serving, or failed        -->
//! ```
//!
//! A successor that waits until the other one stops, in an orderly way, begins with
//!
//! ```text
//! stand by                  -->
//!                           <--  hello, or refused
//!                           <--  offer, when it stops
//! ```
//!
//! and goes on with `prepared`. To an older one, which does not know that, it is nobody.
//!
//! Until it is told that the successor serves, the one that hands over has closed
//! nothing: whatever goes wrong, it goes on. The bytes are the records of the
//! estate, a list of the connections that wait, and what these have received or
//! are to be sent.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::platform::{self, OtherProcess};

/// The version of this protocol. The successor's may be newer.
pub(crate) const VERSION: u32 = 1;

/// How much one message holds at the most.
const MAX_MESSAGE: usize = 64 * 1024;

/// How many bytes follow the contents at the most: a thousand for each descriptor that
/// a process can have (`fs.nr_open`).
const MAX_BYTES: usize = 1 << 30;

/// What is said between the bytes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Message {
    Hello(Hello),
    StandBy(Hello),
    Offer(Hello),
    Refused(TakeoverRefusal),
    Prepared,
    Contents(Contents),
    Ready,
    Done,
    Serving,
    Failed { reason: String },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) portmapper_takeover: u32,
    /// The process that keeps the sockets too, and has them served when this one is
    /// killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keeper: Option<i32>,
    /// About how many descriptors will come.
    #[serde(default)]
    pub(crate) descriptors: usize,
}

/// Why a port mapper does not hand over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TakeoverRefusal {
    /// The successor is of another user.
    #[error("it is another user's")]
    NotPermitted,
    /// The successor speaks an older version of the protocol only.
    #[error("it is newer than this one")]
    Version,
    /// It reports to a service manager, which keeps all while the service is
    /// restarted.
    #[error(
        "it reports to a service manager, which keeps everything while it restarts it: \
         systemctl restart epmd"
    )]
    ServiceManager,
    /// Another one has taken over.
    #[error("another one has just taken over")]
    TakenOver,
}

impl TakeoverRefusal {
    /// The reason as a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotPermitted => "not_permitted",
            Self::Version => "version",
            Self::ServiceManager => "service_manager",
            Self::TakenOver => "taken_over",
        }
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Contents {
    /// Bytes of the records.
    pub(crate) records: usize,
    /// Bytes of the list of connections that wait.
    pub(crate) connections: usize,
    /// Bytes of what they have received or are to be sent.
    pub(crate) data: usize,
    /// Bytes of what stays with the process, if it is the same one.
    #[serde(default)]
    pub(crate) household: usize,
    /// Sockets that listen: the first of the descriptors.
    pub(crate) listeners: usize,
    /// All descriptors. Those of nodes are where the records say; those of
    /// connections that wait are the last.
    pub(crate) descriptors: usize,
}

impl Contents {
    /// All bytes that follow.
    ///
    /// # Errors
    /// When they are more than [`MAX_BYTES`].
    pub(crate) fn bytes(&self) -> io::Result<usize> {
        let Self { records, connections, data, household, .. } = *self;
        let sizes = [records, connections, data, household];
        let sum = sizes.into_iter().try_fold(0_usize, usize::checked_add);
        sum.filter(|&sum| sum <= MAX_BYTES).ok_or_else(|| {
            let reason = format!("{sizes:?} bytes are to come, expected {MAX_BYTES} at most");
            io::Error::new(io::ErrorKind::InvalidData, reason)
        })
    }
}

/// A connection that waits.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Connection {
    pub(crate) peer: SocketAddr,
    /// Whether its data is what is left of its reply, not what came of its request.
    pub(crate) is_answered: bool,
    /// Bytes of its data.
    pub(crate) data: usize,
}

/// One side of the conversation. Each message has to be there in time.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
    deadline: Instant,
}

impl Channel {
    pub(crate) fn new(socket: OwnedFd, time: Duration) -> Self {
        Self { socket, deadline: Instant::now() + time }
    }

    pub(crate) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Whether there is something to hear within a time, or as long as it takes.
    pub(crate) fn has_news(&self, time: Option<Duration>) -> bool {
        platform::has_news(&self.socket, time)
    }

    /// Gives all that follows so much time.
    pub(crate) fn allow(&mut self, time: Duration) {
        self.deadline = Instant::now() + time;
    }

    /// Whoever has the other end.
    pub(crate) fn other_process(&self) -> io::Result<OtherProcess> {
        OtherProcess::at_end_of(&self.socket)
    }

    fn time_left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }

    pub(crate) fn say(&self, message: &Message) -> io::Result<()> {
        self.send(&serde_json::to_vec(message)?, &[])
    }

    pub(crate) fn send_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(MAX_MESSAGE / 2).try_for_each(|piece| self.send(piece, &[]))
    }

    pub(crate) fn send_descriptors(&self, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        descriptors.chunks(platform::MAX_DESCRIPTORS).try_for_each(|some| self.send(b"\n", some))
    }

    fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        platform::send(&self.socket, self.time_left()?, bytes, descriptors).map_err(as_it_is)
    }

    /// The next message.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the other side has closed.
    pub(crate) fn hear(&self) -> io::Result<Message> {
        let mut buffer = vec![0; MAX_MESSAGE];
        let (bytes, _) = self.receive(&mut buffer)?;
        // What is cut short is no end of the connection.
        serde_json::from_slice(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// All bytes of which there are so many.
    pub(crate) fn receive_bytes(&self, count: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; MAX_MESSAGE];
        let mut all = Vec::new();
        while all.len() < count {
            all.extend_from_slice(self.receive(&mut buffer)?.0);
        }
        if all.len() > count {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(all)
    }

    /// Appends so many descriptors to those that have come.
    pub(crate) fn receive_descriptors(
        &self,
        count: usize,
        all: &mut Vec<OwnedFd>,
    ) -> io::Result<()> {
        while all.len() < count {
            let (_, some) = self.receive(&mut [0; 1])?;
            all.extend(some.into_iter().map(platform::unreserve));
        }
        Ok(())
    }

    fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<(&'b [u8], Vec<OwnedFd>)> {
        let mut received = platform::receive(&self.socket, self.time_left()?, buffer);
        if matches!(&received, Err(error) if error.kind() == io::ErrorKind::ConnectionReset) {
            // An end with something unread is told before what came earlier.
            received = platform::receive(&self.socket, self.time_left()?, buffer);
        }
        let (count, descriptors) = received.map_err(as_it_is)?;
        match buffer.get(..count) {
            Some(bytes) if count > 0 => Ok((bytes, descriptors)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// A socket calls it otherwise when its time-out has passed, or the other end is closed.
fn as_it_is(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            io::ErrorKind::UnexpectedEof.into()
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_bytes_than_can_be_are_an_error() {
        let contents = |records, data| Contents {
            records,
            connections: 2,
            data,
            household: 0,
            listeners: 1,
            descriptors: 1,
        };
        assert_eq!(contents(MAX_BYTES - 3, 1).bytes().unwrap(), MAX_BYTES);
        let error = contents(MAX_BYTES - 2, 1).bytes().unwrap_err().to_string();
        assert_eq!(error, "[1073741822, 2, 1, 0] bytes are to come, expected 1073741824 at most");
        assert!(contents(usize::MAX, 1).bytes().is_err());
        assert!(contents(1, usize::MAX - 2).bytes().is_err());
    }
}

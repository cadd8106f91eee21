//! The side that takes over.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::geteuid;
use thiserror::Error;

use super::Household;
use super::protocol::{Channel, Connection, Contents, Hello, Message, TakeoverRefusal, VERSION};
use crate::connection::{self, Progress, Unfinished};
use crate::estate::{Estate, EstateError, Records, Stored};
use crate::listen::ListenError;
use crate::platform::{self, OtherProcess};
use crate::service_manager::ServiceManager;
use crate::shared::{Peer, Shared};

/// How long the other one may take to answer hello: it may be busy with another
/// successor.
const GREETING: Duration = Duration::from_secs(5);

/// How long all the rest may take: longer than the other one waits, so that it is
/// the one that gives up.
const EXCHANGE: Duration = Duration::from_secs(4);

/// How long a process that was killed takes to be gone after its sockets are.
const END: Duration = Duration::from_secs(1);

/// Why nothing was taken over. The other one goes on, if it lives.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TakeoverError {
    /// The configuration says that there is no socket for it.
    #[error("takeover_socket is none, expected default or a path")]
    NoSocket,
    /// No port mapper of ours waits there.
    #[error("no port mapper at {}: {error}", .path.display())]
    NobodyThere {
        /// Where it would be.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The socket is another user's.
    #[error("not permitted to use {}", .path.display())]
    NotPermitted {
        /// Where it is.
        path: PathBuf,
    },
    /// The other one does not hand over.
    #[error("the other port mapper refuses: {0}")]
    Refused(TakeoverRefusal),
    /// The other one speaks a newer version of the protocol.
    #[error("the other port mapper is newer than this one")]
    Version,
    /// Something failed on the way.
    #[error("the takeover failed: {0}")]
    Failed(String),
    /// The records cannot be read.
    #[error(transparent)]
    Estate(#[from] EstateError),
    /// The server could not be started on what was taken over.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

impl From<io::Error> for TakeoverError {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// All that is handed over.
#[derive(Debug)]
pub(crate) struct HandedOver {
    pub(crate) estate: Estate,
    /// Connections to go on with.
    pub(crate) waiting: Vec<Unfinished>,
    /// Within one process, what stays with it, and who keeps its sockets.
    pub(crate) within: Option<(Household, Option<ServiceManager>)>,
}

/// The port mapper that everything is taken over from.
#[derive(Debug)]
pub(crate) struct Predecessor {
    channel: Channel,
    process: OtherProcess,
    /// Goes on for it if it is killed; ends with it once it has let go of all.
    keeper: Option<OtherProcess>,
    /// About how many it has.
    descriptors: usize,
}

impl Predecessor {
    /// Asks whoever is at the other end whether it would hand over.
    pub(crate) fn greet(connection: OwnedFd) -> Result<Self, TakeoverError> {
        Self::greet_with(connection, Message::Hello)
    }

    /// The same for the time when it stops, and waits for that.
    pub(super) fn await_offer(connection: OwnedFd) -> Result<Self, TakeoverError> {
        let mut predecessor = Self::greet_with(connection, Message::StandBy)?;
        predecessor.channel.has_news(None);
        predecessor.channel.allow(EXCHANGE);
        match predecessor.channel.hear()? {
            Message::Offer(Hello { descriptors, .. }) => Ok(Self { descriptors, ..predecessor }),
            other => Err(unexpected(other)),
        }
    }

    fn greet_with(
        connection: OwnedFd,
        greeting: fn(Hello) -> Message,
    ) -> Result<Self, TakeoverError> {
        let channel = Channel::new(connection, GREETING);
        let process = channel.other_process()?;
        channel.say(&greeting(Hello {
            portmapper_takeover: VERSION,
            keeper: None,
            descriptors: 0,
        }))?;
        match channel.hear()? {
            Message::Refused(TakeoverRefusal::Version) => Err(TakeoverError::Version),
            Message::Refused(refusal) => Err(TakeoverError::Refused(refusal)),
            Message::Hello(_) if !process.is_trusted() && !geteuid().is_root() => {
                Err(TakeoverError::Refused(TakeoverRefusal::NotPermitted))
            }
            Message::Hello(hello) if hello.portmapper_takeover > VERSION => {
                Err(TakeoverError::Version)
            }
            Message::Hello(Hello { keeper, descriptors, .. }) => {
                let keeper = keeper.map(OtherProcess::numbered);
                Ok(Self { channel, process, keeper, descriptors })
            }
            other => Err(unexpected(other)),
        }
    }

    /// Takes all that the other one has. It still has it, too, but serves no more.
    pub(crate) fn receive(&mut self) -> Result<HandedOver, TakeoverError> {
        platform::make_room(self.descriptors);
        self.channel.allow(EXCHANGE);
        // If the other one has gone, what it says tells why.
        let _ = self.channel.say(&Message::Prepared);
        let contents = match self.channel.hear()? {
            Message::Contents(contents) => contents,
            other => return Err(unexpected(other)),
        };
        let bytes = self.channel.receive_bytes(contents.bytes()?)?;
        let mut descriptors = Vec::new();
        let received = self.channel.receive_descriptors(contents.descriptors, &mut descriptors);
        if let Err(error) = received {
            // To nodes whose connection did not come it was the end of a port
            // mapper: they register again.
            if descriptors.len() < contents.listeners || !self.is_sole_heir(&error) {
                return Err(error.into());
            }
        }
        sort(&contents, &bytes, descriptors)
    }

    /// Whether the other one was killed, and nobody goes on for it.
    fn is_sole_heir(&self, error: &io::Error) -> bool {
        let processes = [Some(&self.process), self.keeper.as_ref()];
        error.kind() == io::ErrorKind::UnexpectedEof
            && processes.into_iter().flatten().all(|process| process.ends_within(END))
    }

    /// Tells that all is ready; back when all is the caller's alone.
    pub(crate) fn await_done(&self) -> Result<(), TakeoverError> {
        let _ = self.channel.say(&Message::Ready);
        match self.channel.hear() {
            Ok(Message::Done) => Ok(()),
            Ok(other) => Err(unexpected(other)),
            Err(error) if self.is_sole_heir(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells the other one, which may be gone, that it can close, or to go on.
    pub(crate) fn tell(self, error: Option<&TakeoverError>) {
        let _ = self.channel.say(&match error {
            None => Message::Serving,
            Some(error) => Message::Failed { reason: error.to_string() },
        });
    }
}

fn unexpected(message: Message) -> TakeoverError {
    TakeoverError::Failed(match message {
        Message::Failed { reason } => reason,
        other => format!("unexpected {other:?}"),
    })
}

fn sort(
    contents: &Contents,
    bytes: &[u8],
    descriptors: Vec<OwnedFd>,
) -> Result<HandedOver, TakeoverError> {
    let short = || TakeoverError::Failed("something is missing".to_owned());
    let (records, rest) = bytes.split_at_checked(contents.records).ok_or_else(short)?;
    let (connections, rest) = rest.split_at_checked(contents.connections).ok_or_else(short)?;
    let (mut data, household) = rest.split_at_checked(contents.data).ok_or_else(short)?;
    let household = match household {
        [] => None,
        bytes => Some(serde_json::from_slice::<Household>(bytes).map_err(io::Error::from)?),
    };
    let places = household.as_ref().map(|household| household.places.clone()).unwrap_or_default();
    let place = |index: usize| places.get(index).copied().unwrap_or_default();
    let connections: Vec<Connection> =
        serde_json::from_slice(connections).map_err(io::Error::from)?;
    let mut descriptors: Vec<_> = descriptors.into_iter().map(Some).collect();
    let records = Records::read(records)?;
    let mut estate = records.into_estate(household.is_some(), |slot, _| {
        let slot = usize::try_from(slot).ok()?;
        let socket = descriptors.get_mut(slot)?.take()?;
        Some(Stored { socket: TcpStream::from(socket), place: place(slot) })
    });
    let listeners = descriptors.iter_mut().take(contents.listeners).flat_map(Option::take);
    let listeners = listeners.map(TcpListener::from).enumerate();
    let listeners = listeners.map(|(index, socket)| Stored { socket, place: place(index) });
    estate.listeners = listeners.collect();
    let within = household.map(|household| {
        let socket = descriptors.get_mut(places.len()).filter(|_| household.has_manager());
        let manager = household.manager(socket.and_then(Option::take));
        (household, manager)
    });
    let mut waiting = Vec::new();
    let first = contents.descriptors.saturating_sub(connections.len());
    let sockets = descriptors.into_iter().skip(first).flatten();
    for (Connection { peer, is_answered, data: length }, socket) in
        connections.into_iter().zip(sockets)
    {
        let (own, rest) = data.split_at_checked(length).ok_or_else(short)?;
        data = rest;
        let own = own.to_vec();
        let progress =
            if is_answered { Progress::unsent(own.into(), 0) } else { Progress::received(own) };
        let stream = TcpStream::from(socket);
        // The server's thread must not wait for it, whatever the other one made of it.
        stream.set_nonblocking(true)?;
        waiting.push(Unfinished { stream, peer, progress });
    }
    Ok(HandedOver { estate, waiting, within })
}

/// Goes on with connections that wait, in the runtime that is to serve them.
pub(crate) fn take_in(shared: &Arc<Shared>, waiting: Vec<Unfinished>) {
    for Unfinished { stream, peer, progress } in waiting {
        let peer = Peer { conn: shared.connection(stream.as_raw_fd()), address: peer };
        connection::go_on(shared, stream, peer, progress);
    }
}

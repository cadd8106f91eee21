//! The port mapper as its clients see it.
//!
//! A request that a virtual machine had accepted when it was killed may be cut
//! off: then the client asks again. Nothing else is excused.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use epmd_core::{Facts, Listing, Request, Response};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::faults::Faults;
use crate::roll::{Answer, Roll};

/// How long anybody waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two attempts of which the first should not have failed.
const RETRY: Duration = Duration::from_millis(10);

/// Where the registrations of the run go to: with the ports of 127.0.0.1 alone
/// there would be too few for 18,000 of them and the look-ups.
pub const NODES_CONNECT_TO: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// What all clients of a run share.
#[derive(Debug)]
pub struct Epmd {
    pub port: u16,
    pub roll: Roll,
    pub faults: Faults,
    /// When a virtual machine was killed, and when it was gone.
    deaths: RwLock<Vec<(Instant, Option<Instant>)>>,
    cut_off: AtomicU64,
    /// Held for reading by whoever makes a request.
    traffic: RwLock<()>,
}

/// A virtual machine that is being killed, in the list of deaths.
#[derive(Debug)]
pub struct Death(usize);

impl Epmd {
    /// The one on a port.
    pub fn on(port: u16) -> Self {
        Self {
            port,
            roll: Roll::default(),
            faults: Faults::default(),
            deaths: RwLock::default(),
            cut_off: AtomicU64::new(0),
            traffic: RwLock::default(),
        }
    }

    /// To be called before a virtual machine is killed.
    pub fn dies(&self) -> Death {
        let mut deaths = self.deaths.write();
        deaths.push((Instant::now(), None));
        Death(deaths.len() - 1)
    }

    /// To be called when it is gone.
    pub fn is_gone(&self, death: &Death) {
        if let Some((_, gone)) = self.deaths.write().get_mut(death.0) {
            *gone = Some(Instant::now());
        }
    }

    /// How many requests had to be made again.
    pub fn cut_off(&self) -> u64 {
        self.cut_off.load(Ordering::Relaxed)
    }

    /// Whoever makes requests all the time holds this meanwhile.
    pub fn traffic(&self) -> RwLockReadGuard<'_, ()> {
        self.traffic.read()
    }

    /// Nobody makes requests while this is held.
    pub fn silence(&self) -> RwLockWriteGuard<'_, ()> {
        self.traffic.write()
    }

    /// Makes a request again and again until `attempt` succeeds. Each failure
    /// that no death excuses is a fault.
    ///
    /// # Errors
    /// When it takes too long.
    pub fn insist<T>(
        &self,
        what: &str,
        mut attempt: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        let first = Instant::now();
        loop {
            let begun = Instant::now();
            let error = match attempt() {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if self.excuses(&error, begun) {
                self.count_cut_off();
            } else {
                self.faults.add(format!("{what}: {error}"));
                sleep(RETRY);
            }
            if first.elapsed() > PATIENCE {
                return Err(error);
            }
        }
    }

    /// Whether a request that failed now was in the hands of a virtual machine
    /// that was killed.
    fn excuses(&self, error: &io::Error, begun: Instant) -> bool {
        let is_cut = matches!(
            error.kind(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof
        );
        is_cut && self.died_since(begun)
    }

    /// Whether a virtual machine that was there then was killed.
    pub fn died_since(&self, begun: Instant) -> bool {
        self.deaths.read().iter().any(|(_, gone)| gone.is_none_or(|gone| begun <= gone))
    }

    /// Counts a request of another program that was cut off and made again.
    pub fn count_cut_off(&self) {
        self.cut_off.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks, and reads the answer; an answer that `read` makes nothing of is one
    /// that was cut off.
    ///
    /// # Errors
    /// When none comes.
    pub fn ask<T>(
        &self,
        request: &Request<'_>,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> io::Result<T> {
        let bytes = request.encode();
        self.insist(request.as_str(), || {
            read(&ask_once(self.port, &bytes)?).ok_or_else(|| ErrorKind::UnexpectedEof.into())
        })
    }

    /// Looks a name up, and judges the answer.
    ///
    /// # Errors
    /// When none comes.
    pub fn look_up(&self, place: usize) -> io::Result<()> {
        let Some(entry) = self.roll.get(place) else { return Ok(()) };
        let response = self.ask(&Request::PortPlease2(&entry.name), Response::decode)?;
        if !self.roll.still_holds(place, &entry) {
            return Ok(());
        }
        let right = match (&response, &entry.answer) {
            (Response::PortPlease2(Some((name, found))), Answer::Node(node)) => {
                name.as_str() == entry.name && found == node
            }
            (Response::PortPlease2(None), Answer::Nobody) => true,
            _ => false,
        };
        if !right {
            let (name, answer) = (&entry.name, &entry.answer);
            self.faults.add(format!("look-up of {name}: {response:?} instead of {answer:?}"));
        }
        Ok(())
    }

    /// Waits until nobody finds a node any more that has ended.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn await_end(&self, name: &str, patience: Duration) -> io::Result<()> {
        let begun = Instant::now();
        while self.ask(&Request::PortPlease2(name), Response::decode)?
            != Response::PortPlease2(None)
        {
            if begun.elapsed() > patience {
                self.faults.add(format!("{name} is found after its end"));
                break;
            }
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Asks for all names, and judges each that did not change meanwhile.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn list(&self) -> io::Result<()> {
        let before = self.roll.all();
        let request = Request::Names.encode();
        self.insist("NAMES", || {
            let reply = ask_once(self.port, &request)?;
            let listing = Listing::decode(&reply).ok_or(ErrorKind::UnexpectedEof)?;
            let mut listed = HashMap::new();
            for (name, port) in &listing.nodes {
                if listed.insert(name.as_str(), *port).is_some() {
                    self.faults.add(format!("{name} is listed twice"));
                }
            }
            for (place, entry) in before.iter().enumerate() {
                let port = match &entry.answer {
                    Answer::Node(node) => Some(node.port),
                    Answer::Nobody => None,
                    Answer::Changing => continue,
                };
                let found = listed.get(entry.name.as_str()).copied();
                if found != port && self.roll.still_holds(place, entry) {
                    let wrong = format!("{} is listed at {found:?}, not {port:?}", entry.name);
                    // A listing may be cut off between two lines.
                    let kind = match found {
                        None => ErrorKind::UnexpectedEof,
                        Some(_) => ErrorKind::InvalidData,
                    };
                    return Err(io::Error::new(kind, wrong));
                }
            }
            Ok(())
        })
    }

    /// What the port mapper tells of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn info(&self) -> io::Result<Facts> {
        self.ask(&Request::Info, Facts::decode)
    }

    /// A fact of INFO that is a number.
    ///
    /// # Errors
    /// When it does not answer, or has no such number.
    pub fn fact(&self, key: &str) -> io::Result<u32> {
        number(&self.info()?, key)
    }

    /// The creation of a name; none if no node has it.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn creation(&self, name: &str) -> io::Result<Option<u32>> {
        Ok(number(&self.node(name)?, "creation").ok())
    }

    /// What the port mapper knows of a node; nothing if it is not registered.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn node(&self, name: &str) -> io::Result<Facts> {
        self.ask(&Request::NodeInfo(name), Facts::decode)
    }
}

/// A fact that is a number.
///
/// # Errors
/// When there is none.
pub fn number<T: FromStr>(facts: &Facts, key: &str) -> io::Result<T> {
    let value = facts.facts.iter().find(|(name, _)| name == key);
    let value = value.and_then(|(_, value)| value.parse().ok());
    value.ok_or_else(|| io::Error::other(format!("INFO tells no {key}")))
}

fn ask_once(port: u16, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = connect(Ipv4Addr::LOCALHOST, port)?;
    stream.write_all(request)?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    Ok(reply)
}

/// Connects to a port of this host.
///
/// # Errors
/// When nobody listens there.
pub fn connect(address: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from((address, port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

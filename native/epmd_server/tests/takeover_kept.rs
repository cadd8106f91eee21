//! A takeover from a server whose sockets a keeper has, too: it lets go of them
//! before they are the successor's, and gets them back if the successor fails.

#![cfg(test)]
#![cfg(target_os = "linux")]

mod common;

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use common::served::Served;
use common::side::Side;
use common::takeover::{HELLO, PREPARED, Place};
use common::wait_until;
use common::wire::{Client, ask, found, port_please, register};
use epmd_server::{Config, Phase, ServiceManager};
use parking_lot::Mutex;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, recvmsg};

/// A keeper that remembers what it was told. It has nothing to be handed back.
struct Keeper(Arc<Mutex<Vec<String>>>);

impl Keeper {
    /// One for this server.
    fn of(server: &Served) -> Self {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = told.clone();
        std::thread::spawn(move || {
            while let Some(message) = receive(&ours) {
                heard.lock().push(message);
            }
        });
        server.report_to(ServiceManager::keeper(theirs.into()).unwrap());
        Self(told)
    }

    /// Waits until it is told this, and forgets all up to then.
    fn await_message(&self, message: &str) {
        wait_until(message, || {
            let mut told = self.0.lock();
            let place = told.iter().position(|one| one.contains(message));
            place.map(|place| told.drain(..=place)).is_some()
        });
    }

    /// How many descriptors it was given to keep.
    fn stored(&self) -> usize {
        self.0.lock().iter().filter(|one| one.starts_with("FDSTORE=1")).count()
    }
}

/// A message; its descriptor is closed, as a barrier asks for. None when the server is
/// gone.
fn receive(socket: &UnixDatagram) -> Option<String> {
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    (received.bytes > 0).then(|| String::from_utf8(bytes[..received.bytes].to_vec()).unwrap())
}

fn start() -> (Place, Served, Keeper) {
    let place = Place::default();
    let server = Served::with(Config { stored_descriptors: 100, ..place.config() });
    let keeper = Keeper::of(&server);
    keeper.await_message("READY=1");
    (place, server, keeper)
}

#[test]
fn it_is_told_before_all_is_the_successors_and_again_if_that_fails() {
    let (place, old, keeper) = start();
    let port = old.port();
    let nodes = [&b"n1"[..], b"n2"].map(|name| register(port, name).0);
    let side = Side::connect(&place.path());
    side.say(HELLO);
    let keeper_of_ours = format!("\"keeper\":{}", std::os::unix::process::parent_id());
    let hello = side.hear();
    assert!(hello.contains(&keeper_of_ours), "{hello}");
    side.say(PREPARED);
    while side.receive().1.is_empty() {}
    keeper.0.lock().clear();
    side.say(r#""ready""#);
    assert_eq!(side.hear(), r#""done""#);
    keeper.await_message("STOPPING=1");
    drop(side);
    keeper.await_message("READY=1");
    // The nodes, what listens, and the records.
    let all = nodes.len() + old.info().addresses.len() + 1;
    wait_until("it keeps everything", || keeper.stored() == all);
    assert_eq!(ask(port, &port_please(b"n1")), found(b"n1", 4711));
    // So are nodes that come later.
    let (_third, _) = register(port, b"n3");
    wait_until("it keeps a third", || keeper.stored() == all + 1);
    let new = Served::taking_over(place.config()).unwrap();
    keeper.await_message("STOPPING=1");
    wait_until("the old one has ended", || old.phase() == Phase::Closed);
    assert_eq!(new.count(), 3);
    assert!(nodes.iter().all(Client::is_open));
}

#[test]
fn the_keeper_of_the_successor_gets_everything() {
    let (place, old, _) = start();
    let nodes = [&b"n1"[..], b"n2"].map(|name| register(old.port(), name).0);
    let config = Config { stored_descriptors: 100, ..place.config() };
    let new = Served::taking_over(config).unwrap();
    let keeper = Keeper::of(&new);
    let all = nodes.len() + new.info().addresses.len() + 1;
    wait_until("it keeps everything", || keeper.stored() == all);
    keeper.await_message("READY=1");
    assert!(nodes.iter().all(Client::is_open));
}

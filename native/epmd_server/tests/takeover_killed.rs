//! A port mapper that is killed while it hands over: the successor goes on with what
//! it has got, unless somebody else does.

#![cfg(test)]
#![cfg(target_os = "linux")]

mod common;

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;

use common::process::{Partner, hear, role, tell};
use common::served::Served;
use common::side::Side;
use common::takeover::{PREPARED, Place};
use common::wire::{Client, NOT_FOUND, alive2, ask, found, port_please};
use epmd_server::TakeoverError;

/// What the other process says before it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Bytes,
    Listener,
    Node,
    AfterReady,
}

const STEPS: [Step; 4] = [Step::Bytes, Step::Listener, Step::Node, Step::AfterReady];

const RECORDS: &str = concat!(
    r#"{"portmapper_estate":1,"sequence":0}"#,
    "\n",
    r#"{"up":{"name":"n1","port":4711,"type":77,"protocol":0,"highest_version":6,"lowest_version":5,"creation":9,"since":5,"descriptor":7,"slot":1}}"#,
    "\n\"complete\"\n"
);

/// Hands over up to the step that it is told, and ends without a word.
fn be_killed() -> ! {
    let words = hear().unwrap();
    let [path, step, keeper] = words.split(' ').collect::<Vec<_>>()[..] else { panic!("{words}") };
    let step = STEPS[step.parse::<usize>().unwrap()];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let successors = Side::listen(path.as_ref());
    tell(&listener.local_addr().unwrap().to_string());
    let (node, _) = listener.accept().unwrap();
    node.set_nonblocking(true).unwrap();
    let side = successors.accept();
    side.hear();
    side.say(&format!(r#"{{"hello":{{"portmapper_takeover":1,"keeper":{keeper}}}}}"#));
    assert_eq!(side.hear(), PREPARED);
    side.say(&format!(
        r#"{{"contents":{{"records":{},"connections":2,"data":0,"listeners":1,"descriptors":2}}}}"#,
        RECORDS.len()
    ));
    side.say(&format!("{RECORDS}[]"));
    let sockets = [listener.as_fd(), node.as_fd()];
    for (socket, of) in sockets.iter().zip([Step::Listener, Step::Node]) {
        if step >= of {
            side.send(b"\n", &[socket]);
        }
    }
    if step == Step::AfterReady {
        assert_eq!(side.hear(), r#""ready""#);
    }
    std::process::exit(0);
}

/// Takes over from a process that is killed after a step, and that such a keeper has;
/// what came of it, and the connection of a node.
fn take_over(
    test: &str,
    step: Step,
    keeper: Option<u32>,
) -> (Result<Served, TakeoverError>, Client) {
    let place = Place::default();
    let mut other = Partner::start(test, "other", &[]);
    let number = STEPS.iter().position(|one| *one == step).unwrap();
    let keeper = keeper.map_or("null".to_owned(), |pid| pid.to_string());
    let address = other.ask(&format!("{} {number} {keeper}", place.path().display()));
    let node = Client::from(TcpStream::connect(&address).unwrap());
    let outcome = Served::taking_over(place.config());
    other.finish();
    (outcome, node)
}

#[test]
fn without_a_keeper_the_successor_serves_as_soon_as_it_has_what_listens() {
    if role().is_some() {
        be_killed();
    }
    let test = "without_a_keeper_the_successor_serves_as_soon_as_it_has_what_listens";
    for step in [Step::Node, Step::AfterReady] {
        let (server, node) = take_over(test, step, None);
        let server = server.unwrap();
        assert_eq!(ask(server.port(), &port_please(b"n1")), found(b"n1", 4711), "{step:?}");
        assert!(node.is_open());
    }
    // The node is lost, and gets its next creation.
    let (server, mut node) = take_over(test, Step::Listener, None);
    let server = server.unwrap();
    assert_eq!(node.read_to_end().0, b"");
    assert_eq!(ask(server.port(), &port_please(b"n1")), NOT_FOUND);
    let mut again = Client::connect(server.port());
    again.send(&alive2(b"n1", 4711));
    assert_eq!(again.read(6), b"v\0\0\0\0\x0a");
}

#[test]
fn with_too_little_the_successor_gives_up() {
    if role().is_some() {
        be_killed();
    }
    let test = "with_too_little_the_successor_gives_up";
    let (outcome, _) = take_over(test, Step::Bytes, None);
    assert!(matches!(outcome.err(), Some(TakeoverError::Failed(_))));
}

#[test]
fn a_keeper_that_lives_goes_on_and_no_successor() {
    if role().is_some() {
        be_killed();
    }
    let test = "a_keeper_that_lives_goes_on_and_no_successor";
    for step in STEPS {
        let (outcome, _) = take_over(test, step, Some(std::process::id()));
        assert!(matches!(outcome.err(), Some(TakeoverError::Failed(_))), "{step:?}");
    }
}

#[test]
fn a_keeper_that_has_let_go_leaves_all_to_the_successor() {
    if role().is_some() {
        be_killed();
    }
    let mut ended = Command::new("true").spawn().unwrap();
    let keeper = ended.id();
    ended.wait().unwrap();
    let test = "a_keeper_that_has_let_go_leaves_all_to_the_successor";
    let (server, node) = take_over(test, Step::AfterReady, Some(keeper));
    let server = server.unwrap();
    assert_eq!(ask(server.port(), &port_please(b"n1")), found(b"n1", 4711));
    assert!(node.is_open());
}

//! Whatever one side of a takeover does or says, the other one goes on, and nothing is
//! closed that lives on elsewhere.

#![cfg(test)]
#![cfg(target_os = "linux")]

mod common;

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::served::Served;
use common::side::{Side, pair};
use common::takeover::{HELLO, PREPARED, Place, assert_taken_over, start};
use common::wait_until;
use common::wire::{Client, End, ask, found, port_please, register};
use epmd_server::{Config, Notice, Phase, StateFile, TakeoverError};

/// What a successor says, up to a step after which it is gone.
fn succeed_until(step: usize, path: &std::path::Path) {
    let side = Side::connect(path);
    let steps: [&dyn Fn(); 7] = [
        &|| {},
        &|| side.say(HELLO),
        &|| assert!(side.hear().starts_with(r#"{"hello":"#)),
        &|| side.say(PREPARED),
        &|| assert!(side.hear().starts_with(r#"{"contents":"#)),
        // The bytes, and the descriptors of a few nodes.
        &|| while side.receive().1.is_empty() {},
        &|| {
            side.say(r#""ready""#);
            // After what is left of the descriptors.
            while let (said, _) = side.receive()
                && said != br#""done""#
            {
                assert_eq!(said, b"\n");
            }
        },
    ];
    steps[..=step].iter().for_each(|step| step());
}

#[test]
fn whatever_a_successor_does_before_it_serves_the_old_one_goes_on() {
    let (place, old) = start();
    let port = old.port();
    let nodes: Vec<_> = (0..300).map(|n| register(port, n.to_string().as_bytes())).collect();
    let request = port_please(b"7");
    for step in 0..7 {
        let mut waiting = Client::connect(port);
        waiting.send(&request[..3]);
        waiting.wait_until_read();
        old.notices();
        succeed_until(step, &place.path());
        if step >= 4 {
            wait_until("it is told", || matches!(old.notices()[..], [Notice::NotTakenOver { .. }]));
        }
        assert_eq!(ask(port, &request), found(b"7", 4711), "{step}");
        waiting.send(&request[3..]);
        assert_eq!(waiting.read_to_end(), (found(b"7", 4711), End::Closed), "{step}");
        let (newcomer, _) = register(port, b"newcomer");
        drop(newcomer);
        old.wait_for_count(nodes.len());
    }
    assert!(nodes.iter().all(|(node, _)| node.is_open()));
    let new = Served::taking_over(place.config()).unwrap();
    assert_taken_over(&old);
    assert_eq!(new.count(), nodes.len());
    assert!(nodes.iter().all(|(node, _)| node.is_open()));
}

#[test]
fn a_successor_that_hangs_is_given_up_after_two_seconds() {
    let (place, old) = start();
    let port = old.port();
    let (node, _) = register(port, b"n1");
    let side = Side::connect(&place.path());
    side.say(HELLO);
    assert!(side.hear().starts_with(r#"{"hello":"#));
    side.say(PREPARED);
    assert!(side.hear().starts_with(r#"{"contents":"#));
    let begun = Instant::now();
    assert_eq!(ask(port, &port_please(b"n1")), found(b"n1", 4711));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(node.is_open());
    let Some(Notice::NotTakenOver { reason, .. }) = old.notices().pop() else { panic!("told") };
    assert_eq!(reason, "timed out");
}

#[test]
fn who_speaks_another_protocol_or_an_older_version_is_refused() {
    let (place, old) = start();
    for (hello, answer) in [
        (r#"{"hello":{"portmapper_takeover":0}}"#, r#"{"refused":"version"}"#),
        (r#"{"hello":{}}"#, ""),
        (r#""ready""#, ""),
        ("GET / HTTP/1.1", ""),
    ] {
        let side = Side::connect(&place.path());
        side.say(hello);
        assert_eq!(side.hear(), answer, "{hello}");
    }
    // A newer one says more.
    let side = Side::connect(&place.path());
    side.say(r#"{"hello":{"portmapper_takeover":2,"more":[1]}}"#);
    assert_eq!(side.hear(), r#"{"hello":{"portmapper_takeover":1,"descriptors":0}}"#);
    drop(side);
    assert_eq!(old.phase(), Phase::Running);
}

/// Takes over from somebody who says this, each after a word of the successor; the
/// sockets that were handed over.
fn take_from(
    words: impl FnOnce(&Side, &TcpListener, &Client) + Send + 'static,
) -> (Result<Served, TakeoverError>, TcpListener, Client) {
    let (ours, theirs) = pair();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = Client::connect_to(listener.local_addr().unwrap());
    let (near, _) = listener.accept().unwrap();
    near.set_nonblocking(true).unwrap();
    let near = Client::from(near);
    let giver = std::thread::spawn(move || {
        let side = Side::from(ours);
        words(&side, &listener, &near);
        (listener, near)
    });
    let outcome = Served::taking_over_from(common::served::local(), theirs);
    let (listener, near) = giver.join().unwrap();
    drop(near);
    (outcome, listener, far)
}

fn give(records: &str, side: &Side, listener: &TcpListener, node: &Client) {
    assert!(side.hear().starts_with(r#"{"hello":"#));
    side.say(HELLO);
    assert_eq!(side.hear(), PREPARED);
    side.say(&format!(
        r#"{{"contents":{{"records":{},"connections":2,"data":0,"listeners":1,"descriptors":2}}}}"#,
        records.len()
    ));
    side.say(&format!("{records}[]"));
    side.send(b"\n", &[listener, &node.duplicate()]);
}

const NODE: &str = r#"{"up":{"name":"n1","port":1,"type":77,"protocol":0,"highest_version":6,"lowest_version":5,"creation":9,"since":5,"descriptor":7,"slot":1}}"#;

#[test]
fn records_of_an_older_version_are_read() {
    let records = format!("{{\"portmapper_estate\":1,\"sequence\":0}}\n{NODE}\n\"complete\"\n");
    let (outcome, _, node) = take_from(move |side, listener, node| {
        give(&records, side, listener, node);
        assert_eq!(side.hear(), r#""ready""#);
        side.say(r#""done""#);
        assert_eq!(side.hear(), r#""serving""#);
    });
    let server = outcome.unwrap();
    let known = server.lookup("n1").unwrap();
    assert_eq!((known.creation.get(), known.since.0, known.peer), (9, 5, None));
    assert!(node.is_open());
    drop(node);
    server.wait_for_count(0);
}

#[test]
fn what_cannot_be_taken_over_is_told_and_nothing_of_it_is_closed() {
    let records = |version: u32, line: &str| {
        format!("{{\"portmapper_estate\":{version},\"sequence\":0}}\n{line}\n\"complete\"\n")
    };
    for (records, reason) in [
        (records(2, NODE), "the records have version 2, expected 1 at most"),
        (records(1, "{\"up\":1}"), "record 2 is wrong"),
        ("nothing\n".to_owned(), "these are no records"),
    ] {
        let (outcome, listener, node) = take_from(move |side, listener, node| {
            give(&records, side, listener, node);
            assert!(side.hear().starts_with(r#"{"failed":{"reason":""#));
            // A copy is left, as with one that goes on.
            std::mem::forget(node.duplicate());
        });
        let error = outcome.err().unwrap();
        assert!(matches!(error, TakeoverError::Estate(_)), "{error:?}");
        assert!(error.to_string().starts_with(reason), "{error}");
        assert!(node.is_open());
        let address = listener.local_addr().unwrap();
        assert!(TcpStream::connect(address).is_ok());
    }
}

const TOO_MUCH: &str = r#"{"contents":{"records":2,"connections":18446744073709551615,"data":0,"listeners":1,"descriptors":1}}"#;

#[test]
fn a_successor_whose_predecessor_fails_gives_up() {
    let refusals: [(&'static [&'static str], &str); 6] = [
        (&[r#"{"refused":"service_manager"}"#], "the other port mapper refuses"),
        (&[r#"{"hello":{"portmapper_takeover":2}}"#], "the other port mapper is newer"),
        (&["?"], "the takeover failed: expected value"),
        (&[], "the takeover failed: unexpected end of file"),
        (&[HELLO, r#"{"failed":{"reason":"it is about to end"}}"#], "the takeover failed: it is"),
        (
            &[HELLO, TOO_MUCH],
            "the takeover failed: [2, 18446744073709551615, 0, 0] bytes are to come, expected",
        ),
    ];
    for (words, reason) in refusals {
        let (outcome, ..) = take_from(move |side, _, _| {
            side.hear();
            words.iter().for_each(|word| side.say(word));
        });
        let error = outcome.err().unwrap().to_string();
        assert!(error.starts_with(reason), "{error}");
    }
    // Its process lives: somebody serves.
    let records = format!("{{\"portmapper_estate\":1,\"sequence\":0}}\n{NODE}\n\"complete\"\n");
    let (outcome, _, node) = take_from(move |side, listener, node| {
        give(&records, side, listener, node);
        assert_eq!(side.hear(), r#""ready""#);
        std::mem::forget(node.duplicate());
    });
    assert!(matches!(outcome.err(), Some(TakeoverError::Failed(_))));
    assert!(node.is_open());
}

#[test]
fn the_state_file_tells_what_the_one_that_serves_knows() {
    let place = Place::default();
    let state = place.path().with_file_name("nodes");
    let config = || Config { state_file: StateFile::Path(state.clone()), ..place.config() };
    let is_recorded = |name: &str| {
        let name = format!("\"{name}\"");
        std::fs::read_to_string(&state).unwrap().lines().any(|line| line.contains(&name))
    };
    let old = Served::with(config());
    let port = old.port();
    let (_first, _) = register(port, b"first");
    succeed_until(6, &place.path());
    wait_until("it goes on", || matches!(old.notices().last(), Some(Notice::NotTakenOver { .. })));
    let (_second, _) = register(port, b"second");
    assert!(is_recorded("first") && is_recorded("second"));
    let new = Served::taking_over(config()).unwrap();
    assert_taken_over(&old);
    drop(old);
    let (_third, _) = register(port, b"third");
    assert_eq!(new.count(), 3);
    assert!(is_recorded("first") && is_recorded("second") && is_recorded("third"));
}

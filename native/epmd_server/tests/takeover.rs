//! A successor takes over, and nodes and clients notice nothing; or it does not,
//! and they notice as little.

#![cfg(test)]
#![cfg(target_os = "linux")]

mod common;

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::load::Load;
use common::served::Served;
use common::takeover::{HELLO, PREPARED, Place, Side, pair};
use common::wait_until;
use common::wire::{
    Client, DUMP, End, NAMES, NOT_FOUND, alive2, alive2_with, ask, found, port_please, register, v4,
};
use epmd_server::{
    Config, Notice, Phase, StateFile, TakeoverError, TakeoverRefusal, TakeoverSocket,
};

/// A server, and where its successor takes over.
fn start() -> (Place, Served) {
    let place = Place::default();
    let server = Served::with(place.config());
    (place, server)
}

/// Asserts that a server has handed over, to this process, and has ended.
fn assert_taken_over(server: &Served) {
    wait_until("it has ended", || server.phase() == Phase::Closed);
    let pid = std::process::id() as i32;
    assert_eq!(server.notices().last(), Some(&Notice::TakenOver { pid }));
    assert_eq!((server.count(), server.info().open_connections), (0, 0));
    assert_eq!(server.info().addresses, []);
}

#[test]
fn all_is_as_it_was_with_the_successor() {
    let (place, old) = start();
    let port = old.port();
    drop(register(port, b"gone"));
    old.wait_for_count(0);
    let (again, _) = register(port, b"again");
    let mut extra = Client::connect(port);
    extra.send(&alive2_with(b"extra", 65_535, 6, b"\0\xff\""));
    assert_eq!(extra.read(2), b"v\0");
    extra.read(4);
    let (last, _) = register(port, "ünï".as_bytes());
    let nodes = [again, extra, last];
    let told = |server: &Served| {
        let node = |name| {
            let mut node = server.lookup(name).unwrap();
            // It names a connection of the server.
            node.owner = epmd_core::Owner::Vm;
            node
        };
        let info = server.info();
        (["again", "extra", "ünï"].map(node), info.addresses, info.nodes)
    };
    let (before, names) = (told(&old), ask(port, NAMES));
    let remembered_before = remembered(port);
    assert_eq!(remembered_before.len(), 1);

    let new = Served::taking_over(place.config()).unwrap();
    assert_taken_over(&old);
    assert_eq!(told(&new), before);
    assert_eq!(ask(port, NAMES), names);
    assert_eq!(remembered(port), remembered_before);
    assert!(nodes.iter().all(Client::is_open));
    // Each ends with its own connection, and only then.
    for (left, node) in nodes.into_iter().enumerate().map(|(n, node)| (2 - n, node)) {
        assert!(node.is_open());
        drop(node);
        new.wait_for_count(left);
    }
    // The next life of a name has the next creation.
    let creation = new.register_own_and_tell("again");
    assert_eq!(creation, before.0[0].creation.get() + 1);
}

/// The names that DUMP lists as remembered.
fn remembered(port: u16) -> Vec<String> {
    let dump = ask(port, DUMP).split_off(4);
    let lines = dump.split(|&byte| byte == b'\n').map(|line| line.escape_ascii().to_string());
    lines.filter(|line| line.contains("old/unused")).collect()
}

#[test]
fn names_of_the_vm_itself_are_remembered_alone() {
    let (place, old) = start();
    let creation = old.register_own_and_tell("own");
    let new = Served::taking_over(place.config()).unwrap();
    assert_eq!(ask(new.port(), &port_please(b"own")), NOT_FOUND);
    assert_eq!(new.register_own_and_tell("own"), creation + 1);
}

#[test]
fn the_successor_has_rules_of_its_own_and_listens_where_it_was_listened() {
    let (place, old) = start();
    let port = old.port();
    let (node, _) = register(port, b"n1");
    let config = Config { relaxed_command_check: true, port: 1, ..place.config() };
    let new = Served::taking_over(config).unwrap();
    assert_eq!(new.port(), port);
    assert!(new.config().relaxed_command_check);
    let elsewhere =
        Config { port, addresses: common::served::list(&["127.0.0.3"]), ..new.config() };
    new.reconfigure(elsewhere).unwrap();
    assert_eq!(new.ips().len(), 2 + usize::from(common::served::has_ipv6()));
    assert_eq!(ask(port, &port_please(b"n1")), found(b"n1", 4711));
    assert!(node.is_open());
    assert_eq!(ask(port, &common::wire::stop(b"n1")), b"STOPPED");
}

#[test]
fn connections_that_wait_are_served_by_the_successor() {
    let (place, old) = start();
    let port = old.port();
    let (_node, _) = register(port, b"n1");
    let request = port_please(b"n1");
    let silent = Client::connect(port);
    let mut clients: Vec<_> = (1..request.len()).map(|_| Client::connect(port)).collect();
    for (sent, client) in (1..).zip(&mut clients) {
        client.send(&request[..sent]);
        client.wait_until_read();
    }
    let mut newcomer = Client::connect(port);
    newcomer.send(&alive2(b"n2", 4712)[..9]);
    old.wait_for_open_connections(clients.len() + 3);
    let new = Served::taking_over(place.config()).unwrap();
    assert_taken_over(&old);
    assert!(clients.iter().chain([&silent]).all(Client::is_open));
    new.wait_for_open_connections(clients.len() + 3);
    for (sent, client) in (1..).zip(&mut clients) {
        client.send(&request[sent..]);
        assert_eq!(client.read_to_end(), (found(b"n1", 4711), End::Closed), "{sent}");
    }
    newcomer.send(&alive2(b"n2", 4712)[9..]);
    assert_eq!(newcomer.read(2), b"v\0");
    assert_eq!(ask(port, &port_please(b"n2")), found(b"n2", 4712));
    drop(silent);
    wait_until("silence is counted", || new.counters().silent == 1);
    let counters = new.counters();
    assert_eq!(counters.accepted, counters.answered + counters.silent);
}

#[test]
fn a_listing_that_is_read_in_part_is_read_to_its_end() {
    let (place, old) = start();
    let port = old.port();
    // More than the system lets the buffers of a connection grow to.
    (0..6_000).for_each(|n: u32| old.register_own(&format!("{n:0>5}{}", "𝄞".repeat(250))));
    let whole = ask(port, NAMES);
    let mut readers: Vec<_> = (0..5).map(|_| Client::connect(port)).collect();
    readers.iter_mut().for_each(|reader| reader.send(NAMES));
    let parts: Vec<_> = readers.iter_mut().map(|reader| reader.read(1_000)).collect();
    old.wait_for_open_connections(5);
    let mut servers = vec![old];
    for _ in 0..3 {
        servers.push(Served::taking_over(place.config()).unwrap());
    }
    for (mut reader, part) in readers.into_iter().zip(parts) {
        let (rest, end) = reader.read_to_end();
        assert_eq!(end, End::Closed);
        assert!([part, rest].concat() == whole);
    }
}

#[test]
fn a_registration_that_waits_for_the_holder_of_its_name_is_decided_by_the_successor() {
    let (place, mut server) = start();
    let port = server.port();
    let (holder, creation) = register(port, b"n1");
    for _ in 0..20 {
        let mut duplicate = Client::connect(port);
        duplicate.send(&alive2(b"n1", 4712));
        server = Served::taking_over(place.config()).unwrap();
        assert_eq!(duplicate.read_to_end(), (common::wire::REFUSED.to_vec(), End::Closed));
    }
    assert_eq!(server.lookup("n1").unwrap().creation.get(), creation);
    assert!(holder.is_open());
}

#[test]
fn a_registration_whose_reply_is_put_off_is_answered_at_once() {
    let place = Place::default();
    let delay_write = 60.try_into().unwrap();
    let old = Served::with(Config { delay_write, ..place.config() });
    let mut node = Client::connect(old.port());
    node.send(&alive2(b"n1", 4711));
    old.wait_for_count(1);
    let creation = old.lookup("n1").unwrap().creation.get();
    let new = Served::taking_over(place.config()).unwrap();
    assert_eq!(node.read(6), [b"v\0", &creation.to_be_bytes()[..]].concat());
    assert_eq!(new.lookup("n1").unwrap().creation.get(), creation);
    assert!(node.is_open());
    drop(node);
    new.wait_for_count(0);
}

#[test]
fn ten_takeovers_in_a_row_fail_no_look_up_and_no_registration() {
    let (place, mut server) = start();
    let port = server.port();
    let nodes: Vec<_> = (0..500).map(|n| register(port, format!("node{n}").as_bytes()).0).collect();
    let names = ask(port, NAMES);
    let load = Load::start(v4(port), 3, &port_please(b"node7"), &found(b"node7", 4711));
    let listings = Load::start(v4(port), 1, NAMES, &names);
    let mut longest = Duration::ZERO;
    for _ in 0..10 {
        let begun = Instant::now();
        let successor = Served::taking_over(place.config()).unwrap();
        longest = longest.max(begun.elapsed());
        assert_taken_over(&server);
        server = successor;
        load.go_on(100);
    }
    load.finish();
    listings.finish();
    println!("500 nodes: {longest:?} at the longest");
    assert_eq!(ask(port, NAMES), names);
    assert!(nodes.iter().all(Client::is_open));
}

#[test]
fn registrations_under_way_are_never_lost() {
    let (place, mut server) = start();
    let port = server.port();
    let registering = std::thread::spawn(move || {
        let node = |n: u32| register(port, format!("node{n}").as_bytes()).0;
        (0..3_000).map(node).collect::<Vec<_>>()
    });
    let mut takeovers = 0;
    while !registering.is_finished() {
        server = Served::taking_over(place.config()).unwrap();
        takeovers += 1;
    }
    let nodes = registering.join().unwrap();
    println!("{takeovers} takeovers");
    assert_eq!(server.count(), nodes.len());
    assert!(nodes.iter().all(Client::is_open));
}

#[test]
fn of_several_successors_one_takes_over_and_the_others_are_told() {
    let (place, old) = start();
    let (node, _) = register(old.port(), b"n1");
    let path = &place.path();
    // All have connected before the first says a word.
    let sides: Vec<_> = (0..5).map(|_| Side::connect(path)).collect();
    let successor = std::thread::scope(|scope| {
        let waiting: Vec<_> =
            (0..3).map(|_| scope.spawn(|| Served::taking_over(place.config()))).collect();
        drop(sides);
        let outcomes: Vec<_> = waiting.into_iter().map(|one| one.join().unwrap()).collect();
        let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        for error in lost.into_iter().filter_map(Result::err) {
            assert!(matches!(error, TakeoverError::Refused(TakeoverRefusal::TakenOver)), "{error}");
        }
        // One that came later may have taken over from the first.
        let mut won: Vec<_> = won.into_iter().flatten().collect();
        wait_until("one serves", || {
            won.retain(|one| one.phase() == Phase::Running);
            won.len() == 1
        });
        won.remove(0)
    });
    assert_taken_over(&old);
    assert_eq!(successor.count(), 1);
    assert!(node.is_open());
}

#[test]
fn an_exchange_needs_no_path() {
    let old = Served::local();
    let (node, creation) = register(old.port(), b"n1");
    let (ours, theirs) = pair();
    old.hand_over(ours);
    let new = Served::taking_over_from(common::served::local(), theirs).unwrap();
    assert_taken_over(&old);
    assert_eq!(new.lookup("n1").unwrap().creation.get(), creation);
    assert!(node.is_open());
}

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

#[test]
fn a_successor_whose_predecessor_fails_gives_up() {
    let refusals: [(&'static [&'static str], &str); 5] = [
        (&[r#"{"refused":"service_manager"}"#], "the other port mapper refuses"),
        (&[r#"{"hello":{"portmapper_takeover":2}}"#], "the other port mapper is newer"),
        (&["?"], "the takeover failed: expected value"),
        (&[], "the takeover failed: unexpected end of file"),
        (&[HELLO, r#"{"failed":{"reason":"it is about to end"}}"#], "the takeover failed: it is"),
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

#[test]
fn the_socket_is_there_while_its_server_is() {
    let (place, old) = start();
    assert_eq!(place.files(), ["socket"]);
    let new = Served::taking_over(place.config()).unwrap();
    assert_taken_over(&old);
    drop(old);
    assert_eq!(place.files(), ["socket"], "the successor's own");
    drop(new);
    assert_eq!(place.files(), [""; 0]);
    // Where there is none, or one that is left over, nobody is there.
    assert!(matches!(
        Served::taking_over(place.config()).err(),
        Some(TakeoverError::NobodyThere { .. })
    ));
    let left = std::os::unix::net::UnixListener::bind(place.path()).unwrap();
    drop(left);
    assert!(matches!(
        Served::taking_over(place.config()).err(),
        Some(TakeoverError::NobodyThere { .. })
    ));
    let server = Served::with(place.config());
    let port = server.port();
    assert_eq!(Served::taking_over(place.config()).unwrap().port(), port);
}

#[test]
fn a_socket_that_cannot_be_made_is_told_of_and_the_server_serves() {
    let place = Place::default();
    let path = place.path().join("nowhere");
    let config = Config { takeover_socket: TakeoverSocket::Path(path.clone()), ..place.config() };
    let server = Served::with(config);
    assert_eq!(ask(server.port(), NAMES).len(), 4);
    let [Notice::NoTakeoverSocket { path: told, is_required: true, .. }] = &server.notices()[..]
    else {
        panic!("told")
    };
    assert_eq!(*told, path);
    let none = Config { takeover_socket: TakeoverSocket::None, ..place.config() };
    assert!(matches!(Served::taking_over(none).err(), Some(TakeoverError::NoSocket)));
}

//! A successor takes over, and nodes and clients notice nothing.

#![cfg(test)]
#![cfg(target_os = "linux")]

mod common;

use std::time::{Duration, Instant};

use common::load::Load;
use common::served::Served;
use common::side::{Side, pair};
use common::takeover::{HELLO, PREPARED, Place, assert_taken_over, start};
use common::wait_until;
use common::wire::{
    Client, DUMP, End, NAMES, NOT_FOUND, alive2, alive2_with, ask, found, port_please, register, v4,
};
use epmd_server::{Config, Notice, Phase, TakeoverError, TakeoverRefusal, TakeoverSocket};
use socket2::{Domain, Socket, Type};

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

/// A client whose socket takes little.
fn slow_reader(port: u16) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&v4(port).into()).unwrap();
    Client::from(std::net::TcpStream::from(socket))
}

/// More than the system lets the buffer of a sender grow to.
fn long_listing(server: &Served) -> Vec<u8> {
    (0..4_300).for_each(|n: u32| server.register_own(&format!("{n:0>5}{}", "𝄞".repeat(250))));
    ask(server.port(), NAMES)
}

#[test]
fn a_listing_that_is_read_in_part_is_read_to_its_end() {
    let (place, old) = start();
    let port = old.port();
    let whole = long_listing(&old);
    let mut readers: Vec<_> = (0..3).map(|_| slow_reader(port)).collect();
    readers.iter_mut().for_each(|reader| reader.send(NAMES));
    let parts: Vec<_> = readers.iter_mut().map(|reader| reader.read(1_000)).collect();
    old.wait_for_open_connections(3);
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
fn readers_that_are_owed_too_much_are_cut_off_once_the_successor_serves() {
    let (place, old) = start();
    let port = old.port();
    let whole = long_listing(&old);
    let mut readers: Vec<_> = (0..12).map(|_| slow_reader(port)).collect();
    readers.iter_mut().for_each(|reader| reader.send(NAMES));
    old.wait_for_open_connections(12);
    // One that does not.
    let side = Side::connect(&place.path());
    side.say(HELLO);
    side.hear();
    side.say(PREPARED);
    assert!(side.hear().starts_with(r#"{"contents":"#));
    drop(side);
    wait_until("it goes on", || matches!(old.notices()[..], [Notice::NotTakenOver { .. }]));
    old.wait_for_open_connections(12);
    assert_eq!(old.counters().crowded_out, 0);

    let new = Served::taking_over(place.config()).unwrap();
    wait_until("it has ended", || old.phase() == Phase::Closed);
    let cut_off = old.counters().crowded_out;
    new.wait_for_open_connections(12 - cut_off as usize);
    let ends = readers.iter_mut().map(Client::read_to_end);
    let (read, torn): (Vec<_>, Vec<_>) = ends.partition(|(_, end)| *end == End::Closed);
    assert!(read.iter().all(|(listing, _)| *listing == whole));
    assert_eq!(torn.len() as u64, cut_off);
    // 32 MiB of 12 times somewhat less than the listing, which the system has begun to take.
    assert!((32 << 20) / whole.len() <= read.len() && read.len() < 12, "{}", read.len());
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

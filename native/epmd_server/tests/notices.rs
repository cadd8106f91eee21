//! What the owner is told, and what is counted.

#![cfg(test)]

mod common;

use common::served::{Served, relaxed, with_timeout};
use common::wait_until;
use common::wire::{
    Client, DUMP, KILL, NAMES, alive2, alive2_with, ask, port_please, register, stop,
};
use epmd_core::{Event, Name, Refusal};
use epmd_server::{CounterValues, Notice};

/// A notice without what differs from run to run.
fn brief(notice: &Notice) -> String {
    let named = |name: &Option<Name>| name.as_ref().map_or("-".to_owned(), Name::to_string);
    match notice {
        Notice::Node(Event::Up { name, peer, .. }) => {
            format!("up {name} {}", if peer.is_some() { "node" } else { "own" })
        }
        Notice::Node(Event::Down { name, reason, .. }) => {
            format!("down {name} {}", reason.as_str())
        }
        Notice::Refused { reason, name, .. } => {
            format!("refused {} {}", named(name), reason.as_str())
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn nodes_go_up_and_down_in_order_and_with_the_reason() {
    let server = Served::with(relaxed());
    let port = server.port();
    let (closed, _) = register(port, b"closed");
    drop(closed);
    server.wait_for_count(0);
    let (mut talkative, _) = register(port, b"talkative");
    talkative.send(b"!");
    server.wait_for_count(0);
    let (_stopped, _) = register(port, b"stopped");
    ask(port, &stop(b"stopped"));
    let (_dropped, _) = register(port, b"dropped");
    assert!(server.drop_name("dropped"));
    server.register_own("own");
    assert!(server.unregister("own"));
    let (replaced, _) = register(port, b"replaced");
    drop(replaced);
    let (_successor, _) = register(port, b"replaced");
    assert_eq!(
        server.wait_for_notices(13).iter().map(brief).collect::<Vec<_>>(),
        [
            "up closed node",
            "down closed closed",
            "up talkative node",
            "down talkative surplus_data",
            "up stopped node",
            "down stopped stopped",
            "up dropped node",
            "down dropped dropped",
            "up own own",
            "down own unregistered",
            "up replaced node",
            "down replaced closed",
            "up replaced node",
        ]
    );
}

#[test]
fn a_node_goes_down_with_the_creation_that_it_went_up_with() {
    let server = Served::local();
    for _ in 0..3 {
        let (node, registered) = register(server.port(), b"n1");
        drop(node);
        let notices = server.wait_for_notices(2);
        let [
            Notice::Node(Event::Up { creation: up, port, .. }),
            Notice::Node(Event::Down { creation: down, .. }),
        ] = notices[..]
        else {
            panic!("{notices:?}")
        };
        assert_eq!((up.get(), down.get(), port), (registered, registered, 4711));
    }
}

#[test]
fn refusals_tell_who_asked_for_which_name_and_why() {
    let server = Served::local();
    let (_node, _) = register(server.port(), b"n1");
    server.notices();
    let long = "é".repeat(256);
    for (request, expected) in [
        (&alive2(b"n1", 1)[..], "refused n1 name_in_use"),
        (&alive2_with(b"n2", 1, 6, &[0; 1021]), "refused n2 extra_too_long"),
        (&alive2(long.as_bytes(), 1), "refused - name_too_long"),
        (&alive2(b"\xff", 1), "refused - invalid_name"),
        (&port_please(b"\xff"), "refused - invalid_name"),
        (KILL, "refused - nodes_registered"),
        (&stop(b"n1"), "refused - not_permitted"),
        (b"\0\x01?", "refused - unknown_request"),
        (b"\0\x01x", "refused - malformed"),
        (b"\0\x01nn", "refused - surplus_data"),
        (b"\0\0", "refused - invalid_length"),
    ] {
        let mut client = Client::connect(server.port());
        client.send(request);
        client.read_to_end();
        let notices = server.wait_for_notices(1);
        assert_eq!(notices.iter().map(brief).collect::<Vec<_>>(), [expected]);
        let [Notice::Refused { peer, .. }] = notices[..] else { panic!() };
        assert_eq!(peer, client.address());
    }
    let mut incomplete = Client::connect(server.port());
    incomplete.send(b"\0");
    incomplete.finish_sending();
    assert_eq!(brief(&server.wait_for_notices(1)[0]), "refused - incomplete");
}

#[test]
fn the_owner_is_woken_once_for_many_notices() {
    let server = Served::local();
    let (_first, _) = register(server.port(), b"first");
    wait_until("the owner is woken", || server.wakes() == 1);
    for _ in 0..50 {
        register(server.port(), b"n1");
    }
    wait_until("all are gone", || server.counters().unregistered == 50);
    assert_eq!(server.wakes(), 1);
    let (part, _) = server.take_notices(10);
    assert_eq!((part.len(), server.take_notices(1_000).0.len()), (10, 91));
    let (_last, _) = register(server.port(), b"last");
    wait_until("the owner is woken", || server.wakes() == 2);
}

/// Connections that are done with, by the one way in which each of them counts.
fn done(counters: &CounterValues) -> u64 {
    let CounterValues { answered, unanswered, silent, timed_out, unread, panicked, .. } = counters;
    answered + unanswered + silent + timed_out + unread + panicked
}

/// Asserts that every connection is accounted for, once all is quiet.
fn assert_sums(server: &Served, accepted: u64) {
    wait_until("every connection counts", || {
        let info = server.info();
        let waiting = info.open_connections - info.nodes;
        info.counters.accepted == accepted && done(&info.counters) + waiting as u64 == accepted
    });
}

#[test]
fn every_connection_counts_once() {
    let server = Served::with(with_timeout(1));
    let port = server.port();
    let mut accepted = 0;
    let (_node, _) = register(port, b"n1");
    for _ in 0..20 {
        drop(Client::connect(port));
        Client::connect(port).reset();
        let mut partial = Client::connect(port);
        partial.send(b"\0");
        drop(partial);
        for request in [
            &alive2(b"n1", 1)[..],
            &alive2(b"\xff", 1),
            &alive2(b"n2", 1)[..9],
            &port_please(b"n1"),
            &port_please(b"n2"),
            &port_please(b"\xff"),
            NAMES,
            DUMP,
            KILL,
            &stop(b"n1"),
            b"\0\0",
            b"\0\x01?",
        ] {
            let mut whole = Client::connect(port);
            whole.send(request);
            whole.finish_sending();
            whole.read_to_end();
            let mut reset = Client::connect(port);
            reset.send(request);
            reset.reset();
            let mut split = Client::connect(port);
            request.iter().for_each(|byte| split.send(&[*byte]));
            drop(split);
        }
        accepted += 3 + 12 * 3;
    }
    let mut idle: Vec<_> = (0..5).map(|_| Client::connect(port)).collect();
    assert_sums(&server, accepted + 6);
    idle.iter_mut().for_each(|client| assert_eq!(client.read_to_end().0, b""));
    assert_sums(&server, accepted + 6);

    let counters = server.counters();
    assert_eq!((server.info().open_connections, counters.timed_out), (1, 5));
    assert_eq!(counters.panicked, 0);
    assert_eq!(counters.registered - counters.unregistered, 1);
    // What has no answer, and no more than that, is unanswered.
    let refused = |reasons: &[Refusal]| -> u64 {
        let counted = counters.refused.iter().filter(|(reason, _)| reasons.contains(reason));
        counted.map(|(_, count)| count).sum()
    };
    let sometimes = refused(&[Refusal::InvalidName]);
    let never = refused(&[Refusal::NameInUse, Refusal::NodesRegistered]);
    let all: u64 = counters.refused.iter().map(|(_, count)| count).sum();
    assert!((all - never - sometimes..=all - never).contains(&counters.unanswered));
}

#[test]
fn what_is_asked_for_is_counted() {
    let server = Served::with(relaxed());
    let port = server.port();
    let (_node, _) = register(port, b"n1");
    server.register_own("own");
    for request in [
        &port_please(b"n1")[..],
        &port_please(b"own"),
        &port_please(b"n2"),
        NAMES,
        DUMP,
        &stop(b"own"),
        &stop(b"own"),
        &alive2(b"n1", 1),
        &alive2(b"n1", 1),
        b"\0\x01?",
    ] {
        ask(port, request);
    }
    assert!(server.lookup("n1").is_some(), "which is not counted");
    drop(Client::connect(port));
    wait_until("it is counted", || server.counters().silent == 1);
    let counted: Vec<_> =
        server.counters().named().into_iter().filter(|(_, count)| *count > 0).collect();
    let expected = [
        ("accepted", 12),
        ("answered", 10),
        ("unanswered", 1),
        ("denied", 2),
        ("registered", 2),
        ("unregistered", 1),
        ("lookups_hit", 2),
        ("lookups_missed", 1),
        ("listings", 2),
        ("silent", 1),
        ("notices", 6),
    ];
    assert_eq!(counted, expected);
    let refused: Vec<_> =
        server.counters().refused.into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(refused, [(Refusal::UnknownRequest, 1), (Refusal::NameInUse, 2)]);
}

#[test]
fn nothing_is_told_twice_and_nothing_is_lost_under_churn() {
    let server = Served::local();
    let churn = |name: String| {
        let port = server.port();
        (0..100).for_each(|_| drop(register(port, name.as_bytes())));
    };
    std::thread::scope(|scope| {
        (0..4).for_each(|n| _ = scope.spawn(move || churn(format!("n{n}"))));
    });
    server.wait_for_count(0);
    let notices = server.wait_for_notices(800);
    assert_eq!(notices.len(), 800);
    for n in 0..4 {
        let name = format!("n{n}");
        let own =
            notices.iter().map(brief).filter(|notice| notice.split(' ').nth(1) == Some(&name));
        let (up, down) = (format!("up {name} node"), format!("down {name} closed"));
        assert!(
            own.enumerate().all(|(at, notice)| notice == if at % 2 == 0 { &up } else { &down }[..])
        );
    }
}

//! Requests, replies and listings as they go over the wire, byte by byte.

#![cfg(test)]

use epmd_core::{
    Alive2, Creation, DownReason, Dump, DumpedName, Event, Facts, Framer, Listing, Name, Present,
    Refusal, Registration, Reply, Request, Response, Told, UnixMillis,
};

const REQUESTS: [(&[u8], Request<'_>); 11] = [
    (
        b"\0\x0fx\x12\x34M\0\0\x06\0\x05\0\x02n1\0\0",
        Request::Alive2(Alive2 {
            port: 0x1234,
            node_type: 77,
            protocol: 0,
            highest_version: 6,
            lowest_version: 5,
            name: b"n1",
            extra: b"",
        }),
    ),
    (
        b"\0\x15x\xff\xffh\x01\0\x05\0\x05\0\x04c\xc3\xb61\0\x04\0\xff\n\0",
        Request::Alive2(Alive2 {
            port: 65_535,
            node_type: 104,
            protocol: 1,
            highest_version: 5,
            lowest_version: 5,
            name: "cö1".as_bytes(),
            extra: b"\0\xff\n\0",
        }),
    ),
    (b"\0\x03zn1", Request::PortPlease2("n1")),
    (b"\0\x01n", Request::Names),
    (b"\0\x05Mweb*", Request::Match("web*")),
    (b"\0\x02W*", Request::Watch("*")),
    (b"\0\x01d", Request::Dump),
    (b"\0\x04info", Request::Info),
    (b"\0\x07info n1", Request::NodeInfo("n1")),
    (b"\0\x01k", Request::Kill),
    (b"\0\x03sn1", Request::Stop(b"n1")),
];

#[test]
fn every_request_is_read_from_and_written_as_its_bytes() {
    for (wire, request) in REQUESTS {
        let body = Framer::default().push(wire).unwrap().unwrap();
        assert_eq!(Request::decode(body).as_ref(), Ok(&request));
        assert_eq!(request.encode(), wire);
    }
}

#[test]
fn bytes_behind_a_request_that_say_nothing_are_ignored() {
    let alive2 = [&REQUESTS[0].0[2..], b"surplus\0"].concat();
    let table: [(&[u8], &Request<'_>); 7] = [
        (&alive2, &REQUESTS[0].1),
        (b"zn1\0", &Request::PortPlease2("n1")),
        (b"n\0\xff", &Request::Names),
        (b"d\0\xff", &Request::Dump),
        (b"kn1", &Request::Kill),
        (b"sn1\0n2\0", &Request::Stop(b"n1")),
        (b"s\0n1", &Request::Stop(b"")),
    ];
    for (body, request) in table {
        assert_eq!(Request::decode(body).as_ref(), Ok(request), "{}", body.escape_ascii());
    }
}

#[test]
fn bodies_that_make_no_request_are_closed_unanswered() {
    let table: [(&[u8], Refusal); 31] = [
        (b"", Refusal::InvalidLength),
        (b"\0", Refusal::UnknownRequest),
        (b"a", Refusal::UnknownRequest), // ALIVE, before ALIVE2
        (b"p", Refusal::UnknownRequest), // PORT_PLEASE, before PORT_PLEASE2
        (b"\xff", Refusal::UnknownRequest),
        (b"i", Refusal::UnknownRequest),
        (b"info\0", Refusal::UnknownRequest),
        (b"x", Refusal::Malformed),
        (b"x\x12\x34M\0\0\x06\0\x05\0\0\0", Refusal::Malformed), // 12 bytes
        (b"x\x12\x34M\0\0\x06\0\x05\0\0\0\0", Refusal::Malformed), // 13 bytes
        (b"x\x12\x34M\0\0\x06\0\x05\0\x03n1\0\0", Refusal::Malformed), // name too short
        (b"x\x12\x34M\0\0\x06\0\x05\xff\xffn1\0\0", Refusal::Malformed),
        (b"x\x12\x34M\0\0\x06\0\x05\0\x02n1\0\x01", Refusal::Malformed), // extra too short
        (b"x\x12\x34M\0\0\x06\0\x05\0\x02n1\xff\xff", Refusal::Malformed),
        (b"x\x12\x34M\0\0\x06\0\x05\0\x02n\0\0\0", Refusal::Malformed), // NUL in the name
        (b"z", Refusal::InvalidName),
        (b"z\0", Refusal::InvalidName),
        (b"zn1\0\0", Refusal::InvalidName),
        (b"zn\x001", Refusal::InvalidName),
        (b"z\xff", Refusal::InvalidName),
        (b"zn\xc3", Refusal::InvalidName),
        (b"z\xed\xa0\x80", Refusal::InvalidName), // a surrogate
        (b"info ", Refusal::InvalidName),
        (b"info n1\0", Refusal::InvalidName),
        (b"info \xff", Refusal::InvalidName),
        (b"M", Refusal::InvalidName),
        (b"Mn*\0", Refusal::InvalidName),
        (b"M\xff", Refusal::InvalidName),
        (b"W", Refusal::InvalidName),
        (b"Wn*\0", Refusal::InvalidName),
        (b"s", Refusal::Malformed),
    ];
    for (body, refusal) in table {
        assert_eq!(Request::decode(body), Err(refusal), "{}", body.escape_ascii());
    }
    let (last, beyond) = ("n".repeat(255), "é".repeat(256));
    assert_eq!(Request::decode(format!("z{last}").as_bytes()), Ok(Request::PortPlease2(&last)));
    for tag in ["z", "info ", "M", "W"] {
        let body = format!("{tag}{beyond}");
        assert_eq!(Request::decode(body.as_bytes()), Err(Refusal::NameTooLong), "{tag}");
    }
}

#[test]
fn replies_are_their_bytes_and_clients_read_them() {
    let granted = |highest_version, number: u32| Reply::Alive2 {
        highest_version,
        creation: Some(Creation::from_clock(UnixMillis(u64::from(number - 1) * 1000))),
    };
    let refused = |highest_version| Reply::Alive2 { highest_version, creation: None };
    let table: [(Reply<'_>, &[u8], Response); 10] = [
        (granted(6, 0x1234_5678), b"v\0\x12\x34\x56\x78", Response::Alive2(Some(0x1234_5678))),
        (granted(6, 4), b"v\0\0\0\0\x04", Response::Alive2(Some(4))),
        (granted(65_535, u32::MAX), b"v\0\xff\xff\xff\xff", Response::Alive2(Some(u32::MAX))),
        (granted(5, 9), b"y\0\0\x01", Response::Alive2(Some(1))),
        (granted(5, 10), b"y\0\0\x02", Response::Alive2(Some(2))),
        (granted(0, 11), b"y\0\0\x03", Response::Alive2(Some(3))),
        (refused(6), b"v\x01\0\0\0\x63", Response::Alive2(None)),
        (refused(5), b"y\x01\0\x63", Response::Alive2(None)),
        (refused(0), b"y\x01\0\x63", Response::Alive2(None)),
        (Reply::PortPlease2(None), b"w\x01", Response::PortPlease2(None)),
    ];
    for (reply, wire, response) in table {
        assert_eq!(encoded(&reply), wire);
        assert_clients_read(wire, &response);
    }
    for (reply, wire) in [
        (Reply::Nothing, &b""[..]),
        (Reply::Kill(true), b"OK"),
        (Reply::Kill(false), b"NO"),
        (Reply::Stop(true), b"STOPPED"),
        (Reply::Stop(false), b"NOEXIST"),
    ] {
        assert_eq!(encoded(&reply), wire);
        assert_eq!(Response::decode(wire), None);
    }
}

#[test]
fn clients_read_the_node_that_they_looked_up() {
    let registration = Registration {
        port: 65_535,
        node_type: 104,
        protocol: 1,
        highest_version: 6,
        lowest_version: 5,
        extra: b"\0\xff\n\0"[..].into(),
    };
    let found = Some((Name::new("cö1".as_bytes()).unwrap(), registration));
    let wire = b"w\0\xff\xffh\x01\0\x06\0\x05\0\x04c\xc3\xb61\0\x04\0\xff\n\0";
    assert_clients_read(wire, &Response::PortPlease2(found));

    let not_utf8 = b"w\0\x12\x34M\0\0\x06\0\x05\0\x01\xff\0\0";
    assert_eq!(Response::decode(not_utf8), None);
}

#[test]
fn clients_read_listings_in_their_order() {
    for (lines, nodes) in [
        (&b""[..], vec![]),
        (b"name c\xc3\xb6 at port 65535\nname b at port 1\n", vec![("cö", 65_535), ("b", 1)]),
        (b"name a at port 1 at port 0\n", vec![("a at port 1", 0)]),
    ] {
        let nodes = nodes.into_iter().map(|(name, port)| (name.to_owned(), port)).collect();
        let listing = Listing { epmd_port: 0x0001_1111, nodes };
        assert_eq!(Listing::decode(&[b"\0\x01\x11\x11", lines].concat()), Some(listing));
    }
}

#[test]
fn clients_read_dumps_of_active_and_old_names() {
    let name = |name: &str, port, descriptor| DumpedName { name: name.into(), port, descriptor };
    let wire = b"\0\0\x11\x11active name     <c\xc3\xb6> at port 65535, fd = 7\n\0\
        active name     <vm> at port 1, fd = -1\n\0\
        old/unused name <a>, port = 2>, port = 3, fd = 8 \n\0";
    let dump = Dump {
        epmd_port: 4369,
        active: vec![name("cö", 65_535, 7), name("vm", 1, -1)],
        old: vec![name("a>, port = 2", 3, 8)],
    };
    assert_eq!(Dump::decode(wire), Some(dump));
    for end in [3, wire.len() - 1, wire.len() - 3] {
        assert_eq!(Dump::decode(&wire[..end]), None, "up to {end}");
    }
}

#[test]
fn clients_read_facts_in_their_order() {
    let wire = b"\0\0\x11\x11nodes 2\naddress 0.0.0.0:4369\naddress [::]:4369\n";
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let facts =
        vec![pair("nodes", "2"), pair("address", "0.0.0.0:4369"), pair("address", "[::]:4369")];
    assert_eq!(Facts::decode(wire), Some(Facts { epmd_port: 4369, facts }));
    for end in [0, 3, wire.len() - 1] {
        assert_eq!(Facts::decode(&wire[..end]), None, "up to {end}");
    }
}

#[test]
fn what_is_not_a_whole_listing_is_none() {
    let table: [&[u8]; 7] = [
        b"",
        b"\0\0\x11",
        b"\0\0\x11\x11name a",
        b"\0\0\x11\x11name a at port 46",
        b"\0\0\x11\x11name a at port 65536\n",
        b"\0\0\x11\x11node a at port 1\n",
        b"\0\0\x11\x11name \xff at port 1\n",
    ];
    for wire in table {
        assert_eq!(Listing::decode(wire), None, "{}", wire.escape_ascii());
    }
}

#[test]
fn every_reason_is_told_by_its_name_as_one_word() {
    for refusal in Refusal::ALL {
        assert_eq!(refusal.as_str(), snake_case(&format!("{refusal:?}")));
    }
    for reason in [
        DownReason::Closed,
        DownReason::SurplusData,
        DownReason::Stopped,
        DownReason::Dropped,
        DownReason::Unregistered,
    ] {
        assert_eq!(reason.as_str(), snake_case(&format!("{reason:?}")));
    }
}

fn snake_case(name: &str) -> String {
    let mut word = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.push(letter.to_ascii_lowercase());
    }
    word
}

fn encoded(reply: &Reply<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    reply.encode(&mut out);
    out
}

/// Clients read the whole reply, and none of its beginnings.
fn assert_clients_read(wire: &[u8], response: &Response) {
    assert_eq!(Response::decode(wire).as_ref(), Some(response));
    for end in 0..wire.len() {
        assert_eq!(Response::decode(&wire[..end]), None, "{wire:?} up to {end}");
    }
}

#[test]
fn what_a_watcher_is_told_is_its_bytes_and_clients_read_them() {
    let node = Present { creation: 0x1234_5678, port: 0x4321, node_type: 77, name: "cö1" };
    let reason = DownReason::Evicted;
    let table: [(Told<'_>, &[u8]); 6] = [
        (Told::Begin { missed: 258 }, b"\0\x09B\0\0\0\0\0\0\x01\x02"),
        (Told::Node(node), b"\0\x0cN\x12\x34\x56\x78\x43\x21Mc\xc3\xb61"),
        (Told::End { sequence: 1 }, b"\0\x09E\0\0\0\0\0\0\0\x01"),
        (
            Told::Up { sequence: 2, node },
            b"\0\x14U\0\0\0\0\0\0\0\x02\x12\x34\x56\x78\x43\x21Mc\xc3\xb61",
        ),
        (
            Told::Down { sequence: 3, creation: 9, reason, name: "n" },
            b"\0\x0fD\0\0\0\0\0\0\0\x03\0\0\0\x09\x05n",
        ),
        (Told::Alive, b"\0\x01A"),
    ];
    for (told, wire) in table {
        let mut out = b"before".to_vec();
        told.encode(&mut out);
        assert_eq!(out.strip_prefix(b"before"), Some(wire));
        let body = &wire[2..];
        assert_eq!(Told::decode(body), Some(told));
        for cut in 0..body.len() {
            let is_name_cut = matches!(body[0], b'N' | b'U' | b'D');
            let read = Told::decode(&body[..cut]);
            assert!(is_name_cut || read.is_none(), "{} to {cut}", body.escape_ascii());
        }
        if !matches!(body[0], b'N' | b'U' | b'D') {
            assert_eq!(Told::decode(&[body, b"x"].concat()), None);
        }
    }
    for wrong in [&b""[..], b"X", b"D\0\0\0\0\0\0\0\x03\0\0\0\x09\x06n", b"N\0\0\0\0\0\0M"] {
        assert_eq!(Told::decode(wrong), None, "{}", wrong.escape_ascii());
    }
}

#[test]
fn a_reason_has_a_number_and_remote_watchers_get_no_creation() {
    let creation = Creation::from_number(9).unwrap();
    for number in 0..6 {
        let reason = DownReason::from_number(number).unwrap();
        assert_eq!(reason.number(), number);
        let down = Event::Down { name: Name::new(b"n").unwrap(), creation, reason };
        for (is_local, creation) in [(true, 9), (false, 0)] {
            let told = Told::Down { sequence: 7, creation, reason, name: "n" };
            assert_eq!(Told::event(7, &down, is_local), told);
        }
    }
    assert_eq!(DownReason::from_number(6), None);
}

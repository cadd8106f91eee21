//! What a client gets for the bytes that it sends, from connection to close.

#![cfg(test)]

use std::collections::BTreeMap;
use std::net::SocketAddr;

use epmd_core::limits::MAX_REQUEST_BYTES;
use epmd_core::{
    Caller, ConnId, DownReason, Framer, Name, Next, Policy, Refusal, Registrant, Registration,
    Registry, Request, UnixMillis, is_local,
};

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
/// The creation of a name that is new at that time: seconds plus one.
const FIRST_LIFE: &[u8] = b"v\0\x65\x53\xf1\x01";
const SECOND_LIFE: &[u8] = b"v\0\x65\x53\xf1\x02";
const REFUSED: &[u8] = b"v\x01\0\0\0\x63";
const UNANSWERED: &[u8] = b"";

#[test]
fn a_node_is_found_as_it_registered() {
    let mut server = Server::default();
    let (plain, old) = (alive2(6, b"n1", b""), alive2(5, "cö1".as_bytes(), b"\0\xff\n\0"));
    assert_eq!(server.ask(&plain), FIRST_LIFE);
    assert_eq!(server.ask(&old), b"y\0\0\x01");
    for (request, reply) in [
        (&b"\0\x03zn1"[..], &b"w\0\x12\x34M\0\0\x06\0\x05\0\x02n1\0\0"[..]),
        (b"\0\x04zn1\0", b"w\0\x12\x34M\0\0\x06\0\x05\0\x02n1\0\0"),
        (b"\0\x05zc\xc3\xb61", b"w\0\x12\x34M\0\0\x05\0\x05\0\x04c\xc3\xb61\0\x04\0\xff\n\0"),
        (b"\0\x02zn", b"w\x01"),
        (b"\0\x04zn11", b"w\x01"),
    ] {
        assert_eq!(server.ask(request), reply);
        assert_eq!(server.last, (Next::Close, None));
    }
}

#[test]
fn any_port_type_protocol_and_version_is_kept() {
    for about in
        [b"\0\0\0\0\0\0\0\0", b"\0\x01\xff\xff\xff\xff\xff\xff", b"\xff\xffH\0\0\x05\0\x06"]
    {
        let mut server = Server::default();
        server.ask(&framed(&[b"x", &about[..], b"\0\x01n\0\0"].concat()));
        assert_eq!(server.ask(b"\0\x02zn"), [b"w\0", &about[..], b"\0\x01n\0\0"].concat());
    }
}

#[test]
fn listings_show_the_newest_node_first_and_then_who_is_gone_longest() {
    let mut server = Server::default();
    assert_eq!(server.ask(b"\0\x01n"), b"\0\0\x11\x11");
    assert_eq!(server.ask(b"\0\x01d"), b"\0\0\x11\x11");
    for name in ["a", "b", "c", "d"] {
        server.ask(&alive2(6, name.as_bytes(), b""));
    }
    server.close(8);
    server.close(5);
    let names = b"\0\0\x11\x11name c at port 4660\nname b at port 4660\n";
    assert_eq!(server.ask(b"\0\x01n"), names);
    let dump: &[u8] = b"\0\0\x11\x11\
        active name     <c> at port 4660, fd = 7\n\0\
        active name     <b> at port 4660, fd = 6\n\0\
        old/unused name <d>, port = 4660, fd = 8 \n\0\
        old/unused name <a>, port = 4660, fd = 5 \n\0";
    assert_eq!(server.ask(b"\0\x01d"), dump);
    assert_eq!(server.ask(&alive2(6, b"d", b"")), SECOND_LIFE);
    assert!(server.ask(b"\0\x01n").starts_with(b"\0\0\x11\x11name d at port 4660\nname c "));
}

#[test]
fn names_of_the_vm_are_served_like_any_other_and_dumped_without_descriptor() {
    let mut server = Server::relaxed();
    let registration = Registration {
        port: 4660,
        node_type: 77,
        protocol: 0,
        highest_version: 6,
        lowest_version: 5,
        extra: b""[..].into(),
    };
    let name = Name::new(b"vm").unwrap();
    server.registry.register(name, registration, Registrant::VM, NOW).unwrap();
    assert_eq!(server.ask(b"\0\x03zvm"), b"w\0\x12\x34M\0\0\x06\0\x05\0\x02vm\0\0");
    assert_eq!(server.ask(&alive2(6, b"vm", b"")), REFUSED);
    let dump = b"\0\0\x11\x11active name     <vm> at port 4660, fd = -1\n\0";
    assert_eq!(server.ask(b"\0\x01d"), dump);
    assert_eq!(server.ask(b"\0\x03svm"), b"STOPPED");
    assert_eq!(server.last, (Next::Close, None));
    let dump = b"\0\0\x11\x11old/unused name <vm>, port = 4660, fd = -1 \n\0";
    assert_eq!(server.ask(b"\0\x01d"), dump);
}

#[test]
fn each_life_of_a_name_has_the_next_creation_whatever_its_versions() {
    let mut server = Server::default();
    for (highest, reply) in [
        (6, FIRST_LIFE),
        (5, b"y\0\0\x02"),
        (6, b"v\0\x65\x53\xf1\x03"),
        (5, b"y\0\0\x01"),
        (5, b"y\0\0\x02"),
        (5, b"y\0\0\x03"),
        (65_535, b"v\0\x65\x53\xf1\x07"),
    ] {
        assert_eq!(server.ask(&alive2(highest, b"n", b"")), reply);
        server.close(5);
    }
}

#[test]
fn names_and_extra_data_of_any_permitted_size_are_registered_and_found() {
    let widest = "😀".repeat(255);
    let extra = [0xff; 1020];
    let table: [(&[u8], &[u8]); 6] = [
        // C registers names of 255 characters, but does not find them.
        (&[b'n'; 255], b""),
        (widest.as_bytes(), b""),
        (b"n", &extra),
        (widest.as_bytes(), &extra),
        ("\u{fffe}\u{ffff}\u{10ffff}".as_bytes(), b""),
        (b"n\n \x01\x7f", b""),
    ];
    for (name, extra) in table {
        let mut server = Server::default();
        assert_eq!(server.ask(&alive2(6, name, extra)), FIRST_LIFE);
        assert_eq!(server.last, (Next::Hold, None));
        let found = server.ask(&framed(&[b"z", name].concat()));
        assert!(found.starts_with(b"w\0\x12\x34"));
        assert!(found.ends_with(&[name, &(extra.len() as u16).to_be_bytes(), extra].concat()));
    }
}

#[test]
fn registrations_that_break_a_rule_are_answered_with_99_and_closed() {
    let too_many = "é".repeat(256);
    let table: [(&[u8], &[u8], Refusal); 10] = [
        (&[b'n'; 256], b"", Refusal::NameTooLong),
        (too_many.as_bytes(), b"", Refusal::NameTooLong),
        (&[b'n'; 1021], b"", Refusal::NameTooLong),
        (&[0xff; 1021], b"", Refusal::NameTooLong),
        (b"n", &[0; 1021], Refusal::ExtraTooLong),
        (b"\xff", b"", Refusal::InvalidName),
        (b"\xc0\xaf", b"", Refusal::InvalidName),
        (b"\xed\xa0\x80", b"", Refusal::InvalidName),
        (b"\xf4\x90\x80\x80", b"", Refusal::InvalidName),
        (b"held", b"", Refusal::NameInUse),
    ];
    let mut server = Server::default();
    server.ask(&alive2(6, b"held", b""));
    for (name, extra, refusal) in table {
        assert_eq!(server.ask(&alive2(6, name, extra)), REFUSED);
        assert_eq!(server.last, (Next::Close, Some(refusal)));
        assert_eq!(server.ask(&alive2(5, name, extra)), b"y\x01\0\x63");
        assert_eq!(server.last, (Next::Close, Some(refusal)));
    }
    assert_eq!(server.ask(b"\0\x01n"), b"\0\0\x11\x11name held at port 4660\n");
}

#[test]
fn a_request_has_a_length_of_1_to_3057() {
    let mut longest = alive2(6, b"n", b"");
    longest.resize(2 + 3057, b'.');
    longest[..2].copy_from_slice(&3057_u16.to_be_bytes());
    let mut beyond = longest.clone();
    beyond.push(b'.');
    beyond[..2].copy_from_slice(&3058_u16.to_be_bytes());

    let mut server = Server::default();
    for (wire, refusal) in [
        (&b"\0\0"[..], Refusal::InvalidLength),
        (b"\0\0n", Refusal::InvalidLength),
        (&beyond, Refusal::InvalidLength),
        (b"\xff\xff", Refusal::InvalidLength),
        (b"\0\x01nn", Refusal::SurplusData),
        (b"", Refusal::Incomplete),
        (b"\0", Refusal::Incomplete),
        (b"\0\x01", Refusal::Incomplete),
        (b"\0\x03zn", Refusal::Incomplete),
    ] {
        assert_eq!(server.ask(wire), UNANSWERED, "{}", wire.escape_ascii());
        assert_eq!(server.last, (Next::Close, Some(refusal)));
    }
    assert_eq!(longest.len(), MAX_REQUEST_BYTES);
    assert_eq!(server.ask(&longest), FIRST_LIFE);
}

#[test]
fn kill_is_granted_when_no_node_is_registered_or_checking_is_relaxed() {
    let mut server = Server::default();
    server.ask(&alive2(6, b"n", b""));
    assert_eq!(server.ask(b"\0\x01k"), b"NO");
    assert_eq!(server.last, (Next::Close, Some(Refusal::NodesRegistered)));
    server.close(5);
    assert_eq!(server.ask(b"\0\x01k"), b"OK");
    assert_eq!(server.last, (Next::Shutdown, None));

    let mut relaxed = Server::relaxed();
    relaxed.ask(&alive2(6, b"n", b""));
    assert_eq!(relaxed.ask(b"\0\x01k"), b"OK");
    assert_eq!(relaxed.last, (Next::Shutdown, None));
}

#[test]
fn stop_closes_the_connection_of_the_node_when_checking_is_relaxed() {
    let mut strict = Server::default();
    strict.ask(&alive2(6, b"n", b""));
    assert_eq!(strict.ask(b"\0\x02sn"), UNANSWERED);
    assert_eq!(strict.ask(b"\0\x02zn"), b"w\0\x12\x34M\0\0\x06\0\x05\0\x01n\0\0");

    let mut server = Server::relaxed();
    server.ask(&alive2(6, b"n", b""));
    assert_eq!(server.ask(b"\0\x04sn\0."), b"STOPPED");
    assert_eq!(server.last, (Next::CloseAlso(ConnId::new(1, 5)), None));
    assert_eq!(server.ask(b"\0\x02zn"), b"w\x01");
    assert_eq!(server.ask(&alive2(6, b"n", b"")), SECOND_LIFE);
}

#[test]
fn remote_peers_may_look_up_and_list_only() {
    let mut server = Server::relaxed();
    server.ask(&alive2(6, b"n", b""));
    server.peer = "192.0.2.2:9";
    for wire in [&alive2(6, b"m", b"")[..], b"\0\x01d", b"\0\x01k", b"\0\x02sn"] {
        assert_eq!(server.ask(wire), UNANSWERED);
        assert_eq!(server.last, (Next::Close, Some(Refusal::NotLocal)));
    }
    assert_eq!(server.ask(b"\0\x01n"), b"\0\0\x11\x11name n at port 4660\n");
    assert_eq!(server.ask(b"\0\x02M?"), b"\0\0\x11\x11name n at port 4660\n");
    assert_eq!(server.ask(b"\0\x02zm"), b"w\x01");
}

#[test]
fn a_pattern_lists_the_names_that_fit_it_newest_first() {
    let mut server = Server::default();
    for name in ["web1", "db", "web2", "wöb3"] {
        server.ask(&alive2(6, name.as_bytes(), b""));
    }
    for (glob, names) in [
        ("web*", &["web2", "web1"][..]),
        ("w?b?", &["wöb3", "web2", "web1"]),
        ("*[!0-9]", &["db"]),
        ("db", &["db"]),
        ("web", &[]),
        ("*", &["wöb3", "web2", "db", "web1"]),
    ] {
        let lines: String =
            names.iter().map(|name| format!("name {name} at port 4660\n")).collect();
        let expected = [b"\0\0\x11\x11", lines.as_bytes()].concat();
        assert_eq!(server.ask(&framed(&[b"M", glob.as_bytes()].concat())), expected, "{glob}");
    }
}

#[test]
fn one_name_more_than_the_limit_is_remembered_and_the_longest_gone_is_forgotten() {
    for (limit, registry) in [(1000, Registry::default()), (5, Registry::with_max_remembered(5))] {
        let mut server = Server { registry, ..Server::default() };
        for number in 0..limit + 10 {
            assert_eq!(server.ask(&alive2(6, format!("n{number}").as_bytes(), b"")), FIRST_LIFE);
            server.close(5);
        }
        assert_eq!(server.registry.remembered().count(), limit + 1);
        assert_eq!(server.ask(&alive2(6, b"n9", b"")), SECOND_LIFE);
        assert_eq!(server.ask(&alive2(6, b"n8", b"")), FIRST_LIFE);
    }
}

/// What C `epmd` does otherwise, and must not be done here.
mod differences {
    use super::*;

    #[test]
    fn a_refused_duplicate_does_not_unregister_the_holder_when_its_connection_ends() {
        let mut server = Server::default();
        server.ask(&alive2(6, b"n", b""));
        let duplicate = ConnId::new(2, 6);
        assert_eq!(server.ask(&alive2(6, b"n", b"")), REFUSED);
        assert_eq!(server.registry.unregister_connection(duplicate, DownReason::Closed), None);
        assert_eq!(server.ask(b"\0\x02zn"), b"w\0\x12\x34M\0\0\x06\0\x05\0\x01n\0\0");
    }

    #[test]
    fn stop_of_an_unknown_name_answers_noexist_alone() {
        for wire in [&b"\0\x02sn"[..], b"\0\x03s\0n", b"\0\x02s\xff"] {
            assert_eq!(Server::relaxed().ask(wire), b"NOEXIST");
        }
    }

    #[test]
    fn the_number_of_nodes_has_no_limit() {
        let mut server = Server::default();
        for number in 0..2000 {
            assert_eq!(server.ask(&alive2(6, format!("n{number}").as_bytes(), b"")), FIRST_LIFE);
        }
        assert_eq!(server.registry.len(), 2000);
    }

    #[test]
    fn an_empty_name_is_refused_even_with_extra_data_or_bytes_behind_it() {
        let surplus = framed(b"x\x12\x34M\0\0\x06\0\x05\0\0\0\0.");
        for wire in [alive2(6, b"", b"."), surplus] {
            let mut server = Server::default();
            assert_eq!(server.ask(&wire), REFUSED);
            assert_eq!(server.last, (Next::Close, Some(Refusal::InvalidName)));
        }
    }
}

/// A port mapper without sockets. Descriptors are given out as a kernel does,
/// from the first one behind the standard streams and two listeners.
struct Server {
    registry: Registry,
    policy: Policy,
    peer: &'static str,
    held: BTreeMap<i32, ConnId>,
    served: u32,
    /// What came of the last request, but for its reply.
    last: (Next, Option<Refusal>),
}

impl Default for Server {
    fn default() -> Self {
        Self {
            registry: Registry::default(),
            policy: Policy::default(),
            peer: "127.0.0.1:9",
            held: BTreeMap::new(),
            served: 0,
            last: (Next::Close, None),
        }
    }
}

impl Server {
    fn relaxed() -> Self {
        Self { policy: Policy { relaxed: true, ..Policy::default() }, ..Self::default() }
    }

    /// Sends all bytes over a new connection, and then their end.
    fn ask(&mut self, sent: &[u8]) -> Vec<u8> {
        self.served += 1;
        let descriptor = (5..).find(|fd| !self.held.contains_key(fd)).unwrap();
        let conn = ConnId::new(self.served, descriptor);
        let mut reply = Vec::new();
        self.last = match self.serve(sent, conn, &mut reply) {
            Ok(last) => last,
            Err(refusal) => (Next::Close, Some(refusal)),
        };
        match self.last.0 {
            Next::Hold => _ = self.held.insert(descriptor, conn),
            Next::CloseAlso(other) => _ = self.held.remove(&other.descriptor()),
            Next::Close | Next::Shutdown => {}
        }
        reply
    }

    fn serve(
        &mut self,
        sent: &[u8],
        conn: ConnId,
        reply: &mut Vec<u8>,
    ) -> Result<(Next, Option<Refusal>), Refusal> {
        let body = Framer::default().push(sent)?.ok_or(Refusal::Incomplete)?;
        let request = Request::decode(body)?;
        let peer: SocketAddr = self.peer.parse().unwrap();
        let local = is_local(peer.ip(), || Some([192, 0, 2, 1].into()));
        self.policy.permit(&request, local)?;
        let caller =
            Caller { conn, peer, epmd_port: 4369, relaxed: self.policy.relaxed, listener: None };
        let outcome = self.registry.apply(&request, &caller, NOW);
        outcome.reply.encode(reply);
        Ok((outcome.next, outcome.refused))
    }

    /// Ends a connection that holds a registration.
    fn close(&mut self, descriptor: i32) {
        let conn = self.held.remove(&descriptor).unwrap();
        assert!(self.registry.unregister_connection(conn, DownReason::Closed).is_some());
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u16).to_be_bytes(), body].concat()
}

fn alive2(highest_version: u16, name: &[u8], extra: &[u8]) -> Vec<u8> {
    let length = |part: &[u8]| (part.len() as u16).to_be_bytes();
    let [high, low] = highest_version.to_be_bytes();
    let about = [b'x', 0x12, 0x34, 77, 0, high, low, 0, 5];
    framed(&[&about, &length(name)[..], name, &length(extra), extra].concat())
}

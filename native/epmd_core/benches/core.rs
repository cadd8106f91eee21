//! `make bench-core`: what codec and registry take, without the system: time and
//! allocations of a request, by the number of names that are registered.

use std::net::SocketAddr;

use divan::{AllocProfiler, Bencher, black_box};
use epmd_core::{Alive2, Caller, ConnId, DownReason, Framer, Registry, Request, UnixMillis};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const POPULATIONS: [u32; 4] = [1, 100, 900, 20_000];

fn main() {
    divan::main();
}

const fn alive2(name: &str) -> Alive2<'_> {
    Alive2 {
        port: 4711,
        node_type: 77,
        protocol: 0,
        highest_version: 6,
        lowest_version: 5,
        name: name.as_bytes(),
        extra: b"",
    }
}

fn caller(serial: u32) -> Caller {
    let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
    let conn = ConnId::new(serial, serial as i32);
    Caller { conn, peer, epmd_port: 4369, relaxed: false, listener: Some(1) }
}

/// So many nodes, of which `n0` is looked up.
fn registry(population: u32) -> Registry {
    let mut registry = Registry::default();
    for number in 0..population {
        let name = format!("n{number}");
        let request = Request::Alive2(alive2(&name));
        let refused = registry.apply(&request, &caller(number), UnixMillis(0)).refused;
        assert_eq!(refused, None);
    }
    registry
}

#[divan::bench]
fn decode_a_look_up(bencher: Bencher<'_, '_>) {
    let wire = Request::PortPlease2("n0").encode();
    bencher.bench(|| {
        let body = Framer::default().push(black_box(&wire)).ok().flatten();
        body.map(|body| Request::decode(body).is_ok())
    });
}

#[divan::bench]
fn decode_a_registration(bencher: Bencher<'_, '_>) {
    let wire = Request::Alive2(alive2("a_node_of_some_length")).encode();
    bencher.bench(|| {
        let body = Framer::default().push(black_box(&wire)).ok().flatten();
        body.map(|body| Request::decode(body).is_ok())
    });
}

#[divan::bench(args = POPULATIONS)]
fn look_up_and_encode(bencher: Bencher<'_, '_>, population: u32) {
    let registry = registry(population);
    let request = Request::PortPlease2("n0");
    let mut reply = Vec::new();
    bencher.bench_local(|| {
        reply.clear();
        if let Some(answer) = registry.answer(black_box(&request), 4369) {
            answer.encode(&mut reply);
        }
        reply.len()
    });
}

#[divan::bench(args = POPULATIONS)]
fn register_and_end(bencher: Bencher<'_, '_>, population: u32) {
    let mut registry = registry(population);
    let request = Request::Alive2(alive2("one_more"));
    let caller = caller(population);
    bencher.bench_local(|| {
        let refused = registry.apply(black_box(&request), &caller, UnixMillis(0)).refused;
        (refused, registry.unregister_connection(caller.conn, DownReason::Closed))
    });
}

#[divan::bench(args = POPULATIONS)]
fn list(bencher: Bencher<'_, '_>, population: u32) {
    let registry = registry(population);
    let mut reply = Vec::new();
    bencher.bench_local(|| {
        reply.clear();
        if let Some(answer) = registry.answer(&Request::Names, 4369) {
            answer.encode(&mut reply);
        }
        reply.len()
    });
}

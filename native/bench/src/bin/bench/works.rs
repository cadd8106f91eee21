//! What clients do to the servers.

use bench::load;
use bench::server::Server;

/// Populations at which names are looked up, registered, and listed.
const LOOKED_UP: [usize; 4] = [1, 100, 900, 19_000];
const REGISTERED: [usize; 4] = [1, 10, 100, 900];
const LISTED: [usize; 4] = [500, 900, 10_000, 19_000];

/// Clients at a time, and requests queued at a time.
const CLIENTS: usize = 32;
const BURST: usize = 400;

/// What clients do to a server.
type Run = Box<dyn Fn(&Server) -> std::io::Result<()>>;

/// Something that clients do, a number of times.
pub(crate) struct Work {
    pub(crate) name: String,
    pub(crate) count: usize,
    /// Whether the floor can do it.
    pub(crate) floor: bool,
    /// Whether it changes what is kept.
    pub(crate) registers: bool,
    pub(crate) run: Run,
}

pub(crate) fn works(population: usize) -> Vec<Work> {
    let work =
        |name: String, count, floor, run: Run| Work { name, count, floor, registers: false, run };
    let mut works = Vec::new();
    if LOOKED_UP.contains(&population) {
        works.extend([
            work(
                format!("look-up, 1 client, {population} names"),
                2_000,
                true,
                Box::new(|server: &Server| load::one_client(server, 2_000).map(drop)),
            ),
            work(
                format!("look-up, {CLIENTS} clients, {population} names"),
                3_200,
                true,
                Box::new(|server| load::many_clients(server, CLIENTS, 3_200)),
            ),
            work(
                format!("look-up, bursts of {BURST}, {population} names"),
                5 * BURST,
                true,
                Box::new(|server| (0..5).try_for_each(|_| load::burst(server, BURST))),
            ),
        ]);
    }
    if REGISTERED.contains(&population) {
        let run = Box::new(|server: &Server| load::register_and_close(server, 1_000));
        let work = work(format!("register and close, {population} names"), 1_000, false, run);
        works.push(Work { registers: true, ..work });
    }
    if LISTED.contains(&population) {
        let count = 400_000 / population;
        works.push(work(
            format!("NAMES, {population} names"),
            count,
            false,
            Box::new(move |server| load::listings(server, count)),
        ));
    }
    works
}

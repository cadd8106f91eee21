//! What look-ups notice of nodes that come and go, and of those who watch them.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bench::server::{Kind, Server};
use bench::wire::{HELD_AT, connect, register_at};
use bench::{load, median};
use epmd_core::Request;
use rustix::net::sockopt::set_socket_linger;

use crate::Result;

/// How long each is looked at, in each round.
const WINDOW: Duration = Duration::from_secs(2);

/// A node comes and goes in each of these: 10,000 changes a second.
const INTERVAL: Duration = Duration::from_micros(200);

const ROUNDS: usize = 5;

/// Who watches, and whether there is anything to see.
const SCENES: [(&str, usize, bool); 4] = [
    ("nothing changes, nobody watches", 0, false),
    ("nothing changes, three watch", 3, false),
    ("nodes come and go, nobody watches", 0, true),
    ("nodes come and go, three watch", 3, true),
];

/// How long look-ups take meanwhile, all in alternation.
pub(crate) fn beside_look_ups(release: &Kind) -> Result<String> {
    let server = Server::start(release)?;
    let _looked_up = register_at(HELD_AT, server.port, load::LOOKED_UP)?;
    let mut seen = SCENES.map(|_| Seen::default());
    for round in 0..=ROUNDS {
        for ((_, watchers, changes), seen) in SCENES.iter().zip(&mut seen) {
            let window = look(&server, *watchers, *changes)?;
            // The first warms up.
            if round > 0 {
                seen.add(window);
            }
        }
    }
    let mut lines = String::new();
    for ((title, ..), seen) in SCENES.iter().zip(seen) {
        let Seen { waits, late, changes, told, busy } = seen;
        let _ = writeln!(
            lines,
            "| {title} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} |",
            median(changes),
            median(told),
            median(waits),
            median(late),
            median(busy),
        );
    }
    Ok(lines)
}

/// What was seen, a figure a round.
#[derive(Default)]
struct Seen {
    /// Changes, and messages to all who watch, in a second.
    changes: Vec<f64>,
    told: Vec<f64>,
    /// Microseconds for a look-up: the median, and that of 99 of 100.
    waits: Vec<f64>,
    late: Vec<f64>,
    /// Processor time of the server, in hundredths of what it could have.
    busy: Vec<f64>,
}

struct Window {
    waits: Vec<Duration>,
    changes: u64,
    told: u64,
    busy: Duration,
}

impl Seen {
    fn add(&mut self, mut window: Window) {
        window.waits.sort();
        let at = |part: usize| {
            let wait = window.waits.get(window.waits.len() * part / 100);
            wait.copied().unwrap_or_default().as_secs_f64() * 1e6
        };
        self.waits.push(at(50));
        self.late.push(at(99));
        self.changes.push(window.changes as f64 / WINDOW.as_secs_f64());
        self.told.push(window.told as f64 / WINDOW.as_secs_f64());
        self.busy.push(window.busy.as_secs_f64() / WINDOW.as_secs_f64() * 100.0);
    }
}

fn look(server: &Server, watchers: usize, changes: bool) -> io::Result<Window> {
    let over = AtomicBool::new(false);
    let told = AtomicU64::new(0);
    let watching = (0..watchers).map(|_| watch(server)).collect::<io::Result<Vec<_>>>()?;
    thread::scope(|scope| {
        for stream in &watching {
            scope.spawn(|| count_messages(stream, &told));
        }
        let changing = scope.spawn(|| if changes { change(server, &over) } else { Ok(0) });
        let mut waits = Vec::new();
        let busy = server.time_of(|| {
            let end = Instant::now() + WINDOW;
            while Instant::now() < end {
                waits.extend(load::one_client(server, 20)?);
                // As many, however long they take.
                thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        });
        over.store(true, Ordering::Relaxed);
        let changes = changing.join().map_err(|_| io::Error::other("a client panicked"));
        for stream in &watching {
            stream.shutdown(std::net::Shutdown::Both)?;
        }
        let told = told.load(Ordering::Relaxed);
        Ok(Window { waits, changes: changes??, told, busy: busy? })
    })
}

fn watch(server: &Server) -> io::Result<TcpStream> {
    let mut stream = connect(server.port)?;
    stream.write_all(&Request::Watch("*").encode())?;
    Ok(stream)
}

/// Until the stream is shut down.
fn count_messages(mut stream: &TcpStream, count: &AtomicU64) {
    let mut message = [0; 65_536];
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let rest = message.get_mut(..usize::from(u16::from_be_bytes(length))).unwrap_or_default();
        if stream.read_exact(rest).is_err() {
            break;
        }
        if matches!(rest.first(), Some(b'U' | b'D')) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Has nodes come and go; the number of changes.
fn change(server: &Server, over: &AtomicBool) -> io::Result<u64> {
    let mut changes = 0;
    let mut next = Instant::now();
    while !over.load(Ordering::Relaxed) {
        let node = register_at(HELD_AT, server.port, &format!("r{}", changes % 200))?;
        // It would take a port for a while after its end.
        set_socket_linger(&node, Some(Duration::ZERO))?;
        drop(node);
        changes += 2;
        next += INTERVAL;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(changes)
}

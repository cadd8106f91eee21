//! What happens to a name, as somebody sees it who looks it up again and again.

use std::io::{ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use bench::median;
use epmd_core::{Request, Response};

use crate::epmd::connect;

/// Between two look-ups.
const PAUSE: Duration = Duration::from_micros(500);

/// How a look-up ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Found,
    NotFound,
    /// Nobody listened.
    Refused,
    CutOff,
}

/// What was seen of a name.
#[derive(Debug, Clone, Copy, Default)]
pub struct View {
    /// The longest time without an answer, in ms.
    unanswered: f64,
    refused: bool,
    /// For how long the name was not found, in ms, if that was so.
    absent: Option<f64>,
    /// It was not found any more.
    lost: bool,
}

/// Watches some names while something is done, and for some time after it.
///
/// # Errors
/// Those of what is done.
pub fn watch<const N: usize, E>(
    port: u16,
    names: [&str; N],
    time: Duration,
    done: impl FnOnce() -> Result<(), E>,
) -> Result<[View; N], E> {
    let over = &AtomicBool::new(false);
    thread::scope(|scope| {
        let watchers = names.map(|name| scope.spawn(move || view(port, name, over)));
        // There are answers to compare with.
        sleep(Duration::from_millis(50));
        let done = done();
        sleep(if done.is_ok() { time } else { Duration::ZERO });
        over.store(true, Ordering::Relaxed);
        let views = watchers.map(|watcher| watcher.join().unwrap_or_default());
        done.map(|()| views)
    })
}

fn view(port: u16, name: &str, over: &AtomicBool) -> View {
    let request = Request::PortPlease2(name).encode();
    let mut view = View::default();
    let mut answered = Instant::now();
    let mut failing: Option<Instant> = None;
    while !over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let outcome = look_up(port, &request);
        let waited = milliseconds_since(answered);
        if matches!(outcome, Outcome::Found | Outcome::NotFound) {
            view.unanswered = view.unanswered.max(waited);
            answered = Instant::now();
        }
        view.refused |= outcome == Outcome::Refused;
        view.lost |= matches!(outcome, Outcome::NotFound | Outcome::Refused);
        if outcome != Outcome::Found {
            failing.get_or_insert(begun);
        } else if let Some(since) = failing.take()
            && view.lost
        {
            view.lost = false;
            view.absent = Some(milliseconds_since(since).max(view.absent.unwrap_or_default()));
        }
        sleep(PAUSE);
    }
    view
}

fn milliseconds_since(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1_000.0
}

fn look_up(port: u16, request: &[u8]) -> Outcome {
    let mut reply = Vec::new();
    let asked = connect(Ipv4Addr::LOCALHOST, port).and_then(|mut stream| {
        stream.write_all(request)?;
        stream.read_to_end(&mut reply)
    });
    match (asked, Response::decode(&reply)) {
        (Err(error), _) if error.kind() == ErrorKind::ConnectionRefused => Outcome::Refused,
        (Ok(_), Some(Response::PortPlease2(Some(_)))) => Outcome::Found,
        (Ok(_), Some(Response::PortPlease2(None))) => Outcome::NotFound,
        _ => Outcome::CutOff,
    }
}

/// How long look-ups were not answered, of several times.
pub fn answers(views: &[View]) -> String {
    let verb = if views.iter().any(|view| view.refused) { "are refused for" } else { "wait" };
    format!("{verb} {}", time(median(views.iter().map(|view| view.unanswered).collect())))
}

/// What became of the name, of several times.
pub fn fate(views: &[View]) -> String {
    if views.iter().any(|view| view.lost) {
        return "lost".to_owned();
    }
    match views.iter().filter_map(|view| view.absent).collect::<Vec<_>>() {
        none if none.is_empty() => "nothing".to_owned(),
        absent => format!("not found for {}", time(median(absent))),
    }
}

fn time(milliseconds: f64) -> String {
    if milliseconds < 1_000.0 {
        format!("{milliseconds:.0} ms")
    } else {
        format!("{:.1} s", milliseconds / 1_000.0)
    }
}

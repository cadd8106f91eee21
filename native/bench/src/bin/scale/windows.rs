//! What is measured while it goes on.
//!
//! What one look-up costs cannot be seen beside all the rest that the server does. But
//! seconds with many look-ups cost it more than those with few, and those with many
//! changes more than those with few: the costs of both are what explains it best.

use std::time::{Duration, Instant};

use bench::process::memory;
use bench::server::Server;
use bench::waits::{Waits, milliseconds};
use bench::{mebibytes, slope};
use procfs::process::Process;

use crate::Result;
use crate::asker::Asker;

/// Look-ups a second, in turns.
const FEW: u32 = 500;
const MANY: u32 = 2_500;
const TURN: Duration = Duration::from_secs(1);

/// How many turns make a window.
const TURNS: usize = 30;

/// How much dearer a look-up may be in the last third of the time than in the first.
const DEARER: f64 = 1.2;

/// By how much memory may grow, in MiB: of the virtual machine, and of its keeper.
/// What comes in the first fifth of the time is not counted.
const GROWTH: [f64; 2] = [1.0, 0.5];

/// What was done in a turn, and how many microseconds the server has used.
#[derive(Clone, Copy)]
struct Turn {
    lookups: f64,
    changes: f64,
    used: f64,
    time: Duration,
}

/// What a look-up, and the end of a node with its next registration, cost the server,
/// in microseconds.
struct Costs {
    lookup: f64,
    change: f64,
}

impl Costs {
    /// Those that leave the least that is not explained (least squares).
    fn of(turns: &[Turn]) -> Self {
        let sum = |product: fn(&Turn) -> f64| turns.iter().map(product).sum::<f64>();
        let [ll, lc, cc] = [
            sum(|turn| turn.lookups * turn.lookups),
            sum(|turn| turn.lookups * turn.changes),
            sum(|turn| turn.changes * turn.changes),
        ];
        let [lu, cu] = [sum(|turn| turn.lookups * turn.used), sum(|turn| turn.changes * turn.used)];
        let determinant = ll * cc - lc * lc;
        Self {
            lookup: (cc * lu - lc * cu) / determinant,
            change: (ll * cu - lc * lu) / determinant,
        }
    }
}

/// All of them.
pub struct Windows(Vec<Window>);

struct Window {
    ended: Duration,
    turns: Vec<Turn>,
    waits: Waits,
    /// Resident bytes of the virtual machine, and of its keeper.
    resident: [u64; 2],
}

impl Windows {
    /// Measures for so long, and prints what it sees.
    ///
    /// # Errors
    /// When a look-up fails, or the server has ended.
    pub fn watch(server: &Server, mut asker: Asker, time: Duration) -> Result<Self> {
        println!(
            "| s | µs of the server for a look-up | for a change | changes a second | \
             wait for a look-up, ms | 99 % | longest | VM, MiB | keeper, MiB |\n\
             |---:|---:|---:|---:|---:|---:|---:|---:|---:|"
        );
        let (begun, mut windows) = (Instant::now(), Vec::new());
        while begun.elapsed() < time {
            let window = Window::measure(server, &mut asker, begun)?;
            println!("{}", window.line());
            windows.push(window);
        }
        Ok(Self(windows))
    }

    /// Which promises were broken.
    pub fn faults(&self) -> Vec<String> {
        let third = self.0.len().div_ceil(3);
        let cost = |windows: &[Window]| {
            let turns = windows.iter().flat_map(|window| window.turns.clone());
            Costs::of(&turns.collect::<Vec<_>>()).lookup
        };
        let (first, last) = self.0.split_at(third);
        let last = cost(last.get(last.len().saturating_sub(third)..).unwrap_or_default());
        let first = cost(first);
        println!("a look-up costs {first:.1} µs in the first third, {last:.1} in the last");
        let mut faults = Vec::new();
        if last > first * DEARER {
            faults.push(format!("a look-up costs {last:.1} µs after {first:.1}"));
        }
        for (which, (name, bound)) in ["VM", "keeper"].into_iter().zip(GROWTH).enumerate() {
            let growth = self.growth(which);
            println!("memory of the {name}: {growth:+.2} MiB");
            if growth > bound {
                faults.push(format!("the {name} has grown by {growth:.2} MiB"));
            }
        }
        faults
    }

    /// By how many MiB memory has grown, by the line that fits best.
    fn growth(&self, which: usize) -> f64 {
        let settled = self.0.iter().skip(self.0.len().div_ceil(5));
        let points: Vec<_> = settled
            .map(|window| {
                let bytes = window.resident.get(which).copied().unwrap_or_default();
                (window.ended.as_secs_f64(), mebibytes(bytes))
            })
            .collect();
        let span = points.first().zip(points.last()).map_or(0.0, |(first, last)| last.0 - first.0);
        slope(&points) * span
    }
}

impl Window {
    fn measure(server: &Server, asker: &mut Asker, since: Instant) -> Result<Self> {
        let turn = |number| turn(server, asker, if number % 2 == 0 { FEW } else { MANY });
        let turns = (0..TURNS).map(turn).collect::<Result<_>>()?;
        Ok(Self {
            ended: since.elapsed(),
            turns,
            waits: std::mem::take(&mut asker.waits),
            resident: resident(server)?,
        })
    }

    fn line(&self) -> String {
        let Self { ended, turns, waits, resident } = self;
        let Costs { lookup, change } = Costs::of(turns);
        let time: Duration = turns.iter().map(|turn| turn.time).sum();
        let changes: f64 = turns.iter().map(|turn| turn.changes).sum();
        let [vm, keeper] = resident.map(mebibytes);
        format!(
            "| {:.0} | {lookup:.1} | {change:.1} | {:.0} | {} | {} | {} | {vm:.2} | {keeper:.2} |",
            ended.as_secs_f64(),
            changes / time.as_secs_f64(),
            milliseconds(waits.within(500)),
            milliseconds(waits.within(990)),
            milliseconds(waits.longest()),
        )
    }
}

fn turn(server: &Server, asker: &mut Asker, a_second: u32) -> Result<Turn> {
    let changed = asker.registrations()?;
    let (begun, before) = (Instant::now(), server.time()?);
    let lookups = asker.ask(a_second, TURN)? as f64;
    let used = server.time()?.saturating_sub(before).as_secs_f64() * 1e6;
    let time = begun.elapsed();
    let changes = (asker.registrations()? - changed) as f64;
    Ok(Turn { lookups, changes, used, time })
}

/// Resident bytes of the virtual machine, and of its keeper.
fn resident(server: &Server) -> Result<[u64; 2]> {
    let mut pids = server.pids().into_iter();
    let (keeper, vm) = (pids.next(), pids.next());
    let of = |pid: Option<u32>| -> Result<u64> {
        let pid = pid.ok_or("the virtual machine has ended")?;
        Ok(memory(&Process::new(pid.try_into()?)?)?.resident)
    };
    Ok([of(vm)?, of(keeper)?])
}

//! What was measured, by work and server.

use std::fmt::Write as _;
use std::time::Duration;

use bench::median;
use bench::server::Kind;

use crate::works::Work;

/// Microseconds of a server for one request, a round each.
type Cell = (Kind, Vec<f64>);

/// What was measured, by work and server.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<(String, Vec<Cell>)>,
}

impl Table {
    pub(crate) fn add(&mut self, work: &Work, kind: &Kind, time: Duration) {
        let microseconds = time.as_secs_f64() * 1e6 / work.count as f64;
        if self.rows.last().is_none_or(|(name, _)| *name != work.name) {
            self.rows.push((work.name.clone(), Vec::new()));
        }
        let Some((_, cells)) = self.rows.last_mut() else { return };
        match cells.iter_mut().find(|(other, _)| other == kind) {
            Some((_, times)) => times.push(microseconds),
            None => cells.push((kind.clone(), vec![microseconds])),
        }
    }

    pub(crate) fn lines(&self) -> String {
        let mut lines = String::new();
        for (name, cells) in &self.rows {
            let own = times_of(cells, |kind| matches!(kind, Kind::Ours(_)));
            let c = times_of(cells, |kind| *kind == Kind::C);
            let floor = times_of(cells, |kind| *kind == Kind::Floor);
            let cell =
                |times: Option<&Vec<f64>>| times.map_or("-".to_owned(), |times| spread(times));
            let ratio = |other: Option<&Vec<f64>>| match (own, other) {
                (Some(own), Some(other)) => {
                    format!("{:.2}", median(own.clone()) / median(other.clone()))
                }
                _ => "-".to_owned(),
            };
            let _ = writeln!(
                lines,
                "| {name} | {} | {} | **{}** | {} | {} |",
                cell(own),
                cell(c),
                ratio(c),
                cell(floor),
                ratio(floor)
            );
        }
        lines
    }

    /// What it costs that nodes are kept, where both was measured.
    pub(crate) fn keeping(&self) -> String {
        let mut lines = String::new();
        for (name, cells) in &self.rows {
            let kept = times_of(cells, |kind| matches!(kind, Kind::Ours(_)));
            let not = times_of(cells, |kind| matches!(kind, Kind::Unkept(_)));
            if let (Some(kept), Some(not)) = (kept, not) {
                let ratio = median(kept.clone()) / median(not.clone());
                let (kept, not) = (spread(kept), spread(not));
                let _ = writeln!(lines, "| {name} | {kept} | {not} | **{ratio:.2}** |");
            }
        }
        lines
    }
}

/// What was measured of one server.
fn times_of(cells: &[Cell], wanted: impl Fn(&Kind) -> bool) -> Option<&Vec<f64>> {
    cells.iter().find(|(kind, _)| wanted(kind)).map(|(_, times)| times)
}

/// The median, the least and the greatest.
fn spread(times: &[f64]) -> String {
    let least = times.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = times.iter().copied().fold(0.0, f64::max);
    format!("{:.1} ({least:.1} to {greatest:.1})", median(times.to_vec()))
}

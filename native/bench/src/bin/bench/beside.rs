//! What is measured by itself, beside the table.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use bench::server::Kind;
use bench::{load, median};

use crate::page::title;
use crate::{C_LIMIT, Result, Subject};

/// How long a client waits, at 900 names: ours and C in alternation.
pub(crate) fn latencies(release: &Kind) -> Result<String> {
    let own = Subject::start(release.clone(), C_LIMIT)?;
    let c = Subject::start(Kind::C, C_LIMIT)?;
    let mut waits = [Vec::new(), Vec::new()];
    for _ in 0..5 {
        for (subject, waits) in [&own, &c].into_iter().zip(&mut waits) {
            waits.extend(load::one_client(&subject.server, 1_000)?);
        }
    }
    let mut lines = String::new();
    for (subject, mut waits) in [&own, &c].into_iter().zip(waits) {
        waits.sort();
        let at = |part: usize| {
            let wait = waits.get(waits.len() * part / 100).copied().unwrap_or_default();
            wait.as_secs_f64() * 1e6
        };
        let _ = writeln!(lines, "| {} | {:.0} | {:.0} |", title(&subject.kind), at(50), at(99));
    }
    Ok(lines)
}

/// How many registrations a client gets done in a second, at 10 names: ours and C in
/// alternation.
pub(crate) fn registrations(release: &Kind) -> Result<String> {
    const COUNT: usize = 2_000;
    let own = Subject::start(release.clone(), 10)?;
    let c = Subject::start(Kind::C, 10)?;
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..5 {
        for (subject, rates) in [&own, &c].into_iter().zip(&mut rates) {
            let begun = Instant::now();
            load::register_and_close(&subject.server, COUNT)?;
            rates.push(COUNT as f64 / begun.elapsed().as_secs_f64());
        }
    }
    let mut lines = String::new();
    for (subject, rates) in [&own, &c].into_iter().zip(rates) {
        let _ = writeln!(lines, "| {} | {:.0} |", title(&subject.kind), median(rates));
    }
    Ok(lines)
}

/// How long look-ups take in the virtual machine of the port mapper itself.
pub(crate) fn from_erlang(release: &Path) -> Result<String> {
    let mut paths = Vec::new();
    for library in fs::read_dir(release.join("lib"))? {
        let library = library?.path();
        if library.file_name().is_some_and(|name| name.to_string_lossy().starts_with("portmapper-"))
        {
            paths.push(library.join("ebin"));
        }
    }
    let output = Command::new("erl")
        .args(["-noinput", "-pa"])
        .args(paths)
        .args(["-eval", include_str!("from_erlang.erl")])
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stdout).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// What an idle one takes, as `make bench-footprint` shows it.
pub(crate) fn idle(release: &Path) -> Result<String> {
    let program = std::env::current_exe()?.with_file_name("footprint");
    let output = Command::new(program).arg(release).output()?;
    // What is more than it may be, that command tells.
    if output.stdout.is_empty() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

//! Processes by their number.

use std::collections::BTreeSet;
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use procfs::process::{Process, all_processes};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// How long the kernel may take to bury one.
const END_TIMEOUT: Duration = Duration::from_secs(20);

fn pid(number: u32) -> io::Result<Pid> {
    let pid = i32::try_from(number).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::other(format!("{number} is no process")))
}

/// Sends a signal.
///
/// # Errors
/// When there is no such process.
pub fn signal(number: u32, signal: Signal) -> io::Result<()> {
    Ok(kill_process(pid(number)?, signal)?)
}

/// Waits until a process has ended and its parent knows.
///
/// # Errors
/// When it does not end.
pub fn await_end(number: u32) -> io::Result<()> {
    let (pid, begun) = (pid(number)?, Instant::now());
    while test_kill_process(pid).is_ok() {
        if begun.elapsed() > END_TIMEOUT {
            return Err(io::Error::other(format!("process {number} does not end")));
        }
        sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// Whether a process is there.
pub fn is_there(number: u32) -> bool {
    pid(number).is_ok_and(|pid| test_kill_process(pid).is_ok())
}

/// What `/proc` tells of one.
///
/// # Errors
/// When it has ended.
pub fn process(number: u32) -> io::Result<Process> {
    Process::new(pid(number)?.as_raw_nonzero().get()).map_err(io::Error::other)
}

/// Its threads of some name.
///
/// # Errors
/// When it has ended.
pub fn threads(number: u32, name: &str) -> io::Result<BTreeSet<i32>> {
    let tasks = process(number)?.tasks().map_err(io::Error::other)?.flatten();
    let named = tasks.filter(|task| task.stat().is_ok_and(|stat| stat.comm == name));
    Ok(named.map(|task| task.tid).collect())
}

/// All that have a variable of this value in their environment.
pub fn marked(name: &str, value: &str) -> Vec<u32> {
    let is_marked = |process: &Process| {
        let environment = process.environ().unwrap_or_default();
        environment.get(name.as_ref() as &std::ffi::OsStr).is_some_and(|found| found == value)
    };
    let all = all_processes().into_iter().flatten().flatten();
    all.filter(is_marked).filter_map(|process| process.pid.try_into().ok()).collect()
}

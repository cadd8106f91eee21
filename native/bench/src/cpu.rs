//! Processor time, and who gets which processor.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

/// The processor of the server under test.
pub const SERVER: usize = 0;
/// The processor of the clients.
pub const CLIENTS: usize = 1;

/// Keeps this thread, and those that it starts, on a processor.
///
/// # Errors
/// When there is no such processor.
pub fn pin_self(processor: usize) -> io::Result<()> {
    Ok(sched_setaffinity(None, &only(processor))?)
}

/// Keeps all threads of a process on a processor.
///
/// # Errors
/// When there is no such processor, or no such process.
pub fn pin(pid: u32, processor: usize) -> io::Result<()> {
    for thread in threads(pid)? {
        // It may just have ended.
        let _ = sched_setaffinity(Pid::from_raw(thread), &only(processor));
    }
    Ok(())
}

fn only(processor: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(processor);
    set
}

/// The processor time that all threads of a process have had, of the user and of
/// the system: what `/proc/PID/stat` tells, in nanoseconds instead of ticks.
///
/// # Errors
/// When there is no such process.
pub fn time(pid: u32) -> io::Result<Duration> {
    let mut nanoseconds = 0;
    for thread in threads(pid)? {
        let path = format!("/proc/{pid}/task/{thread}/schedstat");
        let text = fs::read_to_string(path).unwrap_or_default();
        nanoseconds += text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanoseconds))
}

fn threads(pid: u32) -> io::Result<Vec<i32>> {
    let names = fs::read_dir(format!("/proc/{pid}/task"))?.flatten();
    Ok(names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

//! The page that tells all.

use std::fs;
use std::process::Command;

use bench::server::Kind;

use crate::table::Table;
use crate::{C_LIMIT, Result};

/// What it is made of.
pub(crate) struct Page<'a> {
    pub(crate) table: &'a Table,
    pub(crate) rounds: usize,
    pub(crate) registrations: &'a str,
    pub(crate) latency: &'a str,
    pub(crate) events: &'a str,
    pub(crate) from_erlang: &'a str,
    pub(crate) memory: &'a str,
    pub(crate) idle: &'a str,
}

pub(crate) fn title(kind: &Kind) -> &'static str {
    match kind {
        Kind::Ours(_) => "portmapper",
        Kind::Unkept(_) => "portmapper, nothing kept",
        Kind::C => "C epmd",
        Kind::Floor => "floor",
    }
}

pub(crate) fn write(page: &Page<'_>) -> Result<String> {
    let Page { table, rounds, registrations, latency, events, from_erlang, memory, idle } = page;
    let date = Command::new("date").arg("+%F").output()?.stdout;
    let otp = Command::new("erl")
        .args(["-noinput", "-eval", "io:put_chars(erlang:system_info(otp_release)), halt()."])
        .output()?
        .stdout;
    let info = fs::read_to_string("/proc/cpuinfo")?;
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!(
        "# Benchmarks\n\n\
         Written by `make bench` on {date}: {model}, Linux {kernel}, OTP {otp}, portmapper \
         {version}.\n\n\
         ## Processor time of the server\n\n\
         Microseconds for a request, user and system, of all threads; a connection a request. \
         Server and clients have a processor each; the servers are measured in alternation, \
         {rounds} rounds: the median (least to greatest). The floor is an epoll loop that \
         answers every request with a constant.\n\n\
         | | portmapper | C epmd | ratio | floor | ratio |\n|---|---|---|---|---|---|\n{rows}\n\
         ## What it costs to keep nodes\n\n\
         Microseconds for a registration and its end, of the virtual machine and its keeper, \
         and where nothing is kept.\n\n\
         | | kept | not kept | ratio |\n|---|---|---|---|\n{keeping}\n\
         ## Registrations in a second\n\n\
         By one client, one after the other, at 10 names.\n\n\
         | | registrations |\n|---|---:|\n{registrations}\n\
         ## How long a client waits\n\n\
         Microseconds for a look-up by one client at {C_LIMIT} names, connection and close \
         included.\n\n\
         | | median | 99 of 100 |\n|---|---:|---:|\n{latency}\n\
         ## Look-ups while nodes come and go\n\n\
         Some 2,000 look-ups a second, of one client, while other clients register and end, and \
         three ask for WATCH. They share a processor: what clients have to do themselves is part \
         of the waits.\n\n\
         | | changes a second | told a second | median wait, us | 99 of 100 | server busy, % |\n\
         |---|---:|---:|---:|---:|---:|\n{events}\n\
         ## Asked from Erlang\n\n\
         Nanoseconds for a look-up in the virtual machine of the port mapper.\n\n\
         | | |\n|---|---:|\n{from_erlang}\n\
         ## Memory\n\n\
         Bytes of user memory that a held node takes.\n\n\
         | | nodes | bytes each |\n|---|---:|---:|\n{memory}\n\
         ## Idle, at its start, and asked by the executable\n\n\
         `make bench-footprint` alone:\n\n{idle}",
        date = String::from_utf8_lossy(&date).trim(),
        model = model.map_or("a processor of unknown model", |(_, model)| model),
        kernel = kernel.trim(),
        otp = String::from_utf8_lossy(&otp),
        version = env!("CARGO_PKG_VERSION"),
        rows = table.lines(),
        keeping = table.keeping(),
    ))
}
